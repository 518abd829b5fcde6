import type { EventRater, UsageEvent } from "#contract";
import type { Sql, Tx } from "./database.ts";

/** The dictionary ids of one event. */
export type EventIds = {
  orgId: number;
  modelId: number;
  clientId: number;
  actorId: number;
  errorCodeId: number;
  sourceId: number;
  /** One of each declared key that the event has a value of; null: none. */
  tagIds: readonly number[] | null;
};

const COLUMNS =
  "occurred_at, batch_id, event_key, content_hash, org_id, model_id, client_id, actor_id, error_code_id, requests, " +
  "input_tokens, cache_read_tokens, cache_write_5m_tokens, cache_write_1h_tokens, output_tokens, reasoning_tokens, " +
  "source_id, outcome, currency, flags, latency_ms, ttft_ms, cost_nano, event_id, metadata, extra, rated_nano, price_id, " +
  "rated_currency, tag_ids";

/** Lengths of the twenty columns that are never null; they come first, so every row starts alike. */
const FIXED_WIDTHS = [8, 8, 16, 8, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 2, 2, 2, 2];
const FIXED_BYTES = 2 + FIXED_WIDTHS.reduce((sum, width) => sum + 4 + width, 0);
const COLUMN_COUNT = FIXED_WIDTHS.length + 10;

const SIGNATURE = Buffer.from("5047434f50590aff0d0a00" + "00000000" + "00000000", "hex");
/** Microseconds between the Unix epoch and PostgreSQL's (2000-01-01). */
const PG_EPOCH_US = 946_684_800_000_000;
const WORD = 4_294_967_296;
const INT4_OID = 23;

/** The fixed columns of a row with their lengths in place and zeros for values. */
const FIXED_TEMPLATE = (() => {
  const row = Buffer.alloc(FIXED_BYTES);
  row.writeInt16BE(COLUMN_COUNT, 0);
  let at = 2;
  for (const width of FIXED_WIDTHS) {
    row.writeInt32BE(width, at);
    at += 4 + width;
  }
  return row;
})();

/** PostgreSQL's binary COPY format, written row by row into one growing buffer. */
export class CopyBuffer {
  protected bytes: Buffer;
  protected view: DataView;
  protected at = 0;
  rows = 0;

  constructor(bytesExpected: number) {
    this.bytes = Buffer.allocUnsafeSlow(bytesExpected + 64);
    this.view = new DataView(this.bytes.buffer);
    this.at = SIGNATURE.copy(this.bytes);
  }

  /** The finished stream, trailer included. The buffer is not to be written again. */
  finish(): Buffer {
    this.reserve(2);
    this.view.setInt16(this.at, -1);
    return this.bytes.subarray(0, this.at + 2);
  }

  protected reserve(bytes: number): void {
    if (this.at + bytes + 2 <= this.bytes.length) return;
    const grown = Buffer.allocUnsafeSlow(Math.max(this.bytes.length * 2, this.at + bytes + 64));
    this.bytes.copy(grown, 0, 0, this.at);
    this.bytes = grown;
    this.view = new DataView(grown.buffer);
  }

  protected int64(at: number, value: number): void {
    const high = Math.floor(value / WORD);
    this.view.setInt32(at, high);
    this.view.setUint32(at + 4, value - high * WORD);
  }

  protected text(value: string | null): void {
    if (value === null) {
      this.view.setInt32(this.at, -1);
      this.at += 4;
      return;
    }
    this.reserve(4 + value.length * 3 + 64);
    const length = this.bytes.write(value, this.at + 4, "utf8");
    this.view.setInt32(this.at, length);
    this.at += 4 + length;
  }
}

/** What rates an event: an entry of the price book by its id, and what that makes of it (contract/rate-event.ts). */
export type EventPrice = EventRater & { readonly priceId: number };

/** Rows for `copyEvents`. */
export class EventRows extends CopyBuffer {
  /** Without a price the event is unpriced. */
  add(event: UsageEvent, ids: EventIds, batchId: number, price: EventPrice | undefined): void {
    this.reserve(FIXED_BYTES + 256);
    const base = this.at;
    FIXED_TEMPLATE.copy(this.bytes, base);
    const view = this.view;
    const { key, contentHash } = event;
    this.int64(base + 6, event.occurredAtUs - PG_EPOCH_US);
    this.int64(base + 18, batchId);
    view.setUint32(base + 30, key[0]);
    view.setUint32(base + 34, key[1]);
    view.setUint32(base + 38, key[2]);
    view.setUint32(base + 42, key[3]);
    view.setUint32(base + 50, contentHash[0]);
    view.setUint32(base + 54, contentHash[1]);
    view.setInt32(base + 62, ids.orgId);
    view.setInt32(base + 70, ids.modelId);
    view.setInt32(base + 78, ids.clientId);
    view.setInt32(base + 86, ids.actorId);
    view.setInt32(base + 94, ids.errorCodeId);
    view.setInt32(base + 102, event.requests);
    view.setInt32(base + 110, event.inputTokens);
    view.setInt32(base + 118, event.cacheReadTokens);
    view.setInt32(base + 126, event.cacheWrite5mTokens);
    view.setInt32(base + 134, event.cacheWrite1hTokens);
    view.setInt32(base + 142, event.outputTokens);
    view.setInt32(base + 150, event.reasoningTokens);
    view.setInt16(base + 158, ids.sourceId);
    view.setInt16(base + 164, event.outcome);
    view.setInt16(base + 170, event.currency);
    view.setInt16(base + 176, event.flags);
    this.at = base + FIXED_BYTES;
    this.#optionalInt4(event.latencyMs);
    this.#optionalInt4(event.ttftMs);
    this.#optionalInt8(event.costNano);
    this.text(event.isUuidKey ? null : event.eventId);
    this.text(event.metadata);
    this.text(event.extra);
    this.#rating(event, price);
    this.#int4Array(ids.tagIds);
    this.rows++;
  }

  #rating(event: UsageEvent, price: EventPrice | undefined): void {
    this.reserve(32);
    const nano = price === undefined ? null : price.rate(event);
    this.#optionalInt8(nano);
    this.#optionalInt4(price === undefined ? null : price.priceId);
    if (price === undefined || nano === null) {
      this.view.setInt32(this.at, -1);
      this.at += 4;
      return;
    }
    this.view.setInt32(this.at, 2);
    this.view.setInt16(this.at + 4, price.currency);
    this.at += 6;
  }

  #int4Array(values: readonly number[] | null): void {
    if (values === null) {
      this.reserve(4);
      this.view.setInt32(this.at, -1);
      this.at += 4;
      return;
    }
    this.reserve(24 + values.length * 8);
    const view = this.view;
    view.setInt32(this.at, 20 + values.length * 8);
    // Dimensions, whether any element is null, type of the elements, how many there are, number of the first.
    view.setInt32(this.at + 4, 1);
    view.setInt32(this.at + 8, 0);
    view.setInt32(this.at + 12, INT4_OID);
    view.setInt32(this.at + 16, values.length);
    view.setInt32(this.at + 20, 1);
    this.at += 24;
    for (const value of values) {
      view.setInt32(this.at, 4);
      view.setInt32(this.at + 4, value);
      this.at += 8;
    }
  }

  #optionalInt4(value: number | null): void {
    if (value === null) {
      this.view.setInt32(this.at, -1);
      this.at += 4;
    } else {
      this.view.setInt32(this.at, 4);
      this.view.setInt32(this.at + 4, value);
      this.at += 8;
    }
  }

  #optionalInt8(value: number | null): void {
    if (value === null) {
      this.view.setInt32(this.at, -1);
      this.at += 4;
    } else {
      this.view.setInt32(this.at, 8);
      this.int64(this.at + 4, value);
      this.at += 12;
    }
  }
}

/** Appends raw rows in one COPY and returns how many. Not repeatable: its transaction's lane fence is what makes it happen once. */
export const copyEvents = (tx: Tx, rows: EventRows): Promise<number> =>
  tx.copyIn(`copy usage_event (${COLUMNS}) from stdin (format binary)`, rows.finish());

/** A key found where it was looked for, with the hash of the content that came first. */
export type FoundKey = { key: string; orgId: number; contentHash: string };

/**
 * Looks keys up in raw itself, for events so old that the key ledger may have dropped them. One span of time per
 * fifteen minutes that the suspects fall into; BRIN on occurred_at keeps each to its own pages. Reads only.
 */
export const listKeysInRaw = (
  sql: Sql,
  spans: { lowUs: number[]; highUs: number[] },
  keys: Buffer,
): Promise<FoundKey[]> => sql<FoundKey>`
  select e.event_key as key, e.org_id as "orgId", e.content_hash::text as "contentHash"
    from unnest(${spans.lowUs}::int8[], ${spans.highUs}::int8[]) as span (low_us, high_us)
   cross join lateral (
         select event_key, org_id, content_hash
           from usage_event
          where occurred_at >= timestamptz 'epoch' + span.low_us * interval '1 microsecond'
            and occurred_at <= timestamptz 'epoch' + span.high_us * interval '1 microsecond'
            and event_key = any(${keys}::uuid[])) as e`;

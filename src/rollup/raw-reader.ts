import { type Consumer, FIRST_ERROR_OUTCOME, TAG_KEYS_MAX } from "#contract";
import {
  Cells,
  COST_HIGH,
  COST_LOW,
  FIRST_TOKENS,
  LAST_INGESTED,
  LAST_OCCURRED,
  packMark,
  PRICED_REQUESTS,
  PRICED_TOKENS,
  QUARTER_SECONDS,
  RATED_HIGH,
  RATED_LOW,
  REQUESTS,
} from "./cells.ts";
import { KeyIndex } from "./key-index.ts";

/** "PGCOPY\n\377\r\n\0", flags, length of the (empty) extension. */
const HEADER_BYTES = 19;
/**
 * Nineteen columns, for people twenty; the sixteen that are never null take the same bytes in every row, the others come
 * last, and of those the tags.
 */
const COLUMNS = { usage: 19, people: 20 } as const satisfies Record<Consumer, number>;
const FIXED_BYTES = 130;
/** Of an array that is not null before its first element: its length, and what it says of itself. */
const ARRAY_HEAD_BYTES = 24;
const ELEMENT_BYTES = 8;
const ROW_BYTES_MAX = FIXED_BYTES + 8 + 12 + 12 + ARRAY_HEAD_BYTES + TAG_KEYS_MAX * ELEMENT_BYTES;
const TOKEN_CLASSES = 6;
const WORD = 4_294_967_296;
const PG_EPOCH_US = 946_684_800_000_000;
const QUARTER_US = QUARTER_SECONDS * 1_000_000;

/** What is known of a batch before its rows arrive. */
export type BatchToRead = { batchId: number; accepted: number; committedAtUs: number };

/** Where a row begins and what in it may be null: places in the bytes, below 0 for null. One object serves all rows. */
type RowPlaces = {
  at: number;
  latencyMs: number;
  costAt: number;
  ratedAt: number;
  /** Where the first of its tags begins, and how many there are. */
  tagsAt: number;
  tags: number;
};

/** Newest occurrence and newest commit, µs since the Unix epoch. */
export type Newest = { occurredAtUs: number; ingestedAtUs: number };

/**
 * Adds up raw rows as they arrive in PostgreSQL's binary COPY format (the columns of store's `readRawRows`).
 * One pass, no object per event: this is the hot path of the fold.
 */
export class FoldSums {
  readonly #isUsage: boolean;
  readonly #columns: number;
  /** usage: per model. people: per client. */
  readonly first = new Cells();
  /** people: per actor. usage: nothing. */
  readonly second = new Cells();
  /** people: per tag, each event once under each of its tags. usage: nothing. */
  readonly tags = new Cells();
  /** Failed requests by org, model, bucket, outcome and error code; `errorRequests` by the index's numbers. */
  readonly errors = new KeyIndex();
  readonly errorRequests: number[] = [];
  readonly sources = new Map<number, Newest>();
  events = 0;

  #carry: Buffer = Buffer.alloc(0);
  #headerLeft = HEADER_BYTES;
  #batchPlaces = new Map<number, number>();
  #batches: readonly BatchToRead[] = [];
  #rowsOf = new Uint32Array(0);
  readonly #row: RowPlaces = {
    at: 0,
    latencyMs: -1,
    costAt: -1,
    ratedAt: -1,
    tagsAt: -1,
    tags: 0,
  };
  /** What each row counts: 1, or -1 to take it away. */
  #sign: 1 | -1 = 1;
  #isMove = false;
  #lastBatchId = -1;
  #lastPlace = 0;

  constructor(consumer: Consumer) {
    this.#isUsage = consumer === "usage";
    this.#columns = COLUMNS[consumer];
  }

  /** Cells so far, of all tables: what bounds the memory of a fold of sparse events. */
  get cells(): number {
    return this.first.size + this.second.size + this.tags.size + this.errors.size;
  }

  /** Whether rows that are counted already are moved: then a sum may be below 0, or nothing at all. */
  get isMove(): boolean {
    return this.#isMove;
  }

  /** Begins one COPY of the rows of these batches. */
  begin(batches: readonly BatchToRead[]): void {
    this.#beginCopy(batches);
    this.#batchPlaces = new Map(batches.map((batch, place) => [batch.batchId, place]));
  }

  /**
   * Begins one COPY of rows that are counted already, of any batches: to take them away as they were (-1), or to add
   * them as they are now (1). Only rollup rows change by it: no errors, no sources, no newest event. Not together with
   * `begin`.
   */
  beginMove(sign: 1 | -1): void {
    this.#beginCopy([]);
    this.#isMove = true;
    this.#sign = sign;
  }

  #beginCopy(batches: readonly BatchToRead[]): void {
    this.#carry = Buffer.alloc(0);
    this.#headerLeft = HEADER_BYTES;
    this.#batches = batches;
    this.#rowsOf = new Uint32Array(batches.length);
    this.#lastBatchId = -1;
  }

  /** Takes the next piece of the COPY, cut anywhere. */
  push(piece: Buffer): void {
    let bytes = this.#carry.length === 0 ? piece : Buffer.concat([this.#carry, piece]);
    if (this.#headerLeft > 0) {
      if (bytes.length < HEADER_BYTES) {
        this.#carry = bytes;
        return;
      }
      this.#headerLeft = 0;
      bytes = bytes.subarray(HEADER_BYTES);
    }
    this.#carry = bytes.subarray(this.#addRows(bytes, bytes.length - ROW_BYTES_MAX));
  }

  /** Ends the COPY and returns the batches that did not bring the rows they should, with what they brought. */
  end(): { batch: BatchToRead; rows: number }[] {
    const length = this.#carry.length;
    const padded = Buffer.concat([this.#carry, Buffer.alloc(ROW_BYTES_MAX)]);
    const read = this.#addRows(padded, length - 2);
    if (this.#headerLeft > 0 || padded.readInt16BE(read) !== -1)
      throw new Error("raw rows ended in mid-row");
    return this.#batches
      .map((batch, place) => ({ batch, rows: this.#rowsOf[place] ?? 0 }))
      .filter(({ batch, rows }) => rows !== batch.accepted);
  }

  /** Adds the rows that begin at or before `lastStart`; returns where it stopped: behind them, or at the trailer. */
  #addRows(bytes: Buffer, lastStart: number): number {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const row = this.#row;
    let at = 0;
    while (at <= lastStart) {
      const columns = view.getInt16(at);
      if (columns === -1) return at;
      if (columns !== this.#columns || view.getInt32(at + 26) !== 4)
        throw new Error("raw rows have an unknown shape");
      let end = at + FIXED_BYTES + 4;
      row.at = at;
      row.latencyMs = -1;
      if (view.getInt32(at + FIXED_BYTES) === 4) {
        row.latencyMs = view.getInt32(end);
        end += 4;
      }
      row.costAt = view.getInt32(end) === 8 ? end + 4 : -1;
      end += row.costAt < 0 ? 4 : 12;
      row.ratedAt = view.getInt32(end) === 8 ? end + 4 : -1;
      end += row.ratedAt < 0 ? 4 : 12;
      if (!this.#isUsage) end = placeTags(view, end, row);
      this.#addRow(view, row);
      at = end;
    }
    return at;
  }

  /** Column offsets from the row's start: see FIXED_BYTES. */
  #addRow(view: DataView, row: RowPlaces): void {
    const { at, costAt, ratedAt } = row;
    const orgId = view.getInt32(at + 30);
    const member = view.getInt32(at + 38);
    const other = view.getInt32(at + 46);
    const occurredUs = view.getInt32(at + 18) * WORD + view.getUint32(at + 22) + PG_EPOCH_US;
    const bucket = Math.floor(occurredUs / QUARTER_US);
    const outcome = view.getInt16(at + 116);
    const mark = packMark(outcome, view.getInt16(at + 122));
    const ratedCurrency = ratedAt < 0 ? 0 : view.getInt16(at + 128);
    const rating = costAt < 0 ? ratedCurrency : -ratedCurrency;
    this.events++;

    const cell = this.first.place(orgId, member, bucket, mark, rating);
    const isFirst = this.first.values[cell + REQUESTS] === 0;
    addEvent(this.first, cell, view, row, this.#sign);
    if (!this.#isUsage) {
      const second = this.second.place(orgId, other, bucket, mark, rating);
      addEvent(this.second, second, view, row, this.#sign);
      for (let i = 0; i < row.tags; i++) {
        const tag = view.getInt32(row.tagsAt + i * ELEMENT_BYTES + 4);
        const tagged = this.tags.place(orgId, tag, bucket, mark, rating);
        addEvent(this.tags, tagged, view, row, this.#sign);
      }
    }
    if (this.#isMove) return;
    const ingestedUs = this.#countRow(view.getInt32(at + 6) * WORD + view.getUint32(at + 10));
    if (!this.#isUsage) return;
    const values = this.first.values;
    if (isFirst || occurredUs > (values[cell + LAST_OCCURRED] ?? 0))
      values[cell + LAST_OCCURRED] = occurredUs;
    if (isFirst || ingestedUs > (values[cell + LAST_INGESTED] ?? 0))
      values[cell + LAST_INGESTED] = ingestedUs;
    this.#noteSource(view.getInt16(at + 110), occurredUs, ingestedUs);
    if (outcome >= FIRST_ERROR_OUTCOME) {
      const place = this.errors.place(orgId, member, bucket, outcome, other);
      this.errorRequests[place] = (this.errorRequests[place] ?? 0) + view.getInt32(at + 54);
    }
  }

  /** Counts a row to its batch and returns when that was committed. Rows of a batch mostly follow one another. */
  #countRow(batchId: number): number {
    if (batchId !== this.#lastBatchId) {
      const place = this.#batchPlaces.get(batchId);
      if (place === undefined)
        throw new Error(`raw brought a row of batch ${batchId}, which was not asked for`);
      this.#lastBatchId = batchId;
      this.#lastPlace = place;
    }
    const place = this.#lastPlace;
    this.#rowsOf[place] = (this.#rowsOf[place] ?? 0) + 1;
    return this.#batches[place]?.committedAtUs ?? 0;
  }

  #noteSource(sourceId: number, occurredAtUs: number, ingestedAtUs: number): void {
    const newest = this.sources.get(sourceId);
    if (newest === undefined) {
      this.sources.set(sourceId, { occurredAtUs, ingestedAtUs });
      return;
    }
    if (occurredAtUs > newest.occurredAtUs) newest.occurredAtUs = occurredAtUs;
    if (ingestedAtUs > newest.ingestedAtUs) newest.ingestedAtUs = ingestedAtUs;
  }
}

/** Notes where the tags are in the array that begins with its length at `at` (int4[] as PostgreSQL sends it); returns its end. */
function placeTags(view: DataView, at: number, row: RowPlaces): number {
  const bytes = view.getInt32(at);
  row.tags = 0;
  if (bytes < 0) return at + 4;
  row.tagsAt = at + ARRAY_HEAD_BYTES;
  row.tags = Math.max(0, (bytes + 4 - ARRAY_HEAD_BYTES) / ELEMENT_BYTES);
  if (!Number.isInteger(row.tags) || row.tags > TAG_KEYS_MAX)
    throw new Error("raw rows have tags of an unknown shape");
  return at + 4 + bytes;
}

/** Adds a row of `view`, or takes it away, to the cell whose sums begin at `cell`. */
function addEvent(
  cells: Cells,
  cell: number,
  view: DataView,
  { at, latencyMs, costAt, ratedAt }: RowPlaces,
  sign: 1 | -1,
): void {
  const values = cells.values;
  const requests = sign * view.getInt32(at + 54);
  values[cell + REQUESTS] = (values[cell + REQUESTS] ?? 0) + requests;
  let tokens = 0;
  for (let i = 0; i < TOKEN_CLASSES; i++) {
    const count = sign * view.getInt32(at + 62 + i * 8);
    values[cell + FIRST_TOKENS + i] = (values[cell + FIRST_TOKENS + i] ?? 0) + count;
    tokens += count;
  }
  if (costAt >= 0) {
    values[cell + PRICED_REQUESTS] = (values[cell + PRICED_REQUESTS] ?? 0) + requests;
    values[cell + PRICED_TOKENS] = (values[cell + PRICED_TOKENS] ?? 0) + tokens;
    values[cell + COST_HIGH] = (values[cell + COST_HIGH] ?? 0) + sign * view.getInt32(costAt);
    values[cell + COST_LOW] = (values[cell + COST_LOW] ?? 0) + sign * view.getUint32(costAt + 4);
  }
  if (ratedAt >= 0) {
    values[cell + RATED_HIGH] = (values[cell + RATED_HIGH] ?? 0) + sign * view.getInt32(ratedAt);
    values[cell + RATED_LOW] = (values[cell + RATED_LOW] ?? 0) + sign * view.getUint32(ratedAt + 4);
  }
  if (latencyMs >= 0) cells.addLatency(cell, latencyMs, sign);
}

import {
  ACCEPTED,
  type BatchLedgerEntry,
  DUPLICATE,
  type IngestOutcome,
  KeyTable,
  type ParsedItem,
  type Rejection,
  type UsageEvent,
} from "#contract";
import type { EventIds, FoundKey, QuarantineRow } from "#store";
import type { WritableOrgs } from "./judge-org.ts";
import { rejectedAs } from "./judge-time.ts";

/** One received item with what its transport said about it. */
export type BatchItem = {
  item: ParsedItem;
  source: string;
  /** Number of the source's partition, for the ledger; 0 where it has none. */
  partition: number;
  /** Where it stood in its source (an offset, a delivery tag), for the quarantine; null where there is no such thing. */
  place: string | null;
  /** Tells where the source is read on once this item is done; null where it has no positions. */
  positionAfter: (() => string) | null;
  isBackfill: boolean;
  /** What its sender may write for. */
  writesFor: WritableOrgs;
  receivedAtMs: number;
};

/** Bytes of a rejected item that are kept; the rest is cut and marked. */
const QUARANTINE_BYTES_MAX = 65_536;
const HOUR_US = 3_600_000_000;
const HOUR_SECONDS = 3600;

/**
 * A batch with everything decided that can be decided without the database: which items are valid, their ids, and
 * which repeat an earlier item of the same batch.
 */
export class PreparedBatch {
  readonly items: readonly BatchItem[];
  /** Rejections known so far, by item; the commit adds conflicts. */
  readonly rejections: (Rejection | undefined)[];
  readonly ids: (EventIds | undefined)[];
  /** First items of each key, sorted by key: the order in which keys are claimed, so that writers cannot deadlock. */
  readonly firsts: number[] = [];
  readonly #repeats: { item: number; first: number }[] = [];
  readonly keys: KeyTable;

  constructor(
    items: readonly BatchItem[],
    rejections: (Rejection | undefined)[],
    ids: (EventIds | undefined)[],
  ) {
    this.items = items;
    this.rejections = rejections;
    this.ids = ids;
    this.keys = new KeyTable(items.length);
    const order = new Float64Array(items.length);
    let count = 0;
    for (let i = 0; i < items.length; i++) {
      const event = this.eventAt(i);
      if (!event) continue;
      const orgId = ids[i]?.orgId;
      if (orgId === undefined) throw new Error("a valid event has no ids");
      const first = this.keys.add(i, event.key, orgId);
      if (first >= 0) this.#repeats.push({ item: i, first });
      else order[count++] = event.key[0] * 1_048_576 + i;
    }
    for (const packed of order.subarray(0, count).sort()) this.firsts.push(packed % 1_048_576);
  }

  /** The event of an item that is still to be counted; undefined once it is rejected. */
  eventAt(i: number): UsageEvent | undefined {
    return this.rejections[i] ? undefined : (this.items[i]?.item.event ?? undefined);
  }

  /** Whether any key is also in another batch. */
  overlaps(other: PreparedBatch): boolean {
    for (const i of this.firsts) {
      const event = this.eventAt(i);
      const orgId = this.ids[i]?.orgId;
      if (event && orgId !== undefined && other.keys.get(event.key, orgId) >= 0) return true;
    }
    return false;
  }

  /** Decides every item, given which keys were counted before. */
  judge(known: readonly FoundKey[]): IngestOutcome[] {
    const outcomes: (IngestOutcome | undefined)[] = this.rejections.map(
      (rejection) => rejection && rejectedAs(rejection),
    );
    for (const first of this.firsts) outcomes[first] = ACCEPTED;
    const knownHash = new Map<number, string>();
    for (const { key, orgId, contentHash } of known) {
      const first = this.keys.get(parseKey(key), orgId);
      if (first < 0) continue;
      knownHash.set(first, contentHash);
      const event = this.eventAt(first);
      if (event) outcomes[first] = hashText(event) === contentHash ? DUPLICATE : CONFLICT;
    }
    for (const { item, first } of this.#repeats) {
      const [event, firstEvent] = [this.eventAt(item), this.eventAt(first)];
      if (!event || !firstEvent) continue;
      const counted = knownHash.get(first) ?? hashText(firstEvent);
      outcomes[item] = hashText(event) === counted ? DUPLICATE : CONFLICT;
    }
    return outcomes.map((outcome) => {
      if (!outcome) throw new Error("an item was left without an outcome");
      return outcome;
    });
  }

  /** What of this batch goes to quarantine. */
  quarantineRows(
    outcomes: readonly IngestOutcome[],
    place: (i: number) => { orgId: number; sourceId: number },
  ): QuarantineRow[] {
    const rows: QuarantineRow[] = [];
    outcomes.forEach((outcome, i) => {
      const received = this.items[i];
      if (!received || (outcome.status !== "rejected" && outcome.status !== "conflict")) return;
      const about = received.item.event ?? received.item.rejection;
      rows.push({
        ...place(i),
        position: received.place,
        receivedAtMs: received.receivedAtMs,
        code: outcome.code,
        pointer: outcome.pointer,
        detail: outcome.detail,
        eventId: about.eventId,
        occurredAtUs: about.occurredAtUs,
        bytes: received.item.bytes.subarray(0, QUARANTINE_BYTES_MAX),
        truncated: received.item.bytes.length > QUARANTINE_BYTES_MAX,
      });
    });
    return rows;
  }

  /** Control totals per source, org and hour. */
  ledgerEntries(
    outcomes: readonly IngestOutcome[],
    place: (i: number) => { orgId: number; sourceId: number },
  ): BatchLedgerEntry[] {
    const ledger = new LedgerSums();
    outcomes.forEach((outcome, i) => {
      const received = this.items[i];
      if (!received) return;
      const about = received.item.event ?? received.item.rejection;
      const us = about.occurredAtUs ?? received.receivedAtMs * 1000;
      ledger.add(
        { ...place(i), partition: received.partition },
        Math.floor(us / HOUR_US),
        outcome.status,
        received.item.event?.key,
      );
    });
    return ledger.entries();
  }
}

type Sums = {
  orgId: number;
  sourceId: number;
  partition: number;
  hour: number;
  counts: Record<IngestOutcome["status"], number>;
  received: [number, number];
  accepted: [number, number];
};

/** Adds up control totals; digests as two sums of 32-bit halves, exact below 2^21 items. */
class LedgerSums {
  readonly #sums = new Map<number, Sums[]>();

  add(
    { orgId, sourceId, partition }: { orgId: number; sourceId: number; partition: number },
    hour: number,
    status: IngestOutcome["status"],
    key: readonly [number, number, number, number] | undefined,
  ): void {
    const slot = hour * 4096 + (orgId % 4096);
    let bucket = this.#sums.get(slot);
    if (!bucket) this.#sums.set(slot, (bucket = []));
    let sums = bucket.find(
      (s) => s.orgId === orgId && s.sourceId === sourceId && s.partition === partition,
    );
    if (!sums) {
      const counts = { accepted: 0, duplicate: 0, conflict: 0, rejected: 0 };
      bucket.push(
        (sums = { orgId, sourceId, partition, hour, counts, received: [0, 0], accepted: [0, 0] }),
      );
    }
    sums.counts[status]++;
    if (!key) return;
    const [high, low] = [(key[0] ^ key[2]) >>> 0, (key[1] ^ key[3]) >>> 0];
    sums.received[0] += high;
    sums.received[1] += low;
    if (status !== "accepted") return;
    sums.accepted[0] += high;
    sums.accepted[1] += low;
  }

  entries(): BatchLedgerEntry[] {
    return [...this.#sums.values()]
      .flat()
      .map(({ orgId, sourceId, partition, hour, counts, received, accepted }) => ({
        orgId,
        sourceId,
        partition,
        hourSeconds: hour * HOUR_SECONDS,
        received: counts.accepted + counts.duplicate + counts.conflict + counts.rejected,
        ...counts,
        receivedDigest: digestOf(received),
        acceptedDigest: digestOf(accepted),
      }));
  }
}

const digestOf = ([high, low]: readonly [number, number]): bigint =>
  BigInt.asUintN(64, (BigInt(high) << 32n) + BigInt(low));

const CONFLICT: IngestOutcome = {
  status: "conflict",
  code: "conflict",
  pointer: "/event_id",
  detail: "This event_id was counted before with other content; the first one stands.",
};

/** The content hash as PostgreSQL prints the int8. */
const hashText = ({ contentHash: [high, low] }: UsageEvent): string =>
  BigInt.asIntN(64, (BigInt(high) << 32n) | BigInt(low)).toString();

/** The four words of a uuid's text form. */
function parseKey(uuid: string): [number, number, number, number] {
  const hex = uuid.replaceAll("-", "");
  return [0, 8, 16, 24].map((at) => Number.parseInt(hex.slice(at, at + 8), 16)) as [
    number,
    number,
    number,
    number,
  ];
}

import type { BatchLedgerEntry, ParsedItem } from "#contract";

const HOUR_US = 3_600_000_000;
const HOUR_SECONDS = 3600;
/** Sums of 32-bit halves are exact in a double below 2^53. */
const ADDED_MAX = 2 ** 20;

/** Order-free digest of ids, as batches have it in their control totals: a sum modulo 2^64. */
class IdDigest {
  #sum = 0n;
  #high = 0;
  #low = 0;
  #added = 0;

  add(key: readonly [number, number, number, number]): void {
    this.#high += (key[0] ^ key[2]) >>> 0;
    this.#low += (key[1] ^ key[3]) >>> 0;
    if (++this.#added === ADDED_MAX) this.#fold();
  }

  get value(): bigint {
    this.#fold();
    return this.#sum;
  }

  #fold(): void {
    this.#sum = BigInt.asUintN(64, this.#sum + (BigInt(this.#high) << 32n) + BigInt(this.#low));
    [this.#high, this.#low, this.#added] = [0, 0, 0];
  }
}

/** One org's items of one hour. */
type Cell = {
  /** That are events. */
  events: number;
  /** That are none, but name org and time. */
  unreadable: number;
  digest: IdDigest;
};

/** What a stretch of a stream holds, per org and hour of occurrence. */
export class PublishedTotals {
  /** Every item, readable or not. */
  items = 0;
  readonly #orgs = new Map<string, Map<number, Cell>>();

  add({ event, rejection }: ParsedItem): void {
    this.items++;
    const { orgId, occurredAtUs } = event ?? rejection;
    if (orgId === null || occurredAtUs === null) return;
    const cell = this.#cellOf(orgId, Math.floor(occurredAtUs / HOUR_US) * HOUR_SECONDS);
    if (event === null) {
      cell.unreadable++;
      return;
    }
    cell.events++;
    cell.digest.add(event.key);
  }

  #cellOf(org: string, hourSeconds: number): Cell {
    let hours = this.#orgs.get(org);
    if (!hours) this.#orgs.set(org, (hours = new Map<number, Cell>()));
    let cell = hours.get(hourSeconds);
    if (!cell)
      hours.set(hourSeconds, (cell = { events: 0, unreadable: 0, digest: new IdDigest() }));
    return cell;
  }

  digestOf(org: string, hourSeconds: number): bigint {
    return this.#orgs.get(org)?.get(hourSeconds)?.digest.value ?? 0n;
  }

  *cells(): Generator<{ org: string; hourSeconds: number } & Cell> {
    for (const [org, hours] of this.#orgs)
      for (const [hourSeconds, cell] of hours) yield { org, hourSeconds, ...cell };
  }
}

/** What batches say they received of one org and hour. */
export type ReceivedCell = {
  orgId: number;
  hourSeconds: number;
  received: number;
  rejected: number;
  digest: bigint;
};

/** What the control totals of a stream's batches come to, per org and hour. */
export class ReceivedTotals {
  items = 0;
  readonly #cells = new Map<string, ReceivedCell>();

  add({
    orgId,
    hourSeconds,
    received,
    rejected,
    receivedDigest,
  }: Pick<
    BatchLedgerEntry,
    "orgId" | "hourSeconds" | "received" | "rejected" | "receivedDigest"
  >): void {
    this.items += received;
    const name = `${orgId}/${hourSeconds}`;
    const known = this.#cells.get(name);
    if (known === undefined) {
      this.#cells.set(name, { orgId, hourSeconds, received, rejected, digest: receivedDigest });
      return;
    }
    known.received += received;
    known.rejected += rejected;
    known.digest = BigInt.asUintN(64, known.digest + receivedDigest);
  }

  /** Counts an org's events of an hour as received that were missing at first and then replayed, just these and no others. */
  addReplayed(
    published: PublishedTotals,
    replayed: { orgId: number; org: string; hourSeconds: number; accepted: number; digest: bigint },
  ): void {
    const { orgId, org, hourSeconds, accepted, digest } = replayed;
    const received = this.#cells.get(`${orgId}/${hourSeconds}`)?.digest ?? 0n;
    const missing = BigInt.asUintN(64, published.digestOf(org, hourSeconds) - received);
    if (missing !== digest) return;
    const counts = { received: accepted, rejected: 0, receivedDigest: digest };
    this.add({ orgId, hourSeconds, ...counts });
  }

  cells(): Iterable<ReceivedCell> {
    return this.#cells.values();
  }
}

/** Two figures of a stream that should be one. `org` is an external id, "*" for all of them; `hourSeconds` where it has one. */
export type TotalsDifference = {
  org: string;
  hourSeconds: number | null;
  figure: "published events" | "digest of published ids" | "published events in all";
  expected: string;
  found: string;
};

/**
 * Compares what was published with what batches received, hour by hour. An event always has its hour; its org may be
 * unknown to the ledger (it was rejected before the org's first event was counted), which is made up for by the hour's
 * events of no org. Items that are no events are in the totals, and in an hour's number where nothing in it is
 * uncertain: an item without a time was counted in the hour of its arrival.
 */
export function compareTotals(
  published: PublishedTotals,
  received: ReceivedTotals,
  nameOf: (orgId: number) => string,
): TotalsDifference[] {
  const hours = new Map<number, HourTotals>();
  const hourOf = (hourSeconds: number): HourTotals => {
    let hour = hours.get(hourSeconds);
    if (!hour) hours.set(hourSeconds, (hour = new HourTotals(hourSeconds)));
    return hour;
  };
  for (const { org, hourSeconds, events, unreadable, digest } of published.cells())
    hourOf(hourSeconds).publish(org, { events, unreadable, digest: digest.value });
  for (const cell of received.cells())
    hourOf(cell.hourSeconds).receive(cell.orgId === 0 ? null : nameOf(cell.orgId), cell);
  const differences = [...hours.values()]
    .toSorted((a, b) => a.hourSeconds - b.hourSeconds)
    .flatMap((hour) => hour.compare());
  if (published.items === received.items) return differences;
  const inAll: TotalsDifference = {
    org: "*",
    hourSeconds: null,
    figure: "published events in all",
    expected: String(published.items),
    found: String(received.items),
  };
  return [inAll, ...differences];
}

type Published = { events: number; unreadable: number; digest: bigint };
type Received = Pick<ReceivedCell, "received" | "rejected" | "digest">;
const NOTHING_PUBLISHED: Published = { events: 0, unreadable: 0, digest: 0n };
const NOTHING_RECEIVED: Received = { received: 0, rejected: 0, digest: 0n };

class HourTotals {
  readonly hourSeconds: number;
  readonly #orgs = new Map<string, { published: Published; received: Received }>();
  /** Counted under no org. */
  #ofNoOrg: Received = NOTHING_RECEIVED;

  constructor(hourSeconds: number) {
    this.hourSeconds = hourSeconds;
  }

  publish(org: string, published: Published): void {
    this.#orgs.set(org, { published, received: NOTHING_RECEIVED });
  }

  receive(org: string | null, received: Received): void {
    if (org === null) this.#ofNoOrg = received;
    else
      this.#orgs.set(org, {
        published: this.#orgs.get(org)?.published ?? NOTHING_PUBLISHED,
        received,
      });
  }

  compare(): TotalsDifference[] {
    const all = [...this.#orgs];
    const differing = all.filter(
      ([, { published, received }]) => published.digest !== received.digest,
    );
    const miscounted = all.filter(
      ([, { published, received }]) =>
        published.digest === received.digest &&
        published.unreadable + received.rejected === 0 &&
        published.events !== received.received,
    );
    const missing = differing.reduce(
      (sum, [, { published, received }]) => sum + published.digest - received.digest,
      0n,
    );
    const ofNoOrg = this.#ofNoOrg.digest;
    if (ofNoOrg !== 0n) {
      if (BigInt.asUintN(64, missing) === ofNoOrg) differing.length = 0;
      else if (differing.length === 0)
        differing.push(["*", { published: NOTHING_PUBLISHED, received: this.#ofNoOrg }]);
    }
    return [...differing, ...miscounted].map(([org, totals]) => this.#describe(org, totals));
  }

  #describe(
    org: string,
    { published, received }: { published: Published; received: Received },
  ): TotalsDifference {
    const [events, counted] = [published.events + published.unreadable, received.received];
    const isByCount = events !== counted;
    return {
      org,
      hourSeconds: this.hourSeconds,
      figure: isByCount ? "published events" : "digest of published ids",
      expected: String(isByCount ? events : published.digest),
      found: String(isByCount ? counted : received.digest),
    };
  }
}

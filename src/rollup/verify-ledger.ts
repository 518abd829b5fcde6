import { type BatchLedgerEntry, decodeBatchLedger } from "#contract";
import {
  countKeysByOrg,
  type DayToVerify,
  type FigureDifference,
  type LedgerRow,
  listLedgerRows,
  readFoldedBatchLedgers,
  readWindowBatchLedgers,
  type Tx,
} from "#store";

const DAY_SECONDS = 86_400;
/** An event may be this much ahead of its commit, so batches so much older than an hour may have touched it. */
const AHEAD_SECONDS = 900;
const FIGURES = [
  "received",
  "accepted",
  "duplicate",
  "conflict",
  "rejected",
  "receivedDigest",
  "acceptedDigest",
] as const;
const LISTED_MAX = 50;

type Sum = Record<(typeof FIGURES)[number], bigint>;

/**
 * Compares the ledger with the sum of the control totals that each folded batch left, for the hours of these days of
 * which every batch is still listed. Memory: one entry per org, source, partition and hour.
 */
export async function listBatchLedgerDifferences(
  tx: Tx,
  days: readonly DayToVerify[],
  horizonSeconds: number | null,
): Promise<FigureDifference[]> {
  const first = days[0]?.daySeconds ?? 0;
  const fromSeconds = Math.max(
    first,
    horizonSeconds === null ? first : horizonSeconds + AHEAD_SECONDS,
  );
  const wanted = new Set(days.map(({ daySeconds }) => daySeconds));
  const isWanted = (hourSeconds: number) =>
    hourSeconds >= fromSeconds && wanted.has(Math.floor(hourSeconds / DAY_SECONDS) * DAY_SECONDS);

  const told = await sumBatches(tx, fromSeconds - AHEAD_SECONDS, isWanted);
  const differences: Omit<FigureDifference, "total">[] = [];
  for (const { daySeconds } of days) {
    const rows = await listLedgerRows(tx.sql, {
      fromSeconds: daySeconds,
      toSeconds: daySeconds + DAY_SECONDS,
    });
    for (const row of rows.filter(({ hourSeconds }) => isWanted(hourSeconds))) {
      const key = nameOf(row);
      const difference = compare(row, told.get(key)?.sum, sumOfRow(row));
      told.delete(key);
      if (difference) differences.push(difference);
    }
  }
  for (const { entry, sum } of told.values()) {
    const difference = compare(entry, sum, undefined);
    if (difference) differences.push(difference);
  }
  return differences
    .slice(0, LISTED_MAX)
    .map((difference) => ({ ...difference, total: differences.length }));
}

/** Compares how many keys the window holds of each org with the events accepted since its floor. */
export async function listKeyCountDifferences(
  tx: Tx,
  partitions: readonly number[],
): Promise<FigureDifference[]> {
  const accepted = new Map<number, number>();
  for await (const page of readWindowBatchLedgers(tx)) {
    for (const entry of page.flatMap(({ ledger }) => decodeBatchLedger(ledger))) {
      accepted.set(entry.orgId, (accepted.get(entry.orgId) ?? 0) + entry.accepted);
    }
  }
  const held = new Map(
    (await countKeysByOrg(tx, partitions)).map(({ orgId, keys }) => [orgId, keys]),
  );
  const differing = [...new Set([...accepted.keys(), ...held.keys()])]
    .filter((orgId) => (accepted.get(orgId) ?? 0) !== (held.get(orgId) ?? 0))
    .toSorted((a, b) => a - b);
  return differing.slice(0, LISTED_MAX).map((orgId) => ({
    orgId,
    sourceId: null,
    hourSeconds: null,
    figure: "keys in the window",
    expected: String(accepted.get(orgId) ?? 0),
    found: String(held.get(orgId) ?? 0),
    total: differing.length,
  }));
}

type Place = Pick<BatchLedgerEntry, "orgId" | "sourceId" | "partition" | "hourSeconds">;

const nameOf = (place: Place): string =>
  `${place.orgId}/${place.sourceId}/${place.partition}/${place.hourSeconds}`;

async function sumBatches(
  tx: Tx,
  sinceSeconds: number,
  isWanted: (hourSeconds: number) => boolean,
) {
  const sums = new Map<string, { entry: Place; sum: Sum }>();
  for await (const page of readFoldedBatchLedgers(tx, sinceSeconds)) {
    for (const entry of page.flatMap(({ ledger }) => decodeBatchLedger(ledger))) {
      if (!isWanted(entry.hourSeconds)) continue;
      const key = nameOf(entry);
      const known = sums.get(key);
      if (known) addTo(known.sum, sumOfEntry(entry));
      else sums.set(key, { entry, sum: sumOfEntry(entry) });
    }
  }
  return sums;
}

const sumOfEntry = (entry: BatchLedgerEntry): Sum => ({
  received: BigInt(entry.received),
  accepted: BigInt(entry.accepted),
  duplicate: BigInt(entry.duplicate),
  conflict: BigInt(entry.conflict),
  rejected: BigInt(entry.rejected),
  receivedDigest: entry.receivedDigest,
  acceptedDigest: entry.acceptedDigest,
});

const sumOfRow = (row: LedgerRow): Sum => ({
  received: BigInt(row.received),
  accepted: BigInt(row.accepted),
  duplicate: BigInt(row.duplicate),
  conflict: BigInt(row.conflict),
  rejected: BigInt(row.rejected),
  receivedDigest: BigInt(row.receivedDigest),
  acceptedDigest: BigInt(row.acceptedDigest),
});

function addTo(sum: Sum, other: Sum): void {
  for (const figure of FIGURES) sum[figure] = BigInt.asUintN(64, sum[figure] + other[figure]);
}

/** The first figure in which the ledger differs from what its batches say. */
function compare(
  place: Place,
  batches: Sum | undefined,
  ledger: Sum | undefined,
): Omit<FigureDifference, "total"> | undefined {
  const figure = FIGURES.find((name) => (batches?.[name] ?? 0n) !== (ledger?.[name] ?? 0n));
  if (figure === undefined) return undefined;
  return {
    orgId: place.orgId,
    sourceId: place.sourceId,
    hourSeconds: place.hourSeconds,
    figure,
    expected: String(batches?.[figure] ?? 0n),
    found: String(ledger?.[figure] ?? 0n),
  };
}

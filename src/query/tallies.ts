import type { Span } from "#contract";
import { NO_KEYS, type RollupAsk, type RollupKeys, sumUsage } from "#store";
import { addSums, createTally, isNothing, type Tally } from "./measures.ts";
import { askOf, type Reading, type ReadKeys } from "./reading.ts";

/** One read of several that are added up; -1: what it finds is taken away. */
export type AskPart = { ask: RollupAsk; keys: RollupKeys; sign: 1 | -1 };

/**
 * The reads that answer for some spans. Events without a value of a tag key have no rows of their own: they are all
 * events (by client: of the same consumer, so that no event is in one and not in the other) without those that have one.
 */
export async function partsOf(
  reading: Reading,
  spans: readonly Span[],
  keys: RollupKeys,
): Promise<AskPart[]> {
  const ask = await askOf(reading, spans);
  const { tags } = reading;
  if (tags === null) return [{ ask, keys, sign: 1 }];
  const all = { ...ask, dimension: "client", memberIds: null } as const;
  if (keys.by !== "member" && reading.plan.words === null) return [{ ask: all, keys, sign: 1 }];
  const own: AskPart = { ask, keys, sign: 1 };
  if (!tags.wantsNone) return [own];
  // Not split by member they come under key 0, which stands for none.
  const keysOfNone = keys.by === "member" ? NO_KEYS : keys;
  return [
    own,
    { ask: all, keys: keysOfNone, sign: 1 },
    { ask: { ...ask, memberIds: tags.ids }, keys: keysOfNone, sign: -1 },
  ];
}

/** Usage per key, one tally a span. Keys without any usage are left out. */
export async function readTallies(
  reading: Reading,
  spans: readonly Span[],
  keys: ReadKeys,
): Promise<Map<number, Tally[]>> {
  const byKey = new Map<number, Tally[]>();
  const parts = await partsOf(reading, spans, keys);
  for (const part of parts) {
    for (const sums of await sumUsage(reading.tx.sql, part.ask, part.keys)) {
      const key = keys.groupOf(sums.key);
      let tallies = byKey.get(key);
      if (tallies === undefined) byKey.set(key, (tallies = spans.map(createTally)));
      const tally = tallies[sums.bucketNo];
      if (tally === undefined) throw new RangeError(`no bucket: ${sums.bucketNo}`);
      addSums(tally, sums, part.sign);
    }
  }
  // Of several parts, nothing may be left of a key.
  if (parts.length > 1)
    for (const [key, tallies] of byKey) if (tallies.every(isNothing)) byKey.delete(key);
  return byKey;
}

import { type Consumer, CONSUMER_NAMES } from "#contract";
import { listPurged15m, type Tx } from "#store";
import { FoldSums } from "./raw-reader.ts";
import { SketchCache } from "./sketch-cache.ts";
import type { SystemMembers } from "./system-members.ts";
import { daysOf, membersOf, writeRollups } from "./write-fold.ts";

/** Raw rows that are folded and are about to be changed in place. */
export type RowMove = {
  /** Streams exactly these rows, as store's `readRawRows` does: before and after the change. */
  read: (consumer: Consumer) => AsyncIterable<Buffer>;
  /** Changes them. */
  change: () => Promise<void>;
  members: SystemMembers;
};

/**
 * Changes raw rows that both consumers have folded, and their rollup rows with them, so that the two still agree: takes
 * away what the rows counted, changes them, and counts them anew. In a transaction that keeps folds out, on a session
 * prepared for both consumers. Ledger, errors and freshness do not depend on what may be changed, and stay.
 */
export async function moveRows(tx: Tx, move: RowMove): Promise<void> {
  const sums = new Map(CONSUMER_NAMES.map((consumer) => [consumer, new FoldSums(consumer)]));
  const count = async (sign: 1 | -1): Promise<void> => {
    for (const [consumer, of] of sums) {
      of.beginMove(sign);
      for await (const piece of move.read(consumer)) of.push(piece);
      of.end();
    }
  };
  await count(-1);
  await move.change();
  await count(1);
  for (const [consumer, of] of sums) {
    // The folds that counted the rows have made the ids: none is made here.
    if (consumer === "usage") await move.members.resolve(tx.sql, membersOf(of));
    const purged = await listPurged15m(tx.sql, daysOf(of));
    await writeRollups(
      {
        tx,
        consumer,
        // Nothing is remembered: the next fold of these rows begins with an empty cache.
        cache: new SketchCache(0),
        members: move.members,
        rememberFromSeconds: Number.POSITIVE_INFINITY,
        purged15m: new Set(purged.map(({ orgId, daySeconds }) => `${orgId}/${daySeconds}`)),
      },
      of,
    );
  }
}

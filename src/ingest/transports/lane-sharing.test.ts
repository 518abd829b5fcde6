import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { testDatabase, waitFor } from "#harness";
import type { Database, Lane } from "#store";
import { type HeldLane, LaneSharing, shareOf } from "./lane-sharing.ts";

const PARTITIONS = ["s-0", "s-1", "s-2", "s-3", "s-4", "s-5"];

test("shares add up to all lanes, and no two differ by more than one", () => {
  fc.assert(
    fc.property(fc.nat(500), fc.integer({ min: 1, max: 50 }), (lanes, members) => {
      const shares = Array.from({ length: members }, (_, rank) => shareOf(lanes, rank, members));
      assert.equal(
        shares.reduce((a, b) => a + b, 0),
        lanes,
      );
      assert.ok(Math.max(...shares) - Math.min(...shares) <= 1);
    }),
  );
  assert.equal(shareOf(6, -1, 3), 0);
});

/** A process that shares lanes and whose work on each ends as soon as it is asked to. */
function openMember(database: Database, member: string, leaseSeconds: number) {
  const partitions = new Map<string, Lane>();
  const sharing: LaneSharing = new LaneSharing({
    database,
    transport: "stream/s",
    partitions: PARTITIONS,
    member,
    leaseSeconds,
    lanesMax: 32,
    onClaimed: (lane, partition): HeldLane => {
      partitions.set(partition, lane);
      const end = (): void => {
        if (partitions.get(partition) === lane) partitions.delete(partition);
      };
      const held = {
        lane,
        headOffset: null,
        isLeaving: false,
        leave: () => {
          held.isLeaving = true;
          end();
          ending.push(release(database, lane).then(() => sharing.forget(lane)));
        },
        lose: end,
      };
      return held;
    },
  });
  const ending: Promise<void>[] = [];
  const share = async () => {
    await sharing.share();
    await Promise.all(ending.splice(0));
  };
  return { sharing, share, partitions };
}

const release = async (database: Database, lane: Lane): Promise<void> => {
  await database.sql`
    update lane set lease_until = '-infinity' where id = ${lane.laneId} and epoch = ${lane.epoch}`;
};

test("F6: members that join share the lanes evenly, one that leaves gives its lanes away, and no lane has two holders", async () => {
  await using db = await testDatabase();
  const members = ["a", "b", "c"].map((name) => openMember(db.database, name, 60));
  const settle = async (present: typeof members) => {
    for (let round = 0; round < 3; round++) for (const { share } of present) await share();
    const all = present.flatMap(({ partitions }) => [...partitions.keys()]);
    assert.deepEqual(all.toSorted(), PARTITIONS);
    return present.map(({ partitions }) => partitions.size);
  };
  const [a, b, c] = members;
  assert.ok(a && b && c);
  assert.deepEqual(await settle([a]), [6]);
  assert.deepEqual(await settle([a, b]), [3, 3]);
  assert.deepEqual(await settle([a, b, c]), [2, 2, 2]);
  await b.sharing[Symbol.asyncDispose]();
  b.partitions.clear();
  assert.deepEqual(await settle([a, c]), [3, 3]);
});

test("F5: the lanes of a member that falls silent go to another when its lease runs out, under a new epoch, and it learns that they are lost", async () => {
  await using db = await testDatabase();
  const silent = openMember(db.database, "silent", 1);
  const heir = openMember(db.database, "heir", 60);
  await silent.share();
  assert.equal(silent.partitions.size, 6);
  const epochs = new Map([...silent.partitions].map(([name, { epoch }]) => [name, epoch]));
  await waitFor(
    async () => {
      await heir.share();
      return heir.partitions.size === 6;
    },
    { what: "the lanes to be taken over" },
  );
  for (const [name, { epoch }] of heir.partitions) assert.equal(epoch, (epochs.get(name) ?? 0) + 1);
  await silent.share();
  assert.equal(silent.partitions.size, 0);
});

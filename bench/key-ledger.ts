import { type Database, openFirstKeyPartition, rotateKeyPartition } from "#store";
import type { Bench } from "./bench.ts";
import { median, readHeldBufferBytes, timeSeconds } from "./measure.ts";
import { atLeast } from "./report.ts";
import type { BenchDatabase } from "./server.ts";
import { assertAllAccepted, type BenchService, ingestBodies, openService } from "./service.ts";
import { BODY_EVENTS, lastMinutes, Traffic } from "./traffic.ts";

const NAME = "key ledger";
const SHARE_OF_EMPTY_MIN = 0.7;
const MIB = 2 ** 20;

/** Ingestion alone with a window full of keys, against one with none. Runs take turns, so that both see the same machine. */
export async function measureKeyLedger(bench: Bench): Promise<void> {
  const { server, size, report, say } = bench;
  const settings = { keys: { partitionKeysMax: size.ledgerPartitionKeysMax, windowHours: 48 } };
  await using emptyDb = await server.createDatabase();
  await using fullDb = await server.createDatabase();
  const fillSeconds = await timeSeconds(() => fillKeys(bench, fullDb));
  say(`${NAME}: ${size.ledgerKeys} keys filled in ${Math.round(fillSeconds)} s`);

  await using empty = await openService(server, emptyDb, { rollup: "none", settings });
  const memoryBefore = readHeldBufferBytes();
  const openedMs = performance.now();
  await using full = await openService(server, fullDb, { rollup: "none", settings });
  await full.ingestor.filtersBuilt;
  const buildSeconds = (performance.now() - openedMs) / 1000;
  const filterBytes = readHeldBufferBytes() - memoryBefore;
  say(
    `${NAME}: filters built in ${buildSeconds.toFixed(1)} s, ${Math.round(filterBytes / MIB)} MiB`,
  );

  const speeds = await takeTurns(bench, { empty, full });
  const [emptySpeed, fullSpeed] = [median(speeds.empty), median(speeds.full)];
  const ratio = fullSpeed / emptySpeed;
  const millions = `${size.ledgerKeys / 1_000_000} M`;
  report.add({
    bench: NAME,
    what: "empty window, ingestion alone",
    value: emptySpeed,
    unit: "events/s",
  });
  report.add({
    bench: NAME,
    what: `${millions} keys in the window, ingestion alone`,
    value: fullSpeed,
    unit: "events/s",
    ratio: { value: ratio, to: "empty" },
    budget: atLeast(ratio, SHARE_OF_EMPTY_MIN),
  });
  report.add({
    bench: NAME,
    what: `filters of ${millions} keys, time to build`,
    value: buildSeconds,
    unit: "s",
  });
  report.add({
    bench: NAME,
    what: `filters of ${millions} keys, memory`,
    value: filterBytes / MIB,
    unit: "MiB",
  });
}

async function takeTurns(
  { size, clock, say }: Bench,
  services: Record<"empty" | "full", BenchService>,
): Promise<Record<"empty" | "full", number[]>> {
  const speeds: Record<"empty" | "full", number[]> = { empty: [], full: [] };
  for (let run = -1; run < size.ledgerRuns; run++) {
    for (const which of ["empty", "full"] as const) {
      const isWarmUp = run < 0;
      const bodies = new Traffic(300 + run).bodies(
        isWarmUp ? size.warmUpEvents : size.ledgerEvents,
        lastMinutes(clock.now()),
      );
      const events = bodies.length * BODY_EVENTS;
      const seconds = await timeSeconds(async () =>
        assertAllAccepted(await ingestBodies(services[which].ingestor, bodies), events),
      );
      if (isWarmUp) continue;
      speeds[which].push(events / seconds);
      say(
        `${NAME}, ${which}, ${run + 1}/${size.ledgerRuns}: ${Math.round(events / seconds)} events/s`,
      );
    }
  }
  return speeds;
}

/** As many closed partitions as the keys fill, by the store's own rotation, and the rest in the open one. */
async function fillKeys({ size, say }: Bench, { database }: BenchDatabase): Promise<void> {
  await openFirstKeyPartition(database);
  let no = 1;
  let left = size.ledgerKeys;
  for (; left > size.ledgerPartitionKeysMax; left -= size.ledgerPartitionKeysMax) {
    await fillPartition(database, no, { keys: size.ledgerPartitionKeysMax, isClosing: true });
    await rotateKeyPartition(database, no);
    say(`${NAME}: partition ${no} filled`);
    no++;
  }
  await fillPartition(database, no, { keys: left, isClosing: false });
  await database.sql`checkpoint`;
}

/**
 * Random keys of many orgs. A partition that will be closed gets its index at the end, which is faster and, as only
 * its filter is asked, comes to the same; the open one has the index that insertions in random order leave behind.
 */
async function fillPartition(
  database: Database,
  no: number,
  fill: { keys: number; isClosing: boolean },
): Promise<void> {
  const name = `event_key_${no}`;
  await database.transaction(async (tx) => {
    const [index] = await tx.sql<{ name: string; definition: string }>`
      select indexname as name, indexdef as definition from pg_indexes where tablename = ${name}`;
    if (!index) throw new Error(`${name} has no index`);
    await tx.exec("set local maintenance_work_mem = '512MB'");
    if (fill.isClosing) await tx.exec(`drop index ${index.name}`);
    await tx.exec(`
      insert into ${name} (key, content_hash, org_id)
      select gen_random_uuid(), n::int8 * 7919, 1 + n % 250 from generate_series(1, ${fill.keys}) as n`);
    if (fill.isClosing) await tx.exec(index.definition);
  });
}

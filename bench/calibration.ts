import { parseUsageEvents, type UsageEvent } from "#contract";
import { copyEvents, createRawPartition, dayOfUs, EventRows, type Tx } from "#store";
import type { Bench } from "./bench.ts";
import { median, timeSeconds } from "./measure.ts";
import type { BenchDatabase } from "./server.ts";
import { BODY_EVENTS, lastMinutes, Traffic } from "./traffic.ts";

const FILES = 2;
const ROW_BYTES = 320;

/**
 * What this server can take in at all: rows per second of two concurrent server-side binary COPYs of the very events
 * that are ingested, into a table with raw's columns and one unique key. Everything else is a ratio to it.
 */
export async function calibrate({
  server,
  size,
  say,
  clock,
}: Omit<Bench, "calibration">): Promise<number> {
  await using db = await server.createDatabase();
  const today = dayOfUs(clock.now() * 1000);
  for (const day of [today - 1, today]) await createRawPartition(db.database, day);
  const bodies = new Traffic(1).bodies(size.calibrationEvents, lastMinutes(clock.now()));
  const files = await writeFiles(db, bodies);
  const events = bodies.length * BODY_EVENTS;
  await exec(db, [
    "create table calibration (like usage_event)",
    "create unique index calibration_key on calibration (occurred_at, event_key, org_id)",
  ]);
  const perSecond: number[] = [];
  for (let run = 0; run < size.calibrationRuns; run++) {
    await exec(db, ["truncate calibration"]);
    await db.database.sql`checkpoint`;
    const seconds = await timeSeconds(() =>
      Promise.all(
        files.map((file) => exec(db, [`copy calibration from '${file}' (format binary)`])),
      ),
    );
    perSecond.push(events / seconds);
    say(`calibration ${run + 1}/${size.calibrationRuns}: ${Math.round(events / seconds)} rows/s`);
  }
  return median(perSecond);
}

/** Has the server write the events to files in its own directory, every second body to the other one. */
async function writeFiles(db: BenchDatabase, bodies: readonly Buffer[]): Promise<string[]> {
  const [row] = await db.database.sql<{
    folder: string;
  }>`select current_setting('data_directory') as folder`;
  const files: string[] = [];
  for (let n = 0; n < FILES; n++) {
    const events = bodies
      .filter((_, i) => i % FILES === n)
      .flatMap((body) => parseUsageEvents(body, "ndjson", { eventsMax: BODY_EVENTS }))
      .flatMap(({ event }) => event ?? []);
    const file = `${row?.folder ?? ""}/calibration-${n}`;
    await db.database.transaction(async (tx) => {
      await storeRaw(tx, events);
      await tx.exec(
        `copy (select * from usage_event order by occurred_at) to '${file}' (format binary)`,
      );
      await tx.exec("truncate usage_event");
    });
    files.push(file);
  }
  return files;
}

async function storeRaw(tx: Tx, events: readonly UsageEvent[]): Promise<void> {
  const rows = new EventRows(events.length * ROW_BYTES);
  for (const event of events) {
    const orgId = numberIn(event.orgId);
    rows.add(
      event,
      {
        orgId,
        modelId: orgId * 40 + numberIn(event.modelId),
        clientId: orgId * 4 + numberIn(event.clientId ?? ""),
        actorId: orgId * 40 + numberIn(event.actorId ?? ""),
        errorCodeId: 0,
        tagIds: null,
        sourceId: 1,
      },
      1,
      undefined,
    );
  }
  await copyEvents(tx, rows);
}

/** The last number in a name. */
const numberIn = (name: string): number => Number(/\d+$/.exec(name)?.[0] ?? 0);

async function exec(db: BenchDatabase, statements: readonly string[]): Promise<void> {
  await db.database.transaction(async (tx) => {
    for (const statement of statements) await tx.exec(statement);
  });
}

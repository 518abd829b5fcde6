/** What the suites of all transports share: one test for each of them on each broker at hand, and what must be true after it. */
import assert from "node:assert/strict";
import { test } from "node:test";
import {
  brokersUnderTest,
  openAmqpReader,
  testService,
  waitFor,
  type ServiceFace,
  type TestServiceOptions,
  type TestVhost,
} from "#harness";
import type { Database } from "#store";
import {
  assertAnswersAreSums,
  assertBatchesAddUp,
  assertRollupsAreSums,
  assertVerified,
  settle,
} from "../faults/oracle.ts";

export type Transport = "stream" | "queue";
export const BOTH: readonly Transport[] = ["stream", "queue"];

/** Names on the broker that the default settings give. */
export const NAMES = { stream: "analytics.usage.v1", queue: "usage-events" } as const;
/** The same as sources of the ledger. */
export const SOURCES = {
  stream: `stream/${NAMES.stream}`,
  queue: `queue/${NAMES.queue}`,
} as const;

/** Where a conformance test runs. */
export type Ground = {
  vhost: TestVhost;
  transport: Transport;
  /** What the transport's events are called in the ledger. */
  source: string;
  /** Its name on the broker. */
  name: string;
};

/** Declares a test for each of the transports on each broker at hand, in a fresh vhost. `ids` are those of RELIABILITY.md. */
export function conformanceTest(
  { ids = "", on = BOTH }: { ids?: string; on?: readonly Transport[] },
  title: string,
  body: (ground: Ground) => Promise<void>,
): void {
  for (const broker of brokersUnderTest()) {
    for (const transport of on) {
      const prefix = ids === "" ? "" : `${ids}: `;
      test(`${prefix}${broker.name}, ${transport}: ${title}`, async () => {
        await using vhost = await broker.open();
        await body({ vhost, transport, source: SOURCES[transport], name: NAMES[transport] });
      });
    }
  }
}

/** Declares a test of more than one transport at once, on each broker at hand. */
export function brokerTest(title: string, body: (vhost: TestVhost) => Promise<void>): void {
  for (const broker of brokersUnderTest()) {
    test(`${title} (${broker.name})`, async () => {
      await using vhost = await broker.open();
      await body(vhost);
    });
  }
}

/** Settings of a service that folds soon and consumes the vhost by the ground's transport, or by the one named. */
export const settingsFor = (
  { vhost, transport }: Pick<Ground, "vhost"> & { transport: string },
  env: Record<string, string> = {},
): Record<string, string> => ({
  FOLD_INTERVAL_MS: "50",
  PEOPLE_FOLD_INTERVAL_MS: "100",
  RABBITMQ_URL: vhost.url,
  TRANSPORTS: transport,
  ...env,
});

/** A service in this process that consumes the vhost. */
export const openService = (
  ground: Pick<Ground, "vhost"> & { transport: string },
  { env, ...options }: TestServiceOptions = {},
) => testService({ ...options, env: settingsFor(ground, env) });

export type Counts = {
  received: number;
  accepted: number;
  duplicate: number;
  conflict: number;
  rejected: number;
};

/** The control totals of one source; all 0 before its first event. */
async function countsOf(database: Database, source: string): Promise<Counts> {
  const [row] = await database.sql<Counts>`
    select coalesce(sum(l.received), 0)::int8 as received,
           coalesce(sum(l.accepted), 0)::int8 as accepted,
           coalesce(sum(l.duplicate), 0)::int8 as duplicate,
           coalesce(sum(l.conflict), 0)::int8 as conflict,
           coalesce(sum(l.rejected), 0)::int8 as rejected
      from ledger l join source s on s.id = l.source_id
     where s.name = ${source}`;
  assert.ok(row);
  return { ...row };
}

/** Waits until a source has received as many events, and gives its totals once all that is committed is in them. */
export async function waitReceived(
  database: Database,
  source: string,
  received: number,
): Promise<Counts> {
  let counts = await countsOf(database, source);
  const isEnough = async () => {
    counts = await countsOf(database, source);
    return counts.received >= received;
  };
  await waitFor(isEnough, { msMax: 20_000 }).catch((error: unknown) => {
    const found = JSON.stringify(counts);
    throw new Error(`waited in vain for ${received} events of ${source}: ${found}`, {
      cause: error,
    });
  });
  await settle(database);
  return await countsOf(database, source);
}

/** Waits for a source's events and holds its totals to what is said; the events that are left are to be accepted. */
export async function assertReceived(
  database: Database,
  source: string,
  { received, duplicate = 0, conflict = 0, rejected = 0 }: Partial<Counts> & { received: number },
): Promise<void> {
  const accepted = received - duplicate - conflict - rejected;
  assert.deepEqual(
    await waitReceived(database, source, received),
    { received, accepted, duplicate, conflict, rejected },
    source,
  );
}

/** Everything that is stored agrees: batches, ledger, raw, keys, rollups, answers; and as many events are counted as said. */
export async function assertSound(
  database: Database,
  face: ServiceFace,
  counted: number,
): Promise<void> {
  await settle(database);
  const [row] = await database.sql<{ events: number }>`
    select count(*) as events
      from usage_event`;
  assert.equal(row?.events, counted, "events in raw");
  await assertBatchesAddUp(database);
  await assertRollupsAreSums(database);
  await assertVerified(database);
  await assertAnswersAreSums(database, face);
}

/** What is in quarantine, oldest first, as far as a test can know it before. */
export const listQuarantine = (database: Database) => database.sql<{
  source: string;
  position: string | null;
  code: string;
  pointer: string;
  detail: string;
  org: string | null;
  eventId: string | null;
  bytes: Buffer;
}>`
  select s.name as source, q.position, q.code, q.pointer, q.detail, nullif(o.external_id, '*') as org, q.event_id as "eventId", q.bytes
    from quarantine q
    join source s on s.id = q.source_id
    left join org o on o.id = q.org_id
   order by q.id`;

/** Where each stream is read on, by the stream's name. */
export async function listPositions(database: Database): Promise<Record<string, string | null>> {
  const rows = await database.sql<{ stream: string; position: string | null }>`
    select partition as stream, position
      from lane
     where starts_with(transport, 'stream/')
     order by partition collate "C"`;
  return Object.fromEntries(rows.map(({ stream, position }) => [stream, position]));
}

/** Waits until a queue has nothing that is not acknowledged, and a look into it, too, finds nothing. */
export async function assertQueueEmpty(vhost: TestVhost, name: string): Promise<void> {
  await waitFor(
    async () => {
      const queue = (await vhost.api("GET", `/api/queues/${vhost.vhost}/${name}`)) as {
        messages_unacknowledged?: number;
      };
      return queue.messages_unacknowledged === 0;
    },
    { what: `${name} to be acknowledged` },
  );
  await using reader = await openAmqpReader(vhost.url);
  assert.equal((await reader.takeAll(name)).length, 0, `messages left in ${name}`);
}

/** What /ready says of the broker. */
export async function brokerDetail(face: ServiceFace): Promise<string> {
  const answer = await face.request("/ready");
  const { checks } = (await answer.json()) as { checks: { broker: { detail: string } } };
  return checks.broker.detail;
}

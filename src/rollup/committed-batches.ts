import {
  type BatchLedgerEntry,
  encodeBatchLedger,
  MEMBER_KIND,
  packCurrency,
  type UsageEvent,
} from "#contract";
import {
  batchIdOf,
  copyEvents,
  copyKeys,
  createRawPartition,
  type Database,
  dayOfUs,
  type EventIds,
  type EventPrice,
  EventRows,
  insertBatch,
  insertLane,
  KeyRows,
  type Lane,
  openFirstKeyPartition,
  upsertMembers,
  upsertOrgs,
  upsertSources,
} from "#store";

/** An event for the tests of the rollup: what the fold reads, in plain names. */
export type TestEvent = {
  org: string;
  model: string;
  client: string | null;
  actor: string | null;
  errorCode: string | null;
  source: string;
  occurredAtUs: number;
  outcome: number;
  currency: string;
  requests: number;
  tokens: readonly [number, number, number, number, number, number];
  latencyMs: number | null;
  costNano: number | null;
  /** What the price book makes of it; null: unpriced. */
  rated: { nano: number; currency: string } | null;
  /** Words of declared keys, one a key. */
  tags?: readonly string[];
};

/** A plain event; any field can be overridden. */
export const testEvent = (overrides: Partial<TestEvent> = {}): TestEvent => ({
  org: "acme",
  model: "chat-large",
  client: "web",
  actor: "user-1",
  errorCode: null,
  source: "http",
  occurredAtUs: Date.parse("2026-11-20T10:30:00Z") * 1000,
  outcome: 0,
  currency: "USD",
  requests: 1,
  tokens: [100, 0, 0, 0, 20, 0],
  latencyMs: 250,
  costNano: 1_500_000,
  rated: null,
  ...overrides,
});

/** Adds a lane. Lanes of one database have ids 1, 2, … in the order they are opened. */
export async function openLane(database: Database): Promise<Lane> {
  await openFirstKeyPartition(database);
  const lane = await insertLane(database.sql, {
    transport: "test",
    owner: "test",
    leaseSeconds: 3600,
  });
  if (!lane) throw new Error("another lane was opened at the same moment");
  return lane;
}

/** Commits events as one batch of a lane, as the ingest path leaves them: raw, keys, batch, control totals. */
export async function commitTestBatch(
  database: Database,
  lane: Lane,
  events: readonly TestEvent[],
): Promise<void> {
  const ids = await resolveIds(database, events);
  for (const day of new Set(events.map((event) => dayOfUs(event.occurredAtUs))))
    await createRawPartition(database, day);
  lane.batchNo++;
  const batchId = batchIdOf(lane.laneId, lane.batchNo);
  const eventRows = new EventRows(events.length * 300);
  const keyRows = new KeyRows(events.length * 42);
  const ledger = new Map<string, BatchLedgerEntry>();
  events.forEach((event, i) => {
    const key = keyOf(batchId, i);
    const eventIds = ids[i];
    if (!eventIds) throw new Error("an event without ids");
    eventRows.add(toUsageEvent(event, key), eventIds, batchId, priceOf(event));
    keyRows.add(key, [0, i], eventIds.orgId);
    addToLedger(ledger, { event, ids: eventIds, key, partition: lane.laneId });
  });
  const times = events.map((event) => event.occurredAtUs);
  await database.transaction(async (tx) => {
    await tx.sql`update lane set batch_no = ${lane.batchNo} where id = ${lane.laneId}`;
    await copyKeys(tx, 1, keyRows);
    await copyEvents(tx, eventRows);
    await insertBatch(tx.sql, {
      laneId: lane.laneId,
      batchNo: lane.batchNo,
      batchId,
      epoch: lane.epoch,
      receivedAtMs: 0,
      received: events.length,
      accepted: events.length,
      duplicate: 0,
      conflict: 0,
      rejected: 0,
      minOccurredAtUs: events.length > 0 ? Math.min(...times) : null,
      maxOccurredAtUs: events.length > 0 ? Math.max(...times) : null,
      positionFrom: null,
      positionTo: null,
      durationMs: 0,
      correlationId: "test",
      ledger: encodeBatchLedger([...ledger.values()]),
    });
  });
}

/** A price that makes of the event what it says. */
function priceOf({ rated }: TestEvent): EventPrice | undefined {
  if (rated === null) return undefined;
  return { priceId: 1, currency: packCurrency(rated.currency), rate: () => rated.nano };
}

type Key = readonly [number, number, number, number];

/** Spread over both halves, so that digests differ from key to key. */
const keyOf = (batchId: number, i: number): Key => [
  Math.floor(batchId / 2 ** 32),
  Math.imul(batchId, 0x9e3779b1) >>> 0,
  Math.imul(i + 1, 0x85ebca6b) >>> 0,
  i,
];

async function resolveIds(database: Database, events: readonly TestEvent[]): Promise<EventIds[]> {
  const orgs = await upsertOrgs(
    database.sql,
    events.map(({ org }) => org),
  );
  const sources = await upsertSources(
    database.sql,
    events.map(({ source }) => source),
  );
  const orgIds = new Map(orgs.map(({ externalId, id }) => [externalId, id]));
  const sourceIds = new Map(sources.map(({ name, id }) => [name, id]));
  const wanted = events.flatMap(({ org, model, client, actor, errorCode, tags = [] }) => {
    const orgId = orgIds.get(org) ?? 0;
    const named = [
      { kind: MEMBER_KIND.model, value: model },
      { kind: MEMBER_KIND.client, value: client },
      { kind: MEMBER_KIND.actor, value: actor },
      { kind: MEMBER_KIND.errorCode, value: errorCode },
      ...tags.map((value) => ({ kind: MEMBER_KIND.tag, value })),
    ];
    return named.flatMap(({ kind, value }) => (value === null ? [] : [{ orgId, kind, value }]));
  });
  const members = await upsertMembers(database.sql, wanted);
  const memberIds = new Map(
    members.map(({ orgId, kind, value, id }) => [`${orgId}/${kind}/${value}`, id]),
  );
  return events.map(({ org, model, client, actor, errorCode, source, tags }) => {
    const orgId = orgIds.get(org) ?? 0;
    const idOf = (kind: number, value: string | null) =>
      value === null ? 0 : (memberIds.get(`${orgId}/${kind}/${value}`) ?? 0);
    return {
      orgId,
      modelId: idOf(MEMBER_KIND.model, model),
      clientId: idOf(MEMBER_KIND.client, client),
      actorId: idOf(MEMBER_KIND.actor, actor),
      errorCodeId: idOf(MEMBER_KIND.errorCode, errorCode),
      sourceId: sourceIds.get(source) ?? 0,
      tagIds: tags === undefined ? null : tags.map((word) => idOf(MEMBER_KIND.tag, word)),
    };
  });
}

function toUsageEvent(event: TestEvent, key: Key): UsageEvent {
  const [
    inputTokens,
    cacheReadTokens,
    cacheWrite5mTokens,
    cacheWrite1hTokens,
    outputTokens,
    reasoningTokens,
  ] = event.tokens;
  return {
    eventId: "",
    key,
    isUuidKey: true,
    contentHash: [0, key[3]],
    orgId: event.org,
    modelId: event.model,
    clientId: event.client,
    actorId: event.actor,
    occurredAtUs: event.occurredAtUs,
    requests: event.requests,
    latencyMs: event.latencyMs,
    ttftMs: null,
    outcome: event.outcome,
    errorCode: event.errorCode,
    currency: packCurrency(event.currency),
    costNano: event.costNano,
    metadata: null,
    extra: null,
    flags: 0,
    inputTokens,
    cacheReadTokens,
    cacheWrite5mTokens,
    cacheWrite1hTokens,
    outputTokens,
    reasoningTokens,
  };
}

function addToLedger(
  ledger: Map<string, BatchLedgerEntry>,
  item: { event: TestEvent; ids: EventIds; key: Key; partition: number },
): void {
  const hourSeconds = Math.floor(item.event.occurredAtUs / 3_600_000_000) * 3600;
  const name = `${item.ids.orgId}/${item.ids.sourceId}/${hourSeconds}`;
  const [k0, k1, k2, k3] = item.key.map(BigInt) as [bigint, bigint, bigint, bigint];
  const digest = ((k0 << 32n) | k1) ^ ((k2 << 32n) | k3);
  const entry = ledger.get(name) ?? {
    orgId: item.ids.orgId,
    sourceId: item.ids.sourceId,
    partition: item.partition,
    hourSeconds,
    received: 0,
    accepted: 0,
    duplicate: 0,
    conflict: 0,
    rejected: 0,
    receivedDigest: 0n,
    acceptedDigest: 0n,
  };
  entry.received++;
  entry.accepted++;
  entry.receivedDigest = BigInt.asUintN(64, entry.receivedDigest + digest);
  entry.acceptedDigest = BigInt.asUintN(64, entry.acceptedDigest + digest);
  ledger.set(name, entry);
}

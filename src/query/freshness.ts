import { ALL_ORGS, type Consumer } from "#contract";
import type { Clock } from "#kernel";
import {
  type ConsumerProgress,
  type Database,
  listConsumerProgress,
  listModelFreshness,
  listOrgFreshness,
  listSourceFreshness,
  listSourceFreshnessOfOrg,
  listStreamIncidents,
  listStreamProgress,
  type NamedInstants,
  type SourceInstants,
} from "#store";
import type { ConsumerFreshness, FreshnessAnswer, SystemFreshnessAnswer } from "./answers.ts";
import { readFreshness, roundLag } from "./context.ts";
import { getOrg } from "./reading.ts";

/** Rows of each list; the least interesting ones are left out. */
const ROWS_MAX = 1_000;
/** A source that has delivered nothing for an org for this long is no longer listed. */
const SOURCE_DAYS = 31;

/** How current an org's numbers are: per model, per source, and how far each consumer has come. Throws Failure `not_found`. */
export async function getFreshness(
  database: Database,
  clock: Clock,
  question: { orgId: string },
): Promise<FreshnessAnswer> {
  const org = await getOrg(database, question.orgId);
  const since = new Date(clock.now() - SOURCE_DAYS * 86_400_000);
  return await database.withOrg(org.id, async (tx) => {
    const progress = await listConsumerProgress(tx.sql);
    const models = await listModelFreshness(tx.sql, org.id, ROWS_MAX);
    const sources = await listSourceFreshnessOfOrg(tx.sql, {
      orgId: org.id,
      since,
      limit: ROWS_MAX,
    });
    return {
      orgId: question.orgId,
      freshness: await readFreshness(tx, org.id, find(progress, "usage")),
      consumers: consumersOf(progress),
      models: models.map((row) => ({ modelId: row.name, ...instantsOf(row) })),
      sources: sources.map(sourceOf),
    };
  });
}

/** How current the numbers of all orgs are: per source and per org, the longest silent org first. */
export async function getSystemFreshness(database: Database): Promise<SystemFreshnessAnswer> {
  return await database.withSystem(async (tx) => {
    const progress = await listConsumerProgress(tx.sql);
    const sources = await listSourceFreshness(tx.sql, ROWS_MAX);
    const orgs = await listOrgFreshness(tx.sql, ROWS_MAX);
    const streams = await listStreamProgress(tx.sql, ROWS_MAX);
    const incidents = await listStreamIncidents(tx.sql, ROWS_MAX);
    return {
      freshness: await readFreshness(tx, ALL_ORGS, find(progress, "usage")),
      consumers: consumersOf(progress),
      sources: sources.map(sourceOf),
      streams: streams.map(({ partition, headSeenAt, lastCommittedAt, ...row }) => ({
        ...row,
        stream: partition,
        headSeenAt: headSeenAt?.toISOString() ?? null,
        lastCommittedAt: lastCommittedAt?.toISOString() ?? null,
      })),
      streamIncidents: incidents.map(({ partition, foundAt, ...row }) => ({
        ...row,
        stream: partition,
        foundAt: foundAt.toISOString(),
      })),
      orgs: orgs.map((row) => ({ orgId: row.name ?? "", ...instantsOf(row) })),
    };
  });
}

const find = (
  progress: readonly ConsumerProgress[],
  consumer: Consumer,
): ConsumerProgress | undefined => progress.find((one) => one.consumer === consumer);

function consumersOf(progress: readonly ConsumerProgress[]): Record<Consumer, ConsumerFreshness> {
  const of = (consumer: Consumer): ConsumerFreshness => ({
    completeThrough: find(progress, consumer)?.completeThrough?.toISOString() ?? null,
    lagSeconds: roundLag(find(progress, consumer)?.lagSeconds ?? null),
  });
  return { usage: of("usage"), people: of("people") };
}

const sourceOf = (row: SourceInstants) => ({
  source: row.name ?? "",
  lagMessages: row.lagMessages,
  ...instantsOf(row),
});

const instantsOf = (row: NamedInstants) => ({
  lastOccurredAt: row.lastOccurredAt.toISOString(),
  lastIngestedAt: row.lastIngestedAt.toISOString(),
  lastAggregatedAt: row.lastAggregatedAt.toISOString(),
});

import {
  ALL_ORGS,
  coverSpan,
  Failure,
  formatInstant,
  MEMBER_KIND,
  MEMBER_NONE,
  MEMBER_OTHER,
  noSuchOrg,
  parseWindow,
  type Piece,
  type Span,
  tagValueOf,
  type Window,
} from "#contract";
import type { Clock } from "#kernel";
import {
  arrangePieces,
  type ConsumerProgress,
  type Database,
  getPriceVersion,
  listConsumerProgress,
  listOrgProfiles,
  listPurgedDays,
  listWordIds,
  listWords,
  type OrgProfile,
  type RollupAsk,
  type RollupKeys,
  NO_KEYS,
  type Tx,
} from "#store";
import type {
  Bucket,
  Freshness,
  GroupKey,
  Pricing,
  Reconciliation,
  WindowAnswer,
} from "./answers.ts";
import { readFreshness, readReconciliation } from "./context.ts";
import { consumerOf, describeOutcome, type Plan } from "./plan.ts";
import { isByOutcome, isByTag, tagKeyOf, type WindowQuestion } from "./questions.ts";
import { findTags, NONE_WORD, OTHER_WORD, requireDeclared, type TagReading } from "./tags.ts";

/** All orgs together, in place of an org's external id. */
export const EVERY_ORG = null;
/** The external id of the pseudo-org of all; no caller may name it. */
const EVERY_ORG_NAME = "*";

const DAY_MS = 86_400_000;

/** A question being answered: one snapshot of one org (or of all), and what the answer rests on. */
export type Reading = {
  tx: Tx;
  org: OrgProfile;
  window: Window;
  plan: Plan;
  /** Members wanted, or null: all. */
  memberIds: readonly number[] | null;
  /** What a question about a tag key reads beside those; null for any other question. */
  tags: TagReading | null;
  /** Every event answered for before this instant is counted; null: none yet. */
  completeThroughMs: number | null;
  progress: ConsumerProgress | undefined;
  nowMs: number;
};

/**
 * Answers a question inside one read-only snapshot that sees the org's rows and no other's. `plan` is made first, so
 * that a question that cannot be answered costs nothing. Throws Failure `not_found` for an unknown org, what
 * `parseWindow` throws, and `not_complete` when completeness is required and not there yet.
 */
export async function withReading<T>(
  { database, clock }: { database: Database; clock: Clock },
  ask: WindowQuestion & {
    orgId: string | typeof EVERY_ORG;
    plan: Plan;
    requireComplete?: boolean | undefined;
  },
  work: (reading: Reading) => Promise<T>,
): Promise<T> {
  const org = await getOrg(database, ask.orgId);
  requireDeclared(ask.plan, org);
  const nowMs = clock.now();
  const window = parseWindow({ ...ask, timeZone: ask.timeZone ?? org.timeZone }, nowMs);
  const read = async (tx: Tx): Promise<T> => {
    const consumers = await listConsumerProgress(tx.sql);
    const progress = consumers.find((one) => one.consumer === consumerOf(ask.plan.dimension));
    const completeThroughMs = progress?.completeThrough?.getTime() ?? null;
    if (ask.requireComplete === true) requireComplete(window, completeThroughMs, nowMs);
    const members = await findMembers(tx, org.id, ask.plan);
    return await work({
      tx,
      org,
      window,
      plan: ask.plan,
      ...members,
      completeThroughMs,
      progress,
      nowMs,
    });
  };
  return org.id === ALL_ORGS
    ? await database.withSystem(read)
    : await database.withOrg(org.id, read);
}

/** The org by its external id (EVERY_ORG: the pseudo-org of all), also while suspended. Throws Failure `not_found`. */
export async function getOrg(
  database: Database,
  externalId: string | typeof EVERY_ORG,
): Promise<OrgProfile> {
  // PostgreSQL's text holds no NUL, so no org is called that.
  const isName = externalId !== EVERY_ORG_NAME && externalId?.includes("\0") !== true;
  const names = isName ? [externalId ?? EVERY_ORG_NAME] : [];
  const [org] = await database.withDirectory((tx) => listOrgProfiles(tx.sql, names));
  if (org === undefined || org.status === "deleted") throw noSuchOrg();
  return org;
}

function requireComplete(window: Window, completeThroughMs: number | null, nowMs: number): void {
  if (completeThroughMs !== null && completeThroughMs >= window.endMs) return;
  throw new Failure(
    "not_complete",
    "not everything that belongs in this window has been counted yet",
    {
      retryAfterSeconds: Math.max(1, Math.ceil((window.endMs - nowMs) / 1000)),
    },
  );
}

async function findMembers(
  tx: Tx,
  orgId: number,
  plan: Plan,
): Promise<Pick<Reading, "memberIds" | "tags">> {
  if (plan.tag !== null) return await findTags(tx, orgId, { ...plan.tag, words: plan.words });
  if (plan.words === null || plan.dimension === "org") return { memberIds: null, tags: null };
  const values = plan.words.filter((word) => !word.includes("\0"));
  const rows = await listWordIds(tx.sql, { orgId, kind: MEMBER_KIND[plan.dimension], values });
  const ids = rows.map((row) => row.id);
  if (plan.words.includes(NONE_WORD)) ids.push(MEMBER_NONE);
  if (plan.words.includes(OTHER_WORD)) ids.push(MEMBER_OTHER);
  return { memberIds: ids, tags: null };
}

/**
 * What to read for some spans, from the coarsest rows that fit. Throws Failure `range_too_large` when a span reaches
 * back to days of which nothing is kept any more, `unsupported_granularity` when it needs quarters of an hour that are
 * not.
 */
export async function askOf(
  reading: Reading,
  spans: readonly Span[],
  dimension = reading.plan.dimension,
): Promise<RollupAsk> {
  const cover = spans.map(coverSpan);
  const { org, window, plan } = reading;
  const [purged] = await listPurgedDays(reading.tx.sql, {
    // The ranking of orgs, too, reads through here: for all orgs together no org may lack a day.
    orgId: org.id === ALL_ORGS ? null : org.id,
    start: new Date(Math.min(...spans.map((span) => span.startMs))),
    end: new Date(Math.max(...spans.map((span) => span.endMs))),
    quarterDays: listDaysCut(cover),
  });
  if (purged?.what === "all") throw tooOld(purged.day);
  if (purged?.what === "15m") throw tooFine(window, purged.day);
  const memberIds = dimension === plan.dimension ? reading.memberIds : null;
  return {
    orgId: org.id,
    dimension,
    pieces: arrangePieces(cover),
    memberIds,
    outcomes: plan.outcomes,
    costBasis: org.costBasis,
  };
}

/** UTC days of which single quarters of an hour are needed. */
function listDaysCut(cover: readonly (readonly Piece[])[]): string[] {
  const days = new Set<number>();
  for (const piece of cover.flat())
    if (piece.grain === "15m") days.add(Math.floor(piece.startMs / DAY_MS));
  return [...days].map((day) => new Date(day * DAY_MS).toISOString().slice(0, 10));
}

/** The honest answer to a question that the rows still kept cannot cut exactly. */
function tooFine({ timeZone }: Window, day: string): Failure {
  const message =
    `usage by the quarter of an hour is no longer kept for ${day}: ask for whole hours (granularity hour or coarser, ` +
    `bounds on the hour) in a time zone that is whole hours from UTC, which ${timeZone} is not always, or from a later day`;
  return new Failure("unsupported_granularity", message, {
    details: [{ pointer: "/query/granularity", code: "unsupported_granularity", message }],
  });
}

/** The honest answer to a question about days that were counted once: what is left of them is no figure. */
function tooOld(day: string): Failure {
  const nextDay = new Date(Date.parse(day) + DAY_MS).toISOString().slice(0, 10);
  const message = `usage of ${day} and before is no longer kept: ask for a window that begins at ${nextDay}T00:00:00Z or later, and compare it with none before`;
  return new Failure("range_too_large", message, {
    details: [{ pointer: "/query/start", code: "range_too_large", message }],
  });
}

/** What sums are read by; `groupOf` says which group the key of a row of them belongs to. */
export type ReadKeys = RollupKeys & { groupOf: (key: number) => number };
/** Which groups an answer shows: `shown`, in order, and what is none of them as MEMBER_OTHER. */
export type GroupKeys = ReadKeys & { shown: readonly number[] };
/** Everything together, under key 0. */
export const NO_GROUPS: GroupKeys = { ...NO_KEYS, shown: [], groupOf: (key) => key };

/** The keys of the groups in the order shown, the rest at the end. */
export function orderKeys(keys: GroupKeys, found: Iterable<number>): number[] {
  const present = new Set(found);
  const shown = keys.shown.filter((key) => present.has(key));
  return present.has(MEMBER_OTHER) ? [...shown, MEMBER_OTHER] : shown;
}

/** Names groups: the function gives what identifies the group of a key. */
export async function nameGroups(
  reading: Reading,
  keys: readonly number[],
): Promise<(key: number) => GroupKey> {
  const { grouping } = reading.plan;
  if (grouping !== null && isByOutcome(grouping)) return (key) => nameOutcome(grouping, key);
  const words = await listWords(
    reading.tx.sql,
    keys.filter((key) => key > 0),
  );
  const byId = new Map(words.map((word) => [word.id, word.value]));
  if (grouping !== null && isByTag(grouping)) {
    const tagKey = tagKeyOf(grouping);
    return (key) => ({
      tag: key === MEMBER_OTHER ? OTHER_WORD : (tagValueOf(tagKey, byId.get(key) ?? "") ?? null),
      isOther: key === MEMBER_OTHER,
    });
  }
  const field = ({ model: "modelId", client: "clientId", actor: "actorId" } as const)[
    grouping ?? "model"
  ];
  return (key) => ({
    [field]: key === MEMBER_OTHER ? OTHER_WORD : (byId.get(key) ?? null),
    isOther: key === MEMBER_OTHER,
  });
}

function nameOutcome(grouping: "status" | "errorClass", key: number): GroupKey {
  const isOther = key === MEMBER_OTHER;
  const { status, errorClass } = isOther
    ? { status: null, errorClass: null }
    : describeOutcome(key);
  return grouping === "status" ? { status, errorClass, isOther } : { errorClass, isOther };
}

/** A bucket in the words of answers. */
export const bucketOf = ({ window, completeThroughMs }: Reading, span: Span): Bucket => ({
  start: formatInstant(span.startMs, window.timeZone),
  end: formatInstant(span.endMs, window.timeZone),
  complete: completeThroughMs !== null && span.endMs <= completeThroughMs,
});

type Frame = { window: WindowAnswer; freshness: Freshness; reconciliation: Reconciliation };

/** What every answer carries beside its numbers. */
export async function frameOf(reading: Reading): Promise<Frame> {
  const { start, end } = bucketOf(reading, reading.window);
  return {
    window: {
      start,
      end,
      timeZone: reading.window.timeZone,
      granularity: reading.window.granularity,
    },
    freshness: await readFreshness(reading.tx, reading.org.id, reading.progress),
    reconciliation: await readReconciliation(reading.tx, reading.org.id, reading.window),
  };
}

/** What an answer that tells money carries beside its numbers. */
export const moneyFrameOf = async (reading: Reading): Promise<Frame & { pricing: Pricing }> => ({
  ...(await frameOf(reading)),
  pricing: {
    costBasis: reading.org.costBasis,
    bookVersion: await getPriceVersion(reading.tx.sql),
  },
});

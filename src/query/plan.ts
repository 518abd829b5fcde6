import {
  type Consumer,
  CONSUMERS,
  type Dimension,
  Failure,
  FIRST_ERROR_OUTCOME,
  OUTCOMES,
} from "#contract";
import {
  type ErrorClass,
  type Filters,
  type Grouping,
  type Groups,
  GROUPS_DEFAULT,
  GROUPS_MAX,
  isByOutcome,
  isByTag,
  type Order,
  type Status,
  tagKeyOf,
} from "./questions.ts";

/** Which rollups answer a question, and which of their rows. */
export type Plan = {
  /** The dimension whose rows are read. */
  dimension: Dimension;
  /** Words (contract's dictionary) the members must be, or null: all. */
  words: readonly string[] | null;
  /** The key of metadata whose values are read (dimension "tag"), and the parameter that names it. */
  tag: { key: string; parameter: string } | null;
  /** Outcomes (numbers) wanted, or null: all. */
  outcomes: readonly number[] | null;
  grouping: Grouping | null;
  limit: number;
  orderBy: Order;
};

/** What of a request says what an answer is grouped by: a parameter, or the path of a report that has one grouping. */
type GroupedBy = "groupBy" | "tagKey" | "path";

/**
 * Chooses the rollups. Throws Failure `unsupported_combination` when no kept rollup can answer exactly (they are kept
 * per model, per client, per actor and per tag key, not per pair of these), and `invalid_request` for a limit out of
 * range.
 */
export function planOf(
  question: Filters & Groups,
  scope: "org" | "system",
  groupedBy: GroupedBy = "groupBy",
): Plan {
  const filters = [
    { parameter: "modelId", dimension: "model", words: question.modelIds },
    { parameter: "clientId", dimension: "client", words: question.clientIds },
    { parameter: "actorId", dimension: "actor", words: question.actorIds },
    { parameter: "tag", dimension: "tag", words: question.tags },
  ] as const;
  const used = filters.filter((filter) => filter.words !== undefined && filter.words.length > 0);
  const grouping = question.groupBy ?? null;
  const wanted = new Map<Dimension, string>(
    used.map((filter) => [filter.dimension, filter.parameter]),
  );
  if (grouping !== null && !isByOutcome(grouping)) {
    const dimension = isByTag(grouping) ? "tag" : grouping;
    if (!wanted.has(dimension)) wanted.set(dimension, groupedBy);
  }
  if (wanted.size > 1)
    throw unsupported([...wanted.values()], pairMessage(groupedBy === "path" ? grouping : null));
  const [dimension = "org"] = wanted.keys();
  if (scope === "system" && dimension !== "org" && dimension !== "model") {
    throw unsupported(
      [...wanted.values()],
      "clients, actors and tags are an org's own: ask for one org, or by model, status or errorClass",
    );
  }
  const limit = question.limit ?? GROUPS_DEFAULT;
  if (!Number.isInteger(limit) || limit < 1 || limit > GROUPS_MAX) {
    const message = `must be a whole number from 1 to ${GROUPS_MAX}`;
    throw new Failure("invalid_request", `limit: ${message}`, {
      details: [{ pointer: "/query/limit", code: "out_of_range", message }],
    });
  }
  const tags = question.tags?.map(parseTag) ?? [];
  return {
    dimension,
    words: dimension === "tag" ? wordsOf(tags) : (used[0]?.words ?? null),
    tag: tagOf(grouping, tags, groupedBy),
    outcomes: outcomesOf(question.statuses, question.errorClasses),
    grouping,
    limit,
    orderBy: question.orderBy ?? "requests",
  };
}

/** The key before the first `=`, which no key has, and the value behind it. */
function parseTag(text: string): { key: string; value: string } {
  const at = text.indexOf("=");
  if (at > 0) return { key: text.slice(0, at), value: text.slice(at + 1) };
  const message = "must be KEY=VALUE, for example team=search";
  throw new Failure("invalid_request", `tag: ${message}`, {
    details: [{ pointer: "/query/tag", code: "invalid_value", message }],
  });
}

const wordsOf = (tags: readonly { value: string }[]): string[] | null =>
  tags.length === 0 ? null : tags.map(({ value }) => value);

function tagOf(
  grouping: Grouping | null,
  tags: readonly { key: string }[],
  groupedBy: GroupedBy,
): Plan["tag"] {
  const named = tags.map(({ key }) => ({ key, parameter: "tag" }));
  if (grouping !== null && isByTag(grouping))
    named.push({ key: tagKeyOf(grouping), parameter: groupedBy });
  const [first = null] = named;
  if (named.some(({ key }) => key !== first?.key))
    throw unsupported([...new Set(named.map(({ parameter }) => parameter))], pairMessage(null));
  return first;
}

/** `only`: what the report is always grouped by, whoever asks. */
function pairMessage(only: Grouping | null): string {
  const kept =
    "usage is kept per model, per client, per actor and per tag key, not per pair of these";
  return only === null
    ? `${kept}: filter and group by one of them, which may be combined with status and errorClass`
    : `${kept}, and this report is by ${only}: ask for usage or reliability to filter by another`;
}

function unsupported(parameters: readonly string[], message: string): Failure {
  return new Failure("unsupported_combination", message, {
    details: parameters
      .filter((name) => name !== "path")
      .map((name) => ({
        pointer: `/query/${name}`,
        code: "unsupported_combination",
        message,
      })),
  });
}

/** The consumer whose watermark an answer from this dimension rests on. */
export const consumerOf = (dimension: Dimension): Consumer =>
  (CONSUMERS.people as readonly Dimension[]).includes(dimension) ? "people" : "usage";

function outcomesOf(
  statuses: readonly Status[] = [],
  classes: readonly ErrorClass[] = [],
): number[] | null {
  if (statuses.length === 0 && classes.length === 0) return null;
  return OUTCOMES.flatMap((_, outcome) => {
    const { status, errorClass } = describeOutcome(outcome);
    const isStatus = statuses.length === 0 || statuses.includes(status);
    const isClass = classes.length === 0 || (errorClass !== null && classes.includes(errorClass));
    return isStatus && isClass ? [outcome] : [];
  });
}

/** The status of an outcome, and its error class when it is an error. */
export function describeOutcome(outcome: number): {
  status: Status;
  errorClass: ErrorClass | null;
} {
  const name = OUTCOMES[outcome];
  if (name === undefined) throw new RangeError(`no outcome: ${outcome}`);
  if (name === "success" || name === "cancelled") return { status: name, errorClass: null };
  if (outcome < FIRST_ERROR_OUTCOME) throw new RangeError(`no error: ${name}`);
  return { status: "error", errorClass: name };
}

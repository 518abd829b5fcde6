import { z } from "zod";
import { COST_BASES, GRANULARITIES, TAG_KEY } from "#contract";
import { ERROR_CLASSES, GROUPINGS, ORDERS, STATUSES } from "#query";
import { pageParameters } from "./lists.ts";
import { flagParameter, listParameter } from "./parameters.ts";

/** Longest id or text taken in a parameter. */
const TEXT_CHARACTERS_MAX = 512;
const LIST_ITEMS_MAX = 100;

const text = z.string().min(1).max(TEXT_CHARACTERS_MAX);
const share = z.number().nullable();

/** Query parameters that say when. */
export const windowParameters = {
  start: z
    .string()
    .max(64)
    .optional()
    .describe(
      "First instant, RFC 3339 (2026-11-20T00:00:00Z), or a date: its midnight in timeZone. Six days before the end's day when left out.",
    ),
  end: z
    .string()
    .max(64)
    .optional()
    .describe(
      "The instant after the last, as start. The quarter of an hour that is running when left out.",
    ),
  timeZone: z
    .string()
    .max(64)
    .optional()
    .describe(
      "IANA name; decides where days, weeks and months begin. The org's own when left out.",
    ),
};
export const granularityParameter = z
  .enum(GRANULARITIES)
  .optional()
  .describe("Width of a bucket; day when left out.");

/** Query parameters that say which calls. */
export const outcomeParameters = {
  status: listParameter(
    z.enum(STATUSES),
    STATUSES.length,
    "Only calls that ended so; may be repeated.",
  ),
  errorClass: listParameter(
    z.enum(ERROR_CLASSES),
    ERROR_CLASSES.length,
    "Only errors of this class; may be repeated.",
  ),
};
export const modelParameter = listParameter(
  text,
  LIST_ITEMS_MAX,
  "Only this model; may be repeated.",
);
export const memberParameters = {
  modelId: modelParameter,
  clientId: listParameter(text, LIST_ITEMS_MAX, "Only this client, or (none); may be repeated."),
  actorId: listParameter(text, LIST_ITEMS_MAX, "Only this actor, or (none); may be repeated."),
};

const tag = z
  .string()
  .max(TEXT_CHARACTERS_MAX)
  .regex(/^[A-Za-z0-9_.-]{1,64}=[^\0]*$/, "must be KEY=VALUE, for example team=search");
export const tagParameter = listParameter(
  tag,
  LIST_ITEMS_MAX,
  "Only calls with this value of a tag key that the org has declared, as KEY=VALUE; (none) and (other) are values too; may be repeated for values of one key. tag:KEY=VALUE is another way to write tag=KEY=VALUE.",
);

const REFUSED =
  "Refused: this report is by model, and usage is kept per model, per client, per actor and per tag key, not per pair of these.";
/** Filters of other reports, which one by model refuses and says why. */
export const refusedParameters = {
  clientId: listParameter(text, LIST_ITEMS_MAX, REFUSED),
  actorId: listParameter(text, LIST_ITEMS_MAX, REFUSED),
  tag: listParameter(tag, LIST_ITEMS_MAX, REFUSED),
};

const asList = (value: unknown): unknown[] => (Array.isArray(value) ? value : [value]);

/** Lets a question with `tagParameter` have `tag:KEY=VALUE` in place of `tag=KEY=VALUE`. */
export const taggedQuery = <Query extends z.ZodType>(query: Query) =>
  z.preprocess((given: unknown) => {
    if (typeof given !== "object" || given === null) return given;
    const entries = Object.entries(given);
    const tags = entries.flatMap(([name, value]) =>
      name.startsWith("tag:")
        ? asList(value).map((one) => `${name.slice("tag:".length)}=${String(one)}`)
        : [],
    );
    if (tags.length === 0) return given;
    const rest = entries.filter(([name]) => !name.startsWith("tag:") && name !== "tag");
    const plain = entries.flatMap(([name, value]) => (name === "tag" ? asList(value) : []));
    return { ...Object.fromEntries(rest), tag: [...plain, ...tags] };
  }, query);

/** Query parameters about groups: the first so many, in an order, the others added up in one more row. */
export const groupParameters = {
  limit: z.coerce
    .number()
    .int()
    .min(1)
    .max(1000)
    .optional()
    .describe("Groups shown by themselves; 20 when left out. All others are one row more."),
  orderBy: z.enum(ORDERS).optional().describe("Which groups come first; requests when left out."),
};
/** For reports whose groups come in pages. */
export const groupCursorParameter = {
  cursor: pageParameters.cursor.describe(
    "`nextCursor` of the page before, asked in the same order: the groups after it, and all others, those before as well, in one row more.",
  ),
};
export const groupByParameter = z
  .union([z.enum(GROUPINGS), z.templateLiteral(["tag:", z.string().regex(TAG_KEY)])])
  .optional()
  .describe("Split the answer by this; tag:KEY by the values of a key that the org has declared.");
export const compareParameter = z
  .enum(["previous"])
  .optional()
  .describe("Compare the elapsed part with the same part of the period before.");
export const completeParameter = {
  requireComplete: flagParameter(
    "Refuse (409) rather than answer about time that may still change.",
  ),
};

/** Money. */
export const amount = z
  .object({ amount: z.string().describe("Exact decimal."), currency: z.string() })
  .meta({ id: "Amount" });

/** What a cost is set to be for an org. */
export const costBasis = z
  .enum(COST_BASES)
  .describe(
    "Which cost is shown: event_or_computed is the event's own cost_estimate where it has one and else what the price book says; event is the former alone, computed the latter alone.",
  );

/** By what an answer's costs were found. */
export const pricing = z
  .object({
    costBasis,
    bookVersion: z
      .int()
      .describe("The price book's newest version at this moment; 0 before anything was applied."),
  })
  .meta({ id: "Pricing" });

/** What is said beside a cost. */
export const pricingFields = {
  otherCosts: z
    .array(amount)
    .describe("Costs in other currencies than the org's: never added together."),
  pricedShare: z
    .object({ requests: share, tokens: share })
    .describe(
      "Share of requests and of tokens that have such a cost, 0 to 1; null when there are none. The rest is unpriced, which is not a cost of 0.",
    ),
};

const measureFields = {
  requests: z.int(),
  errors: z.int(),
  inputTokens: z.int().describe("Input not served from a cache."),
  cacheReadTokens: z.int(),
  cacheWrite5mTokens: z.int(),
  cacheWrite1hTokens: z.int(),
  outputTokens: z.int().describe("Visible output."),
  reasoningTokens: z.int(),
  totalTokens: z.int().describe("The six classes added up."),
  cost: amount.optional().describe("Left out, as all that tells money, without spend:read."),
  otherCosts: pricingFields.otherCosts.optional(),
  pricedShare: pricingFields.pricedShare.optional(),
};

/** What is counted. */
export const measures = z.object(measureFields).meta({ id: "Measures" });

const bucketFields = {
  start: z.string(),
  end: z.string(),
  complete: z.boolean().describe("Nothing that came before this answer is missing."),
};
/** A stretch of time. */
export const span = z.object({ start: z.string(), end: z.string() });

const groupKeyFields = {
  modelId: z.string().nullable().optional(),
  clientId: z.string().nullable().optional(),
  actorId: z.string().nullable().optional(),
  tag: z
    .string()
    .nullable()
    .optional()
    .describe(
      "A value of the tag key; null: calls without one, also those from before the key was declared.",
    ),
  status: z.enum(STATUSES).nullable().optional(),
  errorClass: z
    .enum(ERROR_CLASSES)
    .nullable()
    .optional()
    .describe("Null: calls that did not fail, or (isOther) further classes."),
  isOther: z.boolean().describe("True: all further groups, added up."),
};

/** How current an answer is. */
export const freshness = z
  .object({
    completeThrough: z
      .string()
      .nullable()
      .describe("Every event answered for before this instant is counted."),
    lagSeconds: z.number().nullable(),
    lastOccurredAt: z.string().nullable(),
    lastIngestedAt: z.string().nullable(),
    lastAggregatedAt: z.string().nullable(),
  })
  .meta({ id: "Freshness" });

const reconciliation = z
  .object({
    state: z.enum(["match", "differs", "unchecked"]),
    checkedAt: z.string().nullable().describe("The oldest of the checks."),
    checkedHours: z.int(),
    closedHours: z.int(),
    differingHours: z.array(z.string()),
  })
  .meta({
    id: "Reconciliation",
    description: "What the last checks of the window's closed hours found.",
  });

/** What every report of a window carries. */
export const answerFields = {
  window: z
    .object({ ...span.shape, timeZone: z.string(), granularity: z.string() })
    .meta({ id: "Window" }),
  reconciliation,
  freshness,
};

/** What every report of a window carries that tells money too. */
export const moneyAnswerFields = {
  ...answerFields,
  pricing: pricing.optional().describe("Left out without spend:read."),
};

const change = z
  .object({ requests: share, errors: share, totalTokens: share, cost: share.optional() })
  .meta({
    id: "Change",
    description:
      "Against the period before, as a share of it (0.25: a quarter more); null where that was zero.",
  });

const comparison = z
  .object({
    current: z.object({ ...span.shape, totals: measures }),
    previous: z.object({ ...span.shape, totals: measures }),
    change,
  })
  .meta({ id: "Comparison" });

const usageBucket = z.object({ ...bucketFields, ...measureFields }).meta({ id: "UsageBucket" });
const usageGroup = z
  .object({ ...groupKeyFields, ...measureFields, series: z.array(usageBucket) })
  .meta({ id: "UsageGroup" });
const usageFields = {
  ...moneyAnswerFields,
  totals: measures,
  series: z.array(usageBucket),
  groups: z.array(usageGroup).optional(),
  comparison: comparison.nullable().optional(),
};

export const usageAnswer = z
  .object({ orgId: z.string(), ...usageFields })
  .meta({ id: "UsageAnswer" });
export const systemUsageAnswer = z
  .object({ orgId: z.null(), ...usageFields })
  .meta({ id: "SystemUsageAnswer" });

const latency = z
  .object({
    count: z.int(),
    meanMs: z.number().nullable(),
    percentilesMs: z
      .record(z.string(), z.number().nullable())
      .describe("By name (p50, p99.9), within 1 %."),
  })
  .meta({ id: "Latency", description: "Of the calls that reported a latency." });

const reliabilityFields = {
  requests: z.int(),
  errors: z.int(),
  cancelled: z.int(),
  errorRate: share,
  errorsByClass: z.object({
    client: z.int(),
    capacity: z.int(),
    upstream: z.int(),
    policy: z.int(),
    internal: z.int(),
  }),
};
const reliabilityMeasures = z
  .object({ ...reliabilityFields, latency })
  .meta({ id: "ReliabilityMeasures" });

export const reliabilityAnswer = z
  .object({
    orgId: z.string(),
    ...answerFields,
    totals: reliabilityMeasures,
    series: z.array(
      z
        .object({ ...bucketFields, ...reliabilityFields, latency })
        .meta({ id: "ReliabilityBucket" }),
    ),
    groups: z
      .array(
        z
          .object({ ...groupKeyFields, ...reliabilityFields, latency: latency.nullable() })
          .meta({ id: "ReliabilityGroup" }),
      )
      .optional(),
    errorsByCode: z
      .array(
        z.object({
          errorClass: z.enum(ERROR_CLASSES),
          code: z.string().nullable(),
          requests: z.int(),
          isOther: z.boolean(),
        }),
      )
      .nullable()
      .describe(
        "The most frequent first, the rest in one row; null where codes are not kept (filters by client, actor or tag).",
      ),
  })
  .meta({ id: "ReliabilityAnswer" });

const shareOfTotals = z
  .object({ requests: share, totalTokens: share, cost: share.optional() })
  .meta({ id: "Share" });

const nextCursor = z
  .string()
  .nullable()
  .describe("`cursor` of the page after; null on the last one.");

export const breakdownAnswer = z
  .object({
    orgId: z.string(),
    ...moneyAnswerFields,
    totals: measures,
    groups: z.array(
      z
        .object({
          ...groupKeyFields,
          ...measureFields,
          share: shareOfTotals,
          change: change.nullable(),
        })
        .meta({ id: "BreakdownRow" }),
    ),
    comparedWith: z.object({ current: span, previous: span }).nullable(),
    nextCursor,
  })
  .meta({ id: "BreakdownAnswer" });

export const topOrgsAnswer = z
  .object({
    ...moneyAnswerFields,
    totals: measures,
    orgs: z.array(
      z
        .object({
          orgId: z.string().nullable(),
          name: z.string().nullable(),
          isOther: z.boolean(),
          ...measureFields,
          share: shareOfTotals,
        })
        .meta({ id: "OrgRow" }),
    ),
    nextCursor,
  })
  .meta({ id: "TopOrgsAnswer" });

const newest = {
  lastOccurredAt: z.string(),
  lastIngestedAt: z.string(),
  lastAggregatedAt: z.string(),
};
const consumer = z.object({
  completeThrough: z.string().nullable(),
  lagSeconds: z.number().nullable(),
});
const freshnessFields = {
  consumers: z
    .object({ usage: consumer, people: consumer })
    .describe(
      "usage is behind every answer but those by client, actor or tag, which rest on people.",
    ),
  sources: z.array(
    z.object({
      source: z.string(),
      lagMessages: z
        .int()
        .nullable()
        .describe(
          "Messages that a stream holds and that are not counted; null: not known, or none.",
        ),
      ...newest,
    }),
  ),
  freshness,
};

export const freshnessAnswer = z
  .object({
    orgId: z.string(),
    ...freshnessFields,
    models: z.array(z.object({ modelId: z.string().nullable(), ...newest })),
  })
  .meta({ id: "FreshnessAnswer" });
export const systemFreshnessAnswer = z
  .object({
    ...freshnessFields,
    streams: z.array(
      z.object({
        source: z.string(),
        stream: z.string(),
        lastOffset: z.int().nullable().describe("Of the last message committed."),
        headOffset: z
          .int()
          .nullable()
          .describe("Of the last message the stream held when looked at."),
        headSeenAt: z.string().nullable(),
        lagMessages: z.int().nullable(),
        isRead: z.boolean().describe("Whether a process reads it at present."),
        lastCommittedAt: z.string().nullable(),
      }),
    ),
    streamIncidents: z
      .array(
        z.object({
          source: z.string(),
          stream: z.string(),
          kind: z.enum(["gap", "recreated", "unreadable"]),
          fromOffset: z.int(),
          toOffset: z.int().nullable(),
          foundAt: z.string(),
          detail: z.string(),
        }),
      )
      .describe(
        "The newest first: offsets that were gone before they were read, and streams made anew.",
      ),
    orgs: z.array(z.object({ orgId: z.string(), ...newest })),
  })
  .meta({ id: "SystemFreshnessAnswer" });

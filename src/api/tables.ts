import type { z } from "zod";
import { type Grouping, isByTag } from "#query";
import type {
  breakdownAnswer,
  freshnessAnswer,
  measures,
  reliabilityAnswer,
  systemFreshnessAnswer,
  systemUsageAnswer,
  topOrgsAnswer,
  usageAnswer,
} from "./answers.ts";
import { formatCsv, type CsvColumn } from "./csv.ts";

/** Whether a table may hold money. */
export type Sees = { spend: boolean };

type Measures = z.output<typeof measures>;
type Usage = z.output<typeof usageAnswer> | z.output<typeof systemUsageAnswer>;
type Reliability = z.output<typeof reliabilityAnswer>;
type Breakdown = z.output<typeof breakdownAnswer>;
type TopOrgs = z.output<typeof topOrgsAnswer>;
type GroupKey = Pick<
  NonNullable<Usage["groups"]>[number],
  "modelId" | "clientId" | "actorId" | "tag" | "status" | "errorClass" | "isOther"
>;
type Bucket = Pick<Usage["series"][number], "start" | "end" | "complete">;

const COUNTS = [
  "requests",
  "errors",
  "inputTokens",
  "cacheReadTokens",
  "cacheWrite5mTokens",
  "cacheWrite1hTokens",
  "outputTokens",
  "reasoningTokens",
  "totalTokens",
] as const;

const COUNTED = COUNTS.map((name): CsvColumn<Measures> => ({
  name,
  kind: "plain",
  value: (row) => row[name],
}));

const SPENT: CsvColumn<Measures>[] = [
  { name: "cost", kind: "plain", value: (row) => row.cost?.amount ?? null },
  { name: "currency", kind: "text", value: (row) => row.cost?.currency ?? null },
  {
    name: "otherCosts",
    kind: "text",
    value: (row) =>
      (row.otherCosts ?? []).map(({ amount, currency }) => `${currency} ${amount}`).join("; "),
  },
  { name: "pricedRequestShare", kind: "plain", value: (row) => row.pricedShare?.requests ?? null },
  { name: "pricedTokenShare", kind: "plain", value: (row) => row.pricedShare?.tokens ?? null },
];

const measureColumns = ({ spend }: Sees): CsvColumn<Measures>[] =>
  spend ? [...COUNTED, ...SPENT] : COUNTED;

const BUCKET: CsvColumn<Bucket>[] = [
  { name: "start", kind: "plain", value: (row) => row.start },
  { name: "end", kind: "plain", value: (row) => row.end },
  { name: "complete", kind: "plain", value: (row) => row.complete },
];

/** The columns that name a group, for what the answer is grouped by. */
function groupColumns(groupedBy: Grouping): CsvColumn<GroupKey>[] {
  const isOther: CsvColumn<GroupKey> = {
    name: "isOther",
    kind: "plain",
    value: (row) => row.isOther,
  };
  if (groupedBy === "model")
    return [{ name: "modelId", kind: "text", value: (row) => row.modelId ?? null }, isOther];
  if (groupedBy === "client")
    return [{ name: "clientId", kind: "text", value: (row) => row.clientId ?? null }, isOther];
  if (groupedBy === "actor")
    return [{ name: "actorId", kind: "text", value: (row) => row.actorId ?? null }, isOther];
  if (isByTag(groupedBy))
    return [{ name: "tag", kind: "text", value: (row) => row.tag ?? null }, isOther];
  const errorClass: CsvColumn<GroupKey> = {
    name: "errorClass",
    kind: "text",
    value: (row) => row.errorClass ?? null,
  };
  if (groupedBy === "errorClass") return [errorClass, isOther];
  return [
    { name: "status", kind: "text", value: (row) => row.status ?? null },
    errorClass,
    isOther,
  ];
}

/** A row per bucket, or per group and bucket when the answer is grouped. */
export function usageTable(
  { series, groups }: Usage,
  groupedBy: Grouping | undefined,
  sees: Sees,
): string {
  const measured = measureColumns(sees);
  if (groupedBy === undefined)
    return formatCsv<Bucket & Measures>([...BUCKET, ...measured], series);
  const key = groupColumns(groupedBy);
  const rows = (groups ?? []).flatMap(({ series: own, ...group }) =>
    own.map((bucket) => ({ ...group, ...bucket })),
  );
  return formatCsv<GroupKey & Bucket & Measures>([...key, ...BUCKET, ...measured], rows);
}

type ReliabilityRow = Omit<Reliability["totals"], "latency"> & {
  latency: Reliability["totals"]["latency"] | null;
};

const RELIABILITY: CsvColumn<ReliabilityRow>[] = [
  { name: "requests", kind: "plain", value: (row) => row.requests },
  { name: "errors", kind: "plain", value: (row) => row.errors },
  { name: "cancelled", kind: "plain", value: (row) => row.cancelled },
  { name: "errorRate", kind: "plain", value: (row) => row.errorRate },
  ...(["client", "capacity", "upstream", "policy", "internal"] as const).map(
    (name): CsvColumn<ReliabilityRow> => ({
      name: `${name}Errors`,
      kind: "plain",
      value: (row) => row.errorsByClass[name],
    }),
  ),
  { name: "latencyCount", kind: "plain", value: (row) => row.latency?.count ?? null },
  { name: "latencyMeanMs", kind: "plain", value: (row) => row.latency?.meanMs ?? null },
];

/** A row per bucket, or per group when the answer is grouped; a column per percentile. */
export function reliabilityTable(
  { totals, series, groups }: Reliability,
  groupedBy: Grouping | undefined,
): string {
  const percentiles = Object.keys(totals.latency.percentilesMs).map(
    (name): CsvColumn<ReliabilityRow> => ({
      name: `${name}Ms`,
      kind: "plain",
      value: (row) => row.latency?.percentilesMs[name] ?? null,
    }),
  );
  if (groupedBy === undefined)
    return formatCsv<Bucket & ReliabilityRow>([...BUCKET, ...RELIABILITY, ...percentiles], series);
  return formatCsv<GroupKey & ReliabilityRow>(
    [...groupColumns(groupedBy), ...RELIABILITY, ...percentiles],
    groups ?? [],
  );
}

type Shared = { share: Breakdown["groups"][number]["share"] };
const shareColumns = ({ spend }: Sees): CsvColumn<Shared>[] => {
  const cost: CsvColumn<Shared> = {
    name: "costShare",
    kind: "plain",
    value: (row) => row.share.cost ?? null,
  };
  return [
    { name: "requestShare", kind: "plain", value: (row) => row.share.requests },
    { name: "tokenShare", kind: "plain", value: (row) => row.share.totalTokens },
    ...(spend ? [cost] : []),
  ];
};

type Changed = { change: Breakdown["groups"][number]["change"] };
const changeColumns = ({ spend }: Sees): CsvColumn<Changed>[] => {
  const cost: CsvColumn<Changed> = {
    name: "costChange",
    kind: "plain",
    value: (row) => row.change?.cost ?? null,
  };
  return [
    { name: "requestChange", kind: "plain", value: (row) => row.change?.requests ?? null },
    { name: "errorChange", kind: "plain", value: (row) => row.change?.errors ?? null },
    { name: "tokenChange", kind: "plain", value: (row) => row.change?.totalTokens ?? null },
    ...(spend ? [cost] : []),
  ];
};

/** A row per group, the last one all others. */
export const breakdownTable = ({ groups }: Breakdown, groupedBy: Grouping, sees: Sees): string =>
  formatCsv<Breakdown["groups"][number]>(
    [
      ...groupColumns(groupedBy),
      ...measureColumns(sees),
      ...shareColumns(sees),
      ...changeColumns(sees),
    ],
    groups,
  );

/** A row per org, the last one all others. */
export const topOrgsTable = ({ orgs }: TopOrgs, sees: Sees): string =>
  formatCsv<TopOrgs["orgs"][number]>(
    [
      { name: "orgId", kind: "text", value: (row) => row.orgId },
      { name: "name", kind: "text", value: (row) => row.name },
      { name: "isOther", kind: "plain", value: (row) => row.isOther },
      ...measureColumns(sees),
      ...shareColumns(sees),
    ],
    orgs,
  );

type Newest = { lastOccurredAt: string; lastIngestedAt: string; lastAggregatedAt: string };
const NEWEST: CsvColumn<Newest>[] = [
  { name: "lastOccurredAt", kind: "plain", value: (row) => row.lastOccurredAt },
  { name: "lastIngestedAt", kind: "plain", value: (row) => row.lastIngestedAt },
  { name: "lastAggregatedAt", kind: "plain", value: (row) => row.lastAggregatedAt },
];

/** A row per model. */
export const freshnessTable = ({ models }: z.output<typeof freshnessAnswer>): string =>
  formatCsv<(typeof models)[number]>(
    [{ name: "modelId", kind: "text", value: (row) => row.modelId }, ...NEWEST],
    models,
  );

/** A row per org. */
export const systemFreshnessTable = ({ orgs }: z.output<typeof systemFreshnessAnswer>): string =>
  formatCsv<(typeof orgs)[number]>(
    [{ name: "orgId", kind: "text", value: (row) => row.orgId }, ...NEWEST],
    orgs,
  );

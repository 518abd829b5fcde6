import { z } from "zod";
import {
  entriesOf,
  listEntryFaults,
  pathOf,
  type PriceList,
  priceList,
  priceListFields,
} from "#app";
import {
  type FileFault,
  formatPath,
  readYamlFile,
  type ReadYaml,
  type Tell,
  tellIssue,
  type YamlFile,
} from "./yaml-file.ts";

/** All prices of some files, or what is wrong with them. */
export type ReadPrices =
  | { prices: PriceList; faults: null }
  | { prices: null; faults: readonly [FileFault, ...FileFault[]] };

const LISTS = ["prices", "pools"] as const;
type ListName = (typeof LISTS)[number];

/** The outside of a file: what its lists hold is looked at once their entries have the file's currency. */
const outline = z.strictObject({
  currency: z.string().optional(),
  prices: z.array(z.unknown()).default([]),
  pools: z.array(z.unknown()).default([]),
});

/**
 * Reads files of prices as one list. Every amount is taken as it is written, with or without quotes: no number is made of
 * it on the way. All mistakes are told at once.
 */
export function readPriceFiles(files: readonly YamlFile[]): ReadPrices {
  const faults: FileFault[] = [];
  const read = files.map((file) => readFile(file, faults));
  const origins = LISTS.flatMap((list) =>
    read.flatMap((file) => file.lists[list].map((_, index) => ({ list, index, file }))),
  );
  const prices = {
    prices: read.flatMap(({ lists }) => lists.prices),
    pools: read.flatMap(({ lists }) => lists.pools),
  };
  const parsed = priceList.safeParse(prices);
  const tell: Tell = (path, reason) => {
    const [list, at, ...rest] = path;
    const origin = origins.filter((one) => one.list === list)[Number(at)];
    if (origin === undefined)
      return void faults.push({
        file: files[0]?.name ?? "",
        line: null,
        path: formatPath(path),
        reason,
      });
    faults.push(origin.file.faultAt([origin.list, origin.index, ...rest], reason));
  };
  for (const issue of parsed.error?.issues ?? []) tellIssue(issue, FIELDS, tell);
  if (parsed.success) {
    const placed = entriesOf(parsed.data, "own");
    for (const { pointer, message } of listEntryFaults(placed))
      tell(pathOf(pointer), nameFiles(message, origins));
  }
  const [first, ...more] = faults;
  if (first !== undefined) return { prices: null, faults: [first, ...more] };
  if (!parsed.success) throw new Error("prices that are not valid, without a fault");
  return { prices: parsed.data, faults: null };
}

type ReadFile = Pick<ReadYaml<unknown>, "name" | "faultAt"> & {
  lists: Record<ListName, unknown[]>;
};

function readFile(file: YamlFile, faults: FileFault[]): ReadFile {
  const { name, value, faultAt } = readYamlFile(file, { outline, fields: FIELDS }, faults);
  const { currency, prices = [], pools = [] } = value ?? {};
  const fill =
    (list: ListName) =>
    (entry: unknown, index: number): unknown => {
      const fields = z.record(z.string(), z.unknown()).safeParse(entry);
      if (!fields.success) return entry;
      if ("source" in fields.data)
        faults.push(
          faultAt([list, index, "source"], "there is no such field: the file's name is its source"),
        );
      return { ...(currency !== undefined && { currency }), ...fields.data, source: name };
    };
  const lists = { prices: prices.map(fill("prices")), pools: pools.map(fill("pools")) };
  return { name, faultAt, lists };
}

const FIELDS = [
  "currency",
  ...Object.keys(priceListFields),
  "model",
  "pool",
  "orgId",
  "from",
  "to",
  "perMillion",
  "perRequest",
  "perSecond",
  "perHour",
  "models",
  "tiers",
  "aboveInputTokens",
  "chargedOutcomes",
  "input",
  "cacheRead",
  "cacheWrite5m",
  "cacheWrite1h",
  "output",
  "reasoning",
];

/** Puts the place in the file where a place in the list of all files stands. */
const nameFiles = (
  message: string,
  origins: readonly { list: ListName; index: number; file: ReadFile }[],
): string =>
  message.replaceAll(/\/(prices|pools)\/(\d+)/g, (found, list: string, at: string) => {
    const origin = origins.filter((one) => one.list === list)[Number(at)];
    return origin === undefined ? found : `${list}[${origin.index}] of ${origin.file.name}`;
  });

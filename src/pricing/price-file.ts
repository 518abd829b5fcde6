import { type Document, LineCounter, parseDocument } from "yaml";
import { z } from "zod";
import { findClosest } from "#kernel";
import {
  entriesOf,
  listEntryFaults,
  pathOf,
  type PriceList,
  priceList,
  priceListFields,
} from "./price-order.ts";

/** A file of prices: its name, as it is told to people, and its text. */
export type PriceFile = { name: string; text: string };

/** What is wrong with a file: the line it is on, the place in the document ("prices[3].perMillion.input"), and why. */
export type PriceFileFault = { file: string; line: number | null; path: string; reason: string };

/** All prices of some files, or what is wrong with them. */
export type ReadPrices =
  | { prices: PriceList; faults: null }
  | { prices: null; faults: readonly [PriceFileFault, ...PriceFileFault[]] };

/** More than people write, and far less than it takes to fill the memory. */
const ALIASES_MAX = 1000;

const LISTS = ["prices", "pools"] as const;
type ListName = (typeof LISTS)[number];

/** The outside of a file: what its lists hold is looked at once their entries have the file's currency. */
const outline = z.strictObject({
  currency: z.string().optional(),
  prices: z.array(z.unknown()).default([]),
  pools: z.array(z.unknown()).default([]),
});

/**
 * Reads files of prices (YAML 1.2, or JSON) as one list. Every amount is taken as it is written, with or without quotes:
 * no number is made of it on the way. All mistakes are told at once.
 */
export function readPriceFiles(files: readonly PriceFile[]): ReadPrices {
  const faults: PriceFileFault[] = [];
  const read = files.map((file) => readFile(file, faults));
  const origins = LISTS.flatMap((list) =>
    read.flatMap((file) => file.lists[list].map((_, index) => ({ list, index, file }))),
  );
  const prices = {
    prices: read.flatMap(({ lists }) => lists.prices),
    pools: read.flatMap(({ lists }) => lists.pools),
  };
  const parsed = priceList.safeParse(prices);
  const tell = (path: readonly PropertyKey[], reason: string): void => {
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
  for (const issue of parsed.error?.issues ?? []) tellIssue(issue, tell);
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

type ReadFile = {
  lists: Record<ListName, unknown[]>;
  faultAt: (path: readonly PropertyKey[], reason: string) => PriceFileFault;
  name: string;
};

function readFile({ name, text }: PriceFile, faults: PriceFileFault[]): ReadFile {
  const lines = new LineCounter();
  // Without a schema of numbers and dates every scalar stays the text that it is.
  const document = parseDocument(text, {
    schema: "failsafe",
    lineCounter: lines,
    prettyErrors: false,
    logLevel: "error",
  });
  const faultAt: ReadFile["faultAt"] = (path, reason) => ({
    file: name,
    line: lineOf(document, lines, path),
    path: formatPath(path),
    reason,
  });
  const nothing: ReadFile = { lists: { prices: [], pools: [] }, faultAt, name };
  for (const { pos, message } of document.errors)
    faults.push({ file: name, line: lines.linePos(pos[0]).line, path: "", reason: message });
  if (document.errors.length > 0) return nothing;
  const plain = toPlain(document, (reason) =>
    faults.push({ file: name, line: null, path: "", reason }),
  );
  if (plain === undefined) return nothing;
  const parsed = outline.safeParse(plain ?? {});
  for (const issue of parsed.error?.issues ?? [])
    tellIssue(issue, (path, reason) => faults.push(faultAt(path, reason)));
  if (!parsed.success) return nothing;
  const { currency, ...lists } = parsed.data;
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
  return {
    ...nothing,
    lists: { prices: lists.prices.map(fill("prices")), pools: lists.pools.map(fill("pools")) },
  };
}

/** The document as plain values, null when it is empty; undefined, with a reason, when its aliases name each other or too much. */
function toPlain(document: Document, tell: (reason: string) => void): unknown {
  try {
    const plain: unknown = document.toJS({ maxAliasCount: ALIASES_MAX });
    return plain;
  } catch (error) {
    tell(error instanceof Error ? error.message : String(error));
    return undefined;
  }
}

/** The line of a place, or of the nearest one around it that is there. */
function lineOf(
  document: Document,
  lines: LineCounter,
  path: readonly PropertyKey[],
): number | null {
  for (let length = path.length; length > 0; length--) {
    const node = z
      .object({ range: z.tuple([z.number(), z.number(), z.number()]) })
      .safeParse(document.getIn(path.slice(0, length), true));
    if (node.success) return lines.linePos(node.data.range[0]).line;
  }
  return null;
}

type Issue = z.core.$ZodIssue;

/** An issue as people read it: each field that there is not by itself. */
function tellIssue(
  issue: Issue,
  tell: (path: readonly PropertyKey[], reason: string) => void,
): void {
  if (issue.code !== "unrecognized_keys") return tell(issue.path, reasonOf(issue));
  for (const key of issue.keys) {
    const closest = findClosest(key, FIELDS);
    const hint = closest === undefined ? "" : `; did you mean ${closest}?`;
    tell([...issue.path, key], `there is no such field${hint}`);
  }
}

const reasonOf = (issue: Issue): string =>
  issue.code === "invalid_type" && issue.input === undefined && /undefined/.test(issue.message)
    ? "is missing"
    : issue.message;

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
  "input",
  "cacheRead",
  "cacheWrite5m",
  "cacheWrite1h",
  "output",
  "reasoning",
];

const formatPath = (path: readonly PropertyKey[]): string =>
  path
    .map((part) => (typeof part === "number" ? `[${part}]` : `.${String(part)}`))
    .join("")
    .replace(/^\./, "");

/** Puts the place in the file where a place in the list of all files stands. */
const nameFiles = (
  message: string,
  origins: readonly { list: ListName; index: number; file: ReadFile }[],
): string =>
  message.replaceAll(/\/(prices|pools)\/(\d+)/g, (found, list: string, at: string) => {
    const origin = origins.filter((one) => one.list === list)[Number(at)];
    return origin === undefined ? found : `${list}[${origin.index}] of ${origin.file.name}`;
  });

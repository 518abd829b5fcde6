import { z } from "zod";
import { budgetFileEntry } from "#app";
import { formatNano, orgIdField } from "#contract";
import {
  type FileFault,
  formatPath,
  type ReadYaml,
  readYamlFile,
  tellIssue,
  type YamlFile,
} from "./yaml-file.ts";

/** What the API is asked for. Amounts are decimal text. */
export type BudgetsRequest = {
  orgs: {
    orgId: string;
    budgets: {
      budgetId: string;
      name: string | null;
      modelId: string | null;
      amount: string;
      thresholds: readonly number[];
    }[];
  }[];
};

/**
 * All budgets of some files, or what is wrong with them. `locate` finds the place in a file that a place in the request
 * (a JSON pointer) came from.
 */
export type ReadBudgets =
  | {
      request: BudgetsRequest;
      locate: (pointer: string, reason: string) => FileFault | undefined;
      faults: null;
    }
  | { request: null; faults: readonly FileFault[] };

const outline = z.strictObject({
  orgId: orgIdField.optional(),
  budgets: z.array(z.unknown()),
});
const FIELDS = ["budgets", ...Object.keys(budgetFileEntry.shape)];

type File = ReadYaml<z.output<typeof outline>>;
type Place = readonly PropertyKey[];
/** Where something was said: the file, the entry, and what says whose it is. */
type Origin = { file: File; entry: Place; org: Place };
type Entry = z.output<typeof budgetFileEntry> & { origin: Origin };

/** Reads files of budgets as one list. Amounts are taken as they are written. All mistakes are told at once. */
export function readBudgetFiles(yaml: readonly YamlFile[]): ReadBudgets {
  const faults: FileFault[] = [];
  const files = yaml.map((one) => readYamlFile(one, { outline, fields: FIELDS }, faults));
  const entries = files.flatMap((file) => readEntries(file, faults));
  faults.push(...listRepeated(entries));
  if (faults.length > 0) return { request: null, faults };
  // A file that names an org and no budget says that it has none: what `prune` goes by.
  const named = files.flatMap((file) => {
    const orgId = file.value?.orgId;
    return orgId === undefined ? [] : [{ orgId, origin: { file, entry: [], org: ["orgId"] } }];
  });
  const orgs = [...Map.groupBy([...entries, ...named], ({ orgId }) => orgId)].map(
    ([orgId, said]) => ({ orgId, said, entries: entries.filter((one) => one.orgId === orgId) }),
  );
  const request = {
    orgs: orgs.map(({ orgId, entries: own }) => ({ orgId, budgets: own.map(orderOf) })),
  };
  const locate = (pointer: string, reason: string): FileFault | undefined => {
    const [, i, j, rest = ""] =
      /^\/body\/orgs\/(\d+)(?:\/budgets(?:\/(\d+))?)?((?:\/.*)?)$/.exec(pointer) ?? [];
    const org = orgs[Number(i)];
    const origin = (j === undefined ? org?.said[0] : org?.entries[Number(j)])?.origin;
    if (origin === undefined) return undefined;
    const inside = rest.split("/").slice(1);
    const place = j === undefined ? origin.org : [...origin.entry, ...inside];
    return origin.file.faultAt(place, reason);
  };
  return { request, locate, faults: null };
}

const orderOf = ({ budgetId, name, modelId, amount, thresholds }: Entry) => ({
  budgetId,
  name,
  modelId,
  amount: formatNano(amount),
  thresholds,
});

function readEntries(file: File, faults: FileFault[]): Entry[] {
  const { orgId, budgets = [] } = file.value ?? {};
  return budgets.flatMap((said, index): Entry[] => {
    const fields = z.record(z.string(), z.unknown()).safeParse(said);
    const isOwn = fields.data?.["orgId"] !== undefined;
    const filled = fields.success && orgId !== undefined ? { orgId, ...fields.data } : said;
    const parsed = budgetFileEntry.safeParse(filled);
    const entry = ["budgets", index];
    for (const issue of parsed.error?.issues ?? [])
      tellIssue(issue, FIELDS, (path, reason) =>
        faults.push(file.faultAt([...entry, ...path], reason)),
      );
    if (!parsed.success) return [];
    const origin = { file, entry, org: isOwn ? [...entry, "orgId"] : ["orgId"] };
    return [{ ...parsed.data, origin }];
  });
}

/** Budgets that were said before, in whichever file. */
function listRepeated(entries: readonly Entry[]): FileFault[] {
  const same = Map.groupBy(entries, ({ orgId, budgetId }) => JSON.stringify([orgId, budgetId]));
  return [...same.values()].flatMap(([first, ...more]) =>
    more.map(({ orgId, budgetId, origin: { file, entry } }) => {
      const before = first?.origin;
      const place = `${formatPath(before?.entry ?? [])} of ${before?.file.name ?? ""}`;
      const reason = `${budgetId} of ${orgId} is there already, as ${place}`;
      return file.faultAt([...entry, "budgetId"], reason);
    }),
  );
}

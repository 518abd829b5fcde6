import { type Document, LineCounter, parseDocument } from "yaml";
import { z } from "zod";
import { findClosest } from "#kernel";

/** A file that people keep: its name, as it is told to them, and its text. */
export type YamlFile = { name: string; text: string };

/** What is wrong with a file: the line it is on, the place in the document ("prices[3].perMillion.input"), and why. */
export type FileFault = { file: string; line: number | null; path: string; reason: string };

/** Tells one mistake by its place in a document. */
export type Tell = (path: readonly PropertyKey[], reason: string) => void;

/** What is left of a file that was read: undefined when it holds nothing of the kind, which has been told. */
export type ReadYaml<Value> = {
  name: string;
  value: Value | undefined;
  faultAt: (path: readonly PropertyKey[], reason: string) => FileFault;
};

/** More than people write, and far less than it takes to fill the memory. */
const ALIASES_MAX = 1000;

/**
 * Reads a file (YAML 1.2, or JSON) whose outside is `outline`; what is wrong goes to `faults`. Every scalar stays the
 * text that it is, with or without quotes: no number, date or null is made of it. `fields` are all names there are.
 */
export function readYamlFile<Value>(
  { name, text }: YamlFile,
  { outline, fields }: { outline: z.ZodType<Value>; fields: readonly string[] },
  faults: FileFault[],
): ReadYaml<Value> {
  const lines = new LineCounter();
  const document = parseDocument(text, {
    schema: "failsafe",
    lineCounter: lines,
    prettyErrors: false,
    logLevel: "error",
  });
  const faultAt: ReadYaml<Value>["faultAt"] = (path, reason) => ({
    file: name,
    line: lineOf(document, lines, path),
    path: formatPath(path),
    reason,
  });
  const nothing = { name, value: undefined, faultAt };
  for (const { pos, message } of document.errors)
    faults.push({ file: name, line: lines.linePos(pos[0]).line, path: "", reason: message });
  if (document.errors.length > 0) return nothing;
  const plain = toPlain(document, (reason) =>
    faults.push({ file: name, line: null, path: "", reason }),
  );
  if (plain === undefined) return nothing;
  const parsed = outline.safeParse(plain ?? {});
  for (const issue of parsed.error?.issues ?? [])
    tellIssue(issue, fields, (path, reason) => faults.push(faultAt(path, reason)));
  return parsed.success ? { name, value: parsed.data, faultAt } : nothing;
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

/** Tells an issue as people read it: each field that there is not by itself, with the one of `fields` that was meant. */
export function tellIssue(issue: z.core.$ZodIssue, fields: readonly string[], tell: Tell): void {
  if (issue.code !== "unrecognized_keys") return tell(issue.path, reasonOf(issue));
  for (const key of issue.keys) {
    const closest = findClosest(key, fields);
    const hint = closest === undefined ? "" : `; did you mean ${closest}?`;
    tell([...issue.path, key], `there is no such field${hint}`);
  }
}

const reasonOf = (issue: z.core.$ZodIssue): string =>
  issue.code === "invalid_type" && issue.input === undefined && /undefined/.test(issue.message)
    ? "is missing"
    : issue.message;

/** A place as people write it: "prices[3].perMillion.input". */
export const formatPath = (path: readonly PropertyKey[]): string =>
  path
    .map((part) => (typeof part === "number" ? `[${part}]` : `.${String(part)}`))
    .join("")
    .replace(/^\./, "");

import { z } from "zod";

/** How a published catalogue says which names mean a model. */
export type NameMatch =
  | { equals: string }
  | { starts_with: string }
  | { ends_with: string }
  | { contains: string }
  | { regex: string }
  | { or: NameMatch[] }
  | { and: NameMatch[] };

/** The shape of a match, for data from outside. */
export const nameMatch: z.ZodType<NameMatch> = z.lazy(() =>
  z.union([
    z.strictObject({ equals: z.string().min(1) }),
    z.strictObject({ starts_with: z.string().min(1) }),
    z.strictObject({ ends_with: z.string().min(1) }),
    z.strictObject({ contains: z.string().min(1) }),
    z.strictObject({ regex: z.string().min(1) }),
    z.strictObject({ or: z.array(nameMatch) }),
    z.strictObject({ and: z.array(nameMatch) }),
  ]),
);

/** Whether a name is meant; capitals make no difference, as in the catalogue. */
export function matchesName(match: NameMatch, name: string): boolean {
  const text = name.toLowerCase();
  if ("equals" in match) return text === match.equals.toLowerCase();
  if ("starts_with" in match) return text.startsWith(match.starts_with.toLowerCase());
  if ("ends_with" in match) return text.endsWith(match.ends_with.toLowerCase());
  if ("contains" in match) return text.includes(match.contains.toLowerCase());
  if ("regex" in match) return new RegExp(match.regex, "i").test(name);
  if ("or" in match) return match.or.some((one) => matchesName(one, name));
  return match.and.every((one) => matchesName(one, name));
}

/** What of a match can be said by ids and by beginnings of ids, and how the rest of it reads. */
export type NamePatterns = { exact: string[]; prefixes: string[]; rest: string[] };

/** Takes a match apart. A text with a `*` in it stays in the rest: it would be read as a pattern. */
export function patternsOf(match: NameMatch): NamePatterns {
  if ("or" in match) {
    const parts = match.or.map(patternsOf);
    return {
      exact: parts.flatMap(({ exact }) => exact),
      prefixes: parts.flatMap(({ prefixes }) => prefixes),
      rest: parts.flatMap(({ rest }) => rest),
    };
  }
  if ("equals" in match && !match.equals.includes("*"))
    return { exact: [match.equals], prefixes: [], rest: [] };
  if ("starts_with" in match && !match.starts_with.includes("*"))
    return { exact: [], prefixes: [match.starts_with], rest: [] };
  return { exact: [], prefixes: [], rest: [describeMatch(match)] };
}

function describeMatch(match: NameMatch): string {
  if ("and" in match) return match.and.map(describeMatch).join(" and ");
  if ("or" in match) return match.or.map(describeMatch).join(" or ");
  return Object.entries(match)
    .map(([how, text]) => `${how.replace("_", " ")} ${String(text)}`)
    .join(" ");
}

/**
 * Whether a match takes names that begin with `prefix` away from a later model, in a way that beginnings of ids cannot
 * say. A text of several words is a model's name, and no other model's name goes on with it; a single word may be.
 */
export function shadows(match: NameMatch, prefix: string): boolean {
  if ("or" in match) return match.or.some((one) => shadows(one, prefix));
  if ("and" in match) return match.and.every((one) => shadows(one, prefix));
  // These two are said by patterns, of which the longest wins.
  if ("equals" in match || "starts_with" in match) return false;
  if ("contains" in match) return !isName(match.contains);
  if ("ends_with" in match) return !isName(match.ends_with);
  return !beginsElsewhere(match.regex, prefix);
}

/** Whether a match names ids, or beginnings of ids, that begin with `prefix`. */
export function goesOn(match: NameMatch, prefix: string): boolean {
  const { exact, prefixes } = patternsOf(match);
  const begin = prefix.toLowerCase();
  return [...exact, ...prefixes].some((text) => text.toLowerCase().startsWith(begin));
}

const isName = (text: string): boolean => /^[\p{L}\p{N}]+[^\p{L}\p{N}]+[\p{L}\p{N}]/u.test(text);

/** Whether a regular expression only matches names that begin otherwise than `prefix`. */
function beginsElsewhere(regex: string, prefix: string): boolean {
  const [, literal = "", rest = ""] = /^\^((?:[\w/@:-]|\\[./-])+)(.?)/.exec(regex) ?? [];
  const text = literal.replaceAll("\\", "");
  // What is repeated or left out by what follows it is no part of the beginning.
  const begins = (/[?*+{]/.test(rest) ? text.slice(0, -1) : text).toLowerCase();
  const isAlternative = regex.includes("|");
  const length = Math.min(begins.length, prefix.length);
  return !isAlternative && begins.slice(0, length) !== prefix.toLowerCase().slice(0, length);
}

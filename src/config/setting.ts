import { z } from "zod";

/** What a person has to know about a setting. */
export type About = {
  description: string;
  /** What is expected, completing "expected …". */
  kind: string;
  example: string;
  /** As it would be written in the environment; absent: no value. */
  byDefault?: string;
  /** The variable's name when it does not follow from the key. */
  name?: string;
  /** What of the value is nobody's business: all of it, or user, password and parameters of a URL. */
  secret?: "whole" | "in_url";
};

export const aboutSettings = z.registry<About>();

/** The environment variable of a key: `httpBodyBytesMax` → HTTP_BODY_BYTES_MAX. */
export const variableOf = (key: string): string =>
  key
    .replace(/([a-z])(\d)/g, "$1_$2")
    .replace(/([a-z\d])([A-Z])/g, "$1_$2")
    .toUpperCase();

type NumberAbout = { description: string; byDefault: number; min: number; max: number };

/** A whole number within bounds. */
export function wholeNumber(about: NumberAbout) {
  const { min, max, description } = about;
  const byDefault = String(about.byDefault);
  return z
    .string()
    .regex(/^\d{1,15}$/)
    .transform(Number)
    .pipe(z.number().min(min).max(max))
    .prefault(byDefault)
    .register(aboutSettings, {
      description,
      kind: `a whole number from ${min} to ${max}`,
      example: byDefault,
      byDefault,
    });
}

const BYTE_UNITS = new Map([
  ["", 1],
  ["B", 1],
  ["KIB", 1024],
  ["MIB", 1024 ** 2],
  ["GIB", 1024 ** 3],
]);

/** A size in bytes, with or without a unit. */
export function byteSize(about: {
  description: string;
  byDefault: string;
  min: number;
  max: number;
}) {
  const { description, byDefault, min, max } = about;
  return z
    .string()
    .regex(/^\d{1,15} ?(|B|KiB|MiB|GiB)$/i)
    .transform((text) => {
      const [, digits = "", unit = ""] = /^(\d+) ?(\w*)$/.exec(text) ?? [];
      return Number(digits) * (BYTE_UNITS.get(unit.toUpperCase()) ?? 1);
    })
    .pipe(z.number().min(min).max(max))
    .prefault(byDefault)
    .register(aboutSettings, {
      description,
      kind: `a size from ${min} to ${max} bytes, with or without KiB, MiB or GiB`,
      example: byDefault,
      byDefault,
    });
}

/** Some of these words, separated by commas; all of them by default. In the order given here, each once. */
export function listOf<const Word extends string>(
  words: readonly Word[],
  about: { description: string; example: string; name?: string },
) {
  const byDefault = words.join(",");
  return z
    .string()
    .transform((text, context): Word[] => {
      const asked = new Set<string>(text.split(",").map((word) => word.trim()));
      const chosen = words.filter((word) => asked.delete(word));
      if (asked.size > 0 || chosen.length === 0) context.addIssue("not in the list");
      return chosen;
    })
    .prefault(byDefault)
    .register(aboutSettings, { ...about, kind: `a list of ${words.join(", ")}`, byDefault });
}

/** One of these words, the first by default. */
export const oneOf = <const T extends readonly [string, ...string[]]>(
  words: T,
  description: string,
) =>
  z
    .enum(words)
    .prefault(words[0] as z.input<z.ZodEnum<{ [K in T[number]]: K }>>)
    .register(aboutSettings, {
      description,
      kind: `one of ${words.join(", ")}`,
      example: words[1] ?? words[0],
      byDefault: words[0],
    });

const isUrlOf = (text: string, about: UrlAbout): boolean => {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url === undefined || url.username !== "" || url.password !== "" || url.hash !== "")
    return false;
  if (about.isOrigin && (url.pathname !== "/" || url.search !== "")) return false;
  return url.protocol === "https:" || about.isPlainAllowed === true || isLoopback(url.hostname);
};

const isLoopback = (host: string): boolean =>
  host === "localhost" || host === "[::1]" || /^127(\.\d{1,3}){3}$/.test(host);

type UrlAbout = {
  description: string;
  example: string;
  /** Scheme, host and port only; the value has no slash at its end. */
  isOrigin?: boolean;
  /** http:// to other hosts than this machine too. */
  isPlainAllowed?: boolean;
};

/** A URL of the web, if any: https, on loopback also http. */
export function webUrl(about: UrlAbout) {
  const { description, example, isOrigin, isPlainAllowed } = about;
  const scheme = isPlainAllowed
    ? "an http:// or https:// URL"
    : "an https:// URL, or http:// on loopback";
  return z
    .string()
    .regex(/^https?:\/\/\S{1,2000}$/)
    .refine((text) => isUrlOf(text, about))
    .transform((text) => (isOrigin ? new URL(text).origin : text))
    .optional()
    .register(aboutSettings, {
      description,
      kind: `${scheme}, without user and password${isOrigin ? " and path" : ""}`,
      example,
    });
}

/** Names of orgs, separated by commas; `*`, the default, is any. */
export const orgList = (description: string) =>
  z
    .string()
    .transform((text, context): ReadonlySet<string> | "any" => {
      if (text === "*") return "any";
      const names = text.split(",").map((name) => name.trim());
      if (names.some((name) => name === "" || name === "*")) context.addIssue("not a list of orgs");
      return new Set(names);
    })
    .prefault("*")
    .register(aboutSettings, {
      description,
      kind: "a list of org ids, or * for any",
      example: "acme,globex",
      byDefault: "*",
    });

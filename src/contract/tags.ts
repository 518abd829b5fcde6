/** Keys of metadata that an org may declare to be broken down by. */
export const TAG_KEYS_MAX = 5;
export const TAG_KEY = /^[A-Za-z0-9_.-]{1,64}$/;
/** A longer value is none. */
const VALUE_CHARACTERS_MAX = 128;

/** The word (dictionary) of a value; no key has a `=`, so keys and values are never mixed up. */
export const tagWord = (key: string, value: string): string => `${key}=${value}`;

/** The word of all values beyond an org's cap; no value has it, for it has no `=` behind the key. */
export const tagOtherWord = (key: string): string => `${key}(other)`;

/** The value in a key's word; undefined in that of the values beyond the cap. */
export const tagValueOf = (key: string, word: string): string | undefined =>
  word.startsWith(`${key}=`) ? word.slice(key.length + 1) : undefined;

/** What an event says under a key. */
export type Tag = { key: string; value: string };

/**
 * The values of these keys in an event's metadata (JSON text of an object), in the order of the keys: a string, or a
 * number, true or false as it stands there. Everything else, and what is longer than 128 characters, is as if absent.
 */
export function readTags(metadata: string | null, keys: readonly string[]): Tag[] {
  if (metadata === null || keys.length === 0) return [];
  const fields = parseFields(metadata);
  return keys.flatMap((key) => {
    const value = textOf(fields.get(key));
    return value === undefined ? [] : [{ key, value }];
  });
}

/** Members of the outermost object. A number comes as a Number with its own text, which may say more than a number holds. */
function parseFields(metadata: string): Map<string, unknown> {
  const numbers = new WeakMap<object, Map<string, string>>();
  const parsed: unknown = JSON.parse(
    metadata,
    function (this: object, key: string, value: unknown, context?: { source?: string }): unknown {
      if (typeof value !== "number") return value;
      const own = numbers.get(this) ?? new Map<string, string>();
      numbers.set(this, own.set(key, context?.source ?? String(value)));
      return value;
    },
  );
  const fields = new Map<string, unknown>();
  if (typeof parsed !== "object" || parsed === null) return fields;
  const own = numbers.get(parsed);
  for (const [key, value] of Object.entries(parsed)) fields.set(key, own?.get(key) ?? value);
  return fields;
}

function textOf(value: unknown): string | undefined {
  if (typeof value === "boolean") return String(value);
  if (typeof value !== "string") return undefined;
  // PostgreSQL's text holds no NUL, and half a character is none.
  return isShort(value) && value.isWellFormed() && !value.includes("\0") ? value : undefined;
}

const isShort = (text: string): boolean =>
  text.length <= VALUE_CHARACTERS_MAX ||
  (text.length <= 2 * VALUE_CHARACTERS_MAX && [...text].length <= VALUE_CHARACTERS_MAX);

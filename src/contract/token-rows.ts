import assert from "node:assert/strict";
import { inspect } from "node:util";
import { fromConvention, type ConvertedUsage } from "./token-conventions.ts";
import type { TokenConvention } from "./token-layouts.ts";
import type { TokenClasses } from "./usage-event.ts";

/** input, cache read, cache write 5 m, cache write 1 h, output, reasoning */
export type Row = readonly [number, number, number, number, number, number];
/** Classes as a row, for tests that list many. */
export const rowOf = (classes: TokenClasses): Row => [
  classes.inputTokens,
  classes.cacheReadTokens,
  classes.cacheWrite5mTokens,
  classes.cacheWrite1hTokens,
  classes.outputTokens,
  classes.reasoningTokens,
];

/** What became of a usage object that must be readable. */
export function convert(name: TokenConvention, usage: unknown): ConvertedUsage {
  const converted = fromConvention(name, usage);
  assert.ok("classes" in converted, inspect(converted));
  return converted;
}

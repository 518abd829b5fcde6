import type { RejectionCode } from "./outcomes.ts";
import {
  LAYOUTS,
  type Layout,
  type Path,
  type Step,
  type TokenConvention,
} from "./token-layouts.ts";
import { FLAG_INCONSISTENT_TOTAL, type TokenClasses } from "./usage-event.ts";

/** A usage object turned into the classes of an event. */
export type ConvertedUsage = {
  readonly classes: TokenClasses;
  /** `absent` when no count was given: the zeros in `classes` are then no counts. Estimates are for the caller to mark. */
  readonly usageSource: "reported" | "absent";
  /** FLAG_INCONSISTENT_TOTAL when the total as sent is not the sum of the classes, else 0. */
  readonly flags: number;
  /** The total as sent, for the event's `total_tokens`; null when none was. */
  readonly totalTokens: number | null;
};

/** Why a usage object cannot be trusted: a code, a JSON pointer into the object, and what contradicts what. */
export type ConventionRejection = {
  readonly rejection: RejectionCode;
  readonly pointer: string;
  readonly detail: string;
};

/**
 * Turns a provider's usage object into disjoint token classes, by the convention it was written in. Pure.
 *
 * Counts that are absent or null are 0. Nothing is clamped: where parts exceed their whole, two names of one count
 * differ, or the cache writes by lifetime do not add up to their sum, the object is refused, because every way of
 * going on would put tokens into a class nobody counted them in.
 *
 * Cache writes without a lifetime are 5-minute writes, the providers' default. Reasoning is taken out of the output, or
 * found beside it, as the convention says, unless the total as sent adds up in exactly the other way: servers that
 * speak one shape differ in this. Tokens by modality (audio, images) stay within input and output.
 */
export function fromConvention(
  name: TokenConvention,
  usage: unknown,
): ConvertedUsage | ConventionRejection {
  const reader = new UsageReader(usage);
  const counts = readCounts(LAYOUTS[name], reader);
  if (reader.rejection !== null) return reader.rejection;
  return splitCounts(LAYOUTS[name], counts);
}

/** A count as sent, and where; `pointer` is where it would be when it is not there. */
type Count = { readonly value: number; readonly pointer: string; readonly isGiven: boolean };
type Counts = Readonly<Record<keyof Layout["counts"], Count>>;

const readCounts = (layout: Layout, reader: UsageReader): Counts => ({
  input: reader.readCount(layout.counts.input),
  toolInput: reader.readCount(layout.counts.toolInput),
  cacheRead: reader.readCount(layout.counts.cacheRead),
  cacheWrite: reader.readCount(layout.counts.cacheWrite),
  cacheWrite5m: reader.readCount(layout.counts.cacheWrite5m),
  cacheWrite1h: reader.readCount(layout.counts.cacheWrite1h),
  output: reader.readCount(layout.counts.output),
  reasoning: reader.readCount(layout.counts.reasoning),
  total: reader.readCount(layout.counts.total, Number.MAX_SAFE_INTEGER),
});

function splitCounts(layout: Layout, counts: Counts): ConvertedUsage | ConventionRejection {
  const { input, toolInput, cacheRead, output, reasoning, total, ...writes } = counts;
  const written = splitWrites(writes);
  if ("rejection" in written) return written;

  const cached = cacheRead.value + written.in5m + written.in1h;
  const uncached = input.value - (layout.isCacheInInput ? cached : 0);
  if (uncached < 0)
    return refuse(input.pointer, "cache reads and writes are part of this count but exceed it");
  const inputTokens = uncached + toolInput.value;

  // A total that adds up only with reasoning beside the output, or only with it inside, knows better than the convention.
  const sumInside = inputTokens + cached + output.value;
  let isInside = layout.isReasoningInOutput;
  if (total.isGiven && total.value === sumInside) isInside = true;
  else if (total.isGiven && total.value === sumInside + reasoning.value) isInside = false;
  const outputTokens = output.value - (isInside ? reasoning.value : 0);
  if (outputTokens < 0)
    return refuse(output.pointer, "reasoning is part of this count but exceeds it");

  const classes = {
    inputTokens,
    cacheReadTokens: cacheRead.value,
    cacheWrite5mTokens: written.in5m,
    cacheWrite1hTokens: written.in1h,
    outputTokens,
    reasoningTokens: reasoning.value,
  };
  if (inputTokens > COUNT_MAX) return refuse(input.pointer, "too many tokens", "out_of_range");
  const sum = inputTokens + cached + outputTokens + reasoning.value;
  return {
    classes,
    usageSource: isAnyGiven(counts) ? "reported" : "absent",
    flags: total.isGiven && total.value !== sum ? FLAG_INCONSISTENT_TOTAL : 0,
    totalTokens: total.isGiven ? total.value : null,
  };
}

const isAnyGiven = (counts: Counts): boolean =>
  Object.entries(counts).some(([name, { isGiven }]) => isGiven && name !== "total");

/** Cache writes by lifetime. A lifetime that is not given takes what the other leaves of the sum. */
function splitWrites(
  writes: Pick<Counts, "cacheWrite" | "cacheWrite5m" | "cacheWrite1h">,
): { readonly in5m: number; readonly in1h: number } | ConventionRejection {
  const { cacheWrite, cacheWrite5m, cacheWrite1h } = writes;
  if (!cacheWrite.isGiven) return { in5m: cacheWrite5m.value, in1h: cacheWrite1h.value };

  const in1h =
    cacheWrite5m.isGiven && !cacheWrite1h.isGiven
      ? cacheWrite.value - cacheWrite5m.value
      : cacheWrite1h.value;
  const in5m = cacheWrite5m.isGiven ? cacheWrite5m.value : cacheWrite.value - in1h;
  if (in5m < 0 || in1h < 0 || in5m + in1h !== cacheWrite.value)
    return refuse(cacheWrite.pointer, "the cache writes by lifetime do not add up to this count");
  return { in5m, in1h };
}

const COUNT_MAX = 2_147_483_647;

const refuse = (
  pointer: string,
  detail: string,
  rejection: RejectionCode = "invalid_value",
): ConventionRejection => ({ rejection, pointer, detail });

/** Reads counts out of an object nobody has checked, and keeps the first thing that is wrong with it. */
class UsageReader {
  rejection: ConventionRejection | null = null;
  readonly #usage: unknown;

  constructor(usage: unknown) {
    this.#usage = usage;
  }

  /** The count that stands at `paths`, names of one count; 0 and not given when it is at none of them. */
  readCount(paths: readonly Path[], max = COUNT_MAX): Count {
    let found: Count | null = null;
    for (const path of paths) {
      const count = this.#readAt(path, max);
      if (count === null) continue;
      if (found !== null && found.value !== count.value)
        this.#refuse(count.pointer, `differs from ${found.pointer}, another name of this count`);
      found ??= count;
    }
    return found ?? { value: 0, pointer: formatPointer(paths[0] ?? []), isGiven: false };
  }

  #readAt(path: Path, max: number): Count | null {
    let value = this.#usage;
    let pointer = "";
    for (const step of path) {
      if (value === null || value === undefined) return null;
      const key = this.#findKey(value, step, pointer);
      // A list of lifetimes that leaves one out says that nothing was written for it; an empty list says nothing.
      if (key === null)
        return Array.isArray(value) && value.length > 0
          ? { value: 0, pointer, isGiven: true }
          : null;
      value = Reflect.get(Object(value), key);
      pointer += formatPointer([key]);
    }
    if (value === null || value === undefined) return null;
    if (typeof value !== "number") {
      this.#refuse(pointer, "must be a number", "invalid_type");
    } else if (!Number.isInteger(value)) {
      this.#refuse(pointer, "must be a whole number", "invalid_number");
    } else if (value < 0 || value > max) {
      this.#refuse(pointer, `must be 0 to ${max}`, "out_of_range");
    } else {
      return { value: value + 0, pointer, isGiven: true };
    }
    return null;
  }

  /** The key at which a step goes on in `value`; null when it leads nowhere. */
  #findKey(value: unknown, step: Step, pointer: string): string | null {
    if (typeof step === "string") {
      if (typeof value === "object" && !Array.isArray(value)) return step;
      this.#refuse(pointer, "must be an object", "invalid_type");
      return null;
    }
    if (!Array.isArray(value)) {
      this.#refuse(pointer, "must be an array", "invalid_type");
      return null;
    }
    const index = value.findIndex((item) => Reflect.get(Object(item), "ttl") === step.ttl);
    return index < 0 ? null : String(index);
  }

  #refuse(pointer: string, detail: string, rejection?: RejectionCode): void {
    this.rejection ??= refuse(pointer, detail, rejection);
  }
}

const formatPointer = (path: Path): string =>
  path
    .filter((step) => typeof step === "string")
    .map((step) => `/${step.replaceAll("~", "~0").replaceAll("/", "~1")}`)
    .join("");

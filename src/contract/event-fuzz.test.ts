import assert from "node:assert/strict";
import { isUtf8 } from "node:buffer";
import { test } from "node:test";
import fc from "fast-check";
import { anyWireEvent } from "./event-arbitrary.ts";
import { classifyErrorCode } from "./error-class.ts";
import { createEventKey } from "./event-identity.ts";
import { parseUsageEvents } from "./event-parse.ts";
import { Failure } from "./failure.ts";
import { parseNano } from "./money.ts";
import type { ParsedItem } from "./outcomes.ts";
import { packCurrency } from "./usage-event.ts";
import type { UsageEvent } from "./usage-event.ts";

const KNOWN = new Set(
  (
    "schema_version event_id occurred_at timestamp org_id model_id actor_id client_id requests input_tokens cache_read_tokens " +
    "cache_write_5m_tokens cache_write_1h_tokens output_tokens reasoning_tokens total_tokens usage_source latency_ms ttft_ms status " +
    "error_code error_class cost_estimate currency metadata"
  ).split(" "),
);

/** A number with its spelling, which a double would lose. */
class Spelled {
  readonly source: string;
  constructor(source: string) {
    this.source = source;
  }
}

/** JSON.parse with numbers as spelled, or undefined when it throws. */
function parseSpelled(json: string): unknown {
  try {
    return JSON.parse(json, (_key: string, value: unknown, context?: { source?: string }) =>
      typeof value === "number" ? new Spelled(context?.source ?? "") : value,
    );
  } catch {
    return undefined;
  }
}

const textOf = (value: unknown): string | null => (typeof value === "string" ? value : null);
const integerOf = (value: unknown): number | null =>
  value instanceof Spelled ? Number(value.source) : null;

function microsOf(text: string): number {
  const fraction = /\.(\d+)/.exec(text)?.[1] ?? "";
  const seconds = Date.parse(text.replace(/\.\d+/, "").toUpperCase());
  return seconds * 1000 + Number(fraction.slice(0, 6).padEnd(6, "0"));
}

const plain = (value: unknown): unknown =>
  JSON.parse(
    JSON.stringify(value, (_key, item: unknown) =>
      item instanceof Spelled ? Number(item.source) : item,
    ),
  );

function outcomeOf(event: Record<string, unknown>): number {
  if (event["status"] === "success") return 0;
  if (event["status"] === "cancelled") return 1;
  const sent = textOf(event["error_class"]);
  const derived = classifyErrorCode(textOf(event["error_code"]));
  return ["client", "capacity", "upstream", "policy", "internal"].indexOf(sent ?? derived) + 2;
}

/** What a plain reader over JSON.parse makes of an event that is valid; hashes and texts of objects apart. */
function readSlowly(
  event: Record<string, unknown>,
): Omit<UsageEvent, "contentHash" | "metadata" | "extra"> {
  const amount = event["cost_estimate"] ?? null;
  const cost =
    amount === null
      ? null
      : parseNano(amount instanceof Spelled ? amount.source : (textOf(amount) ?? ""));
  const count = (name: string): number => integerOf(event[name]) ?? 0;
  const tokens = {
    inputTokens: count("input_tokens"),
    cacheReadTokens: count("cache_read_tokens"),
    cacheWrite5mTokens: count("cache_write_5m_tokens"),
    cacheWrite1hTokens: count("cache_write_1h_tokens"),
    outputTokens: count("output_tokens"),
    reasoningTokens: count("reasoning_tokens"),
  };
  const total = Object.values(tokens).reduce((sum, value) => sum + value, 0);
  const hasTokens = Object.keys(event).some((name) =>
    /^(input|cache_read|cache_write_.*|output|reasoning)_tokens$/.test(name),
  );
  const source = ["reported", "estimated", "absent"].indexOf(
    textOf(event["usage_source"]) ?? (hasTokens ? "reported" : "absent"),
  );
  const isInconsistent = "total_tokens" in event && integerOf(event["total_tokens"]) !== total;
  return {
    ...createEventKey(String(event["event_id"])),
    ...tokens,
    eventId: String(event["event_id"]),
    orgId: String(event["org_id"]),
    modelId: String(event["model_id"]),
    clientId: textOf(event["client_id"]),
    actorId: textOf(event["actor_id"]),
    occurredAtUs: microsOf(String(event["occurred_at"] ?? event["timestamp"])),
    requests: integerOf(event["requests"]) ?? 1,
    latencyMs: integerOf(event["latency_ms"]),
    ttftMs: integerOf(event["ttft_ms"]),
    outcome: outcomeOf(event),
    errorCode: textOf(event["error_code"]),
    currency: packCurrency(textOf(event["currency"]) ?? "USD"),
    costNano: cost === null ? null : Number(cost.nano) + 0,
    flags: (isInconsistent ? 1 : 0) | (cost?.rounded === true ? 2 : 0) | (source << 2),
  };
}

function assertReadsAlike(item: ParsedItem): void {
  const json = item.bytes.toString();
  const wire = parseSpelled(json);
  assert.ok(typeof wire === "object" && wire !== null, json);
  const fields = Object.fromEntries(Object.entries(wire));
  assert.ok(item.event);
  const { contentHash, metadata, extra, ...rest } = item.event;
  assert.equal(contentHash.length, 2);
  assert.deepEqual(rest, readSlowly(fields), json);
  assert.deepEqual(
    metadata === null ? null : JSON.parse(metadata),
    plain(fields["metadata"] ?? null),
    json,
  );
  const unknown = Object.entries(fields).filter(
    ([name, value]) => !KNOWN.has(name) && value !== null,
  );
  assert.deepEqual(
    extra === null ? {} : JSON.parse(extra),
    plain(Object.fromEntries(unknown)),
    json,
  );
}

test("every valid event is read as JSON.parse and a plain reader would", () => {
  fc.assert(
    fc.property(anyWireEvent, fc.constantFrom(undefined, 1), (event, indent) => {
      const [item] = parseUsageEvents(Buffer.from(JSON.stringify(event, null, indent)), "json", {
        eventsMax: 1,
      });
      assert.equal(item?.rejection, null);
      assert.ok(item);
      assertReadsAlike(item);
    }),
    { numRuns: 1000 },
  );
});

/** Pieces that JSON readers trip over. */
const SPLICES = [
  '"',
  "\\",
  "{",
  "}",
  "[",
  "]",
  ",",
  ":",
  "0",
  "9",
  "-",
  ".",
  "e",
  "E+5",
  "null",
  "true",
  "NaN",
  "\\u0000",
  "\\ud800",
  "\\u00e9",
  "é",
  " ",
  "\t",
  "\n",
  "\r",
  "\u0000",
  '"a":1,',
  '"org_id":"x",',
  '{"a":[',
  "😀",
  "-0",
  "1e3",
  "99999999999",
  ",,",
  "\u00a0",
];
/** Bytes of a valid event with a few places overwritten, cut out, doubled or spliced. */
const mutatedBytes = fc
  .tuple(
    anyWireEvent,
    fc.array(
      fc.record({
        at: fc.double({ min: 0, max: 1, noNaN: true }),
        cut: fc.nat({ max: 3 }),
        insert: fc.oneof(
          fc.constantFrom(...SPLICES).map((text) => Buffer.from(text)),
          fc.uint8Array({ maxLength: 2 }),
        ),
      }),
      { minLength: 1, maxLength: 3 },
    ),
  )
  .map(([event, edits]) => {
    let bytes = Buffer.from(JSON.stringify(event));
    for (const { at, cut, insert } of edits) {
      const from = Math.floor(at * bytes.length);
      bytes = Buffer.concat([bytes.subarray(0, from), insert, bytes.subarray(from + cut)]);
    }
    return bytes;
  });

function parseOrFailure(body: Buffer): ParsedItem[] | Failure {
  try {
    return parseUsageEvents(body, "json", { eventsMax: 10 });
  } catch (error) {
    assert.ok(error instanceof Failure, `${body.toString()}: ${String(error)}`);
    return error;
  }
}

test("mutated bytes never crash the scanner, and it finds them well-formed exactly when JSON.parse does", () => {
  let accepted = 0;
  fc.assert(
    fc.property(mutatedBytes, (body) => {
      const text = body.toString();
      const isJson = isUtf8(body) && parseSpelled(text) !== undefined;
      const result = parseOrFailure(body);
      if (result instanceof Failure)
        return assert.equal(isJson, result.code === "empty_batch", `${text}: ${result.message}`);
      // Not JSON, but kept from spoiling its neighbours: bad UTF-8 inside strings, NaN and Infinity.
      if (!isJson)
        return assert.ok(
          result.every(({ rejection }) => rejection !== null),
          text,
        );
      for (const item of result) {
        if (item.event === null) continue;
        accepted++;
        assertReadsAlike(item);
      }
    }),
    { numRuns: 6000 },
  );
  assert.ok(accepted > 30, `only ${accepted} mutants were still valid`);
});

test("in NDJSON a mutated line leaves the lines around it as they are", () => {
  const before =
    '{"event_id":"before","occurred_at":"2026-11-20T10:00:00Z","org_id":"o","model_id":"m","status":"success"}';
  const after = before.replace('"before"', '"after"');
  fc.assert(
    fc.property(mutatedBytes, (body) => {
      const items = parseUsageEvents(
        Buffer.concat([Buffer.from(`${before}\n`), body, Buffer.from(`\n${after}`)]),
        "ndjson",
        {
          eventsMax: 20,
        },
      );
      assert.equal(items[0]?.event?.eventId, "before");
      assert.equal(items.at(-1)?.event?.eventId, "after");
      const bytes = Buffer.concat(items.slice(1, -1).map((item) => item.bytes));
      assert.ok(body.length - bytes.length <= countSpace(body), "bytes of the middle are lost");
    }),
    { numRuns: 3000 },
  );
});

const countSpace = (bytes: Buffer): number =>
  bytes.filter((byte) => [0x20, 0x09, 0x0a, 0x0d].includes(byte)).length;

test("bytes that are no JSON at all are refused without a crash", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 64 }), (bytes) => {
      const body = Buffer.from(bytes);
      const result = parseOrFailure(body);
      if (!(result instanceof Failure)) assert.ok(result.every(({ event }) => event === null));
      assert.doesNotThrow(() => {
        try {
          parseUsageEvents(body, "ndjson", { eventsMax: 100 });
        } catch (error) {
          if (!(error instanceof Failure)) throw error;
        }
      });
    }),
    { numRuns: 5000 },
  );
});

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { createAzureTraceAdapter } from "./azure-llm-trace.ts";
import { createCsvAdapter } from "./csv.ts";
import { eventMember, type AdaptedRow, type RowField, type RecordAdapter } from "./event-text.ts";
import { fillEventLine } from "./ndjson.ts";

const ID = "11111111-1111-8111-8111-111111111111";
const rowId = (): string => ID;
const fields = (entries: Partial<Record<RowField, string>>) =>
  new Map(Object.entries(entries) as [RowField, string][]);
const ORG = fields({ org_id: "acme", model_id: "chat-large" });

function adapterFor(
  header: string[],
  columns: Partial<Record<RowField, string>>,
  defaults = ORG,
): RecordAdapter {
  const made = createCsvAdapter(header, { columns: fields(columns), defaults });
  assert.ok(made.adapt !== null, made.problem ?? "");
  return made.adapt;
}

const eventOf = (row: AdaptedRow): unknown => JSON.parse(row.json ?? `"${row.fault?.detail}"`);

test("a CSV row becomes an event: mapped columns, columns called like fields, constants for the rest", () => {
  const adapt = adapterFor(["when", "org_id", "in", "status", "note", "cost"], {
    occurred_at: "when",
    input_tokens: "in",
    cost_estimate: "cost",
  });
  const row = adapt(["2026-11-20T10:00:00Z", "globex", "374", "success", "x", "0.10"], rowId);
  assert.deepEqual(eventOf(row), {
    occurred_at: "2026-11-20T10:00:00Z",
    org_id: "globex",
    model_id: "chat-large",
    input_tokens: 374,
    status: "success",
    cost_estimate: "0.10",
    event_id: ID,
  });
});

test("an empty cell is a field not given: a constant takes its place, and the row's own id wins over a made one", () => {
  const adapt = adapterFor(["event_id", "occurred_at", "org_id", "status", "output_tokens"], {});
  const own = adapt(["e-1", "2026-11-20T10:00:00Z", "", "success", ""], rowId);
  assert.deepEqual(eventOf(own), {
    event_id: "e-1",
    occurred_at: "2026-11-20T10:00:00Z",
    org_id: "acme",
    model_id: "chat-large",
    status: "success",
  });
  const made = adapt(["", "2026-11-20T10:00:00Z", "", "success", ""], rowId);
  assert.ok(made.json?.includes(ID));
});

test("digits reach the service as they stand in the file, however many", () => {
  assert.equal(eventMember("input_tokens", "9007199254740993"), '"input_tokens":9007199254740993');
  assert.equal(eventMember("input_tokens", "1e3"), '"input_tokens":1e3');
  assert.equal(
    eventMember("cost_estimate", "0.1000000000000000055"),
    '"cost_estimate":"0.1000000000000000055"',
  );
  assert.equal(eventMember("metadata", '{"n":1.10}'), '"metadata":{"n":1.10}');
});

test("what is no number where one belongs is sent as text, for the service to refuse", () => {
  for (const text of ["12a", "0x10", "007", "1,5", "NaN", "--1"]) {
    assert.equal(eventMember("input_tokens", text), `"input_tokens":${JSON.stringify(text)}`);
  }
});

test("any row of any text makes valid JSON on one line", () => {
  const adapt = adapterFor(["a", "b", "c", "m"], {
    occurred_at: "a",
    status: "b",
    latency_ms: "c",
    metadata: "m",
  });
  fc.assert(
    fc.property(
      fc.array(fc.string({ unit: "grapheme" }), { minLength: 4, maxLength: 4 }),
      (row) => {
        const { json } = adapt(row, rowId);
        assert.ok(json !== null && !/[\r\n]/.test(json));
        const event: Record<string, unknown> = JSON.parse(json);
        assert.equal(event["occurred_at"], row[0] === "" ? undefined : row[0]);
      },
    ),
  );
});

test("a row with too few or too many fields is a fault", () => {
  const adapt = adapterFor(["occurred_at", "status"], {});
  assert.match(
    adapt(["2026-11-20T10:00:00Z"], rowId).fault?.detail ?? "",
    /1 fields where the header has 2/,
  );
});

test("a mapping that does not fit the header is refused before any row is sent, with what to do", () => {
  const problem = (
    header: string[],
    columns: Partial<Record<RowField, string>>,
    defaults = ORG,
  ): string => createCsvAdapter(header, { columns: fields(columns), defaults }).problem ?? "none";
  assert.match(
    problem(["when", "status"], { occurred_at: "time" }),
    /no column "time".*when, status/,
  );
  assert.match(problem(["when", "status"], {}), /what occurred_at should be.*--column/);
  assert.match(problem(["timestamp", "model_id"], {}, new Map()), /what org_id, status should be/);
  assert.match(problem(["a", "a"], {}), /"a" twice/);
  assert.match(
    problem(["a", "status"], { occurred_at: "a", event_id: "a" }),
    /mapped to two fields/,
  );
});

test("a row of an Azure trace is one successful call in UTC, cut to microseconds, tokens exact", () => {
  const header = ["TIMESTAMP", "ContextTokens", "GeneratedTokens"];
  const made = createAzureTraceAdapter(header, ORG);
  assert.ok(made.adapt !== null);
  assert.deepEqual(eventOf(made.adapt(["2023-11-16 18:15:46.6805909", "374", "44"], rowId)), {
    event_id: ID,
    occurred_at: "2023-11-16T18:15:46.680590Z",
    input_tokens: 374,
    output_tokens: 44,
    status: "success",
    usage_source: "reported",
    org_id: "acme",
    model_id: "chat-large",
  });
  assert.match(
    made.adapt(["2024-05-12 00:00:00+00:00", "1", "1"], rowId).json ?? "",
    /"2024-05-12T00:00:00Z"/,
  );
  assert.equal(made.adapt(["16.11.2023 18:15", "1", "1"], rowId).fault?.code, "invalid_timestamp");
  assert.match(createAzureTraceAdapter(["a", "b"], ORG).problem ?? "", /columns TIMESTAMP/);
});

test("an NDJSON line keeps its bytes and gets only what it leaves out", () => {
  const fill = (line: string): string => fillEventLine(Buffer.from(line), ORG, rowId).toString();
  const tail = `"org_id":"acme","model_id":"chat-large","event_id":"${ID}"}`;
  assert.equal(
    fill('{"input_tokens": 1e2, "cost_estimate":1.10 }\r'),
    `{"input_tokens": 1e2, "cost_estimate":1.10 ,${tail}`,
  );
  assert.equal(fill("{}"), `{${tail}`);
  const whole = '{"event_id":"a","org_id":"b","model_id":"c"}';
  assert.equal(fill(whole), whole);
  const timed = fillEventLine(
    Buffer.from('{"event_id":"a","timestamp":"t"}'),
    fields({ occurred_at: "u" }),
    rowId,
  );
  assert.equal(timed.toString(), '{"event_id":"a","timestamp":"t"}');
  for (const broken of ['{"a":', "[1]", "null", "nonsense"]) assert.equal(fill(broken), broken);
  const invalid = Buffer.from([0x7b, 0xff, 0x7d]);
  assert.equal(fillEventLine(invalid, ORG, rowId), invalid);
});

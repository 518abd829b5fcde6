import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import {
  anEvent,
  spawnService,
  temporaryFolder,
  testDatabase,
  type SpawnedService,
} from "#harness";
import type { Database } from "#store";
import { assertBatchesAddUp, assertVerified, settle } from "./oracle.ts";

const CLI = fileURLToPath(new URL("../../src/cli.ts", import.meta.url));

const scope = new AsyncDisposableStack();
let service: SpawnedService;
let database: Database;
let folder: string;

before(async () => {
  const db = scope.use(await testDatabase());
  database = db.database;
  folder = scope.use(await temporaryFolder()).path;
  const env = { FOLD_INTERVAL_MS: "50", PEOPLE_FOLD_INTERVAL_MS: "50" };
  service = scope.use(await spawnService({ databaseUrl: db.url, env }));
});
after(() => scope.disposeAsync());

type Report = {
  source: string;
  rows: number;
  accepted: number;
  duplicate: number;
  conflict: number;
  rejected: number;
  tooOld: number;
  kept: number;
  refused: { row: number; status: string; code: string; pointer: string }[];
  complete: boolean;
};

/** Imports a file made of `content` and returns exit code and report. */
async function importFile(
  name: string,
  content: string | Buffer,
  args: readonly string[],
): Promise<{ code: number | null; report: Report; stderr: string }> {
  const path = join(folder, name);
  await writeFile(path, content);
  const all = ["import", path, "--json", "--data-dir", service.dataDir, ...args];
  return await new Promise((resolve, reject) => {
    const child = execFile(
      process.execPath,
      [CLI, ...all],
      { env: { PATH: process.env["PATH"] } },
      (_error, stdout, stderr) => {
        try {
          const report = JSON.parse(stdout || "{}") as Report;
          resolve({ code: child.exitCode, report, stderr });
        } catch (error) {
          reject(error);
        }
      },
    );
  });
}

const now = (): string => new Date().toISOString();
const line = (overrides: Record<string, unknown> = {}): string =>
  JSON.stringify(anEvent({ occurred_at: now(), ...overrides }));
const refusals = ({ refused }: Report) =>
  refused.map(({ row, code, pointer }) => [row, code, pointer]);

/** The bytes that quarantine keeps of what came from this import, oldest first. */
async function listKept(source: string): Promise<string[]> {
  const rows = await database.sql<{ bytes: Buffer }>`
    select q.bytes
      from quarantine q
      join source s on s.id = q.source_id
     where s.name = ${source}
     order by q.id`;
  return rows.map(({ bytes }) => bytes.toString());
}

test("B1–B6, B11, B17, B22–B31 in an NDJSON file: each bad line is named by its row and kept, all others are counted, repeats too", async () => {
  const bad: [string, string, string][] = [
    ["{broken", "invalid_json", ""],
    [line({ model_id: "a\u0000b" }), "invalid_character", "/model_id"],
    [line().replace('"status"', '"org_id":"acme","status"'), "duplicate_key", "/org_id"],
    [line().replace('"status"', '"__proto__":1,"status"'), "forbidden_key", "/__proto__"],
    [line({ input_tokens: "12" }), "invalid_number", "/input_tokens"],
    [line({ occurred_at: "2026-11-20 10:00" }), "invalid_timestamp", "/occurred_at"],
    [line({ occurred_at: "2190-01-01T00:00:00Z" }), "future_timestamp", "/occurred_at"],
    [line({ occurred_at: "2019-01-01T00:00:00Z" }), "too_old", "/occurred_at"],
    [line({ schema_version: "9" }), "unknown_schema", "/schema_version"],
    [line({ latency_ms: -4 }), "invalid_range", "/latency_ms"],
  ];
  const rows = bad.flatMap(([text]) => [line(), text]);
  const { code, report } = await importFile("bad.ndjson", `\ufeff${rows.join("\n")}`, [
    "--format",
    "ndjson",
  ]);
  assert.equal(code, 1);
  assert.deepEqual(
    [report.rows, report.accepted, report.rejected, report.kept, report.tooOld],
    [20, 10, 10, 10, 1],
  );
  assert.deepEqual(
    refusals(report),
    bad.map(([, why, pointer], i) => [i * 2 + 2, why, pointer]),
  );
  assert.deepEqual(
    await listKept(report.source),
    bad.map(([text]) => text),
  );
  const again = await importFile("bad-again.ndjson", `\ufeff${rows.join("\n")}`, [
    "--format",
    "ndjson",
  ]);
  assert.equal(again.report.source, report.source);
  assert.deepEqual([again.report.accepted, again.report.duplicate], [0, 10]);
  await settle(database);
  await assertBatchesAddUp(database);
  await assertVerified(database);
});

test("B1, B2, B7: a file that ends in mid-line, one of another encoding, an empty one and a line of megabytes harm only themselves", async () => {
  const cut = await importFile("cut.ndjson", `${line()}\n${line().slice(0, 50)}`, [
    "--format",
    "ndjson",
  ]);
  assert.deepEqual([cut.report.accepted, refusals(cut.report)], [1, [[2, "invalid_json", ""]]]);

  const utf16 = Buffer.from(`\ufeff${line()}\n${line()}\n`, "utf16le");
  const other = await importFile("utf16.ndjson", utf16, ["--format", "ndjson"]);
  assert.notEqual(other.code, 0);
  assert.equal(other.report.accepted ?? 0, 0);

  const latin = Buffer.from(line({ model_id: "mod\u00e8le" }), "latin1");
  const mixed = Buffer.concat([Buffer.from(`${line()}\n`), latin, Buffer.from(`\n${line()}\n`)]);
  const one = await importFile("latin1.ndjson", mixed, ["--format", "ndjson"]);
  assert.deepEqual(
    [one.report.accepted, refusals(one.report)],
    [2, [[2, "invalid_encoding", "/model_id"]]],
  );

  const empty = await importFile("empty.ndjson", "", ["--format", "ndjson"]);
  assert.deepEqual([empty.code, empty.report.rows], [0, 0]);

  const huge = `${line()}\n${line({ note: "x".repeat(3_000_000) })}\n${line()}\n`;
  const long = await importFile("huge.ndjson", huge, ["--format", "ndjson"]);
  assert.deepEqual([long.report.accepted, refusals(long.report)], [2, [[2, "too_large", ""]]]);
});

const HEADER = "id,when,model_id,in,out,cost,status,who";
const MAPPING = [
  "--format",
  "csv",
  "--org",
  "files",
  ...["event_id=id", "occurred_at=when", "input_tokens=in", "output_tokens=out"].flatMap((pair) => [
    "--column",
    pair,
  ]),
  ...["cost_estimate=cost", "actor_id=who"].flatMap((pair) => ["--column", pair]),
];

test("B17, B18, B19, B22, B27, B31 in a CSV file: digits stay exact, nothing is guessed, and cells are kept as they are", async () => {
  const rows = [
    `r1,${now()},=cmd(),7,3,0.100000000000000001,success,"Zoë, ""Z"""`,
    `r2,${now()},m,1.5,3,0.1,success,x`,
    `r3,${now()},m,1e3,3,0.1,success,x`,
    `r4,${now()},m,2147483648,3,0.1,success,x`,
    `r5,${now()},m,7,3,"1,5",success,x`,
    `r6,1763632800,m,7,3,0.1,success,x`,
    `r7,${now()},m,,3,-0.25,success,`,
    `r8,${now()},m,seven,3,0.1,success,x`,
    `r9,${now()},m,7,3,0.1,SUCCESS,x`,
    `r10,${now()},"two\nlines",7,3,0.1,success,x`,
  ];
  const { code, report } = await importFile("rows.csv", [HEADER, ...rows].join("\r\n"), MAPPING);
  assert.equal(code, 1);
  assert.deepEqual([report.accepted, report.rejected, report.kept], [3, 7, 7]);
  assert.deepEqual(refusals(report), [
    [3, "invalid_number", "/input_tokens"],
    [4, "invalid_number", "/input_tokens"],
    [5, "out_of_range", "/output_tokens".replace("output", "input")],
    [6, "invalid_number", "/cost_estimate"],
    [7, "invalid_timestamp", "/occurred_at"],
    [9, "invalid_number", "/input_tokens"],
    [10, "invalid_value", "/status"],
  ]);
  const stored = await database.sql<Record<string, unknown>>`
    select e.event_id as id, m.value as model, a.value as who, e.input_tokens as "in", e.cost_nano as nano, (e.flags & 2) = 2 as rounded
      from usage_event e
      join org o on o.id = e.org_id
      join dictionary m on m.id = e.model_id
      left join dictionary a on a.id = e.actor_id
     where o.external_id = 'files'
     order by length(e.event_id), e.event_id`;
  assert.deepEqual(
    stored.map((row) => Object.values(row)),
    [
      ["r1", "=cmd()", 'Zoë, "Z"', 7, 100_000_000, true],
      ["r7", "m", null, 0, -250_000_000, false],
      ["r10", "two\nlines", "x", 7, 100_000_000, false],
    ],
  );
});

test("B36 in a CSV file: rows with too few or too many cells, or a quote that never ends, are named and hold up no other", async () => {
  const at = now();
  const rows = [
    `s1,${at},m,7,3,0.1,success,x`,
    `s2,${at},m,7`,
    `s3,${at},m,7,3,0.1,success,x,more`,
    `s4,${at},m,7,3,0.1,success,x`,
    `s5,${at},m,7,3,0.1,success,"never closed`,
  ];
  const { code, report } = await importFile("cells.csv", [HEADER, ...rows].join("\n"), MAPPING);
  assert.deepEqual([code, report.accepted, report.rejected, report.complete], [1, 2, 3, true]);
  assert.deepEqual(
    report.refused.map(({ row, code: why }) => [row, why]),
    [
      [3, "invalid_value"],
      [4, "invalid_value"],
      [6, "invalid_value"],
    ],
  );
  const header = await importFile("header.csv", "a,b\n1,2\n", ["--format", "csv"]);
  assert.equal(header.code, 2);
  assert.match(header.stderr, /Nothing says what org_id, model_id, status, occurred_at should be/);
});

test("B13, B14 in files: the same rows from HTTP and from a file are duplicates, changed ones conflicts", async () => {
  const events = Array.from({ length: 5 }, () => anEvent({ occurred_at: now(), org_id: "both" }));
  await service.send(events);
  const changed = events.map((event, i) => (i === 3 ? { ...event, output_tokens: 999 } : event));
  const text = changed.map((event) => JSON.stringify(event)).join("\n");
  const { code, report } = await importFile("both.ndjson", text, ["--format", "ndjson"]);
  assert.deepEqual([code, report.duplicate, report.conflict], [1, 4, 1]);
  assert.deepEqual(refusals(report)[0]?.slice(0, 2), [4, "conflict"]);
});

test("B17, B22 in a trace: a broken row is named, and the ids of the others come from file and row", async () => {
  const trace = [
    "TIMESTAMP,ContextTokens,GeneratedTokens",
    "2026-11-20 10:00:00.1234567,100,10",
    "2026-11-20 10:00:01.0000000,-5,10",
    "yesterday,100,10",
    "2026-11-20 10:00:02.0000000,100,10",
  ].join("\r\n");
  const args = ["--format", "azure-llm-trace", "--org", "trace", "--model", "chat", "--backfill"];
  const first = await importFile("trace.csv", trace, args);
  assert.deepEqual([first.code, first.report.accepted, first.report.rejected], [1, 2, 2]);
  assert.deepEqual(
    first.report.refused.map(({ row }) => row),
    [3, 4],
  );
  const again = await importFile("renamed.csv", trace, args);
  assert.deepEqual([again.report.accepted, again.report.duplicate], [0, 2]);
});

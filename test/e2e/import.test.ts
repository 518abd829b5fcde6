import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import {
  findFreePort,
  spawnService,
  temporaryFolder,
  testDatabase,
  testService,
  waitFor,
  type ServiceFace,
} from "#harness";
import { runCli, startCli } from "./run-cli.ts";

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
const TRACE = fileURLToPath(
  new URL("../../../shared/data/AzureLLMInferenceTrace_conv.csv", import.meta.url),
);

type Report = {
  rows: number;
  accepted: number;
  duplicate: number;
  rejected: number;
  complete: boolean;
  refused: { row: number; code: string }[];
};
type Usage = { totals: Figures; series: Figures[] };
type Figures = { requests: number; inputTokens: number; outputTokens: number };

const countsOf = (stdout: string): Pick<Report, "accepted" | "duplicate" | "rejected"> => {
  const { accepted, duplicate, rejected }: Report = JSON.parse(stdout);
  return { accepted, duplicate, rejected };
};

const day = (atMs: number): string => new Date(atMs - (atMs % DAY_MS)).toISOString();
const sum = (series: readonly Figures[]): Figures =>
  series.reduce(
    (total, one) => ({
      requests: total.requests + one.requests,
      inputTokens: total.inputTokens + one.inputTokens,
      outputTokens: total.outputTokens + one.outputTokens,
    }),
    { requests: 0, inputTokens: 0, outputTokens: 0 },
  );
const figures = ({ requests, inputTokens, outputTokens }: Figures): Figures => ({
  requests,
  inputTokens,
  outputTokens,
});

/** Totals of an org once everything sent before now is in them. */
async function totalsOf(
  service: ServiceFace,
  orgId: string,
  [start, end]: [string, string],
  more = "",
): Promise<Usage> {
  const sentMs = Date.now();
  return await waitFor(async () => {
    const path = `/analytics/v1/orgs/${orgId}/usage?start=${start}&end=${end}&granularity=hour${more}`;
    const answer = (await service.get(path)) as Usage & {
      freshness: { completeThrough: string | null };
    };
    return Date.parse(answer.freshness.completeThrough ?? "") >= sentMs && answer;
  });
}

const importing = (service: ServiceFace, file: string, more: readonly string[]): string[] => [
  "import",
  file,
  "--json",
  "--data-dir",
  service.dataDir,
  ...more,
];

test("a CSV is imported through its column map: bad rows are named, the others counted, and a repeat counts nothing", async () => {
  await using folder = await temporaryFolder();
  await using service = await testService();
  const at = new Date(Date.now() - 3 * HOUR_MS).toISOString();
  const file = join(folder.path, "calls.csv");
  const text =
    '\ufeffwhen,Org,in,out,cost,"a note"\r\n' +
    `${at},acme,100,10,0.10,"several\r\nlines, and a comma"\r\n` +
    `${at},acme,12a,10,,\r\n` +
    `${at},acme,200\r\n` +
    `${at},acme,300,30,,last`;
  await writeFile(file, text);
  const args = [
    "--format=csv",
    "--model=chat-large",
    "--set=status=success",
    ...[
      "occurred_at=when",
      "org_id=Org",
      "input_tokens=in",
      "output_tokens=out",
      "cost_estimate=cost",
    ].map((map) => `--column=${map}`),
  ];

  const first = await runCli(importing(service, file, args));
  assert.equal(first.code, 1, first.stderr);
  const report: Report = JSON.parse(first.stdout);
  assert.deepEqual(countsOf(first.stdout), { accepted: 2, duplicate: 0, rejected: 2 });
  assert.deepEqual(
    report.refused.map(({ row, code }) => [row, code]),
    [
      [4, "invalid_number"],
      [5, "invalid_value"],
    ],
  );

  const again = await runCli(importing(service, "-", args), { stdin: text });
  assert.deepEqual(countsOf(again.stdout), { accepted: 0, duplicate: 2, rejected: 2 });
  const { totals } = await totalsOf(service, "acme", [
    day(Date.parse(at) - DAY_MS),
    day(Date.now() + DAY_MS),
  ]);
  assert.deepEqual(figures(totals), { requests: 2, inputTokens: 400, outputTokens: 40 });
});

test("rows older than single events are kept are refused with the way on, and --backfill imports them once", async () => {
  await using folder = await temporaryFolder();
  await using service = await testService();
  const file = join(folder.path, "trace.csv");
  const rows = Array.from(
    { length: 6000 },
    (_, i) => `2023-11-16 18:${String(i % 60).padStart(2, "0")}:46.6805900,${i},${i % 7}`,
  );
  await writeFile(file, `TIMESTAMP,ContextTokens,GeneratedTokens\r\n${rows.join("\r\n")}`);
  const args = ["--format=azure-llm-trace", "--org=acme", "--model=chat-large"];

  const refused = await runCli(importing(service, file, args));
  assert.deepEqual(
    [refused.code, countsOf(refused.stdout)],
    [1, { accepted: 0, duplicate: 0, rejected: 6000 }],
  );
  assert.match(refused.stderr, /6,000 rows.*--backfill/);
  const taken = await runCli(importing(service, file, [...args, "--backfill"]));
  assert.deepEqual(
    [taken.code, countsOf(taken.stdout)],
    [0, { accepted: 6000, duplicate: 0, rejected: 0 }],
  );
  const again = await runCli(importing(service, file, [...args, "--backfill"]));
  assert.deepEqual(
    [again.code, countsOf(again.stdout)],
    [0, { accepted: 0, duplicate: 6000, rejected: 0 }],
  );
  const { totals } = await totalsOf(service, "acme", [
    "2023-11-16T00:00:00Z",
    "2023-11-17T00:00:00Z",
  ]);
  assert.deepEqual(figures(totals), {
    requests: 6000,
    inputTokens: 17_997_000,
    outputTokens: 17_997,
  });
});

test(
  "the real Azure trace of 19,366 calls gives its exact totals in every zone, and once only",
  {
    skip: existsSync(TRACE)
      ? false
      : `${TRACE} is not there (Azure LLM inference trace 2023, conversations)`,
  },
  async () => {
    await using service = await testService();
    const args = importing(service, TRACE, [
      "--format=azure-llm-trace",
      "--org=acme",
      "--model=chat-large",
      "--backfill",
    ]);
    assert.deepEqual(countsOf((await runCli(args)).stdout), {
      accepted: 19_366,
      duplicate: 0,
      rejected: 0,
    });
    assert.deepEqual(countsOf((await runCli(args)).stdout), {
      accepted: 0,
      duplicate: 19_366,
      rejected: 0,
    });
    const expected = { requests: 19_366, inputTokens: 22_361_870, outputTokens: 4_088_665 };
    for (const zone of ["UTC", "Asia/Kolkata", "America/St_Johns", "Asia/Kathmandu"]) {
      const window: [string, string] = ["2023-11-16T00:00:00Z", "2023-11-17T00:00:00Z"];
      const { totals, series } = await totalsOf(service, "acme", window, `&timeZone=${zone}`);
      assert.deepEqual([figures(totals), sum(series)], [expected, expected], zone);
    }
  },
);

/** NDJSON of calls without ids, one second apart, ending an hour ago. */
function manyCalls(count: number): string {
  const endMs = Date.now() - HOUR_MS;
  const line = (i: number): string =>
    `{"occurred_at":"${new Date(endMs - (i % 7000) * 1000).toISOString()}","input_tokens":${i},"output_tokens":1,"status":"success"}\n`;
  return Array.from({ length: count }, (_, i) => line(i)).join("");
}

const MANY = 80_000;
const MANY_ARGS = ["--format=ndjson", "--org=acme", "--model=m"];

test("an import stopped by Ctrl-C says so, and the same command again completes it exactly", async () => {
  await using folder = await temporaryFolder();
  await using service = await testService();
  const file = join(folder.path, "calls.ndjson");
  await writeFile(file, manyCalls(MANY));
  const { sql } = service.db.database;
  const countRaw = async (): Promise<number> =>
    (await sql<{ n: number }>`select count(*) as n from usage_event`)[0]?.n ?? 0;

  await using cli = startCli(importing(service, file, MANY_ARGS));
  await waitFor(async () => (await countRaw()) > 0);
  cli.kill("SIGINT");
  const stopped = await cli.ended;
  assert.equal(stopped.code, 130, stopped.stderr);
  assert.match(stopped.stderr, /Repeating the same command is safe/);
  const { accepted, complete }: Report = JSON.parse(stopped.stdout);
  assert.ok(!complete && accepted > 0 && accepted < MANY);
  assert.equal(await countRaw(), accepted);

  const again = await runCli(importing(service, file, MANY_ARGS));
  assert.equal(again.code, 0, again.stderr);
  assert.deepEqual(countsOf(again.stdout), {
    accepted: MANY - accepted,
    duplicate: accepted,
    rejected: 0,
  });
  assert.equal(await countRaw(), MANY);
});

test("an import outlives its service: killed in the middle and started again, every row is there once", async () => {
  await using folder = await temporaryFolder();
  await using db = await testDatabase();
  const file = join(folder.path, "calls.ndjson");
  await writeFile(file, manyCalls(MANY));
  const options = {
    dataDir: join(folder.path, "data"),
    databaseUrl: db.url,
    env: { PORT: String(await findFreePort()) },
  };
  const countRaw = async (): Promise<number> =>
    (await db.database.sql<{ n: number }>`select count(*) as n from usage_event`)[0]?.n ?? 0;

  await using first = await spawnService(options);
  await using cli = startCli(importing(first, file, MANY_ARGS));
  await waitFor(async () => (await countRaw()) > 0);
  first.kill("SIGKILL");
  await first.exited;
  await using second = await spawnService(options);
  const ended = await cli.ended;

  assert.equal(ended.code, 0, ended.stderr);
  const { accepted, duplicate } = countsOf(ended.stdout);
  assert.equal(accepted + duplicate, MANY);
  assert.equal(await countRaw(), MANY);
  const { totals } = await totalsOf(second, "acme", [
    day(Date.now() - DAY_MS),
    day(Date.now() + DAY_MS),
  ]);
  assert.deepEqual(figures(totals), {
    requests: MANY,
    inputTokens: (MANY * (MANY - 1)) / 2,
    outputTokens: MANY,
  });
});

test("wrong arguments, a service that is not there and a wrong key are told in plain words, each with its exit code", async () => {
  await using folder = await temporaryFolder();
  await using service = await testService();
  const file = join(folder.path, "a.csv");
  await writeFile(file, "when,in\n2026-11-20T10:00:00Z,1\n");
  const csv = ["--format=csv", "--org=acme", "--model=m", "--set=status=success"];
  const cases: [string[], number, RegExp][] = [
    [["import", file], 2, /--format must be one of/],
    [importing(service, file, ["--format=azure-llm-trace"]), 2, /give --org and --model/],
    [importing(service, file, csv), 2, /what occurred_at should be.*when, in.*--column/],
    [
      importing(service, file, [...csv, "--column=occured_at=when"]),
      2,
      /Did you mean occurred_at\?/,
    ],
    [importing(service, join(folder.path, "none.csv"), csv), 3, /none\.csv cannot be read/],
    [["import", file, ...csv, "--data-dir", folder.path], 3, /No service runs on/],
    [
      ["import", file, ...csv, `--url=http://127.0.0.1:${await findFreePort()}`, "--api-key=k"],
      3,
      /gives no answer \(ECONNREFUSED\)/,
    ],
    [importing(service, file, [...csv, "--column=occurred_at=when", "--api-key=wrong"]), 3, /401/],
  ];
  for (const [args, code, message] of cases) {
    const ended = await runCli(args);
    assert.equal(ended.code, code, `${args.join(" ")}: ${ended.stderr}`);
    assert.match(ended.stderr, message);
    assert.doesNotMatch(ended.stderr, /should not have happened/);
  }
});

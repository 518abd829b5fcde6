import assert from "node:assert/strict";
import { connect } from "node:net";
import { after, before, test } from "node:test";
import { gzipSync } from "node:zlib";
import { anEvent, spawnService, testDatabase, waitFor, type SpawnedService } from "#harness";
import type { Database } from "#store";

const MIB = 1024 * 1024;
const BODY_MAX = 5 * MIB;

const scope = new AsyncDisposableStack();
let service: SpawnedService;
let database: Database;

before(async () => {
  const db = scope.use(await testDatabase());
  database = db.database;
  service = scope.use(await spawnService({ databaseUrl: db.url }));
});
after(() => scope.disposeAsync());

const event = (overrides: Record<string, unknown> = {}) =>
  anEvent({ occurred_at: new Date().toISOString(), ...overrides });

type Answer = {
  status: number;
  code: string | undefined;
  body: { counts?: Record<string, number>; results?: { status: string; code?: string }[] };
  type: string;
};

async function post(
  body: string | Uint8Array<ArrayBuffer>,
  headers: Record<string, string> = {},
): Promise<Answer> {
  const answer = await service.request("/analytics/v1/events", {
    method: "POST",
    headers: { "content-type": "application/json", ...headers },
    body,
  });
  const json = (await answer.json()) as Answer["body"] & { code?: string };
  return {
    status: answer.status,
    code: json.code,
    body: json,
    type: answer.headers.get("content-type") ?? "",
  };
}

const countRaw = async (): Promise<number> => {
  const [row] = await database.sql<{ stored: number }>`select count(*) as stored from usage_event`;
  return row?.stored ?? -1;
};

/** The body as a whole is refused with this problem, and nothing of it is stored. */
async function assertRefused(
  what: string,
  answer: Promise<Answer>,
  [status, code]: readonly [number, string],
): Promise<void> {
  const before = await countRaw();
  const { status: gotStatus, code: gotCode, type } = await answer;
  assert.deepEqual([gotStatus, gotCode], [status, code], what);
  assert.match(type, /problem\+json/, what);
  assert.equal(await countRaw(), before, what);
}

test("B1, B2: a body that is no JSON as a whole is refused whole; a byte order mark is let pass", async () => {
  const good = JSON.stringify(event());
  for (const bad of ["{", `[${good},`, `${good} x`, `[${good}]]`, "nul", `[${good},{]`])
    await assertRefused(bad.slice(-20), post(bad), [400, "invalid_json"]);
  await assertRefused("UTF-16", post(new Uint8Array(Buffer.from(`\ufeff${good}`, "utf16le"))), [
    400,
    "invalid_encoding",
  ]);
  assert.equal((await post(`\ufeff${good}`)).status, 200);
});

test("B1: in NDJSON a line that is no JSON is refused alone, wherever it stands", async () => {
  const lines = [event(), event(), event()].map((one) => JSON.stringify(one));
  const body = [lines[0], "{broken", "", lines[1], "\ufffd", lines[2]?.slice(0, 40)].join("\r\n");
  const { status, body: answer } = await post(body, { "content-type": "application/x-ndjson" });
  assert.equal(status, 207);
  assert.deepEqual(
    answer.results?.map((result) => result.code ?? result.status),
    ["accepted", "invalid_json", "accepted", "invalid_json", "invalid_json"],
  );
});

test("B6: a body of extreme depth or width is answered at once", async () => {
  const startedMs = performance.now();
  const deep = await post(`${"[".repeat(100_000)}${"]".repeat(100_000)}`);
  assert.ok(deep.status === 400 || deep.status === 207, String(deep.status));
  const wide = await post(JSON.stringify(event({ wide: Array.from({ length: 1e6 }, () => 0) })));
  assert.deepEqual([wide.status, wide.body.results?.[0]?.code], [207, "too_large"]);
  assert.ok(performance.now() - startedMs < 2000);
});

test("B7: no byte, one byte, the limit, one more, and a frame of 128 MB: refused or taken, in bounded memory", async () => {
  await assertRefused("empty", post(""), [400, "empty_batch"]);
  await assertRefused("one byte", post("{"), [400, "invalid_json"]);
  const padded = (bytes: number): string => {
    const text = JSON.stringify([event()]);
    return `${text.slice(0, -1)}${" ".repeat(bytes - text.length)}]`;
  };
  const before = await countRaw();
  assert.equal((await post(padded(BODY_MAX))).status, 200);
  // The service says so when it has seen the head; a sender that is still busy sending may find the connection reset.
  const over = await post(padded(BODY_MAX + 1)).catch(() => undefined);
  if (over !== undefined) assert.deepEqual([over.status, over.code], [413, "too_large"]);
  assert.equal(await countRaw(), before + 1);

  const memory = await residentBytes();
  for (let i = 0; i < 4; i++) assert.match(await sendRaw(128 * MIB), /^HTTP\/1\.1 413 |^$/);
  assert.ok((await residentBytes()) - memory < 60 * MIB);
  assert.equal((await post(JSON.stringify(event()))).status, 200);
});

const residentBytes = async (): Promise<number> => {
  const text = await (await service.request("/metrics")).text();
  return Number(/^process_resident_memory_bytes (\S+)$/m.exec(text)?.[1]);
};

/** Sends a request that announces so many bytes, and goes on sending whatever the service says. */
function sendRaw(bytes: number): Promise<string> {
  const { hostname, port } = new URL(service.url);
  return new Promise((resolve) => {
    const socket = connect(Number(port), hostname);
    let answer = "";
    const block = Buffer.alloc(MIB, 0x20);
    let left = bytes;
    const send = () => {
      for (; left > 0; left -= block.length)
        if (!socket.write(block)) return void socket.once("drain", send);
    };
    socket.setEncoding("utf8").on("data", (text: string) => (answer += text));
    // The service may close while bytes are still on their way.
    socket.on("error", () => undefined);
    socket.on("close", () => resolve(answer));
    socket.write(
      `POST /analytics/v1/events HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n` +
        `Authorization: Bearer ${service.adminKey}\r\nContent-Length: ${bytes}\r\n\r\n`,
    );
    send();
  });
}

test("B8: a bomb of 4 GB in 4 MB, a wrong header, a cut body: refused in bounded memory; honest compression is taken", async () => {
  const gzip = { "content-encoding": "gzip" };
  const memory = await residentBytes();
  const member = gzipSync(Buffer.alloc(10 * MIB));
  const bomb = Buffer.concat(Array.from({ length: 400 }, () => member));
  assert.ok(bomb.length < BODY_MAX);
  for (let i = 0; i < 4; i++)
    await assertRefused("bomb", post(new Uint8Array(bomb), gzip), [413, "too_large"]);
  assert.ok((await residentBytes()) - memory < 100 * MIB);
  const honest = gzipSync(JSON.stringify([event(), event()]));
  await assertRefused("not gzip", post(JSON.stringify(event()), gzip), [400, "invalid_encoding"]);
  await assertRefused("cut", post(new Uint8Array(honest.subarray(0, -9)), gzip), [
    400,
    "invalid_encoding",
  ]);
  for (const name of ["br", "deflate", "gzip, gzip"])
    await assertRefused(name, post("x", { "content-encoding": name }), [
      415,
      "unsupported_media_type",
    ]);
  assert.equal((await post(new Uint8Array(honest), gzip)).body.counts?.["accepted"], 2);
});

test("B9: no event, one, the limit and one more", async () => {
  const events = (n: number) => JSON.stringify(Array.from({ length: n }, () => event()));
  await assertRefused("none", post("[]"), [400, "empty_batch"]);
  assert.equal((await post(events(1))).body.counts?.["accepted"], 1);
  assert.equal((await post(events(5000))).body.counts?.["accepted"], 5000);
  await assertRefused("one too many", post(events(5001)), [400, "too_many_events"]);
});

test("B10: a media type that is unknown, ambiguous or of another charset is refused", async () => {
  for (const type of [
    "text/plain",
    "application/json\t;",
    "application/json; charset=utf-7",
    "application/json, text/plain",
    "application/xml",
    "multipart/form-data; boundary=x",
  ])
    await assertRefused(type, post(JSON.stringify(event()), { "content-type": type }), [
      415,
      "unsupported_media_type",
    ]);
  const type = "application/json; charset=UTF-8";
  assert.equal((await post(JSON.stringify(event()), { "content-type": type })).status, 200);
});

test("B38: an Idempotency-Key: the same body gets the same answer, another body 422, a twin under way 409 or the same", async () => {
  const key = { "idempotency-key": "k-1" };
  const body = JSON.stringify([event(), event({ status: "huh" })]);
  const first = await post(body, key);
  assert.equal(first.status, 207);
  assert.deepEqual(await post(body, key), first);
  await assertRefused("another body", post(JSON.stringify(event()), key), [
    422,
    "idempotency_mismatch",
  ]);

  const twins = await withBatchesHeld(async (release) => {
    const twin = JSON.stringify(event());
    const slow = post(twin, { "idempotency-key": "k-2" });
    await waitFor(async () => {
      const again = await post(twin, { "idempotency-key": "k-2" });
      return again.status === 409 && again.code === "idempotency_in_progress";
    });
    release();
    return { twin, made: await slow };
  });
  assert.equal(twins.made.status, 200);
  assert.deepEqual(await post(twins.twin, { "idempotency-key": "k-2" }), twins.made);
  const rows = await database.sql<{ sends: number }>`
    select count(*) as sends from quarantine where code = 'invalid_value' and pointer = '/status'`;
  assert.equal(rows[0]?.sends, 1);
});

/** Runs `work` while no batch can commit, until it calls `release`. */
async function withBatchesHeld<T>(work: (release: () => void) => Promise<T>): Promise<T> {
  const { promise: released, resolve: release } = Promise.withResolvers<void>();
  const { promise: held, resolve: onHeld } = Promise.withResolvers<void>();
  const lock = database.transaction(async (tx) => {
    await tx.exec("lock table ingestion_batches in exclusive mode");
    onHeld();
    await released;
  });
  await held;
  try {
    return await work(release);
  } finally {
    release();
    await lock;
  }
}

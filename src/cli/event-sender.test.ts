import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { test } from "node:test";
import { ApiProblem, createApiClient, ServiceUnreachable } from "./api-client.ts";
import { createEventSender, type EventResult, type SenderOptions } from "./event-sender.ts";

type Answer = (lines: string[], response: ServerResponse, request: IncomingMessage) => void;

const accepted: Answer = (lines, response) => {
  response.setHeader("content-type", "application/json");
  response.end(
    JSON.stringify({ results: lines.map((_, index) => ({ index, status: "accepted" })) }),
  );
};

const problem =
  (status: number, headers: Record<string, string> = {}): Answer =>
  (_lines, response) => {
    response.writeHead(status, { "content-type": "application/problem+json", ...headers });
    response.end(JSON.stringify({ title: "No", detail: "Not now.", code: "overloaded" }));
  };

/** A service that fails as told: the first answers in order, `accepted` from then on. */
async function faultyService(answers: Answer[]) {
  const seen: string[][] = [];
  let open = 0;
  let openMax = 0;
  const serve = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    openMax = Math.max(openMax, ++open);
    let body = "";
    for await (const chunk of request) body += String(chunk);
    const lines = body.trimEnd().split("\n");
    seen.push(lines);
    // Answered only once others had the chance to arrive.
    await new Promise((resolve) => setImmediate(resolve));
    open--;
    (answers.shift() ?? accepted)(lines, response, request);
  };
  const server = createServer((request, response) => void serve(request, response));
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}`,
    seen,
    openMax: () => openMax,
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections();
      server.close();
      await once(server, "close");
    },
  };
}

function senderFor(url: string, more: Partial<SenderOptions> = {}) {
  const waits: number[] = [];
  const results: EventResult[] = [];
  const sender = createEventSender({
    client: createApiClient({ url, apiKey: "k" }),
    source: "test",
    backfill: false,
    inFlightMax: 3,
    signal: new AbortController().signal,
    random: () => 0.5,
    sleep: async (ms) => void waits.push(ms),
    onWait: () => undefined,
    ...more,
  });
  const body = (text: string) => ({
    text: Buffer.from(text),
    events: text.trimEnd().split("\n").length,
    onResults: (some: readonly EventResult[]) => void results.push(...some),
  });
  return { sender, waits, results, body };
}

test("events are sent again after 503, 429, a broken connection and a fault, and no sooner than asked", async () => {
  const hangUp: Answer = (_lines, response) => response.destroy();
  const answers = [problem(503, { "retry-after": "7" }), problem(429), hangUp, problem(500)];
  await using service = await faultyService(answers);
  const { sender, waits, results, body } = senderFor(service.url);

  await sender.send(body("a\nb\n"));
  await sender.drain();

  assert.deepEqual(
    service.seen,
    Array.from({ length: 5 }, () => ["a", "b"]),
  );
  assert.deepEqual(
    results.map(({ status }) => status),
    ["accepted", "accepted"],
  );
  assert.equal(waits[0], 7000);
  assert.ok(waits.slice(1).every((ms) => ms < 7000));
});

test("what will not get better is not tried again, and ends the sending", async () => {
  await using service = await faultyService([problem(401)]);
  const { sender, body } = senderFor(service.url);
  await sender.send(body("a\n"));
  await assert.rejects(
    sender.drain(),
    (error) => error instanceof ApiProblem && error.status === 401,
  );
  assert.equal(service.seen.length, 1);
  await assert.rejects(sender.send(body("b\n")), ApiProblem);
});

test("several requests are under way at once, and never more than allowed", async () => {
  await using service = await faultyService([]);
  const { sender, results, body } = senderFor(service.url);
  for (let i = 0; i < 30; i++) await sender.send(body(`${i}\n`));
  await sender.drain();
  assert.equal(results.length, 30);
  assert.ok(service.openMax() > 1 && service.openMax() <= 3, `${service.openMax()}`);
});

test("a service that never answers is given up on, and says so", async () => {
  const url = await (async () => {
    await using gone = await faultyService([]);
    return gone.url;
  })();
  const { sender, waits, body } = senderFor(url);
  await sender.send(body("a\n"));
  await assert.rejects(
    sender.drain(),
    (error) => error instanceof ServiceUnreachable && /ECONNREFUSED/.test(error.message),
  );
  assert.equal(waits.length, 39);
});

test("being stopped ends the waiting at once", async () => {
  const stop = new AbortController();
  const sleep = async (_ms: number, signal: AbortSignal | undefined): Promise<void> => {
    stop.abort();
    signal?.throwIfAborted();
  };
  await using service = await faultyService([problem(503), problem(503)]);
  const { sender, body } = senderFor(service.url, { signal: stop.signal, sleep });
  await sender.send(body("a\n"));
  await assert.rejects(sender.drain(), { name: "AbortError" });
  assert.equal(service.seen.length, 1);
});

test("an answer for fewer events than were sent is an error, not a success", async () => {
  const short: Answer = (_lines, response) => response.end('{"results":[{"status":"accepted"}]}');
  await using service = await faultyService([short]);
  const { sender, body } = senderFor(service.url);
  await sender.send(body("a\nb\n"));
  await assert.rejects(sender.drain(), /2 events were sent and 1 answered/);
});

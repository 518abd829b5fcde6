import assert from "node:assert/strict";
import { test } from "node:test";
import { anEvent, faultProxy, testBroker, testService, waitFor, type ServiceFace } from "#harness";

/** The service in mode broker, with a proxy on its way to RabbitMQ. */
async function openCase(env: Record<string, string>) {
  await using scope = new AsyncDisposableStack();
  const { url } = scope.use(await testBroker());
  const proxy = scope.use(await faultProxy({ upstreamPort: Number(new URL(url).port) }));
  const service = scope.use(
    await testService({
      env: { RABBITMQ_URL: proxy.through(url), INGEST_MODE: "broker", ...env },
    }),
  );
  const owned = scope.move();
  return { proxy, service, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

const now = (overrides: Record<string, unknown>) =>
  anEvent({ occurred_at: new Date().toISOString(), ...overrides });

async function send(service: ServiceFace, events: readonly object[]) {
  const answer = await service.request("/analytics/v1/events", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(events),
  });
  const body = (await answer.json()) as { code?: string; counts?: Record<string, number> };
  return { status: answer.status, headers: answer.headers, ...body };
}

/** The queue or stream is declared a moment after the start. */
const sendQueued = (service: ServiceFace, events: readonly object[]) =>
  waitFor(
    async () => {
      const answer = await send(service, events);
      return answer.status === 202 && answer;
    },
    { what: "events to be queued" },
  );

const countOf = async (service: ServiceFace, status: string): Promise<number> => {
  const text = await (await service.request("/metrics")).text();
  const [, count = "0"] =
    new RegExp(`^tallystick_ingest_events_total\\{status="${status}"\\} (\\d+)$`, "m").exec(text) ??
    [];
  return Number(count);
};

for (const publishTo of ["stream", "queue"]) {
  test(`events sent over HTTP are published to the ${publishTo}, consumed, and counted once`, async () => {
    await using t = await openCase({ PUBLISH_TO: publishTo });
    const events = [now({ event_id: "e1" }), now({ event_id: "e2", input_tokens: -1 })];
    const { counts } = await sendQueued(t.service, events);
    assert.deepEqual(counts, { received: 2, queued: 1, rejected: 1 });
    await sendQueued(t.service, events);

    await waitFor(async () => (await countOf(t.service, "duplicate")) === 1);
    assert.equal(await countOf(t.service, "accepted"), 1);
    await waitFor(async () => (await countOf(t.service, "rejected")) === 2);
    const { items } = (await t.service.get("/analytics/v1/orgs/acme/quarantine")) as {
      items: { eventId: string }[];
    };
    assert.ok(items.length > 0 && items.every(({ eventId }) => eventId === "e2"));
  });
}

test("F7: with the broker away, events are refused with 503 at once, and queued when it is back", async () => {
  await using t = await openCase({});
  await sendQueued(t.service, [now({ event_id: "e1" })]);
  t.proxy.refuse();
  const refused = await waitFor(async () => {
    const answer = await send(t.service, [now({ event_id: "e2" })]);
    return answer.status === 503 && answer;
  });
  assert.equal(refused.code, "broker_unavailable");
  assert.ok(Number(refused.headers.get("retry-after")) >= 1);
  const startMs = performance.now();
  assert.equal((await send(t.service, [now({ event_id: "e2" })])).status, 503);
  assert.ok(performance.now() - startMs < 1000);

  t.proxy.heal();
  await sendQueued(t.service, [now({ event_id: "e2" })]);
  await waitFor(async () => (await countOf(t.service, "accepted")) === 2);
});

test("F7: set up to fall back, events are committed while the broker is away, and count once with what it had", async () => {
  await using t = await openCase({ BROKER_FALLBACK: "direct" });
  const event = now({ event_id: "e1" });
  await sendQueued(t.service, [event]);
  await waitFor(async () => (await countOf(t.service, "accepted")) === 1);
  t.proxy.refuse();
  const answer = await waitFor(async () => {
    const made = await send(t.service, [event, now({ event_id: "e2" })]);
    return made.status === 200 && made;
  });
  assert.equal(answer.counts?.["accepted"], 1);
  assert.equal(answer.counts?.["duplicate"], 1);
});

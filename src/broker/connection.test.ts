import assert from "node:assert/strict";
import { createServer, connect, type AddressInfo, type Socket } from "node:net";
import { test } from "node:test";
import { faultProxy, startRabbit, testBroker, waitFor } from "#harness";
import {
  BrokerClosed,
  connectBroker,
  type BrokerConnection,
  type BrokerConnectionOptions,
  type BrokerState,
} from "./connection.ts";

type Watched = AsyncDisposable & { broker: BrokerConnection; told: BrokerState[] };

/** A connection, with every state it told of. */
function open(url: string, options: Partial<BrokerConnectionOptions> = {}): Watched {
  const broker = connectBroker({
    url,
    name: "test",
    heartbeatSeconds: 10,
    connectMsMax: 5000,
    random: () => 0.5,
    ...options,
  });
  const told: BrokerState[] = [];
  broker.onStateChange((state) => told.push(state));
  return { broker, told, [Symbol.asyncDispose]: () => broker[Symbol.asyncDispose]() };
}

/** A server on loopback that does with each connection as it is told. */
async function serve(onConnection: (socket: Socket) => void) {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on("error", () => undefined);
    onConnection(socket);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  return {
    port,
    url: `amqp://user:secret-word@127.0.0.1:${port}/`,
    [Symbol.asyncDispose]: async () => {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

const statesOf = (told: readonly BrokerState[]): string[] => told.map(({ state }) => state);
const reasonOf = (state: BrokerState | undefined): string =>
  state?.state === "unreachable" ? state.reason : "";

test("a connection tells what the broker is, and the broker shows it under its name", async () => {
  await using vhost = await testBroker();
  await using t = open(vhost.url, { name: "tallystick of a test" });
  const channel = await t.broker.openChannel();
  channel.on("error", () => undefined);
  await channel.assertQueue("", { exclusive: true });

  assert.equal(t.broker.state.state, "connected");
  assert.match(
    JSON.stringify(t.told),
    /^\[{"state":"connected","product":"RabbitMQ","version":"\d/,
  );
  const shown = await waitFor(async () => {
    const list = JSON.stringify(await vhost.api("GET", `/api/vhosts/${vhost.vhost}/connections`));
    return list.includes("tallystick of a test") && list;
  });
  assert.match(shown, /"product":"tallystick"/);
});

test("an unreachable broker is no error: channels wait, each change is told once, and all comes back", async () => {
  await using vhost = await testBroker();
  await using proxy = await faultProxy({ upstreamPort: Number(new URL(vhost.url).port) });
  proxy.refuse();
  let tries = 0;
  await using t = open(proxy.through(vhost.url), { random: () => (tries++, 0) });
  assert.match(reasonOf(t.broker.state), /not tried yet/);
  const waiting = [t.broker.openChannel(), t.broker.openConfirmChannel()];
  await waitFor(() => tries >= 3, { what: "three failed attempts" });
  assert.deepEqual(statesOf(t.told), ["unreachable"]);

  proxy.heal();
  const [channel] = await Promise.all(waiting);
  channel?.on("error", () => undefined);
  await channel?.assertQueue("", { exclusive: true });
  assert.deepEqual(statesOf(t.told), ["unreachable", "connected"]);

  const closed = new Promise((resolve) => channel?.once("close", resolve));
  proxy.cut();
  await closed;
  const next = await t.broker.openChannel();
  next.on("error", () => undefined);
  await next.assertQueue("", { exclusive: true });
  assert.deepEqual(statesOf(t.told), ["unreachable", "connected", "unreachable", "connected"]);
  assert.match(reasonOf(t.told[2]), /broke off/);
});

test("reasons tell apart what is wrong, and hold no password", async () => {
  await using vhost = await testBroker();
  await using silent = await serve(() => undefined);
  await using abrupt = await serve((socket) => socket.end());
  const wrong = (change: (url: URL) => void): string => {
    const url = new URL(vhost.url);
    url.password = "secret-word";
    change(url);
    return url.href;
  };
  const cases: [string, RegExp][] = [
    [wrong((url) => (url.port = "1")), /^Nothing accepts connections at [^ ]+:1\./],
    [
      wrong((url) => (url.hostname = "nowhere.invalid")),
      /^The host of nowhere\.invalid:\d+ is not/,
    ],
    [wrong(() => undefined), /refused the user or its password/],
    [vhost.url.replace(vhost.vhost, "nowhere"), /refused the virtual host "nowhere"/],
    [vhost.url.replace("amqp:", "amqps:"), /^TLS with [^ ]+ failed: wrong version number\./],
    [silent.url, /did not open a connection within 500 ms/],
    [abrupt.url, /broke off/],
  ];
  for (const [url, expected] of cases) {
    await using t = open(url, { connectMsMax: 500 });
    const state = await waitFor(() => t.told[0]);
    assert.match(reasonOf(state), expected);
    assert.doesNotMatch(reasonOf(state), /secret-word|guest/);
  }
});

test("an address that is no URL of a broker is refused without quoting it", () => {
  for (const url of [
    "",
    "http://u:secret-word@host",
    "amqp://u:secret-word%@host",
    "secret-word",
  ]) {
    assert.throws(
      () =>
        connectBroker({ url, name: "", heartbeatSeconds: 10, connectMsMax: 1, random: () => 0 }),
      (error) => error instanceof TypeError && !error.message.includes("secret-word"),
    );
  }
});

test("credentials are decoded: a password may hold any character", async () => {
  await using vhost = await testBroker();
  const user = `user-${vhost.vhost}`;
  const password = "p@:/%ß€ word";
  await vhost.api("PUT", `/api/users/${user}`, { password, tags: "" });
  await using cleanup = new AsyncDisposableStack();
  cleanup.defer(async () => void (await vhost.api("DELETE", `/api/users/${user}`)));
  const all = { configure: ".*", write: ".*", read: ".*" };
  await vhost.api("PUT", `/api/permissions/${vhost.vhost}/${user}`, all);
  const url = new URL(vhost.url);
  url.username = user;
  url.password = encodeURIComponent(password);
  await using t = open(url.href);
  await t.broker.openChannel();
  assert.deepEqual(statesOf(t.told), ["connected"]);
});

test("a peer that falls silent is noticed within twice the heartbeat", async () => {
  await using vhost = await testBroker();
  let isSilent = false;
  // The broker hears us and keeps the connection open; nothing comes back, not even its end.
  await using relay = await serve((socket) => {
    const upstream = connect(Number(new URL(vhost.url).port), "127.0.0.1");
    upstream.on("error", () => undefined);
    socket.pipe(upstream);
    upstream.on("data", (bytes) => !isSilent && socket.write(bytes));
    socket.on("close", () => upstream.destroy());
  });
  const url = new URL(vhost.url);
  url.port = String(relay.port);
  await using t = open(url.href, { heartbeatSeconds: 2 });
  await t.broker.openChannel();
  isSilent = true;
  const since = performance.now();
  const lost = await waitFor(() => t.told[1]);
  assert.match(reasonOf(lost), /went silent/);
  assert.ok(performance.now() - since < 4500, "within 4 s, and a little for the machine");
});

test("what the broker says when it closes a connection is passed on", async () => {
  await using vhost = await testBroker();
  await using t = open(vhost.url);
  await t.broker.openChannel();
  const [shown] = await waitFor(async () => {
    const list = await vhost.api("GET", `/api/vhosts/${vhost.vhost}/connections`);
    return Array.isArray(list) && list.length > 0 && list;
  });
  await vhost.api("DELETE", `/api/connections/${encodeURIComponent(shown.name)}`);
  assert.match(
    reasonOf(await waitFor(() => t.told[1])),
    /closed the connection: CONNECTION_FORCED - .* \(320\)\.$/,
  );
  await t.broker.openChannel();
});

test("disposing ends an attempt, a wait and a dead connection at once, and wakes who waits for a channel", async () => {
  await using vhost = await testBroker();
  await using proxy = await faultProxy({ upstreamPort: Number(new URL(vhost.url).port) });
  await using silent = await serve(() => undefined);
  const attempting = open(silent.url, { connectMsMax: 60_000 });
  const waiting = open("amqp://127.0.0.1:1", { random: () => 0.99 });
  const dead = open(proxy.through(vhost.url));
  await dead.broker.openChannel();
  await waitFor(() => waiting.told.length > 0);
  proxy.blackhole();
  for (const { broker } of [attempting, waiting, dead]) {
    const channel = broker.openChannel().catch((error: unknown) => error);
    const since = performance.now();
    await broker[Symbol.asyncDispose]();
    assert.ok(performance.now() - since < 2500);
    assert.ok((await channel) instanceof BrokerClosed);
    assert.match(reasonOf(broker.state), /was closed/);
    await assert.rejects(broker.openChannel(), BrokerClosed);
  }
});

test("waiting for a channel ends with the caller's signal", async () => {
  await using t = open("amqp://127.0.0.1:1");
  const leaving = new AbortController();
  const channel = t.broker.openChannel(leaving.signal);
  leaving.abort(new Error("we leave"));
  await assert.rejects(channel, /we leave/);
});

test("attempts on a broker that drops us at once come ever more seldom", async () => {
  const at: number[] = [];
  await using abrupt = await serve((socket) => {
    at.push(performance.now());
    socket.destroy();
  });
  await using _t = open(abrupt.url, { random: () => 0 });
  await waitFor(() => at.length >= 5);
  const waits = at.slice(1).map((time, nth) => time - (at[nth] ?? 0));
  // Half of 250, 500, 1000, 2000 ms, and chance adds nothing here.
  [125, 250, 500, 1000].forEach((ms, nth) => assert.ok((waits[nth] ?? 0) >= ms - 5, `${waits}`));
});

test("so do those on a broker that accepts us and then drops us at once", async () => {
  await using vhost = await testBroker();
  await using proxy = await faultProxy({ upstreamPort: Number(new URL(vhost.url).port) });
  await using t = open(proxy.through(vhost.url), { random: () => 0 });
  const at: number[] = [];
  t.broker.onStateChange(({ state }) => {
    if (state !== "connected") return;
    at.push(performance.now());
    proxy.cut();
  });
  await waitFor(() => at.length >= 4);
  assert.ok((at[3] ?? 0) - (at[2] ?? 0) >= 495, `${at}`);
});

test("a broker's alarm shows as blocked, until it is over", async () => {
  await using rabbit = await startRabbit();
  await using t = open(rabbit.url);
  const channel = await t.broker.openChannel();
  channel.on("error", () => undefined);
  assert.equal(t.broker.isBlocked, false);
  await rabbit.ctl("set_vm_memory_high_watermark", "absolute", "1MB");
  channel.publish("", "nowhere", Buffer.from("a publisher is told"));
  await waitFor(() => t.broker.isBlocked);
  await rabbit.ctl("set_vm_memory_high_watermark", "absolute", "1GB");
  await waitFor(() => !t.broker.isBlocked);
});

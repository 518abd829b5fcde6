import assert from "node:assert/strict";
import { test } from "node:test";
import { brokersUnderTest, startRabbit, testBroker, waitFor, type TestBroker } from "#harness";

const STREAM = { durable: true, arguments: { "x-queue-type": "stream" } };
const QUEUE = { durable: true };

for (const { name, open } of brokersUnderTest()) {
  test(`a test broker is a vhost of its own, with streams, and gone afterwards (${name})`, async () => {
    await using other = await open();
    let vhost: string;
    {
      await using broker = await open();
      vhost = broker.vhost;
      assert.equal(new URL(broker.url).pathname, `/${vhost}`);
      await broker.api("PUT", `/api/queues/${vhost}/usage`, STREAM);
      await other.api("GET", `/api/queues/${vhost}/usage`);
    }
    assert.deepEqual(await other.api("GET", `/api/queues/${other.vhost}`), []);
    await assert.rejects(other.api("GET", `/api/vhosts/${vhost}`), /404/);
  });
}

test("a refused call of the management API says what and why", async () => {
  await using broker = await testBroker();
  await broker.api("PUT", `/api/queues/${broker.vhost}/usage`, STREAM);
  await assert.rejects(
    broker.api("PUT", `/api/queues/${broker.vhost}/usage`, QUEUE),
    /PUT \/api\/queues\/.*usage with 400: .*inequivalent arg/,
  );
});

test("a private broker comes back from a crash and a stop, with its data, where it was", async () => {
  await using broker = await startRabbit({ config: ["default_vhost = own"] });
  await broker.api("PUT", "/api/queues/own/usage", QUEUE);
  await broker.api("PUT", "/api/queues/own/events", STREAM);
  await broker.settle();
  await broker.kill();
  await assert.rejects(broker.api("GET", "/api/overview"));
  await broker.start();
  await waitFor(async () => (await stateOf(broker, "events")) === "running");
  await broker.stop();
  await assert.rejects(broker.api("GET", "/api/overview"));
  await broker.start();
  await waitFor(async () => (await stateOf(broker, "events")) === "running");
  assert.equal(await stateOf(broker, "usage"), "running");
  for (const protocol of ["amqp", "stream"]) {
    await broker.api("GET", `/api/health/checks/protocol-listener/${protocol}`);
  }
  const metrics = await fetch(broker.metricsUrl);
  assert.match(await metrics.text(), /rabbitmq_build_info/);
});

/** What the list of queues says; a stream that is down cannot be asked for alone. */
async function stateOf(broker: TestBroker, queue: string): Promise<string | undefined> {
  const listed = await broker.ctl(
    "-p",
    "own",
    "list_queues",
    "--no-table-headers",
    "name",
    "state",
  );
  const line = listed.split("\n").find((each) => each.startsWith(`${queue}\t`));
  return line?.split("\t")[1];
}

import assert from "node:assert/strict";
import { test } from "node:test";
import { anEvent, testBroker, testService, waitFor } from "#harness";
import { openTestPublisher } from "../conformance/publisher.ts";
import { runCli } from "./run-cli.ts";

type Check = { name: string; state: string; detail: string };

test("doctor tells the broker and its version, what a stream holds and how far it is read; and a broker that is away", async () => {
  await using broker = await testBroker();
  await using service = await testService({ env: { RABBITMQ_URL: broker.url } });
  await using publisher = await openTestPublisher(broker.url, "analytics.usage.v1");
  await publisher.publish(anEvent({ event_id: "one", org_id: "acme" }));
  const env = { DATABASE_URL: service.db.url, DATA_DIR: service.dataDir, PORT: "0" };
  const examine = async (url: string): Promise<Check[]> => {
    const { stdout } = await runCli(["doctor", "--json"], {
      env: { ...env, RABBITMQ_URL: url },
    });
    return (JSON.parse(stdout) as { checks: Check[] }).checks.filter(({ name }) =>
      /broker|stream/.test(name),
    );
  };
  const checks = await waitFor(async () => {
    const found = await examine(broker.url);
    return found.some(({ detail }) => /read up to 0/.test(detail)) && found;
  });
  assert.deepEqual(
    checks.map(({ name, state }) => [name, state]),
    [
      ["broker", "ok"],
      ["stream analytics.usage.v1", "ok"],
    ],
  );
  assert.match(checks[0]?.detail ?? "", /RabbitMQ \d/);
  assert.match(checks[1]?.detail ?? "", /holds offsets 0 to 0, read up to 0/);

  const [away] = await examine("amqp://guest:guest@127.0.0.1:1/");
  assert.deepEqual([away?.name, away?.state], ["broker", "failed"]);
  assert.match(away?.detail ?? "", /RABBITMQ_URL/);
});

import type { Bench } from "./bench.ts";
import { measureBrokerBacklog } from "./broker-backlog.ts";
import { measureBrokerPaced } from "./broker-paced.ts";
import { type BrokerBench, startBrokerBench } from "./broker-rig.ts";
import { measureBrokerSpeed } from "./broker-speed.ts";

/**
 * The same events through RabbitMQ, in benches by name. Publisher, broker, service and PostgreSQL are processes of their
 * own that share this machine.
 */
export const BROKER_BENCHES: Readonly<Record<string, (bench: Bench) => Promise<void>>> = {
  "broker-speed": (bench) => measureWithRabbit(bench, measureBrokerSpeed),
  "broker-backlog": (bench) => measureWithRabbit(bench, measureBrokerBacklog),
  "broker-paced-messages": (bench) =>
    measureWithRabbit(bench, (broker) => measureBrokerPaced(broker, "messages")),
  "broker-paced-batches": (bench) =>
    measureWithRabbit(bench, (broker) => measureBrokerPaced(broker, "batches")),
};

async function measureWithRabbit(
  bench: Bench,
  measure: (bench: BrokerBench) => Promise<void>,
): Promise<void> {
  await using scope = new AsyncDisposableStack();
  await measure(await startBrokerBench(bench, scope));
}

/** The only layer that speaks to RabbitMQ. It knows nothing of the rest: connections, streams, queues and bytes. */
export {
  BrokerClosed,
  connectBroker,
  type BrokerConnection,
  type BrokerConnectionOptions,
  type BrokerState,
  type Channel,
  type ConfirmChannel,
  type ConsumeMessage,
} from "./connection.ts";
export { findPartitions, type PartitionsQuestion } from "./partitions.ts";
export { readFirstOffset, readStreamEnds, type StreamEnds } from "./stream-ends.ts";
export { findUnreadable, TopologyFault, type TopologyFaultCode } from "./topology-fault.ts";
export {
  ensureQueue,
  ensureStream,
  ensureSuperStream,
  inspectBroker,
  type BrokerFacts,
  type StreamRetention,
} from "./topology.ts";
export {
  openProducer,
  type BodyContext,
  type Producer,
  type ProducerOptions,
  type SendContext,
} from "./producer.ts";
export { ProducerFault, type ProducerFaultCode } from "./producer-fault.ts";
export type { ProducerTarget } from "./producer-target.ts";

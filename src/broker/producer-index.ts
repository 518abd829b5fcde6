/** Entry of the package export `tallystick/producer`: publishes usage events to RabbitMQ. */
export {
  openProducer,
  type BodyContext,
  type Producer,
  type ProducerOptions,
  type SendContext,
} from "./producer.ts";
export { ProducerFault, type ProducerFaultCode } from "./producer-fault.ts";
export type { ProducerTarget } from "./producer-target.ts";
export type { BrokerState } from "./connection.ts";

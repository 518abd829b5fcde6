import { z } from "zod";
import { aboutSettings, byteSize, listOf, oneOf, wholeNumber } from "./setting.ts";

const TRANSPORTS = ["stream", "queue"] as const;

const NAME = /^[\w.:/-]{1,200}$/;

const name = (byDefault: string, description: string) =>
  z.string().regex(NAME).prefault(byDefault).register(aboutSettings, {
    description,
    kind: "a name of letters, digits and . _ : / -",
    example: byDefault,
    byDefault,
  });

/** Settings that concern RabbitMQ. Without RABBITMQ_URL none of them does anything. */
export const brokerSettings = {
  rabbitmqUrl: z
    .string()
    .regex(/^amqps?:\/\/\S+$/)
    .refine((url) => URL.canParse(url))
    .optional()
    .register(aboutSettings, {
      description:
        "A RabbitMQ (3.9 or newer) to consume events from. None: events come by HTTP and from files alone.",
      kind: "an amqp:// or amqps:// URL",
      example: "amqps://tallystick@broker.example:5671/%2F",
      secret: "in_url",
    }),
  rabbitmqManagementUrl: z
    .string()
    .regex(/^https?:\/\/\S+$/)
    .refine((url) => URL.canParse(url))
    .optional()
    .register(aboutSettings, {
      description:
        "RabbitMQ's management API, by which the partitions of a super stream are found from its bindings. Not needed when they are named NAME-0, NAME-1 and so on.",
      kind: "an http:// or https:// URL",
      example: "https://broker.example:15671",
      secret: "in_url",
    }),
  rabbitmqHeartbeatSeconds: wholeNumber({
    description:
      "Seconds between heartbeats to RabbitMQ. A connection that is silent twice as long is given up.",
    byDefault: 10,
    min: 2,
    max: 600,
  }),
  transports: listOf(TRANSPORTS, {
    description: "What this process consumes from RabbitMQ.",
    example: "stream",
  }),
  streamName: name(
    "analytics.usage.v1",
    "The stream, or super stream, of usage events. It is declared when there is none.",
  ),
  streamPartitions: z
    .string()
    .regex(/^([1-9]\d{0,2}|[\w.:/-]{1,200}(\s*,\s*[\w.:/-]{1,200})*)$/)
    .transform((text) =>
      /^\d+$/.test(text) ? Number(text) : text.split(",").map((one) => one.trim()),
    )
    .optional()
    .register(aboutSettings, {
      description:
        "The streams that make up a super stream: how many (NAME-0, NAME-1, …), or their names. Left out: they are looked for.",
      kind: "a number, or a list of names",
      example: "6",
    }),
  streamRetentionDays: wholeNumber({
    description:
      "How long a stream that is declared here keeps its messages. Not changed on one that exists.",
    byDefault: 7,
    min: 1,
    max: 400,
  }),
  streamRetentionBytes: byteSize({
    description: "How much a stream that is declared here keeps, per partition.",
    byDefault: "20GiB",
    min: 1024 ** 2,
    max: 2 ** 50,
  }),
  streamPrefetch: wholeNumber({
    description: "Messages of one stream that may be on their way or waiting here.",
    byDefault: 20_000,
    min: 1,
    max: 65_535,
  }),
  queueName: name(
    "usage-events",
    "The queue of usage events. It is declared, as a quorum queue with a dead-letter exchange, when there is none.",
  ),
  consumerWorkers: wholeNumber({
    description: "Consumers of the queue in this process.",
    byDefault: 5,
    min: 1,
    max: 100,
  }),
  queuePrefetch: wholeNumber({
    description: "Messages of the queue that each consumer may hold unacknowledged.",
    byDefault: 500,
    min: 1,
    max: 65_535,
  }),
  messageBytesMax: byteSize({
    description:
      "Size of one message after decompression; larger ones go to the quarantine as too_large.",
    byDefault: "5MiB",
    min: 1024,
    max: 128 * 1024 ** 2,
  }),
  brokerBufferBytesMax: byteSize({
    description:
      "Bytes of messages that may wait here for their commit, per stream and per queue consumer; beyond that no more are taken.",
    byDefault: "32MiB",
    min: 64 * 1024,
    max: 16 * 1024 ** 3,
  }),
  streamLeaseSeconds: wholeNumber({
    description:
      "After this time without a sign of life a process loses its streams to the others that consume them.",
    byDefault: 10,
    min: 1,
    max: 600,
  }),
  ingestMode: oneOf(
    ["direct", "broker"],
    "What HTTP ingestion does with events: commit them, or publish them to RabbitMQ and answer 202.",
  ),
  brokerFallback: oneOf(
    ["refuse", "direct"],
    "What HTTP ingestion does in mode broker while RabbitMQ does not confirm: refuse with 503, or commit directly.",
  ),
  publishTo: oneOf(TRANSPORTS, "Where HTTP ingestion publishes to in mode broker."),
};

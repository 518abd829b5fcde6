import { hostname } from "node:os";
import type { EventPublisher, PublishedBody, PublishOutcome } from "#api";
import { openProducer, ProducerFault, type Producer, type ProducerTarget } from "#broker";
import type { Config } from "#config";
import type { Logger } from "#kernel";

/** A sender waits this long for the broker before it is told that there was no confirmation, ms. */
const DELIVER_MS_MAX = 5000;

/** What HTTP ingestion publishes by, whether the broker can be reached or not. Undefined where it commits by itself. */
export function openPublisher(
  config: Config,
  { logger, random }: { logger: Logger; random: () => number },
): (EventPublisher & AsyncDisposable) | undefined {
  if (config.ingestMode === "direct" || config.rabbitmqUrl === undefined) return undefined;
  const messageBytesMax = Math.max(config.messageBytesMax, config.httpBodyBytesMax);
  const producer = openProducer({
    url: config.rabbitmqUrl,
    name: `tallystick http ${hostname()}/${process.pid}`,
    target: targetOf(config),
    deliverMsMax: DELIVER_MS_MAX,
    // A sender that is told at once can come back; its request would only wait here.
    unroutableMsMax: 0,
    messageBytesMax,
    bufferBytesMax: Math.max(config.brokerBufferBytesMax, messageBytesMax),
    heartbeatSeconds: config.rabbitmqHeartbeatSeconds,
    closeMsMax: DELIVER_MS_MAX,
    onStateChange: (state) => {
      if (state.state === "connected") logger.info({ ...state }, "publisher_connected");
      else logger.warn({ reason: state.reason }, "publisher_unreachable");
    },
    random,
  });
  return {
    fallback: config.brokerFallback,
    bodyBytesMax: config.messageBytesMax,
    publish: (body, about) => publishBody(producer, body, about),
    [Symbol.asyncDispose]: () => producer.close(),
  };
}

function targetOf(config: Config): ProducerTarget {
  if (config.publishTo === "queue") return { queue: config.queueName };
  const { streamName, streamPartitions: given } = config;
  if (given === undefined) return { stream: streamName };
  const partitions = typeof given === "number" ? given : given.length;
  return { superStream: streamName, partitions, spread: "turns" };
}

const UNAVAILABLE = "The message broker cannot be reached, or takes nothing at the moment.";
const UNCONFIRMED =
  "The message broker did not confirm the events in time: it may have them all the same.";

async function publishBody(
  producer: Producer,
  body: Buffer,
  about: PublishedBody,
): Promise<PublishOutcome> {
  // Known to be in the way: nobody waits for a time-out.
  if (producer.trouble !== undefined) return { isPublished: false, detail: UNAVAILABLE };
  try {
    await producer.publish(body, about);
    return { isPublished: true };
  } catch (error) {
    if (!(error instanceof ProducerFault)) throw error;
    const detail =
      error.code === "unroutable"
        ? "The message broker has no such stream or queue yet."
        : error.isMaybeDelivered
          ? UNCONFIRMED
          : UNAVAILABLE;
    return { isPublished: false, detail };
  }
}

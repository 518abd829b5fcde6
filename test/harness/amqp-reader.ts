import { connect, type Channel, type ConsumeMessage, type GetMessage } from "amqplib";

/** A look into a broker's streams and queues over a connection of its own, beside what is tested. */
export type AmqpReader = AsyncDisposable & {
  readonly channel: Channel;
  declareStream(name: string): Promise<void>;
  /** Declares a super stream as `rabbitmq-streams add_super_stream` does: streams "NAME-0", … bound to exchange NAME. */
  declareSuperStream(name: string, partitions: number): Promise<void>;
  /** Reads a stream from its first message until `isEnough` says so of all read so far. */
  readStream(
    name: string,
    isEnough: (messages: readonly ConsumeMessage[]) => boolean,
  ): Promise<ConsumeMessage[]>;
  /** Takes all that is in a queue at the moment. */
  takeAll(queue: string): Promise<GetMessage[]>;
};

/** Opens it; the URL names the virtual host. */
export async function openAmqpReader(url: string): Promise<AmqpReader> {
  const connection = await connect(url);
  // A broker that a test ends takes this connection with it.
  connection.on("error", () => undefined);
  const channel = await connection.createChannel();
  channel.on("error", () => undefined);
  await channel.prefetch(1000);
  const declareStream = async (name: string): Promise<void> => {
    await channel.assertQueue(name, { durable: true, arguments: { "x-queue-type": "stream" } });
  };
  return {
    channel,
    declareStream,
    declareSuperStream: async (name, partitions) => {
      await channel.assertExchange(name, "direct", {
        durable: true,
        arguments: { "x-super-stream": true },
      });
      for (let i = 0; i < partitions; i++) {
        await declareStream(`${name}-${i}`);
        await channel.bindQueue(`${name}-${i}`, name, String(i), {
          "x-stream-partition-order": i,
        });
      }
    },
    readStream: (name, isEnough) => readStream(channel, name, isEnough),
    takeAll: async (queue) => {
      const taken: GetMessage[] = [];
      for (;;) {
        const message = await channel.get(queue, { noAck: true });
        if (message === false) return taken;
        taken.push(message);
      }
    },
    [Symbol.asyncDispose]: () => connection.close().catch(() => undefined),
  };
}

async function readStream(
  channel: Channel,
  name: string,
  isEnough: (messages: readonly ConsumeMessage[]) => boolean,
): Promise<ConsumeMessage[]> {
  const read: ConsumeMessage[] = [];
  if (isEnough(read)) return read;
  const { promise, resolve } = Promise.withResolvers<void>();
  const { consumerTag } = await channel.consume(
    name,
    (message) => {
      if (message === null) return;
      channel.ack(message);
      read.push(message);
      if (isEnough(read)) resolve();
    },
    { arguments: { "x-stream-offset": "first" } },
  );
  const overdue = setTimeout(resolve, 10_000);
  await promise;
  clearTimeout(overdue);
  await channel.cancel(consumerTag);
  if (!isEnough(read)) throw new Error(`stream ${name} has only ${read.length} messages`);
  return read;
}

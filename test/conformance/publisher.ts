import { connect, type Options } from "amqplib";
import { waitFor } from "#harness";

/** Publishes to one queue or stream by its name, with confirms. */
export type TestPublisher = AsyncDisposable & {
  /** Resolves when the broker has the message. An object or array goes as JSON, a text or bytes as they are. */
  publish(body: unknown, options?: Options.Publish): Promise<void>;
  /** The same for many messages, in order. */
  publishAll(bodies: readonly unknown[], options?: Options.Publish): Promise<void>;
};

/** Waits for a queue or stream of this name first: the service declares it. */
export async function openTestPublisher(url: string, name: string): Promise<TestPublisher> {
  await waitFor(() => isReady(url, name), { what: `${name} to be declared` });
  const connection = await connect(url);
  connection.on("error", () => undefined);
  const channel = await connection.createConfirmChannel();
  channel.on("error", () => undefined);
  const bytesOf = (body: unknown): Buffer => {
    if (Buffer.isBuffer(body)) return body;
    return Buffer.from(typeof body === "string" ? body : JSON.stringify(body));
  };
  const publish = (body: unknown, options: Options.Publish = {}): Promise<void> =>
    new Promise((resolve, reject) => {
      channel.sendToQueue(name, bytesOf(body), { persistent: true, ...options }, (error) =>
        error ? reject(error as Error) : resolve(),
      );
    });
  return {
    publish,
    publishAll: async (bodies, options) =>
      void (await Promise.all(bodies.map((body) => publish(body, options)))),
    // A broker that a test ends takes this connection with it.
    [Symbol.asyncDispose]: () => connection.close().catch(() => undefined),
  };
}

/**
 * Whether something can be published to it. The broker knows the name some moments before the stream or queue behind it
 * works, and closes the connection of who comes meanwhile: so this looks over one of its own, which it may lose.
 */
async function isReady(url: string, name: string): Promise<boolean> {
  const connection = await connect(url);
  connection.on("error", () => undefined);
  try {
    const channel = await connection.createChannel();
    channel.on("error", () => undefined);
    await channel.prefetch(1);
    await channel.consume(name, () => undefined, { arguments: { "x-stream-offset": "next" } });
    return true;
  } catch (error) {
    // Of a queue nothing is consumed: it has no offsets, which it can only tell when it works.
    return String(error).includes("x-stream-offset");
  } finally {
    await connection.close().catch(() => undefined);
  }
}

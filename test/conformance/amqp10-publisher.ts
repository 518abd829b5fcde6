import { once } from "node:events";
import rhea from "rhea";

/** Sends over AMQP 1.0, by a client that has nothing to do with this project. */
export type Amqp10Publisher = AsyncDisposable & {
  /** Resolves when the broker has accepted the message; throws when it did anything else. Bytes go as they are. */
  send(message: Amqp10Message | Buffer): Promise<void>;
};

export type Amqp10Message = {
  body: unknown;
  content_type?: string;
  content_encoding?: string;
  correlation_id?: string;
  application_properties?: Record<string, unknown>;
  message_annotations?: Record<string, unknown>;
  delivery_annotations?: Record<string, unknown>;
  durable?: boolean;
  priority?: number;
  ttl?: number;
};

/** `url` is the broker's AMQP 0-9-1 address, which is that of AMQP 1.0, too. The queue or stream has to be there. */
export async function openAmqp10Publisher(url: string, name: string): Promise<Amqp10Publisher> {
  const { hostname, port, username, password, pathname } = new URL(url);
  const container = rhea.create_container();
  const connection = container.connect({
    host: hostname,
    port: Number(port || 5672),
    username: decodeURIComponent(username),
    password: decodeURIComponent(password),
    hostname: `vhost:${decodeURIComponent(pathname.slice(1))}`,
    reconnect: false,
  });
  const sender = connection.open_sender(`/amq/queue/${name}`);
  const failed = Promise.withResolvers<never>();
  // Whoever sends is told; nobody else waits for it.
  failed.promise.catch(() => undefined);
  for (const event of ["rejected", "released", "modified"])
    container.on(event, () => failed.reject(new Error(`the broker has ${event} the message`)));
  for (const event of ["connection_error", "session_error", "sender_error", "disconnected"])
    container.on(event, () => failed.reject(new Error(`AMQP 1.0 ended: ${event}`)));
  await Promise.race([once(container, "sendable"), failed.promise]);
  return {
    send: async (message) => {
      const accepted = once(container, "accepted");
      if (Buffer.isBuffer(message)) sender.send(message, undefined, 0);
      else sender.send(message);
      await Promise.race([accepted, failed.promise]);
    },
    [Symbol.asyncDispose]: async () => {
      const closed = once(container, "connection_close");
      connection.close();
      await Promise.race([closed, failed.promise.catch(() => undefined)]);
    },
  };
}

/** A body of one data section, or of several. */
export const dataBody = (...sections: readonly (Buffer | string)[]): unknown => {
  const bytes = sections.map((section) => Buffer.from(section));
  return bytes.length === 1
    ? rhea.message.data_section(bytes[0])
    : rhea.message.data_sections(bytes);
};

/** A body of one sequence section. */
export const sequenceBody = (...items: readonly unknown[]): unknown =>
  rhea.message.sequence_section(items);

/** A message of one data section and a footer, which the client would put before the body. */
export const withFooter = (body: Buffer | string): Buffer =>
  Buffer.concat([
    rhea.message.encode({ body: dataBody(body) }),
    Buffer.from([0x00, 0x53, 0x78, 0xc1, 0x05, 0x02, 0xa3, 0x01, 0x61, 0x41]),
  ]);

/** A value that JavaScript has no type for. */
export const amqp10 = rhea.types;

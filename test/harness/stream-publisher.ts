import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { gzipSync, zstdCompressSync } from "node:zlib";

/** What is published at once: a record of its own, or several in a sub-batch. Each record has an offset of its own. */
export type StreamEntry =
  | { kind: "record"; bytes: Uint8Array }
  | { kind: "subBatch"; codec: number; records: readonly Uint8Array[] };

/** A publisher of RabbitMQ's stream protocol: it writes into a stream what AMQP cannot, readable or not. */
export type StreamPublisher = AsyncDisposable & {
  /**
   * Publishes the entries in one frame, as a rule into one chunk. Resolves when the broker has confirmed each of them,
   * which it does without a look at their bytes; rejects with its code when it refuses one.
   */
  publish(entries: readonly StreamEntry[]): Promise<void>;
};

/** Commands by number: https://github.com/rabbitmq/rabbitmq-server, deps/rabbitmq_stream/docs/PROTOCOL.adoc. */
const COMMAND = {
  declarePublisher: 1,
  publish: 2,
  publishConfirm: 3,
  publishError: 4,
  peerProperties: 17,
  saslHandshake: 18,
  saslAuthenticate: 19,
  tune: 20,
  open: 21,
  close: 22,
} as const;
const IS_RESPONSE = 0x8000;
const OK = 1;
const PUBLISHER_ID = 1;
const IS_SUB_BATCH = 0x80;

/** Codecs of sub-batches that Node has; the protocol also numbers snappy (2) and lz4 (3). */
const COMPRESS: Record<number, (bytes: Uint8Array) => Uint8Array> = {
  1: gzipSync,
  4: zstdCompressSync,
};

/** The AMQP 1.0 message of one data section: what a publisher of the stream protocol sends in the usual case. */
export const dataRecord = (body: Uint8Array | string): Buffer =>
  Buffer.concat([Buffer.from([0x00, 0x53, 0x75, 0xb0]), bytes32(body)]);

/** Opens it on 127.0.0.1 as the user guest. The stream must exist. */
export async function openStreamPublisher(options: {
  port: number;
  vhost: string;
  stream: string;
}): Promise<StreamPublisher> {
  await using stack = new AsyncDisposableStack();
  const socket = connect(options.port, "127.0.0.1");
  stack.defer(() => void socket.destroy());
  await once(socket, "connect");
  const link = createLink(socket);

  await link.call("peerProperties", uint32(0));
  await link.call("saslHandshake");
  const [tune] = await Promise.all([
    link.wait("tune"), // Comes right behind the next call's answer.
    link.call("saslAuthenticate", text("PLAIN"), bytes32("\0guest\0guest")),
  ]);
  const frameBytesMax = tune.subarray(0, 4);
  link.send(COMMAND.tune | IS_RESPONSE, frameBytesMax, uint32(0)); // No heartbeats.
  await link.call("open", text(options.vhost));
  await link.call("declarePublisher", uint8(PUBLISHER_ID), text(""), text(options.stream));

  stack.defer(async () => {
    await link.call("close", uint16(OK), text("done")).catch(() => undefined);
  });
  const open = stack.move();
  let publishingId = 0n;
  return {
    publish: async (entries) => {
      const confirms: Promise<unknown>[] = [];
      const encoded = entries.map((entry) => {
        publishingId += 1n;
        confirms.push(link.wait(`confirm ${publishingId}`));
        return Buffer.concat([uint64(publishingId), encodeEntry(entry)]);
      });
      link.send(COMMAND.publish, uint8(PUBLISHER_ID), uint32(entries.length), ...encoded);
      await Promise.all(confirms);
    },
    [Symbol.asyncDispose]: () => open.disposeAsync(),
  };
}

/** Unknown codecs leave the records as they are: the broker only stores the number and the bytes. */
function encodeEntry(entry: StreamEntry): Buffer {
  if (entry.kind === "record") return bytes32(entry.bytes);
  const records = Buffer.concat(entry.records.map(bytes32));
  const compressed = COMPRESS[entry.codec]?.(records) ?? records;
  return Buffer.concat([
    uint8(IS_SUB_BATCH | (entry.codec << 4)),
    uint16(entry.records.length),
    uint32(records.length),
    bytes32(compressed),
  ]);
}

type Link = {
  send(command: number, ...fields: readonly Buffer[]): void;
  /** Sends a command and resolves with its answer after the code; rejects when that is not "ok". */
  call(command: keyof typeof COMMAND, ...fields: readonly Buffer[]): Promise<Buffer>;
  /** Resolves with the body of the frame of that name: "tune", "answer N" by correlation, "confirm N" by publishing id. */
  wait(name: string): Promise<Buffer>;
};

function createLink(socket: Socket): Link {
  const waiting = new Map<string, PromiseWithResolvers<Buffer>>();
  let failure: Error | undefined;
  const fail = (error: Error): void => {
    failure ??= error;
    for (const { reject } of waiting.values()) reject(failure);
    waiting.clear();
  };
  const settle = (name: string, end: (wait: PromiseWithResolvers<Buffer>) => void): void => {
    const wait = waiting.get(name);
    waiting.delete(name);
    if (wait !== undefined) end(wait);
  };
  socket.on("error", fail);
  socket.on("close", () => fail(new Error("The broker closed the connection of the publisher.")));
  socket.on("data", frameReader(settle));

  const wait = async (name: string): Promise<Buffer> => {
    if (failure !== undefined) throw failure;
    const waitForName = Promise.withResolvers<Buffer>();
    waiting.set(name, waitForName);
    return await waitForName.promise;
  };
  const send: Link["send"] = (command, ...fields) => {
    socket.write(bytes32(Buffer.concat([uint16(command), uint16(1), ...fields])));
  };
  let correlation = 0;
  const call: Link["call"] = async (command, ...fields) => {
    correlation += 1;
    const answer = wait(`answer ${correlation}`);
    send(COMMAND[command], uint32(correlation), ...fields);
    const body = await answer;
    const code = body.readUInt16BE(4);
    if (code !== OK) throw new Error(`RabbitMQ refused ${command} with code ${code}.`);
    return body.subarray(6);
  };
  return { send, call, wait };
}

type Settle = (name: string, end: (wait: PromiseWithResolvers<Buffer>) => void) => void;

/** Takes the bytes of a connection as they come and settles the wait that each whole frame is about. */
function frameReader(settle: Settle): (bytes: Buffer) => void {
  let pending: Buffer = Buffer.alloc(0);
  return (bytes) => {
    pending = Buffer.concat([pending, bytes]);
    while (pending.length >= 4 && pending.length >= 4 + pending.readUInt32BE(0)) {
      const end = 4 + pending.readUInt32BE(0);
      readFrame(pending.readUInt16BE(4), pending.subarray(8, end), settle);
      pending = pending.subarray(end);
    }
  };
}

function readFrame(command: number, body: Buffer, settle: Settle): void {
  if (command === COMMAND.tune) settle("tune", ({ resolve }) => resolve(body));
  else if (command === COMMAND.publishConfirm) {
    for (let at = 5; at < body.length; at += 8) {
      settle(`confirm ${body.readBigUInt64BE(at)}`, ({ resolve }) => resolve(body));
    }
  } else if (command === COMMAND.publishError) {
    for (let at = 5; at < body.length; at += 10) {
      const refusal = `RabbitMQ refused an entry with code ${body.readUInt16BE(at + 8)}.`;
      settle(`confirm ${body.readBigUInt64BE(at)}`, ({ reject }) => reject(new Error(refusal)));
    }
  } else if ((command & IS_RESPONSE) !== 0) {
    settle(`answer ${body.readUInt32BE(0)}`, ({ resolve }) => resolve(body));
  }
}

function uint8(value: number): Buffer {
  return Buffer.from([value]);
}

function uint16(value: number): Buffer {
  const bytes = Buffer.alloc(2);
  bytes.writeUInt16BE(value);
  return bytes;
}

function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

function uint64(value: bigint): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(value);
  return bytes;
}

/** Bytes behind their length in 4 bytes. */
function bytes32(value: Uint8Array | string): Buffer {
  const bytes = Buffer.from(value);
  return Buffer.concat([uint32(bytes.length), bytes]);
}

/** UTF-8 behind its length in 2 bytes. */
function text(value: string): Buffer {
  return Buffer.concat([uint16(Buffer.byteLength(value)), Buffer.from(value)]);
}

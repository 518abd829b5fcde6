import { once } from "node:events";
import { connect, createServer, type AddressInfo, type Socket } from "node:net";

/** A TCP proxy in front of a broker that looks at what consumers send: how often they acknowledge. */
export type AckCounter = AsyncDisposable & {
  /** The broker's address, by way of this proxy. */
  readonly url: string;
  /** Frames of basic.ack so far; and how many of them were for all messages up to theirs. */
  readonly acks: { count: number; multiple: number };
};

/** Method frames are of type 1; basic.ack is method 80 of class 60. */
const METHOD = 1;
const BASIC_ACK = (60 << 16) | 80;
const PROTOCOL_HEADER_BYTES = 8;
/** Type, channel and size before a frame's payload; after it, one byte. */
const HEAD_BYTES = 7;

/** Starts it in front of the broker at `url`. */
export async function countAcks(url: string): Promise<AckCounter> {
  const { hostname, port } = new URL(url);
  const acks = { count: 0, multiple: 0 };
  const sockets = new Set<Socket>();
  const server = createServer((client) => {
    const broker = connect(Number(port), hostname);
    for (const socket of [client, broker]) {
      sockets.add(socket);
      socket.on("error", () => undefined);
      socket.once("close", () => [client, broker].forEach((one) => one.destroy()));
    }
    client.on("data", frameReader(acks));
    client.pipe(broker).pipe(client);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const through = new URL(url);
  through.host = `127.0.0.1:${(server.address() as AddressInfo).port}`;
  return {
    url: through.href,
    acks,
    [Symbol.asyncDispose]: async () => {
      for (const socket of sockets) socket.destroy();
      server.close();
      await once(server, "close");
    },
  };
}

/** Reads the frames of one direction as their bytes come. */
function frameReader(acks: AckCounter["acks"]): (bytes: Buffer) => void {
  let pending: Buffer = Buffer.alloc(0);
  let skip = PROTOCOL_HEADER_BYTES;
  return (bytes) => {
    pending = Buffer.concat([pending, bytes]);
    for (;;) {
      if (pending.length < skip + HEAD_BYTES) return;
      const frame = pending.subarray(skip);
      const size = frame.readUInt32BE(3);
      if (frame.length < HEAD_BYTES + size + 1) return;
      const payload = frame.subarray(HEAD_BYTES, HEAD_BYTES + size);
      if (frame[0] === METHOD && payload.readUInt32BE(0) === BASIC_ACK) {
        acks.count++;
        if (payload[12] === 1) acks.multiple++;
      }
      pending = frame.subarray(HEAD_BYTES + size + 1);
      skip = 0;
    }
  };
}

/** AMQP 0-9-1 as far as a publisher needs it: messages are encoded before the clock starts, and sending them costs little. */

const FRAME_END = 0xce;
const METHOD = 1;
const HEADER = 2;
const BODY = 3;
const BASIC = 60;
/** Bits of the properties that follow: content type, delivery mode. */
const PROPERTIES = 0x8000 | 0x1000;
const PERSISTENT = 2;
/** Type, channel and size before each frame, and its end. */
const FRAME_BYTES = 8;

/** The protocol header that opens a connection. */
export const PROTOCOL = Buffer.from("AMQP\0\0\x09\x01", "latin1");

export const shortText = (text: string): Buffer =>
  Buffer.concat([Buffer.from([Buffer.byteLength(text)]), Buffer.from(text)]);

export const longText = (text: string): Buffer => {
  const bytes = Buffer.from(text);
  const length = Buffer.alloc(4);
  length.writeUInt32BE(bytes.length);
  return Buffer.concat([length, bytes]);
};

function frame(type: number, channel: number, payload: Buffer): Buffer {
  const bytes = Buffer.allocUnsafe(payload.length + FRAME_BYTES);
  bytes.writeUInt8(type, 0);
  bytes.writeUInt16BE(channel, 1);
  bytes.writeUInt32BE(payload.length, 3);
  payload.copy(bytes, 7);
  bytes.writeUInt8(FRAME_END, payload.length + 7);
  return bytes;
}

/** A frame of a method, with its arguments encoded. */
export function methodFrame(
  channel: number,
  [classId, methodId]: readonly [number, number],
  args: readonly Buffer[],
): Buffer {
  const id = Buffer.alloc(4);
  id.writeUInt16BE(classId, 0);
  id.writeUInt16BE(methodId, 2);
  return frame(METHOD, channel, Buffer.concat([id, ...args]));
}

/** Encodes messages for one stream or queue, on channel 1 and by the default exchange. */
export class MessageEncoder {
  readonly #publish: Buffer;
  /** Frame of a content header; its body size is set for each message. */
  readonly #header: Buffer;

  constructor(queue: string, contentType: string) {
    const reserved = Buffer.alloc(2);
    const isMandatory = Buffer.from([0]);
    this.#publish = methodFrame(
      1,
      [BASIC, 40],
      [reserved, shortText(""), shortText(queue), isMandatory],
    );
    const head = Buffer.alloc(14);
    head.writeUInt16BE(BASIC, 0);
    head.writeUInt16BE(PROPERTIES, 12);
    const properties = Buffer.concat([head, shortText(contentType), Buffer.from([PERSISTENT])]);
    this.#header = frame(HEADER, 1, properties);
  }

  /** A message with a Latin-1 body of one frame (under 100 KiB), as it goes over the wire. */
  encode(body: string): Buffer {
    const [publish, header] = [this.#publish, this.#header];
    const bodyAt = publish.length + header.length;
    const bytes = Buffer.allocUnsafe(bodyAt + body.length + FRAME_BYTES);
    publish.copy(bytes);
    header.copy(bytes, publish.length);
    bytes.writeBigUInt64BE(BigInt(body.length), publish.length + 7 + 4);
    bytes.writeUInt8(BODY, bodyAt);
    bytes.writeUInt16BE(1, bodyAt + 1);
    bytes.writeUInt32BE(body.length, bodyAt + 3);
    bytes.write(body, bodyAt + 7, "latin1");
    bytes.writeUInt8(FRAME_END, bytes.length - 1);
    return bytes;
  }
}

/** A method that the broker sent. */
export type ReceivedMethod = { classId: number; methodId: number; args: Buffer };

/** Cuts what comes from the broker into methods; content and heartbeats are left out. */
export class MethodReader {
  #rest: Buffer = Buffer.alloc(0);

  *push(bytes: Buffer): Generator<ReceivedMethod> {
    let left = this.#rest.length === 0 ? bytes : Buffer.concat([this.#rest, bytes]);
    while (left.length >= FRAME_BYTES) {
      const length = left.readUInt32BE(3) + FRAME_BYTES;
      if (left.length < length) break;
      if (left.readUInt8(0) === METHOD)
        yield {
          classId: left.readUInt16BE(7),
          methodId: left.readUInt16BE(9),
          args: left.subarray(11, length - 1),
        };
      left = left.subarray(length);
    }
    this.#rest = left;
  }
}

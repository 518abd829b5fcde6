/** AMQP 1.0 sections as senders and brokers encode them, for tests. */

/** A described value: a section of a message, or what a frame performs. */
export const section = (code: number, ...value: readonly Buffer[]): Buffer =>
  Buffer.concat([Buffer.from([0x00, 0x53, code]), ...value]);

/** A value behind a size of one byte, or of four where it is longer (the constructor is then 0x10 more). */
export function sized(constructor: number, bytes: Buffer | string): Buffer {
  const content = Buffer.from(bytes);
  if (content.length < 256)
    return Buffer.concat([Buffer.from([constructor, content.length]), content]);
  const head = Buffer.alloc(5);
  head.writeUInt8(constructor + 0x10);
  head.writeUInt32BE(content.length, 1);
  return Buffer.concat([head, content]);
}

/** A list (0xc0) or map (0xc1): the size takes in the count before the items. */
const compound = (constructor: number, count: number, items: Buffer): Buffer =>
  sized(constructor, Buffer.concat([Buffer.from([count]), items]));

export const binary = (bytes: Buffer | string): Buffer => sized(0xa0, bytes);
export const text = (value: string): Buffer => sized(0xa1, value);
export const list = (...items: readonly Buffer[]): Buffer =>
  compound(0xc0, items.length, Buffer.concat(items));
export const map = (...items: readonly Buffer[]): Buffer =>
  compound(0xc1, items.length, Buffer.concat(items));

export const header = (): Buffer =>
  section(0x70, list(Buffer.from([0x41]), Buffer.from([0x50, 4])));
export const deliveryAnnotations = (): Buffer => section(0x71, map(text("x-a"), text("b")));
export const messageAnnotations = (): Buffer => section(0x72, map(text("x-b"), text("c")));
const NULL = Buffer.from([0x40]);
/** The properties section, with its eighth field set or without any. */
export const properties = (contentEncoding?: string): Buffer =>
  contentEncoding === undefined
    ? section(0x73, list())
    : section(0x73, list(...Array<Buffer>(7).fill(NULL), sized(0xa3, contentEncoding)));
export const applicationProperties = (entries: Readonly<Record<string, string>>): Buffer =>
  section(0x74, map(...Object.entries(entries).flat().map(text)));
export const data = (bytes: Buffer | string): Buffer => section(0x75, binary(bytes));
export const sequence = (...items: readonly Buffer[]): Buffer => section(0x76, list(...items));
export const value = (encoded: Buffer): Buffer => section(0x77, encoded);
export const footer = (): Buffer => section(0x78, map(text("x-sum"), text("1")));

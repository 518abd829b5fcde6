/** What zlib answers with `info: true`, which its types do not know: what it made, and how far it read. */
export type Inflated = { buffer: Buffer; engine: { bytesWritten: number } };

/** Whether zlib answered so. */
export const isInflated = (value: unknown): value is Inflated =>
  typeof value === "object" &&
  value !== null &&
  "buffer" in value &&
  Buffer.isBuffer(value.buffer) &&
  "engine" in value &&
  typeof value.engine === "object" &&
  value.engine !== null &&
  "bytesWritten" in value.engine &&
  typeof value.engine.bytesWritten === "number";

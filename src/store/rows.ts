import type { Tx } from "./database.ts";

/**
 * Runs a statement made of text and returns its rows in the shape that its select list has. For statements whose tables
 * or columns come from a closed list; whatever comes from outside is bound with `sql`.
 */
export async function selectRows<Row>(tx: Tx, text: string): Promise<Row[]> {
  const result: { rows: Row[] } = await tx.exec(text);
  return result.rows;
}

/**
 * Bytes that a statement sends as `encode(…, 'base64')`: two thirds of the hex that they would be otherwise, and sooner
 * written and read, which shows where there are millions.
 */
export const bytesOf = (base64: string): Buffer => Buffer.from(base64, "base64");

/** Reads numbers laid end to end (int8send). Throws a RangeError for one beyond exact numbers (2^53). */
export function readInt8s(bytes: Buffer): number[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const numbers: number[] = [];
  for (let at = 0; at < bytes.length; at += 8) {
    const high = view.getInt32(at);
    const low = view.getInt32(at + 4);
    // Almost all are small: kept as what they are, they need no box each in the objects they come to.
    if (high === 0 && low >= 0) numbers.push(low);
    else {
      const value = high * 2 ** 32 + (low >>> 0);
      if (!Number.isSafeInteger(value))
        throw new RangeError("a sum is beyond what a number holds exactly");
      numbers.push(value);
    }
  }
  return numbers;
}

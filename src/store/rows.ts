import type { Tx } from "./database.ts";

/**
 * Runs a statement made of text and returns its rows in the shape that its select list has. For statements whose tables
 * or columns come from a closed list; whatever comes from outside is bound with `sql`.
 */
export async function selectRows<Row>(tx: Tx, text: string): Promise<Row[]> {
  const result: { rows: Row[] } = await tx.exec(text);
  return result.rows;
}

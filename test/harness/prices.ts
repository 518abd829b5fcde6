import { parse } from "yaml";
import { applyPrices, priceList } from "#pricing";
import type { Database } from "#store";

const DID = {
  actor: "key-1",
  actorName: "Grace",
  requestId: "request-1",
  at: new Date("2026-11-20T10:00:00Z"),
};

/** Makes the own prices of a database what a file's text says (YAML), and returns the book's version then. */
export async function applyTestPrices(database: Database, text: string): Promise<number> {
  const list = priceList.parse(parse(text, { schema: "failsafe" }));
  return (await applyPrices(database, { layer: "own", list }, DID)).version;
}

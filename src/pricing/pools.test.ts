import assert from "node:assert/strict";
import { test } from "node:test";
import type { PoolPrice } from "./price-book.ts";
import { findPool, ratePoolTime } from "./pools.ts";

let ids = 0;
const pool = (subject: string, rest: Partial<PoolPrice> & { models: string[] }): PoolPrice => {
  const { models, ...other } = rest;
  return {
    kind: "pool",
    id: ++ids,
    version: 1,
    layer: "own",
    orgId: null,
    from: null,
    to: null,
    source: "test",
    subject,
    terms: { currency: "USD", perHour: "1", models },
    ...other,
  };
};
const NOON_US = Date.parse("2026-11-20T12:00:00Z") * 1000;

test("a call belongs to one pool: its org's own first, then the one that says most of its model", () => {
  const pools = [
    pool("z", { models: ["house-*"] }),
    pool("b", { models: ["house-large"] }),
    pool("a", { models: ["house-l*", "other"] }),
    pool("c", { models: ["other"] }),
    pool("own", { models: ["*"], orgId: "acme" }),
    pool("past", { models: ["past"], to: new Date("2026-11-20T12:00:00Z") }),
    pool("now", { models: ["pas*"], from: new Date("2026-11-20T12:00:00Z") }),
  ];
  const find = (modelId: string, orgId = "globex", atUs = NOON_US) =>
    findPool(pools, { modelId, orgId, atUs })?.subject;
  assert.deepEqual(
    ["house-large", "house-lite", "house-small", "other", "past", "none", "HOUSE-large"].map((id) =>
      find(id),
    ),
    ["b", "a", "z", "a", "now", undefined, undefined],
  );
  assert.equal(find("past", "globex", NOON_US - 1), "past");
  assert.equal(find("house-large", "acme"), "own");
});

test("time in a pool costs its part of the hour, rounded half up once", () => {
  const cost = (perHour: string, ms: number): string =>
    String(ratePoolTime({ terms: { currency: "USD", perHour, models: ["m"] } }, ms));
  assert.equal(cost("98.32", 3_600_000), "98320000000");
  assert.equal(cost("0", 3_600_000), "0");
  assert.equal(cost("1", 1_200_000), "333333333");
  assert.equal(cost("0.0000000005", 3_600_000), "1");
  assert.equal(cost("0.000000000499", 3_600_000), "0");
  assert.equal(cost("999999999999.5", 3_600_000), "999999999999500000000");
});

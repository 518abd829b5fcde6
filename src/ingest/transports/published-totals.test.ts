import assert from "node:assert/strict";
import { test } from "node:test";
import { type BatchLedgerEntry, type ParsedItem, parseUsageEvents } from "#contract";
import { anEvent } from "#harness";
import { compareTotals, PublishedTotals, ReceivedTotals } from "./published-totals.ts";

const HOUR = Date.parse("2026-11-20T10:00:00Z") / 1000;
const ORGS = new Map([
  [1, "acme"],
  [2, "globex"],
]);
const nameOf = (id: number): string => ORGS.get(id) ?? "?";

const parse = (...events: object[]): ParsedItem[] =>
  parseUsageEvents(Buffer.from(JSON.stringify(events)), "json", { eventsMax: 100 });

const published = (items: readonly ParsedItem[]): PublishedTotals => {
  const totals = new PublishedTotals();
  for (const item of items) totals.add(item);
  return totals;
};

/** The digest that a batch has of these items. */
const digestOf = (items: readonly ParsedItem[]): bigint =>
  items.reduce((sum, { event }) => {
    if (!event) return sum;
    const [a, b, c, d] = event.key.map(BigInt) as [bigint, bigint, bigint, bigint];
    return BigInt.asUintN(64, sum + (((a << 32n) | b) ^ ((c << 32n) | d)));
  }, 0n);

type Entry = Partial<BatchLedgerEntry> & { items: readonly ParsedItem[] };
const received = (...entries: Entry[]): ReceivedTotals => {
  const totals = new ReceivedTotals();
  for (const { items, ...entry } of entries)
    totals.add({
      orgId: 1,
      hourSeconds: HOUR,
      received: items.length,
      rejected: 0,
      receivedDigest: digestOf(items),
      ...entry,
    });
  return totals;
};

test("what was published and received in the same hours agrees, in however many batches", () => {
  const items = parse(...Array.from({ length: 10 }, () => anEvent()));
  const totals = received({ items: items.slice(0, 4) }, { items: items.slice(4) });
  assert.deepEqual(compareTotals(published(items), totals, nameOf), []);
});

test("a missing event is named with org and hour, and another one in its place by the digest", () => {
  const items = parse(anEvent(), anEvent(), anEvent({ org_id: "globex" }));
  const [first, second, third] = items.map((item) => [item]) as [
    ParsedItem[],
    ParsedItem[],
    ParsedItem[],
  ];
  const ofGlobex = { orgId: 2, items: third };
  assert.deepEqual(compareTotals(published(items), received({ items: first }, ofGlobex), nameOf), [
    { org: "*", hourSeconds: null, figure: "published events in all", expected: "3", found: "2" },
    { org: "acme", hourSeconds: HOUR, figure: "published events", expected: "2", found: "1" },
  ]);
  const [difference] = compareTotals(
    published(items),
    received({ items: [...first, ...first] }, ofGlobex),
    nameOf,
  );
  assert.equal(difference?.figure, "digest of published ids");
  assert.equal(difference.expected, String(digestOf([...first, ...second])));
});

test("events that were rejected before their org was known are found among those of no org", () => {
  const items = parse(anEvent(), anEvent({ org_id: "globex" }), anEvent({ org_id: "globex" }));
  const ofNoOrg = { orgId: 0, items: items.slice(1, 2), rejected: 1 };
  const rest = { orgId: 2, items: items.slice(2) };
  const acme = { items: items.slice(0, 1) };
  assert.deepEqual(compareTotals(published(items), received(acme, rest, ofNoOrg), nameOf), []);

  const others = { ...ofNoOrg, items: parse(anEvent()) };
  const differences = compareTotals(published(items), received(acme, rest, others), nameOf);
  assert.deepEqual(
    differences.map(({ org, figure }) => [org, figure]),
    [["globex", "published events"]],
  );
  const surplus = received(acme, { orgId: 2, items: items.slice(1) }, others);
  assert.deepEqual(
    compareTotals(published(items), surplus, nameOf).map(({ org }) => org),
    ["*", "*"],
  );
});

test("an item without time or org counts in the total alone, wherever it was counted", () => {
  const items = parse(anEvent(), anEvent({ occurred_at: "soon" }), { nothing: true });
  const ofArrival = { hourSeconds: HOUR + 3600, items: items.slice(1, 2), rejected: 1 };
  const ofNoOrg = { orgId: 0, hourSeconds: HOUR + 3600, items: items.slice(2), rejected: 1 };
  const event = { items: items.slice(0, 1) };
  assert.deepEqual(
    compareTotals(published(items), received(event, ofArrival, ofNoOrg), nameOf),
    [],
  );
  assert.deepEqual(
    compareTotals(published(items), received(event, ofArrival), nameOf).map(
      ({ expected, found }) => [expected, found],
    ),
    [["3", "2"]],
  );
});

test("a replay makes up for just the events that were missing", () => {
  const items = parse(anEvent(), anEvent(), anEvent());
  const replay = (part: readonly ParsedItem[]) => {
    const totals = received({ items: items.slice(0, 1) });
    const row = { orgId: 1, org: "acme", hourSeconds: HOUR, accepted: part.length };
    totals.addReplayed(published(items), { ...row, digest: digestOf(part) });
    return compareTotals(published(items), totals, nameOf).length;
  };
  assert.equal(replay(items.slice(1)), 0);
  assert.equal(replay(items.slice(2)), 2);
  assert.equal(replay(items), 2);
});

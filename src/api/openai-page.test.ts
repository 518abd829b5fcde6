import assert from "node:assert/strict";
import test from "node:test";
import fc from "fast-check";
import { createWindow, type Span } from "#contract";
import { type BucketWidth, createPage, type PageAsk } from "./openai-page.ts";

const NOW_MS = Date.UTC(2026, 10, 20, 12, 34, 56);
const HOUR = 3600;
const WIDTH_MS = { "1h": HOUR * 1000, "1d": 24 * HOUR * 1000 };

const anAsk = (ask: Partial<PageAsk>): PageAsk => ({
  width: "1d",
  startTime: Date.UTC(2026, 10, 1) / 1000,
  endTime: undefined,
  limit: 7,
  page: undefined,
  subject: ["usage", "acme"],
  ...ask,
});

/** All pages of a question, one after the other. */
function listPages(ask: PageAsk, nowMs = NOW_MS): Span[] {
  const spans: Span[] = [];
  for (let page: string | undefined; ;) {
    const { span, nextPage } = createPage({ ...ask, page }, nowMs);
    if (span !== null) spans.push(span);
    if (nextPage === null) return spans;
    page = nextPage;
  }
}

const asks = fc
  .record({
    width: fc.constantFrom<BucketWidth>("1h", "1d"),
    startTime: fc.integer({ min: 1_700_000_000, max: NOW_MS / 1000 }),
    seconds: fc.integer({ min: 1, max: 400 * HOUR }),
    limit: fc.integer({ min: 1, max: 30 }),
  })
  .map(({ seconds, ...ask }) => anAsk({ ...ask, endTime: ask.startTime + seconds }));

const floorHour = (seconds: number): number => Math.floor(seconds / HOUR) * HOUR;

test("pages together are the window, bucket by bucket: none twice, none left out, none too full", () => {
  fc.assert(
    fc.property(asks, (ask) => {
      const spans = listPages(ask);
      const running = floorHour(NOW_MS / 1000) + HOUR;
      const start = floorHour(ask.startTime);
      const end = Math.min(floorHour(ask.endTime ?? 0), running);
      if (end <= start) return assert.deepEqual(spans, []);
      assert.equal(spans[0]?.startMs, start * 1000);
      assert.equal(spans.at(-1)?.endMs, end * 1000);
      spans.forEach((span, at) => {
        const granularity = ask.width === "1d" ? "day" : "hour";
        const { buckets } = createWindow({ ...span, timeZone: "UTC", granularity });
        assert.ok(buckets.length <= ask.limit);
        const next = spans[at + 1];
        if (next === undefined) return;
        assert.equal(span.endMs, next.startMs);
        assert.equal(span.endMs % WIDTH_MS[ask.width], 0);
        assert.equal(buckets.length, ask.limit);
      });
    }),
  );
});

test("windows that follow each other share nothing and leave nothing out, wherever they meet", () => {
  fc.assert(
    fc.property(asks, fc.integer({ min: 1, max: 100 * HOUR }), (first, seconds) => {
      const startTime = first.endTime ?? 0;
      const second = { ...first, startTime, endTime: startTime + seconds };
      const both = { ...first, endTime: second.endTime };
      const covered = (ask: PageAsk) =>
        listPages(ask).reduce((sum, { startMs, endMs }) => sum + endMs - startMs, 0);
      assert.equal(covered(first) + covered(second), covered(both));
    }),
  );
});

test("a page keeps the end that the first one had, while time goes on", () => {
  const first = createPage(anAsk({ limit: 10 }), NOW_MS);
  const later = createPage(
    anAsk({ limit: 10, page: first.nextPage ?? "" }),
    NOW_MS + 5 * HOUR * 1000,
  );
  assert.deepEqual(later, {
    span: { startMs: Date.UTC(2026, 10, 11), endMs: Date.UTC(2026, 10, 20, 13) },
    granularity: "day",
    nextPage: null,
  });
});

test("a page is of use to the question that gave it out, and to no other", () => {
  const { nextPage } = createPage(anAsk({}), NOW_MS);
  const page = nextPage ?? "";
  assert.ok(createPage(anAsk({ page, limit: 3 }), NOW_MS).span);
  const broken = (start: number, end: number): string => {
    const [digest] = Buffer.from(page.slice(5), "base64url").toString().split(".");
    return `page_${Buffer.from(`${digest}.${start}.${end}`).toString("base64url")}`;
  };
  const end = Date.UTC(2026, 10, 20);
  const others: PageAsk[] = [
    anAsk({ page, subject: ["usage", "globex"] }),
    anAsk({ page, subject: ["costs", "acme"] }),
    anAsk({ page, width: "1h" }),
    anAsk({ page: `${page}A` }),
    anAsk({ page: page.slice(0, -1) }),
    anAsk({ page: page.slice("page_".length) }),
    anAsk({ page: "next" }),
    anAsk({ page: "" }),
    anAsk({ page: broken(Date.UTC(2026, 10, 8, 1), end) }),
    anAsk({ page: broken(end, end) }),
  ];
  for (const ask of others)
    assert.throws(() => createPage(ask, NOW_MS), { name: "Failure", code: "invalid_request" });
  assert.ok(createPage(anAsk({ page: broken(Date.UTC(2026, 10, 8), end) }), NOW_MS).span);
});

test("an end that is not after the start is refused, and time that has not come has no bucket", () => {
  const startTime = Date.UTC(2026, 10, 20) / 1000;
  for (const endTime of [startTime, startTime - 1])
    assert.throws(() => createPage(anAsk({ startTime, endTime }), NOW_MS), {
      code: "invalid_request",
    });
  const tomorrow = startTime + 24 * HOUR;
  assert.deepEqual(createPage(anAsk({ startTime: tomorrow }), NOW_MS), {
    span: null,
    granularity: "day",
    nextPage: null,
  });
  assert.deepEqual(createPage(anAsk({ startTime, endTime: tomorrow }), NOW_MS).span, {
    startMs: startTime * 1000,
    endMs: Date.UTC(2026, 10, 20, 13),
  });
});

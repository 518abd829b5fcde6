import { createHash } from "node:crypto";
import { Failure, GRAIN_SECONDS, type Granularity, refuseField, type Span } from "#contract";

/** Bounds lie on whole hours: quarters are not kept for as long, and who asks about last spring need not know that. */
const STEP_MS = GRAIN_SECONDS.hour * 1000;

/** Widths of buckets, which lie in UTC. */
const WIDTHS = {
  "1h": { widthMs: GRAIN_SECONDS.hour * 1000, granularity: "hour" },
  "1d": { widthMs: GRAIN_SECONDS.day * 1000, granularity: "day" },
} as const satisfies Record<string, { widthMs: number; granularity: Granularity }>;
export type BucketWidth = keyof typeof WIDTHS;

/** Which page of a question is asked for. Times in Unix seconds. */
export type PageAsk = {
  width: BucketWidth;
  startTime: number;
  /** The first instant that does not count; undefined: up to now. */
  endTime: number | undefined;
  /** Buckets of a page. */
  limit: number;
  /** `nextPage` of the page before. */
  page: string | undefined;
  /** What is asked but for when: a page goes on with the question that gave it out and no other. */
  subject: readonly unknown[];
};

/** What a page holds: `span` in buckets of `granularity`, the first and last perhaps parts; null: nothing. */
export type Page = { span: Span | null; granularity: Granularity; nextPage: string | null };

/**
 * The page of a window that is asked for. Both bounds move back to a whole hour, so that windows that follow each other
 * share no event and lose none; the end lies no further ahead than the hour that is running. Later pages keep the end
 * that the first one had. Throws Failure `invalid_request` for an end not after its start, and for a foreign page.
 */
export function createPage(ask: PageAsk, nowMs: number): Page {
  const { widthMs, granularity } = WIDTHS[ask.width];
  const { startTime, endTime = Infinity } = ask;
  if (endTime <= startTime) throw wrongOrder();
  const runningMs = floorTo(STEP_MS, nowMs) + STEP_MS;
  const whole =
    ask.page === undefined
      ? {
          startMs: floorTo(STEP_MS, startTime * 1000),
          endMs: Math.min(floorTo(STEP_MS, endTime * 1000), runningMs),
        }
      : parseCursor(ask.page, digestOf(ask), widthMs);
  if (whole.startMs >= whole.endMs) return { span: null, granularity, nextPage: null };
  const cutMs = floorTo(widthMs, whole.startMs) + ask.limit * widthMs;
  const span = { startMs: whole.startMs, endMs: Math.min(cutMs, whole.endMs) };
  const rest = { startMs: span.endMs, endMs: whole.endMs };
  const hasMore = rest.startMs < rest.endMs;
  return { span, granularity, nextPage: hasMore ? formatCursor(digestOf(ask), rest) : null };
}

const floorTo = (stepMs: number, instantMs: number): number =>
  Math.floor(instantMs / stepMs) * stepMs;

const digestOf = ({ width, subject }: PageAsk): string =>
  createHash("sha256")
    .update(JSON.stringify([width, subject]))
    .digest("base64url")
    .slice(0, 12);

const formatCursor = (digest: string, { startMs, endMs }: Span): string =>
  `page_${Buffer.from(`${digest}.${startMs}.${endMs}`, "utf8").toString("base64url")}`;

const PAGE = /^([\w-]{12})\.(\d{8,14})\.(\d{8,14})$/;

function parseCursor(page: string, digest: string, widthMs: number): Span {
  const text = Buffer.from(page.replace(/^page_/, ""), "base64url").toString("utf8");
  const [, , start, end] = PAGE.exec(text) ?? [];
  const span = { startMs: Number(start), endMs: Number(end) };
  const isWhole = span.startMs % widthMs === 0 && span.startMs < span.endMs;
  // Only what was given out is taken back: the same bytes, for the same question.
  if (isWhole && page === formatCursor(digest, span)) return span;
  throw new Failure(
    "invalid_request",
    "The page is not one that this question gave out: start again without it.",
    {
      details: [{ pointer: "/query/page", code: "invalid_cursor", message: "Start again." }],
    },
  );
}

const wrongOrder = (): Failure =>
  refuseField(
    "/query/end_time",
    "wrong_order",
    "end_time must be later than start_time; what happens at end_time does not count",
  );

import { z } from "zod";
import { type Column, formatCount, formatFacts, formatNumber, formatTable } from "./table.ts";

// Fields that this version does not know stay, for --json.
const sums = z.looseObject({
  requestsBefore: z.int(),
  requestsAfter: z.int(),
  costBefore: z.string(),
  costAfter: z.string(),
  difference: z.string(),
});
type Sums = z.output<typeof sums>;
const change = { currency: z.string(), previewed: sums, applied: sums };

/** An order to rate again. */
export const order = z.looseObject({
  reratingId: z.int(),
  state: z.string(),
  bookVersion: z.int(),
  orgId: z.string().nullable(),
  modelId: z.string().nullable(),
  start: z.string(),
  end: z.string(),
  reason: z.string(),
  createdAt: z.string(),
  createdByName: z.string(),
  finishedAt: z.string().nullable(),
  days: z.looseObject({ total: z.int(), done: z.int(), withoutRaw: z.int() }),
  waitsFor: z.int().nullable().default(null),
  failure: z
    .looseObject({
      day: z.string().nullable(),
      times: z.int(),
      since: z.string(),
      nextTryAt: z.string(),
      error: z.string(),
    })
    .nullable()
    .default(null),
});
/** The same with what it changes, by currency. */
export const orderWithTotals = order.extend({
  totals: z.array(z.looseObject(change)),
  withoutRaw: z
    .array(z.looseObject({ became: z.string(), rows: z.int(), requests: z.int() }))
    .default([]),
});
/** What it changes of one org's model on one day. */
export const line = z.looseObject({
  day: z.string(),
  orgId: z.string(),
  modelId: z.string().nullable(),
  ...change,
});

type Order = z.output<typeof order>;
type OrderWithTotals = z.output<typeof orderWithTotals>;

/** Whether other figures were applied than were previewed. Of an order that is applied. */
export const differsFromPreview = ({ totals }: OrderWithTotals): boolean =>
  totals.some(({ previewed, applied }) =>
    SUMS.some(({ read }) => read(previewed) !== read(applied)),
  );

/** Whether something of what was applied still is. Of an order that is undone: single events that are gone keep it. */
export const isLeftApplied = ({ totals }: OrderWithTotals): boolean =>
  totals.some(({ applied }) => SUMS.some(({ read }) => /[1-9]/.test(read(applied))));

const SUMS: readonly { title: string; read: (of: Sums) => string }[] = [
  { title: "priced before", read: (of) => formatNumber(of.requestsBefore) },
  { title: "after", read: (of) => formatNumber(of.requestsAfter) },
  { title: "cost before", read: (of) => of.costBefore },
  { title: "after", read: (of) => of.costAfter },
  { title: "difference", read: (of) => of.difference },
];
const sumColumns: readonly Column[] = SUMS.map(({ title }) => ({ title, isNumeric: true }));
const sumCells = (of: Sums): string[] => SUMS.map(({ read }) => read(of));
const texts = (...titles: string[]): Column[] => titles.map((title) => ({ title }));

/** What an order is about and how far it is. */
export function formatOrder(one: Order): string {
  const { total, done, withoutRaw } = one.days;
  const left =
    withoutRaw === 0
      ? null
      : `${formatNumber(withoutRaw)}: rated again from sums, where that is exact`;
  return formatFacts([
    ["id", String(one.reratingId)],
    ["state", one.state],
    ["price book", `version ${one.bookVersion}`],
    ["org", one.orgId ?? "all"],
    ["model", one.modelId ?? "all"],
    ["from", one.start],
    ["to", one.end],
    ["reason", one.reason],
    ["ordered", `${one.createdAt} by ${one.createdByName}`],
    ["finished", one.finishedAt],
    ["days done", `${formatNumber(done)} of ${formatNumber(total)}`],
    ["without events", left],
    ["trouble", formatTrouble(one) ?? null],
  ]);
}

/** Why an order does not go on, and what a person may do about it; undefined while it does. */
export function formatTrouble({ reratingId, state, waitsFor, failure }: Order): string | undefined {
  if (failure !== null) {
    const { day, times, since, nextTryAt, error } = failure;
    const where = day === null ? "" : ` on ${day}`;
    const out = OUT[state];
    const way = out === undefined ? "" : ` "rerate ${out} ${reratingId}" gives it up.`;
    return `It failed ${formatCount(times, "time")} in a row since ${since}, the last time${where} with "${error}", and is tried again at ${nextTryAt}.${way}`;
  }
  if (waitsFor === null) return undefined;
  return `It waits for re-rating ${waitsFor} to end; "rerate show ${waitsFor}" tells how far that is.`;
}

/** By state, what ends an order that fails in it. */
const OUT: Record<string, string | undefined> = {
  ordered: "cancel",
  previewing: "cancel",
  applying: "undo",
};

const shortTrouble = ({ waitsFor, failure }: Order): string =>
  failure !== null ? ", failing" : waitsFor !== null ? `, waits for ${waitsFor}` : "";

/** A table of orders. */
export const formatOrders = (orders: readonly Order[]): string =>
  formatTable(
    [
      { title: "id", isNumeric: true },
      ...texts("state", "days", "org", "model", "from", "to", "reason", "by"),
    ],
    orders.map((one) => [
      String(one.reratingId),
      `${one.state}${shortTrouble(one)}`,
      `${one.days.done}/${one.days.total}`,
      one.orgId ?? "all",
      one.modelId ?? "all",
      one.start,
      one.end,
      one.reason,
      one.createdByName,
    ]),
  );

/** What becomes of usage whose single events are gone; nothing where there is none that would change. */
export const formatTally = ({ withoutRaw }: OrderWithTotals): string =>
  withoutRaw.length === 0
    ? ""
    : `\n${formatTable(
        [
          ...texts("without events"),
          { title: "rows", isNumeric: true },
          { title: "requests", isNumeric: true },
        ],
        withoutRaw.map(({ became, rows, requests }) => [
          became === "rated" ? "rated again" : `left: ${LEFT[became] ?? became}`,
          formatNumber(rows),
          formatNumber(requests),
        ]),
      )}`;

const LEFT: Record<string, string | undefined> = {
  unpriced: "had no price, and some may have one now",
  no_price: "have no price any more",
  other_model: "models beyond those that the org may name",
  pool: "may share in a pool",
  cut: "the order begins or ends within",
  turn: "the price changes within",
  currency: "the price is in another currency",
  not_linear: "the price has tiers, or counts seconds",
  fraction: "the price has parts of a billionth",
  not_counted: "may hold usage that nobody counted",
  class_unpriced: "used what the price does not name",
  too_large: "cost too much to be certain",
};

const NOTHING_TO_CHANGE = "Nothing to change: no cost would be another one.\n";
const NOTHING: Record<string, string | undefined> = {
  ordered: "Nothing is known yet.\n",
  previewing: "Nothing is known yet.\n",
  cancelled: "Nothing was found before it was cancelled.\n",
};

/** By currency what was previewed, and beside it what was applied once that is under way. */
export function formatTotals({ totals, state }: OrderWithTotals): string {
  if (totals.length === 0) return NOTHING[state] ?? NOTHING_TO_CHANGE;
  const isApplied = /^appl|^und/.test(state);
  const rows = totals.flatMap(({ currency, previewed, applied }) => [
    [currency, "previewed", ...sumCells(previewed)],
    ...(isApplied ? [[currency, "applied", ...sumCells(applied)]] : []),
  ]);
  return formatTable([...texts("currency", "as"), ...sumColumns], rows);
}

/** A table of lines, as previewed. */
export const formatLines = (lines: readonly z.output<typeof line>[]): string =>
  formatTable(
    [...texts("day", "org", "model", "currency"), ...sumColumns],
    lines.map((one) => [
      one.day,
      one.orgId,
      one.modelId ?? "(other)",
      one.currency,
      ...sumCells(one.previewed),
    ]),
  );

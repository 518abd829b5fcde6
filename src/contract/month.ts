import type { Span } from "./window.ts";
import { instantOfLocal, offsetMsAt } from "./zone.ts";

/** A month of the calendar: "2026-11". */
const MONTH = /^(\d{4})-(0[1-9]|1[0-2])$/;

/** Whether a text names a month ("2026-11") of the years 1971 to 2198. */
export const isMonth = (text: string): boolean =>
  MONTH.test(text) && text >= "1971-01" && text < "2199-01";

/** The month that a zone's calendar shows at an instant. */
export const monthAt = (timeZone: string, instantMs: number): string =>
  new Date(instantMs + offsetMsAt(timeZone, instantMs)).toISOString().slice(0, 7);

/** The month so many months after another; before it when negative. */
export const addMonths = (month: string, count: number): string =>
  new Date(Date.UTC(yearOf(month), monthNoOf(month) + count, 1)).toISOString().slice(0, 7);

/** From the first midnight of a month in a zone to that of the next. */
export const spanOfMonth = (timeZone: string, month: string): Span => ({
  startMs: instantOfLocal(timeZone, Date.UTC(yearOf(month), monthNoOf(month), 1)),
  endMs: instantOfLocal(timeZone, Date.UTC(yearOf(month), monthNoOf(month) + 1, 1)),
});

const yearOf = (month: string): number => Number(month.slice(0, 4));
const monthNoOf = (month: string): number => Number(month.slice(5, 7)) - 1;

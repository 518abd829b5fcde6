import assert from "node:assert/strict";
import test from "node:test";
import { addMonths, isMonth, monthAt, spanOfMonth } from "./month.ts";

const iso = (zone: string, month: string) => {
  const { startMs, endMs } = spanOfMonth(zone, month);
  return [startMs, endMs].map((ms) => new Date(ms).toISOString());
};

test("a month lasts from midnight to midnight of the zone, through changes of its clock", () => {
  assert.deepEqual(iso("UTC", "2026-02"), ["2026-02-01T00:00:00.000Z", "2026-03-01T00:00:00.000Z"]);
  assert.deepEqual(iso("Europe/Berlin", "2026-10"), [
    "2026-09-30T22:00:00.000Z",
    "2026-10-31T23:00:00.000Z",
  ]);
  assert.deepEqual(iso("Asia/Kathmandu", "2026-12"), [
    "2026-11-30T18:15:00.000Z",
    "2026-12-31T18:15:00.000Z",
  ]);
});

test("the month at an instant is the one whose span holds it, its end not included", () => {
  for (const zone of ["UTC", "Asia/Kathmandu", "Pacific/Kiritimati", "America/St_Johns"]) {
    for (let month = "2026-01"; month < "2027-02"; month = addMonths(month, 1)) {
      const { startMs, endMs } = spanOfMonth(zone, month);
      assert.deepEqual([monthAt(zone, startMs), monthAt(zone, endMs - 1)], [month, month]);
      assert.equal(monthAt(zone, endMs), addMonths(month, 1));
    }
  }
});

test("months are counted over the turns of years, and what is none is told", () => {
  assert.deepEqual(
    [addMonths("2026-12", 1), addMonths("2026-01", -1), addMonths("2026-01", -13)],
    ["2027-01", "2025-12", "2024-12"],
  );
  assert.deepEqual(
    ["2026-11", "2026-00", "2026-13", "2026-1", "1970-12", "2199-01", "2026-11-01"].map(isMonth),
    [true, false, false, false, false, false, false],
  );
});

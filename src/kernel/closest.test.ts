import assert from "node:assert/strict";
import { test } from "node:test";
import { findClosest } from "#kernel";

test("a slip of the fingers finds the word that was meant, and anything else finds none", () => {
  const words = ["start", "demo", "migrate", "import", "verify", "config"];
  for (const [slip, meant] of [
    ["strat", "start"],
    ["DEMO", "demo"],
    ["migrte", "migrate"],
    ["imoprt", "import"],
    ["verifyy", "verify"],
  ]) {
    assert.equal(findClosest(slip ?? "", words), meant);
  }
  for (const other of ["", "x", "reboot", "exports"])
    assert.equal(findClosest(other, words), undefined);
});

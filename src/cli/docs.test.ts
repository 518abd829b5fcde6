import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import { formatCliDocs } from "./docs.ts";

test("docs/cli.md says what the commands say of themselves", async () => {
  const page = await readFile(new URL("../../docs/cli.md", import.meta.url), "utf8");
  assert.equal(page, formatCliDocs(), "stale: run `node bin/tallystick.mjs dev cli-docs`");
});

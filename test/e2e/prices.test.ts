/** Prices under version control, as an operator brings them to a running service. */
import assert from "node:assert/strict";
import { mkdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { temporaryFolder, testService } from "#harness";
import { runCli } from "./run-cli.ts";

test("prices from files are compared, applied once, listed, and taken away with their file", async () => {
  await using service = await testService();
  await using folder = await temporaryFolder();
  const prices = join(folder.path, "prices");
  await mkdir(prices);
  const write = (name: string, text: string) => writeFile(join(prices, name), text);
  const run = (...args: string[]) => runCli(["prices", ...args, "--data-dir", service.dataDir]);
  await runCli(["orgs", "create", "acme", "--data-dir", service.dataDir]);
  await write(
    "all.yaml",
    "prices:\n  - { model: chat-*, perMillion: { input: 2.50, output: 10 } }\n",
  );
  await write(
    "acme.yaml",
    "prices:\n  - { model: chat-large, orgId: acme, perMillion: { input: 2.25, output: 9 } }\n",
  );
  await write("notes.txt", "not looked at");

  const before = await run("diff", prices);
  assert.deepEqual([before.code, before.stderr], [1, ""]);
  assert.match(
    before.stdout,
    /^added +chat-large +acme .*input 2\.25, output 9 USD\/M tokens +prices\/acme\.yaml$/m,
  );
  assert.match(before.stdout, /^Would be version 1: 2 added, 0 changed, 0 removed\.$/m);
  const applied = await run("apply", prices);
  assert.equal(applied.code, 0, applied.stderr);
  assert.match(applied.stdout, /^Version 1: 2 added/m);
  const after = await run("diff", prices);
  assert.deepEqual(
    [after.code, after.stdout],
    [0, "Nothing to change: the price book of version 1 says the same.\n"],
  );
  assert.equal((await run("apply", prices)).stdout, after.stdout);

  const own = await run("list", "--org=acme", "--model=chat-large", "--json");
  const listed = JSON.parse(own.stdout) as {
    items: { model: string; price: { perMillion: object } }[];
  };
  assert.deepEqual(
    listed.items.map(({ model, price }) => [model, price.perMillion]),
    [["chat-large", { input: "2.25", output: "9" }]],
  );

  await rm(join(prices, "acme.yaml"));
  assert.match((await run("apply", prices)).stdout, /^removed +chat-large +acme/m);
  const book = await run("list");
  assert.match(book.stdout, /^chat-\* .* own +1$/m);
  assert.doesNotMatch(book.stdout, /acme/);
  const audit = await runCli([
    "audit",
    "list",
    "--system",
    "--json",
    "--data-dir",
    service.dataDir,
  ]);
  assert.equal(audit.stdout.match(/prices\.apply/g)?.length, 2);
});

test("a file with mistakes is refused before anything is sent, each mistake with its line", async () => {
  await using folder = await temporaryFolder();
  const file = join(folder.path, "wrong.yaml");
  await writeFile(
    file,
    "prices:\n  - model: m\n    perMillion: { input: 1,5 }\n  - model: n\n    perMilion: {}\n",
  );
  const { code, stdout, stderr } = await runCli([
    "prices",
    "apply",
    file,
    "--data-dir",
    folder.path,
  ]);
  assert.deepEqual([code, stdout], [2, ""]);
  assert.match(stderr, /wrong\.yaml:3: prices\[0\]\.perMillion\.5: there is no such field/);
  assert.match(
    stderr,
    /wrong\.yaml:5: prices\[1\]\.perMilion: there is no such field; did you mean perMillion\?/,
  );
  assert.match(stderr, /Nothing was sent\.$/m);
});

test("the catalogue goes under the own prices, and what of it could not be said is told", async () => {
  await using service = await testService();
  const run = (...args: string[]) => runCli(["prices", ...args, "--data-dir", service.dataDir]);
  const foreseen = await run("seed", "--provider=openai", "--dry-run");
  assert.equal(foreseen.code, 0, foreseen.stderr);
  assert.match(foreseen.stdout, /^Would be version 1: \d{2,} added, 0 changed, 0 removed\.$/m);
  const seeded = await run("seed", "--provider=openai", "--json");
  const { counts, notes } = JSON.parse(seeded.stdout) as {
    counts: { added: number };
    notes: { model: string }[];
  };
  assert.ok(counts.added > 50 && notes.length > 0);
  assert.ok(notes.every(({ model }) => model.startsWith("openai/")));
  assert.match((await run("seed", "--provider=openai")).stdout, /^Nothing to change/);
  const { stdout } = await run("list", "--model=gpt-4o");
  assert.match(stdout, /^gpt-4o .*input 2\.5\b.*catalogue +1$/m);
  const unknown = await run("seed", "--provider=opnai");
  assert.deepEqual([unknown.code, unknown.stderr.includes("Did you mean openai?")], [2, true]);
});

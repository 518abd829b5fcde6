/** Budgets as an operator sets them on the command line of a running service. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { anEvent, testService, waitFor } from "#harness";
import { runCli } from "./run-cli.ts";

type Listed = {
  budgets: {
    budgetId: string;
    spent: { amount: string };
    thresholds: { percent: number; crossedAt: string | null }[];
  }[];
};

test("a budget is set, its spend and its crossings are listed, and it is deleted", async () => {
  await using service = await testService();
  const run = (...args: string[]) => runCli(["budgets", ...args, "--data-dir", service.dataDir]);
  await runCli(["orgs", "create", "acme", "--data-dir", service.dataDir]);
  const set = await run("set", "large", "--org=acme", "--amount=10.5", "--model=chat-large");
  assert.deepEqual([set.code, set.stderr], [0, ""]);
  assert.match(set.stdout, /^per month +10\.50 USD$/m);
  assert.match(set.stdout, /^thresholds +50 %, 80 %, 100 %$/m);

  const now = new Date(Date.now()).toISOString();
  await service.send([anEvent({ occurred_at: now, cost_estimate: "5.25" })]);
  const list = async (): Promise<Listed> =>
    JSON.parse((await run("list", "--org=acme", "--json")).stdout) as Listed;
  await waitFor(async () => (await list()).budgets[0]?.spent.amount === "5.25");
  const table = await run("list", "--org=acme");
  assert.match(table.stdout, /^large +chat-large +USD +10\.50 +5\.25 +50 %/m);

  // One that starts looks at all budgets at once.
  await using _other = await testService({ db: service.db });
  await waitFor(async () => (await list()).budgets[0]?.thresholds[0]?.crossedAt !== null);
  assert.match((await run("list", "--org=acme")).stdout, /^large .* 50 %$/m);

  const deleted = await run("delete", "large", "--org=acme");
  assert.equal(deleted.code, 0, deleted.stderr);
  assert.equal((await run("list", "--org=acme")).stdout, "No budgets.\n");
  const again = await run("delete", "large", "--org=acme");
  assert.deepEqual([again.code, /no such budget/.test(again.stderr)], [1, true]);
  const audit = await runCli(["audit", "list", "--org=acme", "--data-dir", service.dataDir]);
  assert.match(audit.stdout, /budget\.set/);
  assert.match(audit.stdout, /budget\.delete/);
});

test("what cannot be asked is refused before anything is sent", async () => {
  const refused = async (...args: string[]) => {
    const { code, stderr } = await runCli(["budgets", ...args]);
    assert.equal(code, 2, stderr);
    return stderr;
  };
  assert.match(await refused("raise"), /list, set, delete/);
  assert.match(await refused("list"), /--org ORG/);
  assert.match(await refused("list", "--org=acme", "--amount=1"), /--amount goes with set/);
  assert.match(await refused("set", "all", "--org=acme"), /--amount AMOUNT/);
  assert.match(
    await refused("set", "all", "--org=acme", "--amount=1", "--threshold=half"),
    /whole number of per cent/,
  );
});

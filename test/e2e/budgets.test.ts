/** Budgets as an operator sets them on the command line of a running service, and keeps them under version control. */
import assert from "node:assert/strict";
import { mkdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { anEvent, temporaryFolder, testService, waitFor } from "#harness";
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
  assert.match(await refused("apply", "--org=acme"), /--org goes with list, set, delete/);
  assert.match(await refused("list", "--org=acme", "--prune"), /--prune goes with diff, apply/);
});

test("budgets from files are compared and applied; repeated they change nothing, and others go only when told to", async () => {
  await using service = await testService();
  await using folder = await temporaryFolder();
  const budgets = join(folder.path, "budgets");
  await mkdir(budgets);
  const write = (name: string, text: string) => writeFile(join(budgets, name), text);
  const run = (...args: string[]) => runCli(["budgets", ...args, "--data-dir", service.dataDir]);
  const listed = async (orgId: string): Promise<string[]> => {
    const { stdout } = await run("list", `--org=${orgId}`, "--json");
    return (JSON.parse(stdout) as Listed).budgets.map(({ budgetId }) => budgetId);
  };
  for (const orgId of ["acme", "globex"])
    await runCli(["orgs", "create", orgId, "--data-dir", service.dataDir]);
  await run("set", "by-hand", "--org=acme", "--amount=1");
  const acme = "orgId: acme\nbudgets:\n  - { budgetId: all, amount: 2500 }\n";
  const large = "  - { budgetId: large, modelId: chat-large, amount: 99.95, thresholds: [90] }\n";
  await write("acme.yaml", `${acme}${large}`);
  await write("globex.yaml", "budgets: [{ orgId: globex, budgetId: all, amount: 900 }]\n");
  await write("notes.txt", "not looked at");

  const before = await run("diff", budgets);
  assert.deepEqual([before.code, before.stderr], [1, ""]);
  assert.match(before.stdout, /^added +acme +large +chat-large +99\.95 USD +90 %/m);
  assert.match(before.stdout, /^Would be: 3 added, 0 changed, 0 removed\.$/m);
  assert.deepEqual(await listed("globex"), []);
  const applied = await run("apply", budgets);
  assert.equal(applied.code, 0, applied.stderr);
  assert.match(applied.stdout, /^Applied: 3 added/m);
  const again = await run("apply", budgets);
  assert.deepEqual(
    [again.code, again.stdout],
    [0, "Nothing to change: 3 budgets in the files, and all are as they say.\n"],
  );
  assert.deepEqual(await run("diff", budgets), again);

  await write("acme.yaml", acme.replace("2500", "2600.50"));
  const changed = await run("apply", budgets);
  assert.match(changed.stdout, /^was +acme +all +2500\.00 USD/m);
  assert.match(changed.stdout, /^changed +acme +all +2600\.50 USD/m);
  assert.match(changed.stdout, /^Applied: 0 added, 1 changed, 0 removed\.$/m);
  assert.deepEqual(await listed("acme"), ["all", "by-hand", "large"]);

  await rm(join(budgets, "globex.yaml"));
  const foreseen = await run("diff", budgets, "--prune");
  assert.match(foreseen.stdout, /^Would be: 0 added, 0 changed, 2 removed\.$/m);
  const pruned = await run("apply", budgets, "--prune");
  assert.match(pruned.stdout, /^removed +acme +by-hand/m);
  assert.deepEqual(await listed("acme"), ["all"]);
  assert.deepEqual(await listed("globex"), ["all"], "no file names that org any more");
  const audit = await runCli(["audit", "list", "--org=acme", "--data-dir", service.dataDir]);
  assert.equal(audit.stdout.match(/budget\.set/g)?.length, 4);
  assert.equal(audit.stdout.match(/budget\.delete/g)?.length, 2);
});

test("files with mistakes are refused before anything is sent; what only the service knows is told by its place in them", async () => {
  await using service = await testService();
  await using folder = await temporaryFolder();
  const file = join(folder.path, "some.yaml");
  const run = (...args: string[]) => runCli(["budgets", ...args, "--data-dir", service.dataDir]);
  await runCli(["orgs", "create", "acme", "--data-dir", service.dataDir]);
  const acme = "budgets:\n  - { orgId: acme, budgetId: all, amount: 5 }\n";

  await writeFile(file, `${acme}  - orgId: acme\n    budgetId: large\n    amout: 1,5\n`);
  const wrong = await run("apply", file);
  assert.deepEqual([wrong.code, wrong.stdout], [2, ""]);
  assert.match(wrong.stderr, /some\.yaml:3: budgets\[1\]\.amount: is missing$/m);
  assert.match(
    wrong.stderr,
    /some\.yaml:5: budgets\[1\]\.amout: there is no such field; did you mean amount\?$/m,
  );
  assert.match(wrong.stderr, /^Nothing was sent\.$/m);

  await writeFile(file, `${acme}  - orgId: nobody\n    budgetId: all\n    amount: 5\n`);
  for (const action of ["diff", "apply"]) {
    const unknown = await run(action, file);
    assert.deepEqual([unknown.code, unknown.stdout], [1, ""]);
    assert.match(
      unknown.stderr,
      /some\.yaml:3: budgets\[1\]\.orgId: There is no org nobody\.\nNothing was changed\.\n$/,
    );
  }
  assert.equal((await run("list", "--org=acme")).stdout, "No budgets.\n");
});

/** What an operator does from the command line to bring customers in, and to shut them out. */
import assert from "node:assert/strict";
import { test } from "node:test";
import {
  anEvent,
  temporaryFolder,
  testDatabase,
  testService,
  waitFor,
  type ServiceFace,
} from "#harness";
import { type Ended, runCli, startCli } from "./run-cli.ts";

type MadeKey = { id: string; key: string; expiresAt: string | null; replaces: string | null };

/** Runs a command beside a service, as its administrator, and parses what it prints. */
function commandsOf(service: Pick<ServiceFace, "dataDir">) {
  const run = (...args: string[]): Promise<Ended> =>
    runCli([...args, "--data-dir", service.dataDir]);
  return {
    run,
    json: async <T>(...args: string[]): Promise<T> => {
      const { code, stdout, stderr } = await run(...args, "--json");
      assert.equal(code, 0, stderr);
      return JSON.parse(stdout) as T;
    },
  };
}

const statusFor = async (
  service: ServiceFace,
  key: string,
  path: string,
  init: RequestInit = {},
): Promise<number> => {
  const headers = { authorization: `Bearer ${key}`, "content-type": "application/json" };
  return (await service.request(path, { ...init, headers })).status;
};

const now = (): string => new Date().toISOString();

test("an org's first events wait until it was made, and count once they are replayed", async () => {
  await using service = await testService({ env: { UNKNOWN_ORGS: "quarantine" } });
  const { run, json } = commandsOf(service);
  const events = Array.from({ length: 3 }, () => anEvent({ occurred_at: now() }));
  const { counts, results } = await service.send(events);
  assert.deepEqual([counts.rejected, results[0]?.code], [3, "unknown_org"]);

  const made = await run("orgs", "create", "acme", "--name=Acme Corp.", "--entitlement=seats=20");
  assert.equal(made.code, 0, made.stderr);
  assert.match(made.stdout, /^org +acme$/m);
  assert.match(made.stdout, /^entitlement seats +20$/m);
  const replayed = await run("quarantine", "replay", "--system", "--all", "--code=unknown_org");
  assert.equal(replayed.stdout, "3 items replayed: 3 counted, 0 refused again\n", replayed.stderr);

  const changed = await run("orgs", "update", "acme", "--cost-basis=computed");
  assert.match(changed.stdout, /^cost basis +computed$/m, changed.stderr);
  assert.equal((await run("orgs", "update", "acme", "--cost-basis=both")).code, 1);

  const tagged = await run("orgs", "update", "acme", "--tag-key=team", "--tag-key=tier");
  assert.match(tagged.stdout, /^tag keys +team, tier$/m, tagged.stderr);
  const untagged = await run("orgs", "update", "acme", "--tag-key=");
  assert.doesNotMatch(untagged.stdout, /^tag keys/m, untagged.stderr);

  const again = await run("orgs", "create", "acme");
  assert.deepEqual([again.code, again.stdout], [1, ""]);
  assert.match(again.stderr, /409/);
  const { items } = await json<{ items: { orgId: string; name: string }[] }>("orgs", "list");
  assert.deepEqual(
    items.map(({ orgId, name }) => [orgId, name]),
    [["acme", "Acme Corp."]],
  );
});

test("a key made from the command line works, is rotated without a gap, and ends when it is revoked", async () => {
  await using service = await testService();
  const { run, json } = commandsOf(service);
  await json("orgs", "create", "acme");
  const first = await json<MadeKey>(
    "keys",
    "create",
    "--org=acme",
    "--name=gateway",
    "--role=producer",
  );
  assert.match(first.key, /^tally_live_/);
  const send = (key: string, orgId = "acme") => {
    const body = JSON.stringify([anEvent({ occurred_at: now(), org_id: orgId })]);
    return statusFor(service, key, "/analytics/v1/events", { method: "POST", body });
  };
  assert.equal(await send(first.key), 200);
  assert.equal(await send(first.key, "globex"), 207);

  const second = await json<MadeKey>("keys", "rotate", first.id, "--org=acme");
  assert.equal(second.replaces, first.id);
  assert.deepEqual(await Promise.all([send(first.key), send(second.key)]), [200, 200]);
  const revoked = await run("keys", "revoke", first.id, "--org=acme");
  assert.equal(revoked.code, 0, revoked.stderr);
  assert.deepEqual(await Promise.all([send(first.key), send(second.key)]), [401, 200]);

  const table = await run("keys", "list", "--org=acme");
  assert.match(table.stdout, new RegExp(`^${second.id} +gateway +producer`, "m"));
  assert.match(table.stdout, new RegExp(`^${first.id} .* revoked `, "m"));
  for (const { key } of [first, second]) assert.ok(!table.stdout.includes(key));
});

test("a key of several orgs writes for these and for no other", async () => {
  await using service = await testService();
  const { json } = commandsOf(service);
  const { key } = await json<MadeKey>(
    "keys",
    "create",
    "--system",
    "--name=gateway",
    "--role=producer",
    "--writes-for=acme",
    "--writes-for=globex",
  );
  const answer = await service.request("/analytics/v1/events", {
    method: "POST",
    headers: { authorization: `Bearer ${key}`, "content-type": "application/json" },
    body: JSON.stringify(
      ["acme", "globex", "initech"].map((org_id) => anEvent({ org_id, occurred_at: now() })),
    ),
  });
  const { results } = (await answer.json()) as { results: { status: string; code?: string }[] };
  assert.deepEqual(
    results.map(({ status, code }) => code ?? status),
    ["accepted", "accepted", "org_forbidden"],
  );
});

test("a suspended org is out and its events wait, an active one is back in, a deleted one is gone", async () => {
  await using service = await testService();
  const { run, json } = commandsOf(service);
  await json("orgs", "create", "acme");
  const { key } = await json<MadeKey>(
    "keys",
    "create",
    "--org=acme",
    "--name=page",
    "--role=engineer",
  );
  const usage = `/analytics/v1/orgs/acme/usage?start=2026-11-20T00:00:00Z&end=2026-11-21T00:00:00Z&granularity=day`;
  const send = async () =>
    (await service.send([anEvent({ occurred_at: now() })])).results[0]?.code ?? "counted";
  assert.deepEqual([await statusFor(service, key, usage), await send()], [200, "counted"]);

  await json("orgs", "suspend", "acme");
  assert.deepEqual([await statusFor(service, key, usage), await send()], [403, "org_suspended"]);
  const { status } = await json<{ status: string }>("orgs", "activate", "acme");
  assert.equal(status, "active");
  assert.deepEqual([await statusFor(service, key, usage), await send()], [200, "counted"]);

  const unsure = await run("orgs", "delete", "acme");
  assert.equal(unsure.code, 2);
  assert.equal((await run("orgs", "delete", "acme", "--yes")).code, 0);
  assert.deepEqual([await statusFor(service, key, usage), await send()], [401, "unknown_org"]);
  assert.equal((await service.request(usage)).status, 404);
  assert.equal((await run("orgs", "activate", "acme")).code, 1);
});

test("models are described and listed", async () => {
  await using service = await testService();
  const { run, json } = commandsOf(service);
  await json("models", "set", "vendor/chat large", "--name=Chat Large", "--billing-tier=premium");
  const { stdout } = await run("models", "list");
  assert.match(stdout, /^vendor\/chat large +Chat Large +premium$/m);
});

test("a sign-in link made from the command line signs one browser in", async () => {
  await using service = await testService();
  const { run } = commandsOf(service);
  const made = await run("sign-in-link");
  assert.equal(made.code, 0, made.stderr);
  const link = made.stdout.trim();
  assert.ok(link.startsWith(`${service.url}/sign-in/link/`), link);
  const page = await fetch(link);
  assert.equal(page.status, 200);
});

test("arguments that could touch more than was meant, or give a secret away, are refused", async () => {
  const cases = [
    ["keys", "list"],
    ["keys", "list", "--org=a", "--system"],
    ["keys", "create", "--org=a", "--name=x"],
    ["keys", "revoke", "--org=a"],
    ["keys", "revoke", "tally_live_abc_def_ghi", "--org=a"],
    ["keys", "rotate", "abc", "--org=a", "--overlap-hours=-1"],
    ["orgs", "delete", "a"],
    ["orgs", "update", "a"],
    ["orgs", "suspend", "a", "--name=x"],
    ["orgs", "update", "a", "--currency=EUR"],
    ["orgs", "create"],
    ["orgs", "create", "a", "--entitlement=seats"],
    ["models", "set", "a"],
    ["models", "list", "a"],
  ];
  for (const args of cases) {
    const ended = await runCli(args);
    assert.deepEqual([ended.code, ended.stdout], [2, ""], `${args.join(" ")}: ${ended.stderr}`);
  }
});

test("the first start prints the admin key and a link that signs a browser in; later ones print neither", async () => {
  await using db = await testDatabase();
  await using folder = await temporaryFolder();
  const start = () =>
    startCli(["start", "--port=0", "--data-dir", folder.path], { env: { DATABASE_URL: db.url } });
  const find = (lines: readonly string[], pattern: RegExp) =>
    waitFor(() => lines.find((line) => pattern.test(line)), { msMax: 30_000 });
  {
    await using first = start();
    const link = await find(first.lines, /^ {2}http.*\/sign-in\/link\//);
    assert.ok(first.lines.some((line) => /^ {2}tally_admin_\w+$/.test(line)));
    assert.equal((await fetch(link.trim())).status, 200);
    first.kill("SIGTERM");
    await first.ended;
  }
  await using second = start();
  await find(second.lines, /listens on/);
  second.kill("SIGTERM");
  const { stdout } = await second.ended;
  assert.doesNotMatch(stdout, /tally_admin_|sign-in/);
});

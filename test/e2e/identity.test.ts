/** What the settings of an identity provider, of keys and of limits do to a whole service. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { diagnose } from "#app";
import { loadConfig } from "#config";
import { anEvent, startTestIssuer, temporaryFolder, testService, type TestIssuer } from "#harness";
import { systemClock } from "#kernel";
import { runCli } from "./run-cli.ts";

const settingsOf = (issuer: TestIssuer): Record<string, string> => ({
  OIDC_ISSUER: issuer.url,
  OIDC_AUDIENCE: issuer.audience,
});

type Me = { roles: string[]; orgId: string | null; writesFor: string[] | "any" };

test("an access token of the provider that is set up comes in under the roles that the settings give it", async () => {
  await using issuer = await startTestIssuer();
  await using service = await testService({
    env: {
      ...settingsOf(issuer),
      OIDC_ORG_CLAIM: "customer.id",
      OIDC_ROLES_CLAIM: "groups",
      OIDC_ROLE_MAP: "Devs=engineer,Sensors=producer,Controlling=system:finance",
    },
  });
  const ask = async (path: string, token: string) =>
    await service.request(path, { headers: { authorization: `Bearer ${token}` } });
  const tokenFor = (groups: string[], id?: string) =>
    issuer.accessToken({ sub: "somebody", groups, customer: { id } });
  const me = async (token: string): Promise<Me> =>
    (await (await ask("/analytics/v1/me", token)).json()) as Me;

  const developer = await me(await tokenFor(["Devs", "Sensors"], "acme"));
  assert.deepEqual(
    { roles: developer.roles.toSorted(), orgId: developer.orgId, writesFor: developer.writesFor },
    { roles: ["engineer", "producer"], orgId: "acme", writesFor: ["acme"] },
  );
  const controller = await me(await tokenFor(["Controlling"]));
  assert.deepEqual([controller.roles, controller.orgId], [["finance"], null]);
  // The provider's own word for it is none of ours.
  assert.equal((await ask("/analytics/v1/me", await tokenFor(["system_admin"]))).status, 403);
});

test("a service without a provider takes no token, and says no more than to any other stranger", async () => {
  await using issuer = await startTestIssuer();
  await using service = await testService();
  const authorization = `Bearer ${await issuer.accessToken({ sub: "x", roles: ["system_admin"] })}`;
  const refused = await service.request("/analytics/v1/me", { headers: { authorization } });
  assert.equal(refused.status, 401);
  assert.equal(issuer.keyFetches, 0);
});

test("requests of one key are limited as the settings say, and ingestion is counted apart", async () => {
  await using service = await testService({ env: { RATE_KEY_PER_MINUTE: "3" } });
  const statuses: number[] = [];
  for (let i = 0; i < 4; i++) statuses.push((await service.request("/analytics/v1/me")).status);
  assert.deepEqual(statuses, [200, 200, 200, 429]);
  const { counts } = await service.send([anEvent({ occurred_at: new Date().toISOString() })]);
  assert.equal(counts.accepted, 1);
});

test("keys carry the environment that is set, and those of another one are refused", async () => {
  await using service = await testService({ env: { KEY_ENVIRONMENT: "staging" } });
  const make = ["keys", "create", "--system", "--name=x", "--role=engineer", "--json"];
  const made = await runCli([...make, "--data-dir", service.dataDir]);
  assert.equal(made.code, 0, made.stderr);
  const { key } = JSON.parse(made.stdout) as { key: string };
  assert.match(key, /^tally_staging_/);
  const ask = async (text: string) => {
    const headers = { authorization: `Bearer ${text}` };
    return (await service.request("/analytics/v1/me", { headers })).status;
  };
  assert.deepEqual([await ask(key), await ask(key.replace("_staging_", "_live_"))], [200, 401]);
});

test("doctor tells whether the provider can be reached, has keys, and agrees about the time", async () => {
  await using issuer = await startTestIssuer();
  await using folder = await temporaryFolder();
  const look = async (aheadMs: number) => {
    const { config } = loadConfig({ DATA_DIR: folder.path, ...settingsOf(issuer) });
    const checks = await diagnose(config, { now: () => systemClock.now() + aheadMs });
    return checks.find(({ name }) => name === "identity");
  };
  const good = await look(0);
  assert.equal(good?.state, "ok", good?.detail);
  assert.match(good.detail, /1 signing key\b/);
  const late = await look(120_000);
  assert.equal(late?.state, "warning");
  assert.match(late.detail, /clock is 1[12]\d s behind/);
  issuer.answerKeysWith({ body: "<html>" });
  assert.equal((await look(0))?.state, "failed");
  issuer.answerKeysWith(undefined);
  await issuer.stop();
  assert.equal((await look(0))?.state, "failed");
});

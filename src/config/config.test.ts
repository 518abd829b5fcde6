import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import {
  ConfigError,
  formatConfigurationDocs,
  loadConfig,
  printConfig,
  SETTING_ROWS,
} from "#config";

test("an empty environment works, and an empty variable counts as not given", () => {
  const { config, warnings } = loadConfig({ PORT: "" });
  assert.equal(config.port, 8080);
  assert.equal(config.dataDir, "./.tallystick");
  assert.equal(config.ingestPendingBytesMax, 128 * 1024 ** 2);
  assert.equal(config.databaseUrl, undefined);
  assert.deepEqual(warnings, []);
});

test("all bad settings are reported at once, by name and kind and example, never by value", () => {
  const env = {
    PORT: "eighty",
    DATABASE_URL: "mysql://root:hunter2@db/x",
    LOG_LEVEL: "loud",
    HTTP_BODY_BYTES_MAX: "5 parsecs",
    TALLYSTICK_CRASHPOINT: "hunter2:1",
  };
  assert.throws(
    () => loadConfig(env),
    (error) => {
      assert.ok(error instanceof ConfigError);
      assert.equal(error.problems.length, 5);
      for (const name of Object.keys(env))
        assert.match(error.message, new RegExp(`${name}: expected .*, for example `));
      assert.doesNotMatch(error.message, /hunter2|eighty|parsecs|loud/);
      return true;
    },
  );
});

test("numbers out of bounds, and settings that contradict each other, are refused", () => {
  for (const env of [
    { PORT: "65536" },
    { PORT: "-1" },
    { INGEST_LANES: "0" },
    { PORT: "8080.5" },
    { PORT: "1e3" },
  ]) {
    assert.throws(() => loadConfig(env), ConfigError);
  }
  assert.throws(
    () => loadConfig({ DEDUP_WINDOW_DAYS: "31" }),
    /DEDUP_WINDOW_DAYS: expected at most RAW_RETENTION_DAYS/,
  );
});

test("an unknown variable that looks like ours is named, with the likely one", () => {
  const { warnings } = loadConfig({
    TALLYSTICK_CRASHPIONT: "x",
    TALLYSTICK_PORT: "1",
    TALLYSTICK_ZZZZZZZZ: "",
    OTHER: "1",
  });
  assert.deepEqual(warnings, [
    "TALLYSTICK_CRASHPIONT is not a setting; did you mean TALLYSTICK_CRASHPOINT?",
    "TALLYSTICK_PORT is not a setting; did you mean PORT?",
    "TALLYSTICK_ZZZZZZZZ is not a setting; see docs/configuration.md",
  ]);
});

test("the command line wins over the environment, and printing tells which were given and blanks secrets", () => {
  const loaded = loadConfig(
    {
      PORT: "1",
      DATABASE_URL: "postgres://root:hunter2@db:5432/x?password=hunter2",
      TALLYSTICK_CRASHPOINT: "after_ack:2",
    },
    { PORT: "2" },
  );
  const printed = new Map(printConfig(loaded).map((item) => [item.name, item]));
  assert.deepEqual(printed.get("PORT"), { name: "PORT", value: "2", isDefault: false });
  assert.deepEqual(printed.get("HOST"), { name: "HOST", value: "127.0.0.1", isDefault: true });
  assert.equal(printed.get("DATABASE_URL")?.value, "postgres://[redacted]@db:5432/x");
  assert.equal(printed.get("TALLYSTICK_CRASHPOINT")?.value, "after_ack:2");
  assert.equal(printed.size, SETTING_ROWS.length);
});

test("every setting's default and example are accepted", () => {
  // Some settings ask for another beside them.
  const others = {
    RABBITMQ_URL: "amqp://broker",
    OIDC_ISSUER: "https://login.example",
    OIDC_AUDIENCE: "tallystick",
    OIDC_CLIENT_ID: "tallystick",
  };
  for (const row of SETTING_ROWS) {
    for (const value of [row.byDefault ?? row.example, row.example])
      loadConfig({ ...others, [row.name]: value });
  }
});

test("settings about identity that would let the wrong people in are refused", () => {
  const refused: [Record<string, string>, RegExp][] = [
    [{ OIDC_ISSUER: "https://login.example" }, /OIDC_ISSUER: needs OIDC_AUDIENCE/],
    [{ OIDC_ISSUER: "http://login.example", OIDC_AUDIENCE: "a" }, /OIDC_ISSUER: expected an https/],
    [{ OIDC_ISSUER: "https://u:p@login.example", OIDC_AUDIENCE: "a" }, /OIDC_ISSUER: expected/],
    [{ OIDC_JWKS_URL: "http://127.0.0.1.evil.example/keys" }, /OIDC_JWKS_URL: expected/],
    [{ OIDC_CLIENT_ID: "tallystick" }, /OIDC_CLIENT_ID: needs OIDC_ISSUER/],
    [{ OIDC_CLIENT_SECRET: "hunter2" }, /OIDC_CLIENT_SECRET: needs OIDC_CLIENT_ID/],
    [{ OIDC_ROLE_MAP: "Staff=root" }, /OIDC_ROLE_MAP: expected/],
    [{ OIDC_ROLE_MAP: "a=finance,a=engineer" }, /OIDC_ROLE_MAP: expected/],
    [{ PUBLIC_URL: "https://tallystick.example/below" }, /PUBLIC_URL: expected/],
    [{ KEY_ENVIRONMENT: "live_2" }, /KEY_ENVIRONMENT: expected/],
    [{ STREAM_ORGS: "acme,*" }, /STREAM_ORGS: expected/],
    [{ QUEUE_ORGS: "acme,,globex" }, /QUEUE_ORGS: expected/],
    [{ UNKNOWN_ORGS: "drop" }, /UNKNOWN_ORGS: expected/],
  ];
  for (const [env, message] of refused) assert.throws(() => loadConfig(env), message);
});

test("lists of orgs, the map of roles and the public address are read as written", () => {
  const { config } = loadConfig({
    OIDC_ISSUER: "http://localhost:9000/realm",
    OIDC_AUDIENCE: "tallystick",
    OIDC_ROLE_MAP: "Team Billing=system:finance, devs = engineer",
    PUBLIC_URL: "https://tallystick.example:8443/",
    STREAM_ORGS: "acme, globex",
  });
  assert.equal(config.oidcIssuer, "http://localhost:9000/realm");
  assert.deepEqual(
    [...(config.oidcRoleMap ?? [])],
    [
      ["Team Billing", "system:finance"],
      ["devs", "engineer"],
    ],
  );
  assert.equal(config.publicUrl, "https://tallystick.example:8443");
  assert.deepEqual(config.streamOrgs, new Set(["acme", "globex"]));
  assert.equal(config.queueOrgs, "any");
});

test("a secret that is no URL is not printed in part", () => {
  const loaded = loadConfig({
    OIDC_ISSUER: "https://login.example",
    OIDC_AUDIENCE: "tallystick",
    OIDC_CLIENT_ID: "tallystick",
    OIDC_CLIENT_SECRET: "data:hunter2",
    TALLYSTICK_ROLES: "api,ingest",
    QUEUE_ORGS: "acme,globex",
  });
  const printed = new Map(printConfig(loaded).map(({ name, value }) => [name, value]));
  assert.equal(printed.get("OIDC_CLIENT_SECRET"), "[redacted]");
  assert.equal(printed.get("TALLYSTICK_ROLES"), "api,ingest");
  assert.equal(printed.get("QUEUE_ORGS"), "acme,globex");
  assert.equal(printed.get("STREAM_ORGS"), "*");
});

test("docs/configuration.md is what the settings table says", async () => {
  const file = await readFile(new URL("../../docs/configuration.md", import.meta.url), "utf8");
  assert.equal(
    file,
    formatConfigurationDocs(),
    "stale: run `node bin/tallystick.mjs dev config-docs`",
  );
});

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { chmod, readFile, stat, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { once } from "node:events";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { spawnService, temporaryFolder, testDatabase } from "#harness";

const CLI = fileURLToPath(new URL("../../src/cli.ts", import.meta.url));

type Ended = { code: number; stdout: string; stderr: string };

function tallystick(args: readonly string[], env: Record<string, string> = {}): Promise<Ended> {
  return new Promise((resolve) => {
    const child = execFile(
      process.execPath,
      [CLI, ...args],
      { env: { PATH: process.env["PATH"], ...env } },
      (_error, stdout, stderr) => resolve({ code: child.exitCode ?? -1, stdout, stderr }),
    );
  });
}

test("help lists every command, each command has help of its own, and the version is told", async () => {
  const help = await tallystick(["--help"]);
  assert.equal(help.code, 0);
  const names = [
    "start",
    "demo",
    "migrate",
    "import",
    "verify",
    "quarantine",
    "config",
    "doctor",
    "orgs",
    "keys",
    "models",
    "sign-in-link",
    "audit",
  ];
  for (const name of names) {
    assert.match(help.stdout, new RegExp(`^  ${name} `, "m"));
    const own = await tallystick([name, "--help"]);
    assert.equal(own.code, 0, own.stderr);
    assert.match(own.stdout, new RegExp(`^tallystick ${name}`));
  }
  assert.match((await tallystick(["--version"])).stdout, /^tallystick \d+\.\d+\.\d+\n$/);
});

test("what makes no sense is refused with exit code 2 and a way on", async () => {
  const unknown = await tallystick(["strat"]);
  assert.deepEqual([unknown.code, unknown.stdout], [2, ""]);
  assert.match(unknown.stderr, /no command "strat"\. Did you mean "start"\?/);
  const option = await tallystick(["start", "--prot", "1"]);
  assert.equal(option.code, 2);
  assert.match(option.stderr, /--prot.*\n"tallystick start --help"/s);
  const settings = await tallystick(["start"], { PORT: "x", LOG_LEVEL: "hunter2" });
  assert.equal(settings.code, 2);
  assert.match(settings.stderr, /PORT: expected .*\n.*LOG_LEVEL: expected/);
  assert.doesNotMatch(settings.stderr, /hunter2|at .*\.ts/);
  assert.equal((await tallystick([])).code, 2);
});

test("config check and print tell what is in force, as text and as JSON, without secrets", async () => {
  const env = { DATABASE_URL: "postgres://u:hunter2@db/x", TALLYSTICK_PROT: "1" };
  const check = await tallystick(["config", "check"], env);
  assert.equal(check.code, 0);
  assert.match(check.stdout, /given: DATABASE_URL/);
  assert.match(check.stderr, /TALLYSTICK_PROT is not a setting/);
  const print = await tallystick(["config", "print", "--data-dir", "/x"], env);
  assert.match(print.stdout, /^# PORT=8080$/m);
  assert.match(print.stdout, /^DATA_DIR=\/x$/m);
  const json = await tallystick(["config", "print", "--json"], env);
  const { settings } = JSON.parse(json.stdout) as { settings: { name: string; value: string }[] };
  assert.equal(
    settings.find((item) => item.name === "DATABASE_URL")?.value,
    "postgres://[redacted]@db/x",
  );
  assert.doesNotMatch(print.stdout + json.stdout, /hunter2/);
});

test("migrate brings an external database up to date and says so; doctor then finds everything in order", async () => {
  await using folder = await temporaryFolder();
  await using db = await testDatabase({ migrated: false });
  const env = { DATABASE_URL: db.url, DATA_DIR: join(folder.path, "data"), PORT: "0" };
  const before = await tallystick(["doctor", "--json"], env);
  assert.match(before.stdout, /"name":"migrations","state":"warning"/);
  const migrated = await tallystick(["migrate", "--json"], env);
  assert.equal(migrated.code, 0, migrated.stderr);
  assert.match(migrated.stdout, /"applied":\["0001_/);
  assert.match((await tallystick(["migrate"], env)).stdout, /as this program expects/);
  const doctor = await tallystick(["doctor"], env);
  assert.equal(doctor.code, 0, doctor.stdout);
  for (const name of [
    "node",
    "data-dir",
    "disk",
    "port",
    "postgres",
    "migrations",
    "row-security",
  ]) {
    assert.match(doctor.stdout, new RegExp(`^. ${name} `, "m"));
  }
});

test("doctor names what is in the way, and what to do, with exit code 1", async () => {
  await using folder = await temporaryFolder();
  await using db = await testDatabase();
  await db.database.sql`alter table quarantine no force row level security`;
  const squatter = createServer().listen(0, "127.0.0.1");
  await once(squatter, "listening");
  const address = squatter.address();
  assert.ok(address !== null && typeof address === "object");
  await writeFile(join(folder.path, "admin-key"), "k");
  await chmod(join(folder.path, "admin-key"), 0o644);
  const env = { DATABASE_URL: db.url, DATA_DIR: folder.path, PORT: String(address.port) };
  const found = await tallystick(["doctor"], env);
  squatter.close();
  assert.equal(found.code, 1);
  assert.match(found.stdout, /✗ port .*taken by another program.*--port/);
  assert.match(found.stdout, /! data-dir .*chmod 600/);
  assert.match(found.stdout, /✗ row-security .*quarantine/);
  const away = await tallystick(["doctor"], {
    ...env,
    DATABASE_URL: "postgres://u:hunter2@127.0.0.1:1/x",
  });
  assert.match(away.stdout, /✗ postgres .*Nothing answers at 127\.0\.0\.1:1\/x/);
  assert.doesNotMatch(away.stdout, /hunter2/);
});

test("a start says where it listens, keeps the admin key to its owner, and refuses a taken port in plain words", async () => {
  await using db = await testDatabase();
  await using service = await spawnService({ databaseUrl: db.url });
  assert.match(service.adminKey, /^tally_admin_[0-9A-Za-z]{32}$/);
  assert.equal((await stat(join(service.dataDir, "admin-key"))).mode & 0o777, 0o600);
  assert.deepEqual(JSON.parse(await readFile(join(service.dataDir, "service.json"), "utf8")), {
    url: service.url,
    pid: service.pid,
  });
  await using folder = await temporaryFolder();
  const port = new URL(service.url).port;
  const second = await tallystick(["start", "--port", port, "--data-dir", folder.path], {
    DATABASE_URL: db.url,
  });
  assert.equal(second.code, 3);
  assert.match(second.stderr, new RegExp(`Port ${port} of 127\\.0\\.0\\.1 is in use`));
  const third = await tallystick(["start", "--port", "0", "--data-dir", service.dataDir], {
    DATABASE_URL: db.url,
  });
  assert.equal(third.code, 3);
  assert.match(third.stderr, new RegExp(`already runs on .* \\(process ${service.pid}\\)`));
  service.kill("SIGTERM");
  assert.deepEqual(await service.exited, { code: 0, signal: null });
  await assert.rejects(stat(join(service.dataDir, "service.json")));
});

test("an external database that will not do is refused with every reason at once", async () => {
  await using folder = await temporaryFolder();
  await using db = await testDatabase();
  const role = `weak_${process.pid}`;
  await db.database.transaction((tx) => tx.exec(`create role ${role} login password 'weak'`));
  try {
    const url = Object.assign(new URL(db.url), { username: role, password: "weak" }).href;
    const refused = await tallystick(["start", "--data-dir", folder.path], {
      DATABASE_URL: url,
      PORT: "0",
    });
    assert.equal(refused.code, 3);
    assert.match(refused.stderr, /bypassrls/);
    assert.match(refused.stderr, /createrole/);
    assert.match(refused.stderr, /may not create tables/);
    const wrong = Object.assign(new URL(db.url), { password: "guess" }).href;
    const denied = await tallystick(["migrate", "--data-dir", folder.path], {
      DATABASE_URL: wrong,
    });
    assert.equal(denied.code, 3);
    assert.match(denied.stderr, /refuses the user or password/);
    assert.doesNotMatch(denied.stderr, /guess/);
  } finally {
    await db.database.transaction((tx) => tx.exec(`drop role ${role}`));
  }
});

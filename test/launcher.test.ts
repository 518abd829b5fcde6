import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { EventEmitter, once } from "node:events";
import { cp, mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { mkdtemp } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { countSignalsOnce } from "../bin/child.mjs";
import {
  arePackagesInstalled,
  explainNpmFailure,
  explainSmallDisk,
  explainUnwritable,
  formatElapsed,
  isLockAbandoned,
  isToolchainInstalled,
  packagesStamp,
  flagsFor,
  planNode,
  SERVICE_FLAGS,
  TOOLCHAINS,
  toolchainStamp,
} from "../bin/launcher-plan.mjs";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const here = { platform: "linux", arch: "x64" };

test("a Node.js that is new enough is used as it is, an older one is replaced, a hopeless one is told what to do", () => {
  assert.deepEqual(planNode({ version: "v24.0.0", ...here }), { kind: "running" });
  assert.deepEqual(planNode({ version: "v26.1.0", ...here }), { kind: "running" });
  assert.deepEqual(planNode({ version: "v18.20.8", ...here }), {
    kind: "toolchain",
    toolchain: TOOLCHAINS["linux-x64"],
  });
  for (const refused of [
    planNode({ version: "v16.20.2", ...here }),
    planNode({ version: "v22.1.0", platform: "win32", arch: "x64" }),
  ]) {
    assert.ok(refused.kind === "unsupported");
    assert.match(refused.todo, /Install Node\.js 24/);
  }
});

test("a service is run with its own limits of memory, once; other commands are not", () => {
  assert.deepEqual(flagsFor(["start", "--port", "1"], []), SERVICE_FLAGS);
  assert.deepEqual(flagsFor(["demo"], ["--inspect"]), SERVICE_FLAGS);
  assert.deepEqual(flagsFor(["start"], [...SERVICE_FLAGS]), []);
  for (const args of [["verify"], ["dev", "test"], []]) assert.deepEqual(flagsFor(args, []), []);
});

test("every toolchain is pinned to a version and a checksum", () => {
  for (const toolchain of Object.values(TOOLCHAINS)) {
    assert.match(toolchain.version, /^2[4-9]\.\d+\.\d+$/);
    assert.match(toolchain.integrity, /^sha512-[A-Za-z0-9+/]{86}==$/);
    assert.ok(isToolchainInstalled(toolchainStamp(toolchain), toolchain));
    assert.ok(!isToolchainInstalled("", toolchain), "a half-finished install leaves no stamp");
    const newer = { ...toolchain, version: "24.99.0" };
    assert.ok(!isToolchainInstalled(toolchainStamp(toolchain), newer), "an older pin is replaced");
  }
});

const lockText = JSON.stringify({
  packages: {
    "": { name: "tallystick" },
    "node_modules/a": { version: "1.0.0", integrity: "sha512-a" },
    "node_modules/native-linux-x64": {
      version: "1.0.0",
      integrity: "sha512-l",
      optional: true,
      os: ["linux"],
      cpu: ["x64"],
    },
    "node_modules/native-darwin-x64": {
      version: "1.0.0",
      integrity: "sha512-d",
      optional: true,
      os: ["darwin"],
      cpu: ["x64"],
    },
    "node_modules/native-musl": {
      version: "1.0.0",
      optional: true,
      os: ["linux"],
      cpu: ["x64"],
      libc: ["musl"],
    },
  },
});
const installedOf = (...names: string[]): string => {
  const { packages }: { packages: Record<string, object> } = JSON.parse(lockText);
  return JSON.stringify({
    packages: Object.fromEntries(
      names.map((name) => [`node_modules/${name}`, packages[`node_modules/${name}`]]),
    ),
  });
};
const isReady = (stamp: string, installedText: string): boolean =>
  arePackagesInstalled({ lockText, stamp, installedText, ...here });

test("packages are installed when they are missing, half there, of another lock file or of another platform", () => {
  const stamp = packagesStamp({ lockText, ...here });
  assert.ok(isReady(stamp, ""));
  assert.ok(!isReady("", ""), "nothing there");
  assert.ok(
    !isReady(packagesStamp({ lockText: `${lockText} `, ...here }), ""),
    "lock file changed",
  );
  assert.ok(
    !isReady(packagesStamp({ lockText, platform: "darwin", arch: "arm64" }), ""),
    "copied from a Mac",
  );
});

test("packages that somebody installed with npm ci are not installed again", () => {
  assert.ok(isReady("", installedOf("a", "native-linux-x64")));
  assert.ok(!isReady("", installedOf("a")), "the native package of this platform is missing");
  assert.ok(!isReady("", installedOf("native-linux-x64")), "a needed package is missing");
  const other = installedOf("a", "native-linux-x64").replace("sha512-a", "sha512-b");
  assert.ok(!isReady("", other), "other content");
});

test("a dead launcher's lock is taken over, a living one's is respected", () => {
  const owner = { host: "here", pid: 7 };
  const look = { owner, host: "here", silentMs: 0, isAlive: () => true };
  assert.ok(!isLockAbandoned(look));
  assert.ok(isLockAbandoned({ ...look, isAlive: () => false }));
  assert.ok(!isLockAbandoned({ ...look, host: "another container", isAlive: () => false }));
  assert.ok(isLockAbandoned({ ...look, host: "another container", silentMs: 60_000 }));
  assert.ok(!isLockAbandoned({ ...look, owner: undefined }), "released between two looks");
});

test("a failed install says what happened and what to do", () => {
  const cases: [code: number | string, output: string, what: RegExp][] = [
    ["ENOENT", "", /npm was not found/],
    [1, "npm error code ENOSPC\nnpm error nospc no space left on device", /disk is full/],
    [1, "npm error code EACCES\nnpm error path /x/.npm/_cacache", /not allowed to write/],
    [1, "npm error code EROFS", /read-only/],
    [1, "npm error code ENOTFOUND\nnpm error network request failed", /could not be reached/],
    [1, "npm error code ECONNREFUSED", /could not be reached/],
    [1, "npm error code E401\nnpm error Incorrect or missing password.", /refused/],
    [
      1,
      "npm error code ETARGET\nnpm error notarget No matching version found for a@9",
      /does not have a package/,
    ],
    [1, "npm error code EINTEGRITY sha512-x integrity checksum failed", /checksum/],
    [1, "npm error code SELF_SIGNED_CERT_IN_CHAIN", /certificate is not trusted/],
    [
      1,
      "npm error code EUSAGE\nnpm error `npm ci` can only install packages when … are in sync",
      /do not belong together/,
    ],
    [7, "something else", /exit code 7/],
  ];
  for (const [code, output, what] of cases) {
    const explained = explainNpmFailure({ code, output });
    assert.match(explained.what, what);
    assert.notEqual(explained.todo, "");
  }
  assert.match(
    explainNpmFailure({ code: 1, output: "", npmVersion: "6.14.18" }).what,
    /npm 6\.14\.18 is too old/,
  );
  const unwritable = explainUnwritable({
    root: "/srv/tallystick",
    error: "EACCES",
    ownerUid: 0,
    uid: 1000,
  });
  assert.match(unwritable.what, /\/srv\/tallystick.*EACCES.*belongs to user 0; you are user 1000/);
  assert.match(unwritable.todo, /npm ci --ignore-scripts/);
  const full = explainSmallDisk({ root: "/srv", freeBytes: 5_000_000, neededBytes: 300_000_000 });
  assert.match(full?.what ?? "", /5 MB are free.*300 MB/);
  assert.equal(explainSmallDisk({ root: "/srv", freeBytes: 2, neededBytes: 1 }), undefined);
});

test("elapsed time reads well", () => {
  assert.deepEqual([950, 12_345, 75_000].map(formatElapsed), ["0.9 s", "12 s", "1 min 15 s"]);
});

test("copies of one signal are one request, a later one is a second", () => {
  const target = new EventEmitter();
  const heard: string[] = [];
  let now = 0;
  countSignalsOnce(target, () => now);
  target.on("SIGINT", () => heard.push("SIGINT"));
  target.on("SIGTERM", () => heard.push("SIGTERM"));
  target.on("other", () => heard.push("other"));
  for (const [at, name] of [
    [0, "SIGINT"],
    [2, "SIGINT"],
    [3, "SIGTERM"],
    [4, "other"],
    [4, "other"],
    [900, "SIGINT"],
  ] as const) {
    now = at;
    target.emit(name);
  }
  assert.deepEqual(heard, ["SIGINT", "other", "other", "SIGINT"]);
});

test("the launcher hands on arguments and exit codes, and adds no output of its own when all is there", async () => {
  const tree = await mkdtemp(join(tmpdir(), "tallystick-launcher-"));
  try {
    await cp(join(root, "bin"), join(tree, "bin"), { recursive: true });
    await mkdir(join(tree, "src"));
    await mkdir(join(tree, "node_modules"));
    await writeFile(join(tree, "package.json"), '{"type":"module"}');
    await writeFile(join(tree, "package-lock.json"), lockText);
    await writeFile(
      join(tree, "node_modules", ".tallystick-installed"),
      packagesStamp({ lockText, platform: process.platform, arch: process.arch }),
    );
    await writeFile(
      join(tree, "src", "cli.ts"),
      "const words: string[] = process.argv.slice(2);\nprocess.stdout.write(JSON.stringify(words));\nprocess.exitCode = 42;\n",
    );
    assert.deepEqual(await run(tree, ["import", "a b", "--json"]), {
      code: 42,
      stdout: '["import","a b","--json"]',
      stderr: "",
    });
    const unknown = await run(tree, ["dev", "nonsense"]);
    assert.equal(unknown.code, 2);
    assert.match(unknown.stderr, /no development task "nonsense"[\s\S]*\bcheck\b/);
  } finally {
    await rm(tree, { recursive: true });
  }
});

test("every development task that package.json calls exists", async () => {
  const manifest: { scripts: Record<string, string> } = JSON.parse(
    await readFile(join(root, "package.json"), "utf8"),
  );
  const { stderr } = await run(root, ["dev"]);
  for (const script of Object.values(manifest.scripts)) {
    const task = /tallystick\.mjs dev (\S+)/.exec(script)?.[1];
    if (task !== undefined) assert.match(stderr, new RegExp(`^tallystick:   ${task} `, "m"));
  }
});

async function run(
  tree: string,
  args: string[],
): Promise<{ code: number; stdout: string; stderr: string }> {
  const child = spawn(process.execPath, [join(tree, "bin", "tallystick.mjs"), ...args], {
    stdio: ["ignore", "pipe", "pipe"],
  });
  let stdout = "";
  let stderr = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => (stdout += text));
  child.stderr.setEncoding("utf8").on("data", (text: string) => (stderr += text));
  const [code] = await once(child, "close");
  return { code: Number(code), stdout, stderr };
}

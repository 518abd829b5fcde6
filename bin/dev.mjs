import { existsSync, globSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { runForText, runOnTerminal } from "./child.mjs";
import { pathWith } from "./install.mjs";
import { formatElapsed } from "./launcher-plan.mjs";
import { say } from "./progress.mjs";

/** Test files run at once: each has its own process and database; two cores are common, and some tests mostly wait. */
const TEST_FILES_AT_ONCE = 3;

/** The checks of `npm run check`, cheapest first. */
const CHECKS = [
  { name: "format", tool: "oxfmt", args: ["--check"], fix: "node bin/tallystick.mjs dev format" },
  {
    name: "lint",
    tool: "oxlint",
    args: ["--type-aware", "--deny-warnings"],
    fix: "see the rule's page",
  },
  { name: "types", tool: "tsc", args: ["-p", "."], fix: "read the error" },
  { name: "unused", tool: "knip", args: ["--no-progress"], fix: "delete what nothing uses" },
];

/**
 * Files written by the code they describe. `script` is a TypeScript file that prints the content; to add one, add a
 * line here. A test of the owning layer says when a file is stale.
 */
const GENERATED = {
  schema: { file: "schema.sql", script: "test/generate/schema.ts" },
  openapi: { file: "contracts/openapi.json", script: "test/generate/openapi.ts" },
  "cli-docs": { file: "docs/cli.md", script: "test/generate/cli-docs.ts" },
  "config-docs": { file: "docs/configuration.md", script: "test/generate/config-docs.ts" },
};

const TASKS = {
  test: {
    about:
      "every fast test; further words choose files by part of their name, --options go to node --test",
    run: (dev, args) => runTests(dev, args),
  },
  "test:faults": {
    about: "the long set of fault tests (TALLYSTICK_FAULTS=long)",
    run: (dev, args) =>
      runTests({ ...dev, env: { ...dev.env, TALLYSTICK_FAULTS: "long" } }, [
        "test/faults/",
        ...args,
      ]),
  },
  build: {
    about: "dist/: what the package export tallystick/producer is",
    run: build,
  },
  bench: {
    about: "the benchmarks, against the budgets",
    run: (dev, args) => runNode(dev, ["bench/index.ts", ...args]),
  },
  check: { about: "format, lint, types and unused code, cheapest first", run: runChecks },
  format: { about: "formats every file", run: (dev, args) => runTool(dev, "oxfmt", args) },
  ...Object.fromEntries(
    Object.entries(GENERATED).map(([name, { file, script }]) => [
      name,
      { about: `writes ${file}`, run: (dev) => generate(dev, file, script) },
    ]),
  ),
};

/** Runs one development task and resolves with how it ended: { code, signal }. */
export async function runDevTask(root, [name, ...args]) {
  const task = Object.hasOwn(TASKS, name ?? "") ? TASKS[name] : undefined;
  if (!task) {
    say(name === undefined ? "which development task?" : `there is no development task "${name}".`);
    for (const [each, { about }] of Object.entries(TASKS)) say(`  ${each.padEnd(12)} ${about}`);
    return { code: 2, signal: null };
  }
  const env = { ...process.env, PATH: pathWith(process.execPath) };
  return await task.run({ root, env }, args);
}

const runNode = ({ root, env }, args) =>
  runOnTerminal(process.execPath, args, { env, cwd: root, interrupts: "terminal" });

const runTool = ({ root, env }, tool, args) =>
  runOnTerminal(join(root, "node_modules", ".bin", tool), args, {
    env,
    cwd: root,
    interrupts: "terminal",
  });

/** The producer module as plain JavaScript with types: Node.js does not strip those of installed packages. */
async function build(dev) {
  rmSync(join(dev.root, "dist"), { recursive: true, force: true });
  return await runTool(dev, "tsc", ["-p", "tsconfig.producer.json"]);
}

async function runTests(dev, args) {
  const options = args.filter((arg) => arg.startsWith("-"));
  const filters = args.filter((arg) => !arg.startsWith("-"));
  const all = globSync(["src/**/*.test.ts", "test/**/*.test.ts"], { cwd: dev.root }).sort();
  const files = all.filter(
    (file) => filters.length === 0 || filters.some((filter) => file.includes(filter)),
  );
  if (files.length === 0) {
    say(`no test file has ${filters.map((filter) => `"${filter}"`).join(" or ")} in its name.`);
    return { code: 2, signal: null };
  }
  const fixed = [
    `--test-concurrency=${TEST_FILES_AT_ONCE}`,
    "--test-global-setup=test/harness/global-setup.ts",
  ];
  return await runNode(dev, ["--test", ...fixed, ...options, ...files]);
}

async function runChecks(dev) {
  const startedAt = Date.now();
  for (const [i, { name, tool, args, fix }] of CHECKS.entries()) {
    const stepAt = Date.now();
    const ended = await runTool(dev, tool, args);
    const took = formatElapsed(Date.now() - stepAt);
    if (ended.signal !== null) return ended;
    if (ended.code !== 0) {
      const left = CHECKS.slice(i + 1).map((check) => check.name);
      say(`✗ ${name} (${tool}) failed after ${took}. To do: ${fix}.`);
      if (left.length > 0) say(`  not run: ${left.join(", ")}`);
      return ended;
    }
    say(`✓ ${name} (${tool}) ${took}`);
  }
  say(`all checks passed in ${formatElapsed(Date.now() - startedAt)}`);
  return { code: 0, signal: null };
}

/** The script prints, this writes: whole or not at all. */
async function generate({ root, env }, file, script) {
  if (!existsSync(join(root, script))) throw new Error(`${script} does not exist`);
  const { code, stdout } = await runForText(process.execPath, [script], { env, cwd: root });
  if (code !== 0) return { code: 1, signal: null };
  const path = join(root, file);
  const before = existsSync(path) ? readFileSync(path, "utf8") : "";
  if (before !== stdout) {
    writeFileSync(`${path}.new`, stdout);
    renameSync(`${path}.new`, path);
  }
  say(`${file} ${before === stdout ? "is up to date" : "written"}`);
  return { code: 0, signal: null };
}

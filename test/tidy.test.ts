/**
 * The rules of the house that a machine can check. They read source text: the compiler offers no interface for it.
 * Each message names the rule, so that who breaks one need not look for it.
 */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync, globSync, readFileSync, statSync } from "node:fs";
import { basename, dirname, join, normalize, relative } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const LINES_MAX = 500;

/** Which layers each layer of src may import. `test` stands for the test harness. */
const LAYERS: Record<string, readonly string[]> = {
  kernel: [],
  contract: ["kernel"],
  store: ["contract", "kernel"],
  broker: [],
  pricing: ["store", "contract", "kernel"],
  ingest: ["broker", "pricing", "store", "contract", "kernel"],
  rollup: ["store", "contract", "kernel"],
  query: ["store", "contract", "kernel"],
  rerating: ["rollup", "pricing", "store", "contract", "kernel"],
  alerts: ["query", "store", "contract", "kernel"],
  auth: ["store", "contract", "kernel"],
  api: [
    "alerts",
    "query",
    "rerating",
    "rollup",
    "pricing",
    "ingest",
    "auth",
    "config",
    "contract",
    "kernel",
  ],
  config: ["kernel"],
  platform: ["broker", "config", "kernel"],
  app: [
    "alerts",
    "api",
    "auth",
    "broker",
    "config",
    "contract",
    "ingest",
    "kernel",
    "platform",
    "pricing",
    "query",
    "rerating",
    "rollup",
    "store",
  ],
  cli: ["app", "config", "contract", "kernel"],
};

/** Files under version control, and those that will be (not ignored). Without Git: all but what is never checked in. */
function listFiles(): string[] {
  const git = spawnSync("git", ["ls-files", "--cached", "--others", "--exclude-standard"], {
    cwd: root,
    encoding: "utf8",
  });
  if (git.status === 0) return git.stdout.split("\n").filter((file) => file !== "");
  return globSync("**/*", {
    cwd: root,
    exclude: (name) => ["node_modules", ".git", ".tallystick", "dist"].includes(name),
  });
}

const files = listFiles().filter((file) => {
  return statSync(join(root, file), { throwIfNoEntry: false })?.isFile() === true;
});

const texts = new Map<string, string>();
function textOf(file: string): string {
  const known = texts.get(file);
  if (known !== undefined) return known;
  const text = readFileSync(join(root, file), "utf8");
  texts.set(file, text);
  return text;
}

const sources = files.filter(
  (file) => /\.(ts|mjs|mts)$/.test(file) && !file.startsWith("node_modules/"),
);
const pages = files.filter((file) => file.endsWith(".md"));

/** The source without comments and the insides of texts, so that a word in them breaks no rule. Line breaks stay. */
function codeOf(file: string): string {
  return textOf(file).replace(
    /\/\*[\s\S]*?\*\/|(?<![:\\])\/\/[^\n]*|"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'/g,
    (found) => (/^["']/.test(found) ? '""' : found.replaceAll(/[^\n]/g, " ")),
  );
}

type Import = { file: string; specifier: string };
const importsOf = (file: string): Import[] =>
  [
    ...textOf(file).matchAll(
      /(?:^|\n)\s*(?:import|export)\b[^;'"`]*?\bfrom\s*["']([^"']+)["']|\bimport\(\s*["']([^"']+)["']\s*\)|(?:^|\n)import\s+["']([^"']+)["']/g,
    ),
  ].map((found) => ({ file, specifier: found[1] ?? found[2] ?? found[3] ?? "" }));

/** Files beside the code they belong to that are imported by tests alone. */
function findTestAids(): Set<string> {
  const importers = new Map<string, string[]>();
  for (const { file, specifier } of sources.flatMap(importsOf)) {
    if (!specifier.startsWith(".")) continue;
    const target = normalize(join(dirname(file), specifier));
    importers.set(target, [...(importers.get(target) ?? []), file]);
  }
  const aids = new Set<string>();
  const isForTests = (file: string): boolean =>
    file.startsWith("test/") || file.endsWith(".test.ts") || aids.has(file);
  for (let before = -1; before !== aids.size;) {
    before = aids.size;
    for (const [target, by] of importers) {
      if (target.startsWith("src/") && by.every(isForTests)) aids.add(target);
    }
  }
  return aids;
}

/** "src/store/keys.ts" → "store"; "src/app.ts" → "app"; undefined outside src. */
const layerOf = (file: string): string | undefined => /^src\/([a-z-]+)(?:\/|\.ts$)/.exec(file)?.[1];

const testAids = findTestAids();
const isTest = (file: string): boolean =>
  file.startsWith("test/") || file.endsWith(".test.ts") || testAids.has(file);
const production = sources.filter((file) => file.startsWith("src/") && !isTest(file));

/** Fails with the rule and every place that breaks it. */
function hold(rule: string, broken: readonly string[]): void {
  if (broken.length > 0) assert.fail(`House rule: ${rule}\n  ${broken.join("\n  ")}\n`);
}

const places = (of: readonly string[], pattern: RegExp, text = codeOf): string[] =>
  of.flatMap((file) =>
    text(file)
      .split("\n")
      .flatMap((line, i) =>
        pattern.test(line) ? [`${file}:${i + 1}: ${line.trim().slice(0, 100)}`] : [],
      ),
  );

test("a layer imports only the layers below it", () => {
  const broken = sources
    .filter((file) => file.startsWith("src/"))
    .flatMap(importsOf)
    .flatMap(({ file, specifier }) => {
      const to = /^#([a-z-]+)$/.exec(specifier)?.[1];
      const from = layerOf(file) ?? "";
      if (to === undefined || to === from) return [];
      if (to === "harness")
        return isTest(file) ? [] : [`${file} imports ${specifier}: only tests may`];
      const allowed = LAYERS[from];
      if (allowed === undefined)
        return [`${file}: "${from}" is no layer of the table in test/tidy.test.ts`];
      return allowed.includes(to) || isTest(file) ? [] : [`${file} (${from}) imports ${specifier}`];
    });
  hold(
    "imports point down the layer table (docs/architecture.md); api never touches the store",
    broken,
  );
});

test("layers meet through their faces: #layer across, ./ inside, no ../ out of a layer", () => {
  const broken = sources
    .filter((file) => file.startsWith("src/"))
    .flatMap(importsOf)
    .flatMap(({ file, specifier }) => {
      if (specifier.startsWith("#")) {
        const isOwn = specifier === `#${layerOf(file) ?? ""}`;
        return isOwn && !isTest(file) ? [`${file} imports its own face ${specifier}: use ./`] : [];
      }
      if (!specifier.startsWith(".")) return [];
      const target = normalize(join(dirname(file), specifier));
      if (target === "package.json" || target.startsWith("contracts/")) return [];
      const isWithin =
        layerOf(target) === layerOf(file) || (isTest(file) && target.startsWith("test/"));
      return isWithin ? [] : [`${file} imports ${specifier}`];
    });
  hold("another layer is imported as #layer, never by its path", broken);
});

test("no layer is reached past its face from tests and benchmarks", () => {
  const outside = sources.filter((file) => /^(test|bench)\//.test(file));
  const broken = outside.flatMap(importsOf).flatMap(({ file, specifier }) => {
    const target = specifier.startsWith(".") ? normalize(join(dirname(file), specifier)) : "";
    return /^src\/[a-z-]+\//.test(target) && !target.startsWith("src/cli/")
      ? [`${file} imports ${specifier}`]
      : [];
  });
  hold("tests and benchmarks use #layer too (a test of a layer's inside lies beside it)", broken);
});

test("RabbitMQ is spoken in the broker layer and nowhere else", () => {
  const broken = production
    .filter((file) => layerOf(file) !== "broker")
    .flatMap(importsOf)
    .flatMap(({ file, specifier }) =>
      /^amqplib(?:\/|$)/.test(specifier) ? [`${file} imports ${specifier}`] : [],
    );
  hold("amqplib is imported in src/broker only (tests and benchmarks may)", broken);
});

test("the broker layer stands alone: it is also published as tallystick/producer", () => {
  const broken = production
    .filter((file) => layerOf(file) === "broker")
    .flatMap(importsOf)
    .flatMap(({ file, specifier }) =>
      /^(?:\.\/|node:|amqplib$)/.test(specifier) ? [] : [`${file} imports ${specifier}`],
    );
  hold("src/broker imports its own files, amqplib and node: only", broken);
});

test("files stay short", () => {
  const broken = sources
    .map((file) => ({ file, lines: textOf(file).split("\n").length }))
    .filter(({ lines }) => lines > LINES_MAX)
    .map(({ file, lines }) => `${file}: ${lines} lines`);
  hold(`a source file has at most ${LINES_MAX} lines`, broken);
});

test("no hidden inputs: the environment, the clock and chance are passed in", () => {
  const rule =
    "process.env only in src/cli.ts, the time only from kernel/clock.ts, Math.random nowhere in src";
  hold(rule, [
    ...places(
      production.filter((file) => file !== "src/cli.ts"),
      /\bprocess\.env\b/,
    ),
    ...places(
      production.filter((file) => file !== "src/kernel/clock.ts"),
      /\bDate\.now\(|\bnew Date\(\s*\)/,
    ),
    ...places(production, /\bMath\.random\b/),
  ]);
});

test("SQL is written in the store and nowhere else", () => {
  const statement =
    /\bsql\s*(?:<[^`]*>)?\s*`|(?<!\\)["'`]\s*(?:select\s[^"'`;]*\sfrom\s|insert\s+into\s|update\s+\w+\s+set\s|delete\s+from\s|create\s+(?:table|index|role|database)\s|alter\s+table\s|drop\s+table\s|truncate\s+\w|copy\s+\w+\s*\()/;
  const outside = production.filter((file) => !/^src\/(store|platform)\//.test(file));
  const broken = outside.flatMap((file) => {
    const found = statement.exec(textOf(file).replaceAll(/\/\*[\s\S]*?\*\//g, ""))?.[0];
    return found === undefined ? [] : [`${file}: ${found.slice(0, 80)}`];
  });
  hold("SQL lies under src/store (platform may ask a server about itself)", broken);
});

test("no test is skipped, singled out or promised for later", () => {
  const tests = sources.filter((file) => isTest(file) && file !== "test/tidy.test.ts");
  hold(
    "no skip, only or todo: a test runs or is deleted",
    places(
      tests,
      /\b(?:test|it|describe|suite|t)\.(?:skip|only|todo)\b|[{,]\s*(?:skip|only|todo)\s*:\s*(?:true|"")/,
    ),
  );
});

test("types are not talked out of their job", () => {
  const checked = sources.filter((file) => file.endsWith("ts") && file !== "test/tidy.test.ts");
  hold("no any, no @ts-ignore or @ts-nocheck", [
    ...places(checked, /(?::|<|\bas|\|)\s*any\b(?!\w)/),
    ...places(checked, /@ts-(?:ignore|nocheck|expect-error)/, textOf),
  ]);
});

test("file names say what is inside", () => {
  const banned = /^(utils?|helpers?|common|misc|manager|service|types)\.(ts|mjs|mts)$/;
  const allowed = new Set(["test/harness/service.ts", "bench/service.ts"]);
  const broken = sources.filter((file) => banned.test(basename(file)) && !allowed.has(file));
  hold("no utils, helpers, common, manager, service, types as a file name in src", broken);
});

/** Everything people wrote, this file aside: it names what it forbids. */
const written = files.filter(
  (file) =>
    statSync(join(root, file)).size < 2_000_000 &&
    !/\.(png|ico|woff2?|gz|parquet)$/.test(file) &&
    file !== "test/tidy.test.ts",
);

test("nothing is left for later", () => {
  hold("no TODO, FIXME or XXX", places(written, /\b(?:TODO|FIXME|XXX)\b/, textOf));
});

test("the tree knows no machine and no registry", () => {
  hold(
    "no path of somebody's machine and no registry address",
    places(
      written,
      /(?<![\w.<~-])\/(?:home|Users|root|work)\/\w|registry\.(?:npmjs|yarnpkg)\.|verdaccio|artifactory/,
      textOf,
    ),
  );
});

type LockEntry = { resolved?: string; optionalDependencies?: Record<string, string> };

test("the lock file serves behind any registry and on every platform", () => {
  const lock: { packages: Record<string, LockEntry> } = JSON.parse(textOf("package-lock.json"));
  const entries = Object.entries(lock.packages);
  hold(
    "package-lock.json names versions and checksums, no addresses (.npmrc: omit-lockfile-registry-resolved)",
    entries.filter(([, entry]) => entry.resolved !== undefined).map(([path]) => path),
  );
  hold(
    "package-lock.json holds every optional package (npm ci refuses it otherwise)",
    entries.flatMap(([path, entry]) =>
      Object.keys(entry.optionalDependencies ?? {})
        .filter(
          (name) =>
            !lock.packages[`node_modules/${name}`] &&
            !lock.packages[`${path}/node_modules/${name}`],
        )
        .map((name) => `${name} of ${path || "the project"}`),
    ),
  );
});

test("every npm script and file that a page names exists", () => {
  const manifest: { scripts: Record<string, string> } = JSON.parse(textOf("package.json"));
  const builtin = new Set(["ci", "install", "pack", "view", "config", "cache", "help"]);
  const broken = pages.flatMap((page) =>
    [...textOf(page).matchAll(/(?:^|`|&& )npm (?:run )?([a-z][a-z:-]*)/gm)].flatMap(
      ([said, script]) =>
        script === undefined || builtin.has(script) || manifest.scripts[script]
          ? []
          : [`${page}: "${said}"`],
    ),
  );
  hold("an npm command in a page is a script of package.json", broken);
});

test("every link between pages leads somewhere", () => {
  const broken = pages.flatMap((page) =>
    [...textOf(page).matchAll(/\]\(([^)\s]+)\)|\bsrc="([^"]+)"/g)].flatMap((found) => {
      const target = (found[1] ?? found[2] ?? "").replace(/#.*$/, "");
      if (target === "" || /^[a-z]+:/.test(target)) return [];
      const path = relative(root, join(root, dirname(page), target));
      return existsSync(join(root, path)) ? [] : [`${page} → ${target}`];
    }),
  );
  hold("relative links resolve", broken);
});

test("every requirement is traced to code and tests that exist", () => {
  const rows = textOf("docs/traceability.md")
    .split("\n")
    .filter((line) => line.startsWith("| R-"));
  assert.ok(rows.length > 0, "docs/traceability.md has a table of requirements");
  const broken = rows.flatMap((row) => {
    const [, id = "", , code = "", tests = ""] = row.split("|").map((cell) => cell.trim());
    const namesOf = (cell: string): string[] =>
      [...cell.matchAll(/`([^`]+)`/g)].map((found) => found[1] ?? "");
    const missing = [...namesOf(code), ...namesOf(tests)].filter(
      (file) => !existsSync(join(root, file)),
    );
    const empty = [
      ...(namesOf(code).length === 0 ? ["no code"] : []),
      ...(namesOf(tests).length === 0 ? ["no test"] : []),
    ];
    return [...empty, ...missing].map((what) => `${id}: ${what}`);
  });
  hold("docs/traceability.md: requirement → code → test, all of them files", broken);
});

import {
  accessSync,
  constants,
  existsSync,
  mkdirSync,
  readFileSync,
  rmSync,
  statfsSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { delimiter, dirname, join } from "node:path";
import { runQuietly } from "./child.mjs";
import { withInstallLock } from "./install-lock.mjs";
import {
  arePackagesInstalled,
  PACKAGES_BYTES,
  TOOLCHAIN_BYTES,
  explainNpmFailure,
  explainSmallDisk,
  explainUnwritable,
  isToolchainInstalled,
  packagesStamp,
  toolchainStamp,
} from "./launcher-plan.mjs";
import { LauncherError, say, withProgress } from "./progress.mjs";

/** Lines of npm's own words shown with a failure: it names the cause first. */
const NPM_LINES_MAX = 12;

const textOf = (path) => {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
};

/** Path of the Node.js installed for this project; installs it when it is missing or half there. */
export async function provideNode(root, toolchain) {
  const folder = join(root, ".tallystick", "toolchain");
  const node = join(folder, "node_modules", toolchain.package, "bin", "node");
  const stampFile = join(folder, "installed");
  const isReady = () => isToolchainInstalled(textOf(stampFile), toolchain) && existsSync(node);
  if (isReady()) return node;
  await locked(root, async () => {
    if (isReady()) return;
    requireRoom(root, TOOLCHAIN_BYTES);
    const label = `installing Node.js ${toolchain.version} (this one is ${process.version})`;
    await withProgress(label, () => installToolchain(folder, toolchain, node));
    writeFileSync(stampFile, toolchainStamp(toolchain));
  });
  return node;
}

async function installToolchain(folder, toolchain, node) {
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  const wanted = `${toolchain.package}@${toolchain.version}`;
  await npm(["install", "--prefix", folder, "--no-save", "--ignore-scripts", wanted], folder);
  const record = JSON.parse(textOf(join(folder, "node_modules", ".package-lock.json")) || "{}");
  const found = record.packages?.[`node_modules/${toolchain.package}`]?.integrity;
  if (found !== toolchain.integrity) {
    throw new LauncherError({
      what: `${wanted} came with checksum ${found ?? "(none)"}, not the one this project pins.`,
      todo: "The registry serves another package under that name; install Node.js 24 yourself and report this.",
    });
  }
  const { code, output } = await runQuietly(node, ["--version"], { env: process.env, cwd: folder });
  if (code !== 0 || output.trim() !== `v${toolchain.version}`) {
    throw new LauncherError({
      what: `The Node.js of ${wanted} does not run on this machine: ${output.trim() || code}`,
      todo: "It needs a system with glibc 2.28 or newer (Alpine has none); install Node.js 24 yourself.",
    });
  }
}

/** Installs the project's packages when they are missing, half there, or not those of package-lock.json. */
export async function providePackages(root) {
  if (arePackagesReady(root)) return;
  await locked(root, async () => {
    if (arePackagesReady(root)) return;
    requireRoom(root, PACKAGES_BYTES);
    const why = reasonToInstall(root);
    rmSync(stampFileOf(root), { force: true });
    await withProgress(`installing packages (${why})`, () =>
      npm(["ci", "--ignore-scripts", "--include=dev", "--include=optional"], root),
    );
    const { platform, arch } = process;
    const lockText = textOf(join(root, "package-lock.json"));
    writeFileSync(stampFileOf(root), packagesStamp({ lockText, platform, arch }));
  });
}

function reasonToInstall(root) {
  if (!existsSync(join(root, "node_modules"))) return "first start";
  return textOf(stampFileOf(root)) === ""
    ? "what is there is incomplete"
    : "package-lock.json changed";
}

const stampFileOf = (root) => join(root, "node_modules", ".tallystick-installed");

const arePackagesReady = (root) =>
  arePackagesInstalled({
    lockText: textOf(join(root, "package-lock.json")),
    stamp: textOf(stampFileOf(root)),
    installedText: textOf(join(root, "node_modules", ".package-lock.json")),
    platform: process.platform,
    arch: process.arch,
  });

function requireRoom(root, neededBytes) {
  const { bavail, bsize } = statfsSync(root);
  const full = explainSmallDisk({ root, freeBytes: bavail * bsize, neededBytes });
  if (full) throw new LauncherError(full);
}

async function locked(root, work) {
  const folder = join(root, ".tallystick");
  try {
    accessSync(root, constants.W_OK);
    mkdirSync(folder, { recursive: true });
    accessSync(folder, constants.W_OK);
  } catch (error) {
    const ownerUid = statSync(root, { throwIfNoEntry: false })?.uid;
    throw new LauncherError(
      explainUnwritable({ root, error: error.code, ownerUid, uid: process.getuid?.() }),
    );
  }
  await withInstallLock(folder, work);
}

async function npm(args, cwd) {
  const quiet = [
    "--no-audit",
    "--no-fund",
    "--no-progress",
    "--no-update-notifier",
    "--loglevel=error",
  ];
  const env = { ...process.env, PATH: pathWith(process.execPath) };
  const [command, ...first] = npmCommand();
  const { code, output } = await runQuietly(command, [...first, ...args, ...quiet], { env, cwd });
  if (code === 0) return;
  const version = await runQuietly(command, [...first, "--version"], { env, cwd });
  const npmVersion = version.code === 0 ? version.output.trim() : undefined;
  const lines = output.trimEnd().split("\n").slice(0, NPM_LINES_MAX);
  if (code !== "ENOENT") for (const line of lines) say(`  ${line}`);
  throw new LauncherError(explainNpmFailure({ code, output, npmVersion }));
}

/** The npm that started us, else the one on the PATH. */
function npmCommand() {
  const started = process.env.npm_execpath;
  if (started?.endsWith("npm-cli.js") && existsSync(started)) return [process.execPath, started];
  return ["npm"];
}

/** The PATH with the given Node.js first, so that whatever is called finds the same one. */
export const pathWith = (node) => [dirname(node), process.env.PATH ?? ""].join(delimiter);

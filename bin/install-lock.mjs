import {
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { hostname } from "node:os";
import { join } from "node:path";
import { isLockAbandoned } from "./launcher-plan.mjs";
import { say } from "./progress.mjs";

const LOOK_AGAIN_MS = 200;
const SIGN_OF_LIFE_MS = 1_000;
const SAY_AGAIN_MS = 15_000;
const TAKEOVER_MS_MAX = 10_000;
const LEFTOVER_MS = 60_000;

/**
 * Runs `work` while no other launcher does, on this host or on another that shares the folder. The lock is a folder
 * that appears under its name complete with its owner's note (a rename, so one of many wins); its time stamp is the
 * owner's sign of life. A dead owner's lock is removed.
 */
export async function withInstallLock(folder, work) {
  const lock = join(folder, "install.lock");
  await acquire(folder, lock);
  removeLeftovers(folder);
  const beat = setInterval(() => touch(lock), SIGN_OF_LIFE_MS);
  try {
    return await work();
  } finally {
    clearInterval(beat);
    rmSync(lock, { recursive: true, force: true });
  }
}

async function acquire(folder, lock) {
  const mine = join(folder, `install.lock.${hostname()}.${process.pid}`);
  rmSync(mine, { recursive: true, force: true });
  mkdirSync(mine, { recursive: true });
  writeFileSync(join(mine, "owner.json"), JSON.stringify({ host: hostname(), pid: process.pid }));
  let seen = { mtimeMs: -1, at: Date.now() };
  let saidAt = Number.NEGATIVE_INFINITY;
  for (;;) {
    touch(mine);
    try {
      renameSync(mine, lock);
      return;
    } catch (error) {
      if (!["ENOTEMPTY", "EEXIST"].includes(error.code)) {
        rmSync(mine, { recursive: true, force: true });
        throw error;
      }
    }
    const mtimeMs = mtimeOf(lock);
    if (mtimeMs !== seen.mtimeMs) seen = { mtimeMs, at: Date.now() };
    const owner = ownerOf(lock);
    if (isAbandoned(owner, Date.now() - seen.at)) removeAbandoned(folder, lock, owner);
    else if (Date.now() - saidAt > SAY_AGAIN_MS) {
      say(`waiting for another start that is installing (process ${owner?.pid ?? "unknown"})`);
      saidAt = Date.now();
    }
    await new Promise((resolve) => setTimeout(resolve, LOOK_AGAIN_MS));
  }
}

/** Notes of launchers that were ended while they waited: those who still wait touch theirs all the time. */
function removeLeftovers(folder) {
  for (const name of readdirSync(folder)) {
    if (!name.startsWith("install.lock.")) continue;
    const path = join(folder, name);
    if (Date.now() - mtimeOf(path) > LEFTOVER_MS) rmSync(path, { recursive: true, force: true });
  }
}

const isAbandoned = (owner, silentMs) =>
  isLockAbandoned({ owner, host: hostname(), isAlive: isProcessAlive, silentMs });

/** Two that find the same dead owner must not remove each other's new lock: one at a time, and only after a second look. */
function removeAbandoned(folder, lock, owner) {
  const takeover = join(folder, "install.takeover");
  try {
    mkdirSync(takeover);
  } catch {
    if (Date.now() - mtimeOf(takeover) > TAKEOVER_MS_MAX)
      rmSync(takeover, { recursive: true, force: true });
    return;
  }
  try {
    const now = ownerOf(lock);
    if (now?.host === owner?.host && now?.pid === owner?.pid)
      rmSync(lock, { recursive: true, force: true });
  } finally {
    rmSync(takeover, { recursive: true, force: true });
  }
}

function ownerOf(lock) {
  try {
    return JSON.parse(readFileSync(join(lock, "owner.json"), "utf8"));
  } catch {
    return undefined; // released between two looks
  }
}

function isProcessAlive(pid) {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error.code !== "ESRCH";
  }
}

function mtimeOf(path) {
  try {
    return statSync(path).mtimeMs;
  } catch {
    return 0;
  }
}

function touch(path) {
  const now = new Date();
  try {
    utimesSync(path, now, now);
  } catch {
    // Removed by hand: the next start finds no lock, which is what the hand wanted.
  }
}

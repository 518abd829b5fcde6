import { randomBytes } from "node:crypto";
import { link, mkdir, open, readFile, rename, rm, stat, utimes, writeFile } from "node:fs/promises";
import { hostname } from "node:os";
import { join, resolve } from "node:path";
import { z } from "zod";
import { OperatorError, systemClock, type Clock } from "#kernel";
import { isProcessAlive, processStart } from "./processes.ts";
import { explainFileError, systemCodeOf } from "./system-error.ts";

const TOUCH_MS = 3_000;
/** A lock of another host (a shared volume) counts as held while it was touched this recently. */
const FOREIGN_LOCK_MS = 15_000;

/** The data directory, held by this process until disposed. */
export type DataDir = AsyncDisposable & {
  /** Absolute. */
  readonly path: string;
};

const lockHolder = z.object({ pid: z.number(), start: z.string(), host: z.string() });
type Holder = z.infer<typeof lockHolder>;

/**
 * Makes the data directory if need be and locks it against a second service. Throws OperatorError when another
 * process holds it or the folder cannot be used. A lock whose holder was killed is taken over.
 */
export async function openDataDir(folder: string, clock: Clock = systemClock): Promise<DataDir> {
  const path = resolve(folder);
  try {
    // As root, PostgreSQL's own user has to pass through on its way to the cluster; what is secret is closed itself.
    await mkdir(path, { recursive: true, mode: process.getuid?.() === 0 ? 0o711 : 0o700 });
    const lock = join(path, "lock");
    await takeLock(lock, path, clock);
    const touch = setInterval(() => {
      const now = new Date(clock.now());
      utimes(lock, now, now).catch(() => undefined);
    }, TOUCH_MS).unref();
    return {
      path,
      [Symbol.asyncDispose]: async () => {
        clearInterval(touch);
        await rm(lock, { force: true });
      },
    };
  } catch (error) {
    throw explainFileError(error, path);
  }
}

/** The process that holds a data directory, if one does. Reads only. */
export async function findDataDirHolder(
  folder: string,
  clock: Clock = systemClock,
): Promise<number | undefined> {
  const lock = join(resolve(folder), "lock");
  const holder = await readHolder(lock);
  return holder && (await isHeld(holder, lock, clock)) ? holder.pid : undefined;
}

async function takeLock(lock: string, path: string, clock: Clock): Promise<void> {
  const me: Holder = { pid: process.pid, start: processStart(process.pid), host: hostname() };
  // Linked into place, so that the lock is never seen half written.
  const mine = `${lock}.${process.pid}.${randomBytes(4).toString("hex")}`;
  await writeFile(mine, JSON.stringify(me), { mode: 0o644 });
  try {
    for (let attempt = 0; attempt < 10; attempt++) {
      try {
        await link(mine, lock);
        return;
      } catch (error) {
        if (systemCodeOf(error) !== "EEXIST") throw error;
      }
      const holder = await readHolder(lock);
      if (holder && (await isHeld(holder, lock, clock)))
        throw new OperatorError(explainHolder(holder, path));
      await removeStale(lock, `${mine}.stale`, holder);
    }
    throw new OperatorError(`${path} is being started by another process. Try again in a moment.`);
  } finally {
    await rm(mine, { force: true });
  }
}

/** Moves a dead lock away; when it turns out to be another one by now (two starts at once), puts that back. */
async function removeStale(lock: string, aside: string, holder: Holder | undefined): Promise<void> {
  try {
    await rename(lock, aside);
  } catch (error) {
    if (systemCodeOf(error) === "ENOENT") return;
    throw error;
  }
  const moved = await readHolder(aside);
  if (JSON.stringify(moved) !== JSON.stringify(holder))
    await link(aside, lock).catch(() => undefined);
  await rm(aside, { force: true });
}

async function isHeld(holder: Holder, lock: string, clock: Clock): Promise<boolean> {
  if (holder.host !== hostname()) {
    const touched = await stat(lock).catch(() => undefined);
    return touched !== undefined && clock.now() - touched.mtimeMs < FOREIGN_LOCK_MS;
  }
  const isSame = holder.start === "" || holder.start === processStart(holder.pid);
  return holder.pid !== process.pid && isProcessAlive(holder.pid) && isSame;
}

const explainHolder = (holder: Holder, path: string): string =>
  holder.host === hostname()
    ? `Tallystick already runs on ${path} (process ${holder.pid}). Stop that one first, or choose another folder with --data-dir.`
    : `Tallystick on host ${holder.host} uses ${path}, or did within the last ${FOREIGN_LOCK_MS / 1000} s. Stop it first, or choose another folder with --data-dir.`;

async function readHolder(lock: string): Promise<Holder | undefined> {
  try {
    return lockHolder.parse(JSON.parse(await readFile(lock, "utf8")));
  } catch {
    return undefined;
  }
}

/** Writes a file that only this user may read, all of it or nothing. */
export async function writePrivateFile(path: string, text: string): Promise<void> {
  const next = `${path}.${randomBytes(4).toString("hex")}.new`;
  const file = await open(next, "wx", 0o600);
  try {
    await file.writeFile(text);
    await file.sync();
  } finally {
    await file.close();
  }
  await rename(next, path);
}

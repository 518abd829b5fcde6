import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdir, readlink, stat, symlink } from "node:fs/promises";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import { OperatorError, type Logger } from "#kernel";

const run = promisify(execFile);
/** Whom root's PostgreSQL may run as, best first. */
const SERVER_USERS = ["tallystick", "postgres", "_postgres", "nobody"];
const SHARED_ROOT = "/var/lib/tallystick";

/** The user PostgreSQL runs as when that is not the user of this process. */
export type ServerUser = { name: string; uid: number; gid: number };

/** Where PostgreSQL's files live and who owns them. */
export type PostgresPlace = {
  /** Parent of the cluster and of the binaries. */
  folder: string;
  /** Undefined: this process's own user. */
  user: ServerUser | undefined;
};

/**
 * The data directory itself, unless this is root (as whom PostgreSQL refuses to run) and the folder lies below one
 * that others may not enter, such as a home: then a folder under /var/lib/tallystick, which the link
 * `<dataDir>/postgres-home` remembers. Throws OperatorError when there is no user to run as.
 */
export async function choosePostgresPlace(dataDir: string, logger: Logger): Promise<PostgresPlace> {
  if (process.getuid?.() !== 0) return { folder: dataDir, user: undefined };
  const user = await findServerUser();
  const closed = await findClosedParent(dataDir, user);
  const home = join(dataDir, "postgres-home");
  const known = await readlink(home).catch(() => undefined);
  if (known !== undefined) {
    await mkdir(known, { recursive: true, mode: 0o755 });
    return { folder: known, user };
  }
  if (closed === undefined) return { folder: dataDir, user };
  const folder = join(SHARED_ROOT, randomBytes(6).toString("hex"));
  await mkdir(folder, { recursive: true, mode: 0o755 });
  const stillClosed = await findClosedParent(folder, user);
  if (stillClosed !== undefined) {
    throw new OperatorError(
      `PostgreSQL refuses to run as root, and the user ${user.name} may not enter ${closed} or ${stillClosed}. Choose a folder that others may enter with --data-dir, or run Tallystick as an ordinary user.`,
    );
  }
  await symlink(folder, home);
  logger.info(
    { folder, closed },
    "PostgreSQL's user cannot enter the data directory: its files are kept elsewhere",
  );
  return { folder, user };
}

async function findServerUser(): Promise<ServerUser> {
  for (const name of SERVER_USERS) {
    const uid = await idOf("-u", name);
    const gid = await idOf("-g", name);
    if (uid !== undefined && gid !== undefined) return { name, uid, gid };
  }
  throw new OperatorError(
    "PostgreSQL refuses to run as root and there is no user to run it as. Run Tallystick as an ordinary user, or add one named tallystick (`useradd --system tallystick`).",
  );
}

async function idOf(which: "-u" | "-g", name: string): Promise<number | undefined> {
  try {
    const { stdout } = await run("id", [which, name]);
    const id = Number(stdout.trim());
    return Number.isInteger(id) && id > 0 ? id : undefined;
  } catch {
    return undefined;
  }
}

/** The nearest folder on the way to `path` that the user may not enter, if there is one. */
export async function findClosedParent(
  path: string,
  user: ServerUser,
): Promise<string | undefined> {
  for (let folder = path; ; folder = dirname(folder)) {
    const found = await stat(folder).catch(() => undefined);
    if (found && !mayEnter(found, user)) return folder;
    if (folder === dirname(folder)) return undefined;
  }
}

function mayEnter(folder: { mode: number; uid: number; gid: number }, user: ServerUser): boolean {
  if (folder.uid === user.uid) return (folder.mode & 0o100) !== 0;
  if (folder.gid === user.gid) return (folder.mode & 0o010) !== 0;
  return (folder.mode & 0o001) !== 0;
}

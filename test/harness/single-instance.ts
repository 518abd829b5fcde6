import { link, readFile, rm, writeFile } from "node:fs/promises";

/**
 * One keeper at a time: the lock file holds its process id, and one whose process is gone counts for nothing. False when
 * another process has it, or is about to.
 */
export async function takeLock(path: string): Promise<boolean> {
  // Linked in place with its content: a file that is created first and written then would look like nobody's.
  const own = `${path}.${process.pid}`;
  await writeFile(own, String(process.pid));
  try {
    if (await linkNew(own, path)) return true;
    return (await clearStale(path)) && (await linkNew(own, path));
  } finally {
    await rm(own, { force: true });
  }
}

/** Removes the lock of a dead process. Who does so holds a lock on that, lest another removes a new owner's lock instead. */
async function clearStale(path: string): Promise<boolean> {
  const owner = await readOwner(path);
  if (owner === "") return true;
  if (isAlive(Number(owner))) return false;
  const claim = `${path}.after-${owner}`;
  if (!(await takeLock(claim))) return false;
  if ((await readOwner(path)) === owner) await rm(path, { force: true });
  await rm(claim, { force: true });
  return true;
}

const readOwner = (path: string): Promise<string> => readFile(path, "utf8").catch(() => "");

const linkNew = (from: string, to: string): Promise<boolean> =>
  link(from, to).then(
    () => true,
    () => false,
  );

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

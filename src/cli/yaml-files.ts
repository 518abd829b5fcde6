import { readdir, readFile, stat } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";
import { OperatorError } from "#kernel";
import { UsageError } from "./command.ts";
import type { FileFault, YamlFile } from "./yaml-file.ts";

const isYaml = (name: string): boolean => /\.ya?ml$/.test(name);

/** The text of files, and of all YAML files of folders. Throws UsageError and OperatorError. */
export async function loadFiles(paths: readonly string[]): Promise<YamlFile[]> {
  const found = await Promise.all(paths.map(listFiles));
  return await Promise.all(
    [...new Set(found.flat())].map(async (path) => ({
      // The same from whichever folder the command is run.
      name: join(basename(dirname(resolve(path))), basename(path)),
      text: await readText(path),
    })),
  );
}

async function listFiles(path: string): Promise<string[]> {
  const found = await stat(path).catch((error: unknown) => {
    throw unreadable(path, error);
  });
  if (!found.isDirectory()) return [path];
  const names = (await readdir(path)).filter(isYaml).toSorted();
  if (names.length === 0) throw new UsageError(`${path} holds no .yaml file.`);
  return names.map((name) => join(path, name));
}

const readText = (path: string): Promise<string> =>
  readFile(path, "utf8").catch((error: unknown) => {
    throw unreadable(path, error);
  });

const unreadable = (path: string, error: unknown): OperatorError =>
  new OperatorError(
    `${path} cannot be read: ${error instanceof Error ? error.message : String(error)}`,
  );

/** One line for each mistake, as compilers write them. */
export const formatFaults = (faults: readonly FileFault[]): string =>
  faults
    .map(({ file, line, path, reason }) =>
      [line === null ? file : `${file}:${line}`, ...(path === "" ? [] : [path]), reason].join(": "),
    )
    .map((text) => `${text}\n`)
    .join("");

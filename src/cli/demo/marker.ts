import { readFile, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { OperatorError } from "#kernel";

const marker = z.object({
  seed: z.int(),
  startMs: z.int(),
  days: z.int(),
  callsPerSecond: z.number(),
  coveredUntilMs: z.int().nullable(),
});

/**
 * What the sample in a data directory is made of, and up to when its traffic has been sent (null while the first
 * history is being loaded). Times in milliseconds since the Unix epoch.
 */
export type DemoMarker = z.output<typeof marker>;

const pathIn = (dataDir: string): string => join(dataDir, "demo.json");

/** The sample of a data directory, or undefined when there is none. Throws OperatorError when the note of it is damaged. */
export async function findMarker(dataDir: string): Promise<DemoMarker | undefined> {
  const path = pathIn(dataDir);
  const text = await readFile(path, "utf8").catch(() => undefined);
  if (text === undefined) return undefined;
  try {
    return marker.parse(JSON.parse(text));
  } catch (error) {
    const message = `${path} is damaged. Stop, delete the data directory, and start the demo anew.`;
    throw new OperatorError(message, { cause: error });
  }
}

/** Notes what the sample is; never half written. */
export async function writeMarker(dataDir: string, sample: DemoMarker): Promise<void> {
  const path = pathIn(dataDir);
  await writeFile(`${path}.new`, `${JSON.stringify(sample)}\n`);
  await rename(`${path}.new`, path);
}

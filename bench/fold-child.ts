/** The rollup as a process of its own (argument: the database's URL). Started by folding.ts; ends with it. */
import { serveParent } from "./child.ts";
import { startFolding } from "./folding.ts";
import { readOwnCpuUs } from "./measure.ts";
import { openBenchDatabase } from "./server.ts";

const url = process.argv[2];
if (url === undefined) throw new Error("usage: fold-child.ts URL");
await using database = await openBenchDatabase(url);
await using folding = await startFolding(database);
await serveParent({
  foldAll: async () => {
    await folding.foldAll();
    return {};
  },
  readCpu: async () => ({ cpuUs: readOwnCpuUs() }),
});

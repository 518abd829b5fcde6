/** A process to be killed: starts the embedded PostgreSQL on the folder given and tells its URL. */
import { silentLogger } from "#kernel";
import { openDataDir, startPostgres } from "#platform";

const dataDir = await openDataDir(process.argv[2] ?? "");
const server = await startPostgres({
  dataDir: dataDir.path,
  logger: silentLogger,
  onProgress: () => undefined,
  settings: { fsync: "off", shared_buffers: "64MB" },
  stopMsMax: 5_000,
  random: () => 0,
});
process.stdout.write(
  `${JSON.stringify({ url: server.url, pid: server.pid(), uid: process.getuid?.() })}\n`,
);
setInterval(() => undefined, 60_000);

export { openDataDir, findDataDirHolder, writePrivateFile, type DataDir } from "./data-dir.ts";
export { findFreePort } from "./free-port.ts";
export { checkMachine, checkPostgres, type Check } from "./machine-checks.ts";
export { openPostgres, type Postgres, type PostgresDeps } from "./postgres.ts";
export {
  findEmbeddedUrl,
  startPostgres,
  type EmbeddedPostgres,
  type EmbeddedPostgresOptions,
} from "./postgres-embedded.ts";
export { listMissingLinks } from "./postgres-runtime.ts";
export {
  connectPostgres,
  inspectPostgres,
  listPostgresProblems,
  type PostgresFacts,
} from "./postgres-server.ts";
export { createPostgresSettings } from "./postgres-settings.ts";

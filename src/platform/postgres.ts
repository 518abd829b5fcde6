import type { Config } from "#config";
import type { Logger } from "#kernel";
import { startPostgres } from "./postgres-embedded.ts";
import { connectPostgres } from "./postgres-server.ts";

const CONNECT_ATTEMPTS_MAX = 20;
/** Share of the grace period that PostgreSQL may take for an orderly stop. */
const STOP_SHARE = 0.4;

/** The database server in use: the one brought along, or the one that DATABASE_URL names. */
export type Postgres = AsyncDisposable & {
  /** Owner connection. */
  readonly url: string;
  readonly kind: "embedded" | "external";
  /** As a person would name it. */
  readonly version: string;
  /** Asks an embedded server to stop, without waiting. */
  abandon(): void;
};

export type PostgresDeps = {
  logger: Logger;
  random: () => number;
  /** Told in a few words what takes time. */
  onProgress: (step: string) => void;
  signal: AbortSignal;
};

/** Starts or reaches PostgreSQL as the settings say; `dataDir` is held by the caller. Throws OperatorError when it cannot be used. */
export async function openPostgres(
  config: Pick<Config, "databaseUrl" | "shutdownGraceMs">,
  dataDir: string,
  deps: PostgresDeps,
): Promise<Postgres> {
  const { databaseUrl } = config;
  if (databaseUrl === undefined) {
    const stopMsMax = Math.max(1_000, config.shutdownGraceMs * STOP_SHARE);
    const server = await startPostgres({ ...deps, dataDir, stopMsMax });
    return {
      url: server.url,
      kind: "embedded",
      version: server.version,
      abandon: () => server.abandon(),
      [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
    };
  }
  const facts = await connectPostgres(databaseUrl, { ...deps, attemptsMax: CONNECT_ATTEMPTS_MAX });
  return {
    url: databaseUrl,
    kind: "external",
    version: facts.version,
    abandon: () => undefined,
    [Symbol.asyncDispose]: async () => undefined,
  };
}

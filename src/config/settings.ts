import { z } from "zod";
import { CRASHPOINTS, LOG_LEVELS, type Crashpoint } from "#kernel";
import { authSettings } from "./auth-settings.ts";
import { brokerSettings } from "./broker-settings.ts";
import { aboutSettings, byteSize, listOf, wholeNumber } from "./setting.ts";

const crashpoints: readonly string[] = CRASHPOINTS;
const isCrashpoint = (name: string): name is Crashpoint => crashpoints.includes(name);

/** Every setting of Tallystick. A key's environment variable is its name in capitals (`variableOf`). */
export const settings = z.object({
  port: wholeNumber({
    description: "Port of the HTTP API. 0 takes any free one.",
    byDefault: 8080,
    min: 0,
    max: 65_535,
  }),
  host: z
    .string()
    .regex(/^[\w.:-]{1,253}$/)
    .prefault("127.0.0.1")
    .register(aboutSettings, {
      description:
        "Address the HTTP API listens on. 0.0.0.0 opens it to other machines; put TLS in front of it then.",
      kind: "a host name or an IP address",
      example: "0.0.0.0",
      byDefault: "127.0.0.1",
    }),
  databaseUrl: z
    .string()
    .regex(/^postgres(ql)?:\/\/\S+$/)
    .refine((url) => URL.canParse(url))
    .optional()
    .register(aboutSettings, {
      description:
        "A PostgreSQL (15 or newer) to use instead of the one brought along. Its role must be a superuser, or have BYPASSRLS and CREATEROLE.",
      kind: "a PostgreSQL URL",
      example: "postgres://tallystick@db.example:5432/tallystick",
      secret: "in_url",
    }),
  dataDir: z
    .string()
    .min(1)
    .regex(/^[^\0]+$/)
    .prefault("./.tallystick")
    .register(aboutSettings, {
      description:
        "Folder for the database brought along, the admin key, and the note by which commands find the running service.",
      kind: "a folder",
      example: "/var/lib/tallystick/main",
      byDefault: "./.tallystick",
    }),
  logLevel: z
    .enum(LOG_LEVELS)
    .prefault("info")
    .register(aboutSettings, {
      description: "The least important lines to log, as JSON, on standard error.",
      kind: `one of ${LOG_LEVELS.join(", ")}`,
      example: "debug",
      byDefault: "info",
    }),
  rawRetentionDays: wholeNumber({
    description:
      "Days for which single events are kept. Older ones are refused as too_old, unless loaded as backfill.",
    byDefault: 30,
    min: 1,
    max: 400,
  }),
  dedupWindowDays: wholeNumber({
    description:
      "Days, by time of ingestion, within which an event sent again is recognised whatever its time says. At most RAW_RETENTION_DAYS.",
    byDefault: 2,
    min: 1,
    max: 400,
  }),
  keyPartitionKeysMax: wholeNumber({
    description: "Keys in one partition of the deduplication window before the next is begun.",
    byDefault: 12_000_000,
    min: 1000,
    max: 1_000_000_000,
  }),
  ingestLanes: wholeNumber({
    description: "Batches committed at the same time, each on a database connection of its own.",
    byDefault: 3,
    min: 1,
    max: 32,
  }),
  ingestBatchEventsMax: wholeNumber({
    description: "Events committed together at most.",
    byDefault: 10_000,
    min: 1,
    max: 100_000,
  }),
  ingestPendingEventsMax: wholeNumber({
    description:
      "Events taken in and not yet committed; beyond that senders are told to wait (503).",
    byDefault: 200_000,
    min: 1,
    max: 10_000_000,
  }),
  ingestPendingBytesMax: byteSize({
    description:
      "Bytes of events taken in and not yet committed; beyond that senders are told to wait (503).",
    byDefault: "128MiB",
    min: 1024,
    max: 64 * 1024 ** 3,
  }),
  httpBodyBytesMax: byteSize({
    description: "Size of one request body, after decompression.",
    byDefault: "5MiB",
    min: 1024,
    max: 256 * 1024 ** 2,
  }),
  httpEventsMax: wholeNumber({
    description: "Events in one request.",
    byDefault: 5000,
    min: 1,
    max: 100_000,
  }),
  modelsPerOrgMax: wholeNumber({
    description: "Distinct models kept apart per org; further ones are counted as “other”.",
    byDefault: 1000,
    min: 1,
    max: 1_000_000,
  }),
  clientsPerOrgMax: wholeNumber({
    description: "Distinct clients kept apart per org; further ones are counted as “other”.",
    byDefault: 10_000,
    min: 1,
    max: 10_000_000,
  }),
  actorsPerOrgMax: wholeNumber({
    description: "Distinct actors kept apart per org; further ones are counted as “other”.",
    byDefault: 100_000,
    min: 1,
    max: 10_000_000,
  }),
  tagValuesPerKeyMax: wholeNumber({
    description:
      "Distinct values kept apart per org and declared tag key; further ones are counted as “other”.",
    byDefault: 500,
    min: 1,
    max: 10_000,
  }),
  foldIntervalMs: wholeNumber({
    description: "How often committed events are added to the answers, in milliseconds.",
    byDefault: 1500,
    min: 20,
    max: 600_000,
  }),
  peopleFoldIntervalMs: wholeNumber({
    description: "The same for clients, actors and tags, which are many.",
    byDefault: 10_000,
    min: 20,
    max: 600_000,
  }),
  futureToleranceSeconds: wholeNumber({
    description: "How far ahead of this machine's clock an event's time may be.",
    byDefault: 300,
    min: 0,
    max: 86_400,
  }),
  quarantineRetentionDays: wholeNumber({
    description: "Days for which refused events are kept.",
    byDefault: 30,
    min: 1,
    max: 400,
  }),
  rollup15mRetentionDays: wholeNumber({
    description: "Days for which quarter-hour figures are kept.",
    byDefault: 40,
    min: 2,
    max: 4000,
  }),
  rollupRetentionMonths: wholeNumber({
    description: "Months for which hourly and daily figures are kept.",
    byDefault: 13,
    min: 1,
    max: 120,
  }),
  apiStatementMsMax: wholeNumber({
    description: "Time limit of one database statement behind an answer, in milliseconds.",
    byDefault: 900,
    min: 50,
    max: 600_000,
  }),
  ownerStatementMsMax: wholeNumber({
    description: "Time limit of one database statement of ingestion and rollup, in milliseconds.",
    byDefault: 30_000,
    min: 100,
    max: 600_000,
  }),
  shutdownGraceMs: wholeNumber({
    description: "Time for finishing what was begun after a signal to stop, in milliseconds.",
    byDefault: 25_000,
    min: 100,
    max: 600_000,
  }),
  roles: listOf(["api", "ingest", "rollup", "scheduler"], {
    name: "TALLYSTICK_ROLES",
    description:
      "What this process does: answer questions (api), take events in by HTTP and from RabbitMQ (ingest), add committed events to the answers (rollup), check, watch budgets and clean up (scheduler). Any number of processes may have the same role.",
    example: "api",
  }),
  ...authSettings,
  ...brokerSettings,
  crashpoint: z
    .string()
    .transform((text, context) => {
      const [, name = "", pass = ""] = /^(\w+):([1-9]\d{0,8})$/.exec(text) ?? [];
      if (isCrashpoint(name)) return { name, pass: Number(pass) };
      context.addIssue("not a crash point");
      return z.NEVER;
    })
    .optional()
    .register(aboutSettings, {
      name: "TALLYSTICK_CRASHPOINT",
      description:
        "For fault tests: the process ends itself with SIGKILL when it passes the named place for the n-th time.",
      kind: `name:n, the name one of ${CRASHPOINTS.join(", ")}`,
      example: "before_commit:3",
    }),
});

/** All settings, parsed. Durations and sizes in the units of their names. */
export type Config = z.output<typeof settings>;

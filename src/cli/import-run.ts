import { z } from "zod";
import type { RowField } from "#app";
import { type Clock, sleepMs } from "#kernel";
import { type ApiClient, retryAnswer } from "./api-client.ts";
import { createEventSender, type EventResult, type EventSender } from "./event-sender.ts";
import type { ImportFile } from "./import-file.ts";
import {
  createRowReader,
  type FileRow,
  type Format,
  RowBatcher,
  type RowBatch,
} from "./import-rows.ts";
import type { Progress } from "./progress.ts";
import { formatNumber } from "./table.ts";

/** One file to send, and how. */
export type ImportJob = {
  file: ImportFile;
  format: Format;
  columns: ReadonlyMap<RowField, string>;
  defaults: ReadonlyMap<RowField, string>;
  backfill: boolean;
  client: ApiClient;
  progress: Progress;
  signal: AbortSignal;
  clock: Clock;
  random: () => number;
};

/** A row that is not counted, and why. */
export type RefusedRow = {
  row: number;
  status: "conflict" | "rejected";
  code: string;
  pointer: string;
  detail: string;
};

/** What became of the rows: rows = accepted + duplicate + conflict + rejected, when all answers have come. */
export type ImportReport = {
  /** Name under which the delivery ledger has these rows. */
  source: string;
  rows: number;
  accepted: number;
  duplicate: number;
  conflict: number;
  rejected: number;
  /** Of the rejected, those that were only too old. */
  tooOld: number;
  /** Of those not counted, how many the service keeps in quarantine. */
  kept: number;
  /** The first few of them, in row order. */
  refused: RefusedRow[];
  seconds: number;
  isInterrupted: boolean;
  /** What ended the import early, or null. */
  failure: unknown;
};

const IN_FLIGHT_MAX = 4;
const REFUSED_SHOWN_MAX = 10;

/**
 * Sends all rows of the file. Resolves also when it was interrupted or the service went away for good: the report says
 * what was answered until then. Throws when nothing at all was
 * answered; UsageError when the mapping does not fit the file.
 */
export async function runImport(job: ImportJob): Promise<ImportReport> {
  const { client, file, clock, progress, signal } = job;
  const report = emptyReport(`import/${file.digest.toString("hex", 0, 6)}`);
  await checkService(job);
  const sender = createEventSender({
    client,
    source: report.source,
    backfill: job.backfill,
    inFlightMax: IN_FLIGHT_MAX,
    signal,
    random: job.random,
    sleep: sleepMs,
    onWait: (error, waitMs) => {
      if (waitMs > 1000 && error instanceof Error) progress.note(`${error.message} Trying again.`);
    },
  });
  const startedMs = clock.now();
  try {
    await sendRows(job, sender, report);
    report.isInterrupted = signal.aborted;
  } catch (error) {
    report.isInterrupted = signal.aborted;
    if (!signal.aborted) report.failure = error;
  }
  await sender.drain().catch(() => undefined);
  report.seconds = Math.round(clock.now() - startedMs) / 1000;
  report.rows = report.accepted + report.duplicate + report.conflict + report.rejected;
  // Nothing was answered (a wrong key, a mapping that does not fit): there is nothing to report.
  if (report.rows === 0 && report.failure !== null) throw report.failure;
  report.refused.sort((a, b) => a.row - b.row).splice(REFUSED_SHOWN_MAX);
  return report;
}

/** A service that is not there is said at once, not after minutes of trying. */
async function checkService({ client, random, signal }: ImportJob): Promise<void> {
  const ask = () => client.request({ method: "GET", path: "/health" }, z.unknown());
  await retryAnswer(ask, { attemptsMax: 3, random, sleep: sleepMs, signal });
}

async function sendRows(job: ImportJob, sender: EventSender, report: ImportReport): Promise<void> {
  const { file, progress, signal, clock } = job;
  const reader = createRowReader({ ...job, digest: file.digest });
  const batcher = new RowBatcher();
  const send = async (batch: RowBatch | null): Promise<void> => {
    if (batch === null) return;
    await sender.send({
      text: batch.text,
      events: batch.rows.length,
      onResults: (results) => count(report, batch, results),
    });
  };
  const take = async (rows: readonly FileRow[]): Promise<void> => {
    for (const { row, json, fault } of rows) {
      report.rows++;
      if (fault !== null) refuse(report, { row, status: "rejected", ...fault });
      else await send(batcher.add(row, json));
    }
  };
  const startedMs = clock.now();
  let bytes = 0;
  for await (const chunk of file.chunks()) {
    if (signal.aborted) return;
    await take(reader.push(chunk));
    bytes += chunk.length;
    progress.show({
      done: bytes,
      total: file.size,
      text: describe(report, (clock.now() - startedMs) / 1000),
    });
  }
  await take(reader.end());
  if (reader.ignored.length > 0) progress.note(`Columns not used: ${reader.ignored.join(", ")}.`);
  await send(batcher.take());
  await sender.drain();
}

function count(report: ImportReport, { rows }: RowBatch, results: readonly EventResult[]): void {
  for (const [i, { status, code = "", pointer = "", detail = "" }] of results.entries()) {
    if (status === "accepted" || status === "duplicate") {
      report[status]++;
      continue;
    }
    report.kept++;
    refuse(report, { row: rows[i] ?? 0, status, code, pointer, detail });
  }
}

function refuse(report: ImportReport, refused: RefusedRow): void {
  report[refused.status]++;
  if (refused.code === "too_old") report.tooOld++;
  // Answers come in any order: keep some more than are shown, so that those shown are the first of the file.
  if (report.refused.length < REFUSED_SHOWN_MAX * 100) report.refused.push(refused);
}

function describe(report: ImportReport, seconds: number): string {
  const counted = [`${formatNumber(report.accepted)} accepted`];
  for (const status of ["duplicate", "conflict", "rejected"] as const) {
    if (report[status] > 0) counted.push(`${formatNumber(report[status])} ${status}`);
  }
  const speed = seconds > 0.5 ? ` (${formatNumber(Math.round(report.rows / seconds))}/s)` : "";
  return `${formatNumber(report.rows)} rows${speed} · ${counted.join(", ")}`;
}

const emptyReport = (source: string): ImportReport => ({
  source,
  rows: 0,
  accepted: 0,
  duplicate: 0,
  conflict: 0,
  rejected: 0,
  tooOld: 0,
  kept: 0,
  refused: [],
  seconds: 0,
  isInterrupted: false,
  failure: null,
});

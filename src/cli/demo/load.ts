import { z } from "zod";
import { type Clock, sleepMs } from "#kernel";
import { type ApiClient, ApiProblem } from "../api-client.ts";
import { jsonBody } from "../api-list.ts";
import { createEventSender, type EventResult, type EventSender } from "../event-sender.ts";
import type { Progress } from "../progress.ts";
import { formatNumber } from "../table.ts";
import { SLOT_MS } from "./rhythm.ts";
import { nothingExpected, type Expected, type Traffic } from "./traffic.ts";
import { DEMO_ORGS, DEMO_TAG_KEY } from "./world.ts";

/** What sending sample traffic needs. */
export type DemoDeps = {
  client: ApiClient;
  traffic: Traffic;
  clock: Clock;
  progress: Progress;
  signal: AbortSignal;
  random: () => number;
};

/** What the service answered, and what it should have. */
export type LoadReport = {
  counted: Record<EventResult["status"], number>;
  expected: Expected;
  seconds: number;
};

const BODY_EVENTS = 4000;
const IN_FLIGHT_MAX = 3;
const TICK_MS = 250;
/** A pause longer than this (the machine slept, the service was away) is not caught up with. */
const CATCH_UP_MS_MAX = 3000;

/**
 * Makes the sample's orgs, with the tag key that its events have: it counts from the moment it is declared. One that is
 * there stays as it is.
 */
export async function createDemoOrgs(client: ApiClient): Promise<void> {
  for (const { id } of DEMO_ORGS) {
    const org = jsonBody({ orgId: id, tagKeys: [DEMO_TAG_KEY] });
    const request = { method: "POST", path: "/analytics/v1/admin/orgs", ...org } as const;
    await client.request(request, z.looseObject({})).catch((error: unknown) => {
      if (!(error instanceof ApiProblem) || error.code !== "already_exists") throw error;
    });
  }
}

/** Sends the sample's history through the API, as any producer would. Throws when stopped or the service is gone. */
export async function loadHistory(
  deps: DemoDeps,
  range: { fromMs: number; untilMs: number },
): Promise<LoadReport> {
  const { traffic, clock, progress, signal } = deps;
  const startedMs = clock.now();
  const expected = nothingExpected();
  const counted = { accepted: 0, duplicate: 0, conflict: 0, rejected: 0 };
  const sender = openSender(deps, "demo/history");
  const onResults = (results: readonly EventResult[]): void => {
    for (const { status } of results) counted[status]++;
  };
  let body = { text: "", events: 0 };
  const flush = async (): Promise<void> => {
    const { text, events } = body;
    body = { text: "", events: 0 };
    if (events > 0) await sender.send({ text: Buffer.from(text), events, onResults });
  };
  const slots = Math.max(1, Math.ceil((range.untilMs - range.fromMs) / SLOT_MS));
  let slot = 0;
  for (const chunk of traffic.history(range, expected)) {
    signal.throwIfAborted();
    slot++;
    if (body.events + chunk.events > BODY_EVENTS) await flush();
    body = { text: body.text + chunk.text, events: body.events + chunk.events };
    progress.show({
      done: slot,
      total: slots,
      text: `${formatNumber(expected.sent)} sample events`,
    });
  }
  await flush();
  await sender.drain();
  return { counted, expected, seconds: (clock.now() - startedMs) / 1000 };
}

/**
 * Sends live traffic until stopped. `onTick` is told after each answered tick up to when traffic is covered. A service
 * that is away is waited for.
 */
export async function runLive(
  deps: DemoDeps,
  onTick: (coveredUntilMs: number) => Promise<void>,
): Promise<void> {
  const { traffic, clock, signal } = deps;
  const sender = openSender(deps, "demo/live");
  let fromMs = clock.now();
  try {
    for (;;) {
      await sleepMs(TICK_MS, signal);
      const toMs = clock.now();
      const { text, events } = traffic.live(Math.max(fromMs, toMs - CATCH_UP_MS_MAX), toMs);
      fromMs = toMs;
      if (events > 0)
        await sender.send({ text: Buffer.from(text), events, onResults: () => undefined });
      await sender.drain();
      await onTick(toMs);
    }
  } catch (error) {
    if (!signal.aborted) throw error;
  }
}

const openSender = ({ client, progress, signal, random }: DemoDeps, source: string): EventSender =>
  createEventSender({
    client,
    source,
    backfill: false,
    inFlightMax: IN_FLIGHT_MAX,
    signal,
    random,
    sleep: sleepMs,
    onWait: (error, waitMs) => {
      if (waitMs > 2000 && error instanceof Error) progress.note(`${error.message} Trying again.`);
    },
  });

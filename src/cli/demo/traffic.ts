import {
  type DemoCall,
  type DemoEvent,
  drawCall,
  errorShare,
  writeError,
  writeSuccess,
} from "./event-writer.ts";
import { type DemoIncident, planIncidents } from "./incidents.ts";
import { createRandom, type Random } from "./random.ts";
import { createRhythm, SLOT_MS } from "./rhythm.ts";
import { DEMO_ORGS } from "./world.ts";

/** The same options make the same bytes. */
export type TrafficOptions = {
  seed: number;
  /** First day of the history (00:00 UTC), milliseconds since the Unix epoch. */
  startMs: number;
  /** Length of the history that incidents are planned in. */
  days: number;
  /** Calls a second over all orgs, on average over a week. */
  callsPerSecond: number;
};

/** NDJSON of some events. */
export type TrafficChunk = { text: string; events: number };

/** What a correct service has counted after the history was sent, per org, model and UTC day. */
export type ExpectedCell = Omit<DemoEvent, "text" | "occurredAt" | "isError"> & {
  /** YYYY-MM-DD */
  day: string;
  events: number;
  /** Calls that failed. */
  errors: number;
};
export type Expected = {
  cells: Map<string, ExpectedCell>;
  sent: number;
  accepted: number;
  duplicate: number;
  conflict: number;
  rejected: number;
};

/** Sample traffic: a history quarter by quarter, and live calls tick by tick. */
export type Traffic = {
  incidents: readonly DemoIncident[];
  /**
   * What happened and arrived in [fromMs, untilMs], in order of arrival; `fromMs` on a quarter of an hour. Adds to
   * `expected` as it goes.
   */
  history(range: { fromMs: number; untilMs: number }, expected: Expected): Generator<TrafficChunk>;
  /** The calls of (fromMs, toMs], one event each. */
  live(fromMs: number, toMs: number): TrafficChunk;
};

/** Events of an average quarter of an hour of history, over all orgs; each stands for many calls. */
const EVENTS_PER_SLOT = 130;
const LATE_SHARE = 0.012;
const DUPLICATE_SHARE = 0.005;
const ODD_SHARE = 1 / 40_000;
const SLOTS_PER_DAY = 96;

/** Events on their way, by the slot in which they arrive. */
type Arrival = { event: DemoEvent; kind: "accepted" | "duplicate" | "conflict" | "rejected" };

export const nothingExpected = (): Expected => ({
  cells: new Map(),
  sent: 0,
  accepted: 0,
  duplicate: 0,
  conflict: 0,
  rejected: 0,
});

export function createTraffic(options: TrafficOptions): Traffic {
  const rhythm = createRhythm();
  const incidents = planIncidents(options.startMs, options.days, rhythm);

  function* history(
    { fromMs, untilMs }: { fromMs: number; untilMs: number },
    expected: Expected,
  ): Generator<TrafficChunk> {
    const onTheWay = new Map<number, Arrival[]>();
    for (let slotMs = fromMs; slotMs <= untilMs; slotMs += SLOT_MS) {
      const arrivals = onTheWay.get(slotMs) ?? [];
      onTheWay.delete(slotMs);
      const random = createRandom(options.seed, slotMs / SLOT_MS);
      for (const event of slotEvents(random, slotMs)) {
        if (event.occurredAt > untilMs) continue;
        sendOut(random, event, slotMs, { arrivals, onTheWay });
      }
      let text = "";
      for (const arrival of arrivals) {
        text += `${arrival.event.text}\n`;
        count(expected, arrival);
      }
      if (arrivals.length > 0) yield { text, events: arrivals.length };
    }
  }

  /** What happened in one quarter of an hour: each event stands for several calls. */
  function* slotEvents(random: Random, slotMs: number): Generator<DemoEvent> {
    for (const [orgIndex, org] of DEMO_ORGS.entries()) {
      const level = org.weight * rhythm.level(org.zone, slotMs);
      const events = Math.max(1, Math.floor(EVENTS_PER_SLOT * level + random.unit()));
      const calls = (options.callsPerSecond * level * SLOT_MS) / 1000 / events;
      for (let i = 0; i < events; i++) {
        const occurredAt = slotMs + Math.floor(((i + random.unit()) * SLOT_MS) / events);
        const requests = Math.max(1, Math.round(calls * (0.4 + 1.2 * random.unit())));
        yield* writeSummary(random, drawCall(random, orgIndex, occurredAt, requests));
      }
    }
  }

  /** The calls of one event, those that failed apart: every tenth event carries the failures of ten. */
  function* writeSummary(random: Random, call: DemoCall): Generator<DemoEvent> {
    const share = errorShare(call, incidents);
    const isIncident = share > 0.01;
    const failed = isIncident
      ? Math.round(call.requests * share)
      : random.unit() < 0.1
        ? Math.max(1, Math.round(call.requests * share * 10))
        : 0;
    if (failed > 0) yield writeError(random, { ...call, requests: failed }, share);
    const answered = isIncident ? call.requests - failed : call.requests;
    if (answered > 0) yield writeSuccess(random, { ...call, requests: answered }, incidents);
  }

  const again: string[] = [];
  const live = (fromMs: number, toMs: number): TrafficChunk => {
    const random = createRandom(options.seed ^ 0x6c697665, toMs);
    const lines = again.splice(0);
    for (const [orgIndex, org] of DEMO_ORGS.entries()) {
      const level = org.weight * rhythm.level(org.zone, toMs);
      const calls = Math.floor(
        (options.callsPerSecond * level * (toMs - fromMs)) / 1000 + random.unit(),
      );
      for (let i = 0; i < calls; i++) {
        const delayMs = random.unit() < LATE_SHARE ? random.unit() * 600_000 : 0;
        const occurredAt = Math.floor(fromMs + 1 + random.unit() * (toMs - fromMs - 1) - delayMs);
        const call = drawCall(random, orgIndex, occurredAt, 1);
        const share = errorShare(call, incidents);
        const { text } =
          random.unit() < share
            ? writeError(random, call, share)
            : writeSuccess(random, call, incidents);
        lines.push(text);
        if (random.unit() < DUPLICATE_SHARE) again.push(text);
      }
    }
    return { text: lines.map((line) => `${line}\n`).join(""), events: lines.length };
  };
  return { incidents, history, live };
}

/** Delivers an event: at once or late, sometimes twice, and now and then with a mistake. */
function sendOut(
  random: Random,
  event: DemoEvent,
  slotMs: number,
  to: { arrivals: Arrival[]; onTheWay: Map<number, Arrival[]> },
): void {
  const send = (slotsLate: number, arrival: Arrival): void => {
    if (slotsLate === 0) {
      to.arrivals.push(arrival);
      return;
    }
    const at = slotMs + slotsLate * SLOT_MS;
    const queue = to.onTheWay.get(at);
    if (queue === undefined) to.onTheWay.set(at, [arrival]);
    else queue.push(arrival);
  };
  const skewed = random.unit();
  const late = random.unit() < LATE_SHARE ? 1 + Math.floor(skewed * skewed * SLOTS_PER_DAY) : 0;
  send(late, { event, kind: "accepted" });
  if (random.unit() < DUPLICATE_SHARE)
    send(late + Math.floor(random.unit() * 8), { event, kind: "duplicate" });
  const odd = random.unit();
  // Same id, other latency, so much later that the first one is stored even when several requests are under way.
  if (odd < ODD_SHARE)
    send(late + 3 * SLOTS_PER_DAY, {
      event: withText(event, /"latency_ms":/, "$&1"),
      kind: "conflict",
    });
  else if (odd > 1 - ODD_SHARE) {
    const broken = withText(withText(event, /"event_id":"/, "$&bad-"), /"latency_ms":/, "$&-");
    send(late, { event: broken, kind: "rejected" });
  }
}

const withText = (event: DemoEvent, pattern: RegExp, replacement: string): DemoEvent => ({
  ...event,
  text: event.text.replace(pattern, replacement),
});

function count(expected: Expected, { event, kind }: Arrival): void {
  expected.sent++;
  expected[kind]++;
  if (kind !== "accepted") return;
  const day = new Date(event.occurredAt).toISOString().slice(0, 10);
  const key = `${event.orgId}/${event.modelId}/${day}`;
  let cell = expected.cells.get(key);
  if (cell === undefined) {
    cell = emptyCell(event.orgId, event.modelId, day);
    expected.cells.set(key, cell);
  }
  cell.events++;
  cell.requests += event.requests;
  if (event.isError) cell.errors += event.requests;
  cell.inputTokens += event.inputTokens;
  cell.cacheReadTokens += event.cacheReadTokens;
  cell.outputTokens += event.outputTokens;
  cell.reasoningTokens += event.reasoningTokens;
  cell.costNano += event.costNano;
}

const emptyCell = (orgId: string, modelId: string, day: string): ExpectedCell => ({
  orgId,
  modelId,
  day,
  events: 0,
  requests: 0,
  errors: 0,
  inputTokens: 0,
  cacheReadTokens: 0,
  outputTokens: 0,
  reasoningTokens: 0,
  costNano: 0,
});

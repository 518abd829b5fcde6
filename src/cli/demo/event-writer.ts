import type { DemoIncident } from "./incidents.ts";
import { logNormalTable, type Random, uuid7 } from "./random.ts";
import { SLOT_MS } from "./rhythm.ts";
import {
  DEMO_CLIENTS,
  DEMO_MODELS,
  DEMO_ORGS,
  DEMO_TAG_KEY,
  DEMO_TEAMS,
  type DemoClient,
  type DemoModel,
  type DemoOrg,
} from "./world.ts";

/** One event as it goes over the wire, and what it should count as. Cost in billionths of a dollar. */
export type DemoEvent = {
  text: string;
  orgId: string;
  modelId: string;
  /** Milliseconds since the Unix epoch. */
  occurredAt: number;
  requests: number;
  isError: boolean;
  inputTokens: number;
  cacheReadTokens: number;
  outputTokens: number;
  reasoningTokens: number;
  costNano: number;
};

/** A call about to be written: who, when, how many calls it stands for. */
export type DemoCall = {
  org: DemoOrg;
  model: DemoModel;
  client: DemoClient;
  occurredAt: number;
  requests: number;
};

const ERRORS = [
  { weight: 5, errorClass: "capacity", code: "overloaded", latencyMs: 120 },
  { weight: 4, errorClass: "capacity", code: "rate_limited", latencyMs: 25 },
  { weight: 5, errorClass: "client", code: "context_length_exceeded", latencyMs: 40 },
  { weight: 4, errorClass: "upstream", code: "upstream_timeout", latencyMs: 30_000 },
  { weight: 2, errorClass: "policy", code: "content_filter", latencyMs: 300 },
  { weight: 1, errorClass: "internal", code: "internal_error", latencyMs: 700 },
] as const;

const LATENCY = logNormalTable(0.45);
const SIZE = logNormalTable(0.8);
const TWO_DIGITS = Array.from({ length: 60 }, (_, i) => String(i).padStart(2, "0"));

/** 256 places shared out by weight, so that a byte of randomness picks one. */
function pickTable(weights: readonly number[]): Uint8Array {
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  const table = new Uint8Array(256);
  let at = 0;
  let sum = 0;
  for (const [i, weight] of weights.entries()) {
    sum += weight;
    while (at < Math.round((sum / total) * 256)) table[at++] = i;
  }
  return table;
}

const pick = <T>(items: readonly T[], table: Uint8Array, word: number): T => {
  const item = items[table[word & 255] ?? 0];
  if (item === undefined) throw new RangeError("a pick table that points beyond its items");
  return item;
};

const byId = <T extends { id: string }>(items: readonly T[], id: string): T => {
  const item = items.find((candidate) => candidate.id === id);
  if (item === undefined) throw new RangeError(`no ${id} in the sample world`);
  return item;
};

const ERROR_TABLE = pickTable(ERRORS.map((error) => error.weight));

/** What is drawn from, per org. */
const CASTS = DEMO_ORGS.map((org) => {
  const clients = org.clients.map((id) => byId(DEMO_CLIENTS, id));
  return {
    org,
    models: org.models.map(({ id }) => byId(DEMO_MODELS, id)),
    modelTable: pickTable(org.models.map(({ weight }) => weight)),
    clients,
    clientTable: pickTable(clients.map(({ weight }) => weight)),
  };
});

/** Who calls which model, drawn for one of the orgs (by its place in DEMO_ORGS). */
export function drawCall(
  random: Random,
  orgIndex: number,
  occurredAt: number,
  requests: number,
): DemoCall {
  const cast = CASTS[orgIndex];
  if (cast === undefined) throw new RangeError(`no org ${orgIndex} in the sample world`);
  const word = random.word();
  return {
    org: cast.org,
    model: pick(cast.models, cast.modelTable, word),
    client: pick(cast.clients, cast.clientTable, word >>> 8),
    occurredAt,
    requests,
  };
}

/** Share of the calls that fail, 0…1: a little always, much in an error incident, most for its client. */
export function errorShare(call: DemoCall, incidents: readonly DemoIncident[]): number {
  const incident = incidents.find((one) => one.kind === "errors" && isHit(call, one));
  if (incident === undefined) return 0.006;
  return incident.clientId === call.client.id ? 0.45 : 0.04;
}

const isHit = (call: DemoCall, incident: DemoIncident): boolean =>
  call.occurredAt >= incident.start &&
  call.occurredAt < incident.end &&
  call.model.id === incident.modelId &&
  call.org.id === incident.orgId;

/** A call that was answered, or one in a hundred that was cancelled. */
export function writeSuccess(
  random: Random,
  call: DemoCall,
  incidents: readonly DemoIncident[],
): DemoEvent {
  const { client, model, requests } = call;
  const size =
    requests === 1 ? (SIZE[random.word() & 4095] ?? 1) * 0.75 : 0.85 + 0.3 * random.unit();
  const input = Math.round(client.inputTokens * size * requests);
  const cacheReadTokens = Math.floor(input * client.cacheShare * (0.7 + 0.3 * random.unit()));
  const inputTokens = input - cacheReadTokens;
  const output = model.isStreaming ? Math.round(client.outputTokens * size * requests) : 0;
  const reasoningTokens = Math.floor(output * model.reasoningShare);
  const outputTokens = output - reasoningTokens;
  const { price } = model;
  const costNano = price
    ? inputTokens * price.input + cacheReadTokens * price.cacheRead + output * price.output
    : 0;

  const isSlow = incidents.some((one) => one.kind === "latency" && isHit(call, one));
  const slowdown = isSlow ? 3 + 3 * random.unit() : 1;
  const latencyMs = Math.max(
    1,
    Math.round(model.latencyMs * (LATENCY[random.word() & 4095] ?? 1) * slowdown),
  );
  let text = `${head(random, call)},"input_tokens":${inputTokens},"output_tokens":${outputTokens}`;
  if (cacheReadTokens > 0) text += `,"cache_read_tokens":${cacheReadTokens}`;
  if (reasoningTokens > 0) text += `,"reasoning_tokens":${reasoningTokens}`;
  text += `,"latency_ms":${latencyMs}`;
  if (model.isStreaming)
    text += `,"ttft_ms":${Math.max(1, Math.round(latencyMs * (0.08 + 0.1 * random.unit())))}`;
  text += random.word() < 42_949_673 ? ',"status":"cancelled"' : ',"status":"success"';
  if (price) text += `,"cost_estimate":"${formatNano(costNano)}"`;
  const counted = { inputTokens, cacheReadTokens, outputTokens, reasoningTokens, costNano };
  return { text: `${text}}`, ...countedAs(call, false), ...counted };
}

/** A call that failed: no tokens, and nothing to pay. In an error incident most failures are of class capacity. */
export function writeError(random: Random, call: DemoCall, share: number): DemoEvent {
  const isIncident = share > 0.01;
  const error =
    isIncident && random.unit() < 0.95 ? ERRORS[0] : pick(ERRORS, ERROR_TABLE, random.word());
  const latencyMs = Math.max(1, Math.round(error.latencyMs * (LATENCY[random.word() & 4095] ?? 1)));
  const text =
    `${head(random, call)},"latency_ms":${latencyMs},"status":"error"` +
    `,"error_class":"${error.errorClass}","error_code":"${error.code}"${call.model.price ? ',"cost_estimate":"0"' : ""}}`;
  const counted = {
    inputTokens: 0,
    cacheReadTokens: 0,
    outputTokens: 0,
    reasoningTokens: 0,
    costNano: 0,
  };
  return { text, ...countedAs(call, true), ...counted };
}

const countedAs = (call: DemoCall, isError: boolean) => ({
  orgId: call.org.id,
  modelId: call.model.id,
  occurredAt: call.occurredAt,
  requests: call.requests,
  isError,
});

function head(random: Random, call: DemoCall): string {
  const { org, client, requests, occurredAt } = call;
  const id = uuid7(occurredAt, random);
  let text =
    // One org's gateway has ids of its own making: an id is any text.
    `{"event_id":"${org.id === "hooli" ? `req_${id.replaceAll("-", "")}` : id}","occurred_at":"${formatTime(occurredAt)}"` +
    `,"org_id":"${org.id}","model_id":"${call.model.id}","client_id":"${client.id}"`;
  if (client.hasActors) {
    const skewed = random.unit();
    const actor = 1 + Math.floor(skewed * skewed * org.actors);
    text += `,"actor_id":"u-${String(actor).padStart(4, "0")}"`;
    const team = DEMO_TEAMS[actor % (DEMO_TEAMS.length + 1)];
    if (team !== undefined) text += `,"metadata":{"${DEMO_TAG_KEY}":"${team}"}`;
  }
  if (requests > 1) text += `,"requests":${requests}`;
  return text;
}

let slotOfPrefix = -1;
let prefix = "";

/** RFC 3339 with milliseconds; the part above the quarter of an hour is kept, as most calls share it. */
function formatTime(atMs: number): string {
  const slot = Math.floor(atMs / SLOT_MS);
  if (slot !== slotOfPrefix) {
    slotOfPrefix = slot;
    prefix = new Date(slot * SLOT_MS).toISOString().slice(0, 14);
  }
  const ms = atMs % 3_600_000;
  const minute = TWO_DIGITS[Math.floor(ms / 60_000)];
  const second = TWO_DIGITS[Math.floor((ms % 60_000) / 1000)];
  return `${prefix}${minute}:${second}.${String(ms % 1000).padStart(3, "0")}Z`;
}

/** Billionths as a decimal, exactly. */
export function formatNano(nano: number): string {
  const units = Math.floor(nano / 1e9);
  const rest = nano % 1e9;
  return rest === 0
    ? String(units)
    : `${units}.${String(rest).padStart(9, "0").replace(/0+$/, "")}`;
}

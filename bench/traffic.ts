import { Random } from "./random.ts";

/** Events in one body, as a busy sender groups them. */
export const BODY_EVENTS = 1000;
export const ORGS = 250;
export const MODELS = 40;

/** How many different names there are. Every org uses all of its models, each as often. */
export type World = { orgs: number; models: number; clientsPerOrg: number; actorsPerOrg: number };
export const WORLD: World = { orgs: ORGS, models: MODELS, clientsPerOrg: 4, actorsPerOrg: 40 };

/** When events occurred, ms since the Unix epoch: they follow each other through the span, a little out of order. */
export type Span = { fromMs: number; toMs: number };

/** The ten minutes before `nowMs`: events that were just sent. */
export const lastMinutes = (nowMs: number): Span => ({
  fromMs: nowMs - 600_000,
  toMs: nowMs - 20_000,
});

const ERROR_SHARE = 0.02;
const ERROR_CODES = [
  "rate_limit_exceeded",
  "upstream_timeout",
  "invalid_request",
  "content_filter",
  "internal",
];
const REGIONS = ["eu-west-1", "us-east-1", "ap-south-1", "sa-east-1"];
const ROUTES = ["chat", "code", "mail", "docs"];
const DISORDER_MS = 10_000;

const HEX = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, "0"));
const hex = (word: number): string =>
  `${HEX[word >>> 24]}${HEX[(word >>> 16) & 255]}${HEX[(word >>> 8) & 255]}${HEX[word & 255]}`;

/** Makes usage events as a gateway would send them, about 414 bytes each, from a seed. */
export class Traffic {
  readonly #random: Random;
  readonly #world: World;

  constructor(seed: number, world: World = WORLD) {
    this.#random = new Random(seed);
    this.#world = world;
  }

  /** One event as a line of JSON, without the newline. */
  line(occurredAtMs: number): string {
    const random = this.#random;
    const org = random.below(this.#world.orgs);
    const isError = random.chance(ERROR_SHARE);
    const input = 100 + random.below(4000);
    const output = isError ? 0 : 20 + random.below(900);
    const latencyMs = Math.round(Math.exp(6.6 + 0.7 * random.normal()));
    const error = isError ? `,"error_code":"${ERROR_CODES[random.below(ERROR_CODES.length)]}"` : "";
    return (
      `{"event_id":"${this.#uuid()}","occurred_at":"${new Date(occurredAtMs).toISOString()}",` +
      `"org_id":"${orgName(org)}","model_id":"${modelName(random.below(this.#world.models))}",` +
      `"client_id":"app-${random.below(this.#world.clientsPerOrg)}",` +
      `"actor_id":"user-${org}-${random.below(this.#world.actorsPerOrg)}",` +
      `"input_tokens":${input},"cache_read_tokens":${random.below(2) * 512},"cache_write_5m_tokens":0,` +
      `"output_tokens":${output},"reasoning_tokens":${isError ? 0 : random.below(2) * 64},` +
      `"latency_ms":${latencyMs},"ttft_ms":${latencyMs >> 2},"status":"${isError ? "error" : "success"}"${error},` +
      `"cost_estimate":"0.${String(input * 3 + output * 15).padStart(6, "0")}",` +
      `"metadata":{"region":"${REGIONS[random.below(4)]}","route":"${ROUTES[random.below(4)]}"}}`
    );
  }

  /** Events within the span, each as `line` makes it. */
  lines(events: number, span: Span): string[] {
    return Array.from({ length: events }, (_, i) => this.line(this.#instant(span, i / events)));
  }

  /** An NDJSON body of `events` events within the span. */
  body(events: number, span: Span): Buffer {
    return Buffer.from(`${this.lines(events, span).join("\n")}\n`, "latin1");
  }

  /** `events` events as bodies of `BODY_EVENTS`, which follow each other through the span. */
  bodies(events: number, span: Span): Buffer[] {
    const count = Math.ceil(events / BODY_EVENTS);
    const step = (span.toMs - span.fromMs) / count;
    return Array.from({ length: count }, (_, i) =>
      this.body(BODY_EVENTS, {
        fromMs: span.fromMs + i * step,
        toMs: span.fromMs + (i + 1) * step,
      }),
    );
  }

  #instant({ fromMs, toMs }: Span, share: number): number {
    return Math.floor(fromMs + (toMs - fromMs) * share - this.#random.below(DISORDER_MS));
  }

  /** Version 4. */
  #uuid(): string {
    const random = this.#random;
    const [a, b, c, d] = [random.word(), random.word(), random.word(), random.word()];
    const middle = hex((b & 0xffff0fff) | 0x4000);
    const tail = hex((c & 0x3fffffff) | 0x80000000);
    return `${hex(a)}-${middle.slice(0, 4)}-${middle.slice(4)}-${tail.slice(0, 4)}-${tail.slice(4)}${hex(d)}`;
  }
}

export const orgName = (org: number): string => `org-${String(org).padStart(3, "0")}`;
export const modelName = (model: number): string => `model-${String(model).padStart(2, "0")}`;

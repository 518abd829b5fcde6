import { chancesOf } from "./fault-test.ts";

/** What raw must hold of one event, in the words of the `oracle`. */
export type CountedEvent = {
  orgId: string;
  eventId: string;
  modelId: string;
  clientId: string | null;
  actorId: string | null;
  /** RFC 3339 in UTC with milliseconds. */
  occurredAt: string;
  /** As `usage_event.outcome`. */
  outcome: number;
  requests: number;
  /** Input, cache read, output, reasoning. */
  tokens: readonly [number, number, number, number];
  latencyMs: number | null;
  /** Billionths of the currency. */
  costNano: number | null;
};

export type Status = "accepted" | "duplicate" | "conflict" | "rejected";

/** One line of a request and the answers to it that are right. */
export type Item = {
  line: string;
  /** When this request is the first to carry it, and when it is sent again after an attempt without an answer. */
  right: { first: readonly Status[]; again: readonly Status[] };
  /** Of a conflict or rejection. */
  code: string | null;
  event: CountedEvent | null;
  isAnswered?: boolean;
};

/** A request as the producer keeps it until it is answered. */
export type TrafficRequest = { items: readonly Item[]; body: string; contentType: string };

/** What is refused: how often it was sent, and how often that was answered. */
export type Refused = { orgId: string; code: string; sends: number; answers: number };

export const ORGS = ["acme", "globex", "Zoë & Söhne"] as const;
const MODELS = ["chat-large", "chat-small", "embed", "vision-2", "code"];
const HOUR_MS = 3_600_000;
/** Ages of late events, ms: another hour, yesterday, last week, nearly out of retention. */
const LATE_MS = [2 * HOUR_MS, 26 * HOUR_MS, 8 * 24 * HOUR_MS, 29 * 24 * HOUR_MS];
/** What makes an event a bad one, and the code it then gets. */
const BAD: readonly (readonly [string, Record<string, unknown>])[] = [
  ["invalid_number", { input_tokens: 1.5 }],
  ["out_of_range", { output_tokens: 2 ** 31 }],
  ["missing_field", { model_id: undefined }],
  ["invalid_timestamp", { occurred_at: "2026-02-30T00:00:00Z" }],
  ["future_timestamp", { occurred_at: "2190-01-01T00:00:00Z" }],
  ["too_old", { occurred_at: "1999-12-31T23:59:59Z" }],
  ["invalid_currency", { currency: "usd" }],
  ["invalid_value", { status: "maybe" }],
];

/**
 * The events of several producers, decided by a seed: a tenth duplicates, a few late ones, some bad ones, some that
 * contradict an earlier one. Remembers what raw and quarantine must hold once every request has been answered.
 */
export class Traffic {
  /** By org and id. */
  readonly counted = new Map<string, CountedEvent>();
  readonly refused = new Map<string, Refused>();
  /** Answers that were not right, in words. */
  readonly surprises: string[] = [];
  readonly #next: () => number;
  readonly #nowMs: number;
  #recent: Item[] = [];
  /** Counted and answered, not contradicted yet. */
  #settled: Item[] = [];

  constructor(seed: number, nowMs: number) {
    this.#next = chancesOf(seed);
    this.#nowMs = nowMs;
  }

  /** The next request, of 1 to `eventsMax` events. */
  createRequest(eventsMax: number): TrafficRequest {
    const size = 1 + this.#below(eventsMax);
    const items = Array.from({ length: size }, () => this.#createItem());
    const lines = items.map(({ line }) => line);
    return this.#below(2) === 0
      ? { items, body: `[${lines.join(",")}]`, contentType: "application/json" }
      : { items, body: `${lines.join("\n")}\n`, contentType: "application/x-ndjson" };
  }

  /** Notes that a request goes out (once more). */
  noteSent({ items }: TrafficRequest): void {
    for (const item of items) {
      const refused = this.#refusedOf(item);
      if (refused) refused.sends++;
    }
  }

  /** Notes that a request is published: what it holds may come in any number of times, a queue delivers again. */
  notePublished({ items }: TrafficRequest): void {
    for (const item of items) {
      const refused = this.#refusedOf(item);
      if (refused) refused.sends = Number.POSITIVE_INFINITY;
    }
  }

  /** Notes that a broker has a request: it will come in, once at least, after or before anything else. */
  noteConfirmed({ items }: TrafficRequest): void {
    for (const item of items) {
      const refused = this.#refusedOf(item);
      if (refused) refused.answers++;
    }
  }

  /** Notes a request's answer, and whether it is right. */
  noteAnswer(
    { items }: TrafficRequest,
    results: readonly { eventId: string | null; status: string; code?: string }[],
    isFirst: boolean,
  ): void {
    if (results.length !== items.length)
      this.surprises.push(`${items.length} events got ${results.length} answers`);
    for (const [i, item] of items.entries()) {
      const result = results[i];
      const right = isFirst ? item.right.first : item.right.again;
      const isRight =
        right.some((status) => status === result?.status) && (result?.code ?? null) === item.code;
      if (!isRight)
        this.surprises.push(
          `${JSON.stringify(result)} where ${right.join(" or ")} ${item.code ?? ""} is right, ${isFirst ? "first" : "repeated"}: ${item.line}`,
        );
      const refused = this.#refusedOf(item);
      if (refused) refused.answers++;
      else if (item.event && item.right.first.includes("accepted")) this.#settled.push(item);
      item.isAnswered = true;
    }
  }

  #refusedOf({ line, code }: Item): Refused | undefined {
    return code === null ? undefined : this.refused.get(line);
  }

  #createItem(): Item {
    const chance = this.#next();
    if (chance < 0.1 && this.#recent.length > 0) return this.#repeat();
    if (chance < 0.12 && this.#settled.length > 0) return this.#restamp();
    if (chance < 0.13 && this.#settled.length > 0) return this.#contradict();
    if (chance < 0.14) return this.#createBad();
    return this.#createGood();
  }

  /** The very same bytes as some event before, answered or not. */
  #repeat(): Item {
    const known = this.#pick(this.#recent);
    const { line, event } = known;
    // Of two under way at the same time, either may be the first to come in.
    if (known.isAnswered !== true) known.right = { first: EITHER, again: EITHER };
    return { line, right: known.isAnswered ? REPEATED : { ...known.right }, code: null, event };
  }

  /** An event known to be counted, with another time: its first one stays. */
  #restamp(): Item {
    const { line, event } = this.#pick(this.#settled);
    const restamped = { ...parse(line), occurred_at: this.#isoBefore(this.#below(HOUR_MS)) };
    return { line: JSON.stringify(restamped), right: REPEATED, code: null, event };
  }

  #contradict(): Item {
    const at = this.#below(this.#settled.length);
    const [known] = this.#settled.splice(at, 1);
    if (!known) throw new RangeError("nothing to contradict");
    const other = { ...parse(known.line), output_tokens: 777_777 };
    return this.#refuse(other, { code: "conflict", status: "conflict" });
  }

  #createBad(): Item {
    const [code, change] = this.#pick(BAD);
    return this.#refuse({ ...this.#wireEvent(), ...change }, { code, status: "rejected" });
  }

  #refuse(wire: Record<string, unknown>, how: { code: string; status: Status }): Item {
    const line = JSON.stringify(wire);
    const orgId = String(wire["org_id"]);
    if (!this.refused.has(line))
      this.refused.set(line, { orgId, code: how.code, sends: 0, answers: 0 });
    const right = { first: [how.status], again: [how.status] };
    return { line, right, code: how.code, event: null };
  }

  #createGood(): Item {
    const wire = this.#wireEvent();
    const event: CountedEvent = {
      orgId: wire.org_id,
      eventId: wire.event_id,
      modelId: wire.model_id,
      clientId: wire.client_id ?? null,
      actorId: wire.actor_id ?? null,
      occurredAt: wire.occurred_at,
      outcome: wire.status === "success" ? 0 : wire.status === "cancelled" ? 1 : 3,
      requests: wire.requests ?? 1,
      tokens: [
        wire.input_tokens,
        wire.cache_read_tokens ?? 0,
        wire.output_tokens,
        wire.reasoning_tokens ?? 0,
      ],
      latencyMs: wire.latency_ms ?? null,
      costNano: wire.cost_estimate === undefined ? null : Number(wire.cost_estimate.slice(2)),
    };
    this.counted.set(keyOf(event), event);
    const right = { first: ["accepted"] as const, again: EITHER };
    const item: Item = { line: JSON.stringify(wire), right, code: null, event };
    this.#recent.push(item);
    if (this.#recent.length > 5000) this.#recent = this.#recent.slice(-2500);
    return item;
  }

  #wireEvent() {
    const below = (n: number) => this.#below(n);
    const status = this.#pick(["success", "success", "success", "error", "cancelled"]);
    const ageMs = below(20) === 0 ? this.#pick(LATE_MS) : below(HOUR_MS);
    return {
      event_id: below(10) === 0 ? `req-${this.#hex(4)}/é` : this.#uuid(),
      occurred_at: this.#isoBefore(ageMs),
      org_id: this.#pick(ORGS),
      model_id: this.#pick(MODELS),
      ...(below(3) > 0 && { client_id: `client-${below(5)}` }),
      ...(below(5) > 0 && { actor_id: `actor-${below(50)}` }),
      ...(below(10) === 0 && { requests: 2 + below(30) }),
      input_tokens: below(8000),
      ...(below(3) === 0 && { cache_read_tokens: below(4000) }),
      output_tokens: below(2000),
      ...(below(8) === 0 && { reasoning_tokens: below(3000) }),
      ...(below(10) > 0 && { latency_ms: Math.floor(Math.exp(this.#next() * 11)) }),
      status,
      ...(status === "error" && { error_class: "capacity", error_code: `e-${below(4)}` }),
      // Nine digits after the point: billionths, exactly.
      ...(below(5) > 0 && { cost_estimate: `0.${String(below(90_000_000)).padStart(9, "0")}` }),
    };
  }

  #isoBefore(ageMs: number): string {
    return new Date(this.#nowMs - ageMs).toISOString();
  }

  #below(n: number): number {
    return Math.floor(this.#next() * n);
  }

  #pick<T>(from: readonly T[]): T {
    const found = from[this.#below(from.length)];
    if (found === undefined) throw new RangeError("nothing to pick from");
    return found;
  }

  #hex(words: number): string {
    return Array.from({ length: words }, () =>
      this.#below(2 ** 32)
        .toString(16)
        .padStart(8, "0"),
    ).join("");
  }

  #uuid(): string {
    const hex = this.#hex(4);
    return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-4${hex.slice(13, 16)}-a${hex.slice(17, 20)}-${hex.slice(20)}`;
  }
}

const EITHER: readonly Status[] = ["accepted", "duplicate"];
const REPEATED: Item["right"] = { first: ["duplicate"], again: ["duplicate"] };

const parse = (line: string): Record<string, unknown> =>
  JSON.parse(line) as Record<string, unknown>;

/** What makes two events the same one. */
export const keyOf = ({ orgId, eventId }: { orgId: string; eventId: string }): string =>
  `${orgId} ${eventId}`;

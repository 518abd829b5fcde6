import { randomUUID } from "node:crypto";

/** A usage event as a sender writes it. */
export type WireEvent = {
  event_id: string;
  occurred_at: string;
  org_id: string;
  model_id: string;
  [field: string]: unknown;
};

/** A valid usage event with an id of its own; any field can be overridden, added, or left out with undefined. */
export function anEvent(overrides: Record<string, unknown> = {}): WireEvent {
  const event: WireEvent = {
    event_id: randomUUID(),
    occurred_at: "2026-11-20T10:30:00Z",
    org_id: "acme",
    model_id: "chat-large",
    client_id: "web",
    actor_id: "user-1",
    input_tokens: 100,
    output_tokens: 20,
    latency_ms: 250,
    status: "success",
    ...overrides,
  };
  for (const [field, value] of Object.entries(event)) if (value === undefined) delete event[field];
  return event;
}

/** Events as one NDJSON body. */
export const toNdjson = (events: readonly object[]): string =>
  events.map((event) => `${JSON.stringify(event)}\n`).join("");

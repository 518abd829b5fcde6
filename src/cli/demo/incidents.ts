import { type Rhythm, SLOT_MS } from "./rhythm.ts";
import { DEMO_ORGS } from "./world.ts";

/** A stretch in which something went wrong on purpose. `start` and `end` in milliseconds since the Unix epoch. */
export type DemoIncident = {
  kind: "errors" | "latency";
  orgId: string;
  modelId: string;
  /** The client hit hardest, or null when all are. */
  clientId: string | null;
  start: number;
  end: number;
};

const DAY_MS = 86_400_000;

/** The sample's incidents: during working hours of the org, on a working day when there is one. */
export function planIncidents(startMs: number, days: number, rhythm: Rhythm): DemoIncident[] {
  const at = (orgId: string, daysBack: number, hour: number): number => {
    const zone = DEMO_ORGS.find((org) => org.id === orgId)?.zone ?? "UTC";
    let found = startMs;
    for (let back = Math.min(daysBack, days); back <= days; back++) {
      const dayMs = startMs + (days - back) * DAY_MS;
      for (let slotMs = dayMs; slotMs < dayMs + DAY_MS; slotMs += SLOT_MS) {
        const local = rhythm.localTime(zone, slotMs);
        if (local.hour !== hour || local.minute !== 0) continue;
        if (!local.isWeekend) return slotMs;
        found = slotMs;
      }
    }
    return found;
  };
  const errors = at("acme", 3, 14);
  const latency = at("globex", 6, 10);
  return [
    {
      kind: "errors",
      orgId: "acme",
      modelId: "chat-large",
      clientId: "support-bot",
      start: errors,
      end: errors + 8 * SLOT_MS,
    },
    {
      kind: "latency",
      orgId: "globex",
      modelId: "code-large",
      clientId: null,
      start: latency,
      end: latency + 10 * SLOT_MS,
    },
  ];
}

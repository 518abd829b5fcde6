import { relative } from "node:path";
import { formatCount, formatTable } from "../table.ts";
import type { DemoIncident } from "./incidents.ts";
import { DEMO_MODELS, DEMO_ORGS, DEMO_TAG_KEY } from "./world.ts";

/** What the guide speaks of. Times in milliseconds since the Unix epoch. */
export type GuideFacts = {
  url: string;
  keyFile: string;
  startMs: number;
  days: number;
  incidents: readonly DemoIncident[];
};

const MINUTE_MS = 60_000;
const HOUR_MS = 3_600_000;
const DAY_MS = 86_400_000;

/** What there is to see in the sample, and the commands that show it; the key is read from its file, never printed. */
export function describeSample({ url, keyFile, startMs, days, incidents }: GuideFacts): string {
  const path = relative(process.cwd(), keyFile);
  const file = path.startsWith("..") ? keyFile : path;
  const ask = (question: string): string =>
    `  curl -s -H "Authorization: Bearer $(cat '${file}')" \\\n    '${url}/analytics/v1/${question}'\n`;
  const month = `start=${instant(startMs)}&end=${instant(startMs + days * DAY_MS)}`;
  const around = (incident: DemoIncident): string =>
    `start=${instant(incident.start - 4 * HOUR_MS)}&end=${instant(incident.end + 4 * HOUR_MS)}&granularity=15m`;
  const shown = incidents.map((incident) => {
    const { kind, orgId, modelId, clientId, start, end } = incident;
    const what =
      kind === "errors"
        ? `Nearly half of the calls of client ${clientId} fail for lack of capacity, a few of the others`
        : "Calls take three to six times as long";
    return (
      `${kind === "errors" ? "Errors" : "Latency"}: ${orgId}, model ${modelId}, ${instant(start)} to ${instant(end)} (${(end - start) / MINUTE_MS} min)\n` +
      `${what}:\n${ask(`orgs/${orgId}/reliability?${around(incident)}&modelId=${modelId}`)}`
    );
  });
  const zones = new Map(
    DEMO_ORGS.map(({ zone }) => [
      zone,
      DEMO_ORGS.filter((org) => org.zone === zone).map((org) => org.id),
    ]),
  );
  return [
    `The sample: ${formatCount(DEMO_ORGS.length, "org")}, ${formatCount(DEMO_MODELS.length, "model")}, ${formatCount(days, "day")} up to now, then live traffic.\n` +
      formatTable(
        [{ title: "works by the clock of" }, { title: "orgs" }],
        [...zones].map(([zone, orgs]) => [zone, orgs.join(", ")]),
      ),
    `Usage of a month by day and model:\n${ask(`orgs/acme/usage?${month}&granularity=day&groupBy=model&timeZone=America/New_York`)}`,
    `Which of its teams use most, by what events say in their metadata (${DEMO_TAG_KEY}):\n${ask(`orgs/acme/tags?${month}&tagKey=${DEMO_TAG_KEY}`)}`,
    ...shown,
    `Who uses most:\n${ask(`system/orgs?${month}`)}`,
    `Events that were refused or contradict others:\n${ask("orgs/acme/quarantine")}`,
  ].join("\n");
}

const instant = (atMs: number): string => new Date(atMs).toISOString().replace(".000Z", "Z");

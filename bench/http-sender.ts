/** Sends usage events to a running service (arguments: URL, API key, events). Started by http.ts; ends with it. */
import { Agent, request } from "node:http";
import { z } from "zod";
import { systemClock } from "#kernel";
import { type Figures, serveParent } from "./child.ts";
import { readOwnCpuUs } from "./measure.ts";
import { lastMinutes, Traffic } from "./traffic.ts";

/** Open connections, each with one request under way. */
const CONNECTIONS = 24;

const [url, key, events] = process.argv.slice(2);
if (url === undefined || key === undefined || events === undefined)
  throw new Error("usage: http-sender.ts URL KEY EVENTS");
const agent = new Agent({ keepAlive: true, maxSockets: CONNECTIONS });
const answerSchema = z.object({ counts: z.object({ accepted: z.int() }) });
let seed = 600;
let bodies: Buffer[] = [];

await serveParent({
  prepare: async () => {
    bodies = new Traffic(seed++).bodies(Number(events), lastMinutes(systemClock.now()));
    return {};
  },
  send: () => sendAll(bodies),
});
agent.destroy();

async function sendAll(bodies: readonly Buffer[]): Promise<Figures> {
  const cpuFrom = readOwnCpuUs();
  const fromMs = performance.now();
  const left = bodies.values();
  let accepted = 0;
  const sendOn = async (): Promise<void> => {
    for (const body of left) {
      const taken = await sendOne(body);
      accepted += taken;
    }
  };
  await Promise.all(Array.from({ length: CONNECTIONS }, sendOn));
  return {
    accepted,
    seconds: (performance.now() - fromMs) / 1000,
    cpuUs: readOwnCpuUs() - cpuFrom,
  };
}

/** Posts one body and returns how many of its events were accepted. Throws on any other answer than 200. */
function sendOne(body: Buffer): Promise<number> {
  return new Promise((resolve, reject) => {
    const headers = {
      authorization: `Bearer ${key}`,
      "content-type": "application/x-ndjson",
      "content-length": body.length,
    };
    const sent = request(
      `${url}/analytics/v1/events`,
      { method: "POST", agent, headers },
      (answer) => {
        const parts: Buffer[] = [];
        answer.on("data", (part: Buffer) => parts.push(part));
        answer.on("error", reject);
        answer.on("end", () => {
          const text = Buffer.concat(parts).toString();
          if (answer.statusCode !== 200)
            reject(new Error(`${answer.statusCode}: ${text.slice(0, 500)}`));
          else resolve(answerSchema.parse(JSON.parse(text)).counts.accepted);
        });
      },
    );
    sent.on("error", reject);
    sent.end(body);
  });
}

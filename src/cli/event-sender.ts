import { promisify } from "node:util";
import { gzip } from "node:zlib";
import { z } from "zod";
import { type ApiClient, retryAnswer } from "./api-client.ts";

/** What the service may answer for one event. */
const result = z.object({
  status: z.enum(["accepted", "duplicate", "conflict", "rejected"]),
  code: z.string().optional(),
  pointer: z.string().optional(),
  detail: z.string().optional(),
});
const answer = z.object({ results: z.array(result) });

/** What became of one event. `code`, `pointer` and `detail` say why a conflict or rejection. */
export type EventResult = z.output<typeof result>;

/** Some lines of NDJSON, and what to do with the results, which come in the order of the lines. */
export type EventBody = {
  text: Buffer;
  events: number;
  onResults: (results: readonly EventResult[]) => void;
};

export type SenderOptions = {
  client: ApiClient;
  /** Source label of the delivery ledger. */
  source: string;
  /** Let events older than the raw retention through. */
  backfill: boolean;
  inFlightMax: number;
  /** Ends waiting and retrying; requests under way are still answered. */
  signal: AbortSignal;
  random: () => number;
  sleep: (ms: number, signal: AbortSignal | undefined) => Promise<void>;
  /** Told when the service is away or asks to wait. */
  onWait: (error: unknown, waitMs: number) => void;
};

/** Sends bodies of events, several at a time. */
export type EventSender = {
  /** Resolves when there is room for the next body. Throws what ended an earlier one. */
  send(body: EventBody): Promise<void>;
  /** Resolves when every body is answered. Throws what ended one of them. */
  drain(): Promise<void>;
};

const ATTEMPTS_MAX = 40;
const deflate = promisify(gzip);

export function createEventSender(options: SenderOptions): EventSender {
  const { client, inFlightMax } = options;
  const underWay = new Set<Promise<void>>();
  const failures: unknown[] = [];
  const isLocal = /^https?:\/\/(localhost|127\.|\[::1\])/.test(client.url);

  const post = async ({ text, events, onResults }: EventBody): Promise<void> => {
    // On one machine compressing costs more than it saves.
    const body = isLocal ? text : await deflate(text, { level: 1 });
    const headers = {
      "content-type": "application/x-ndjson",
      "tallystick-source": options.source,
      ...(isLocal ? {} : { "content-encoding": "gzip" }),
    };
    // Rows are reported by what became of each, which a broker in between could not tell.
    const query = { direct: "true", ...(options.backfill ? { backfill: "true" } : {}) };
    const { results } = await retryAnswer(
      () =>
        client.request(
          { method: "POST", path: "/analytics/v1/events", query, headers, body },
          answer,
        ),
      {
        attemptsMax: ATTEMPTS_MAX,
        random: options.random,
        sleep: options.sleep,
        signal: options.signal,
        onRetry: (error, _attempt, waitMs) => options.onWait(error, waitMs),
      },
    );
    if (results.length !== events)
      throw new Error(`${events} events were sent and ${results.length} answered`);
    onResults(results);
  };

  const throwFailure = (): void => {
    if (failures.length > 0) throw failures[0];
  };
  return {
    send: async (body) => {
      throwFailure();
      const work: Promise<void> = post(body)
        .catch((error: unknown) => void failures.push(error))
        .finally(() => underWay.delete(work));
      underWay.add(work);
      if (underWay.size >= inFlightMax) await Promise.race(underWay);
      throwFailure();
    },
    drain: async () => {
      await Promise.all(underWay);
      throwFailure();
    },
  };
}

import { setTimeout as delay } from "node:timers/promises";
import { type ServiceFace } from "#harness";
import type { Traffic, TrafficRequest } from "./traffic.ts";

/** Where requests go; undefined while there is nothing to send to. Asked before each attempt. */
export type Target = () => ServiceFace | undefined;

export type LoadOptions = {
  senders?: number;
  eventsPerRequestMax?: number;
  /** Rest of a sender between two requests, ms. */
  pauseMs?: number;
  /** How long one request is sent again before the producer gives up, ms. */
  patienceMs?: number;
};

/** Producers at work. Disposing ends them at once, answered or not. */
export type Load = AsyncDisposable & {
  /** Answered so far, duplicates and refused ones included. */
  readonly answeredEvents: number;
  /** Attempts without an answer, or with 503. */
  readonly unanswered: number;
  /** Answers other than 2xx: status, problem code and Retry-After. */
  readonly refusals: readonly { status: number; code: string; retryAfter: string | null }[];
  /** The longest that any request waited for its answer, all attempts together, ms. */
  readonly waitedMsMax: number;
  /** No new requests; resolves when each one begun is answered, throws when one was not in time. */
  stop(): Promise<void>;
};

/**
 * Starts producers that behave as real ones do: what is not answered is sent again, the same bytes, until it is. What
 * they send and what they were answered goes into `traffic`.
 */
export function startLoad(traffic: Traffic, target: Target, options: LoadOptions = {}): Load {
  const { senders = 4, eventsPerRequestMax = 60, pauseMs = 10, patienceMs = 120_000 } = options;
  const refusals: { status: number; code: string; retryAfter: string | null }[] = [];
  const seen = { answeredEvents: 0, unanswered: 0, waitedMsMax: 0 };
  let isOn = true;
  let isAbandoned = false;

  const deliver = async (request: TrafficRequest): Promise<void> => {
    const startedMs = performance.now();
    for (let attempt = 0; performance.now() - startedMs < patienceMs; attempt++) {
      if (isAbandoned) return;
      const answer = await attemptOnce(request, attempt === 0);
      if (answer === "answered") {
        seen.answeredEvents += request.items.length;
        seen.waitedMsMax = Math.max(seen.waitedMsMax, performance.now() - startedMs);
        return;
      }
      seen.unanswered++;
      await delay(Math.min(500, 20 * 2 ** Math.min(attempt, 5)));
    }
    throw new Error(`a request was not answered within ${patienceMs} ms`);
  };

  const attemptOnce = async (request: TrafficRequest, isFirst: boolean) => {
    const service = target();
    if (!service) return "away";
    traffic.noteSent(request);
    const answer = await postEvents(service, request);
    if (answer === undefined) return "lost";
    if (answer.status === 200 || answer.status === 207) {
      traffic.noteAnswer(request, answer.body.results ?? [], isFirst);
      return "answered";
    }
    refusals.push({
      status: answer.status,
      code: answer.body.code ?? "",
      retryAfter: answer.retryAfter,
    });
    return "refused";
  };

  const run = async (): Promise<void> => {
    while (isOn) {
      await deliver(traffic.createRequest(eventsPerRequestMax));
      await delay(pauseMs);
    }
  };
  const running = Promise.all(Array.from({ length: senders }, run));
  // A sender that gave up is told by stop().
  running.catch(() => undefined);
  return {
    get answeredEvents() {
      return seen.answeredEvents;
    },
    get unanswered() {
      return seen.unanswered;
    },
    get waitedMsMax() {
      return seen.waitedMsMax;
    },
    refusals,
    stop: async () => {
      isOn = false;
      await running;
    },
    [Symbol.asyncDispose]: async () => {
      isOn = false;
      isAbandoned = true;
      await running.catch(() => undefined);
    },
  };
}

type Answer = {
  status: number;
  retryAfter: string | null;
  body: { code?: string; results?: { eventId: string | null; status: string; code?: string }[] };
};

/** The answer, or undefined when none came, or not to its end. */
async function postEvents(
  service: ServiceFace,
  { body, contentType }: TrafficRequest,
): Promise<Answer | undefined> {
  try {
    const answer = await service.request("/analytics/v1/events", {
      method: "POST",
      headers: { "content-type": contentType },
      body,
      signal: AbortSignal.timeout(40_000),
    });
    const { status, headers } = answer;
    return {
      status,
      retryAfter: headers.get("retry-after"),
      body: (await answer.json()) as Answer["body"],
    };
  } catch {
    return undefined;
  }
}

import type { FastifyReply, FastifyRequest } from "fastify";
import { z } from "zod";
import {
  Failure,
  parseUsageEvents,
  type IngestOutcome,
  type ParsedItem,
  type Rejection,
} from "#contract";
import { staysWithin, type WritableOrgs } from "#ingest";
import { principalOf, requireMore } from "../access.ts";
import { encodingOfHeader, formatOfContentType, inflate } from "../body.ts";
import type { EventPublisher, RouteContext, Server } from "../dependencies.ts";
import { createGate, type Gate } from "../gates.ts";
import { createIdempotencyMemory, type StoredAnswer } from "../idempotency.ts";
import { flagParameter } from "../parameters.ts";
import { traceparentOf } from "../request-id.ts";

const IDEMPOTENCY_MS_MAX = 24 * 3_600_000;
const IDEMPOTENCY_KEYS_MAX = 10_000;
const IDEMPOTENCY_BYTES_MAX = 32 * 1024 * 1024;

const query = z.strictObject({
  direct: flagParameter(
    "Commit the events before answering, also where they would be published to a broker: the answer is that of 200 and 207.",
  ),
  backfill: flagParameter(
    "Take events older than the raw retention, too: history loaded on purpose, which takes the scope system:write. Never published to a broker.",
  ),
  dryRun: flagParameter(
    "Only say what is wrong with the events; nothing is stored and no duplicate is looked up.",
  ),
});

const headers = z.looseObject({
  "tallystick-source": z
    .string()
    .regex(/^[a-z0-9._:/-]{1,64}$/, "1 to 64 of a-z, 0-9 and . _ : / -")
    .default("http")
    .describe("Where the events come from, for the delivery ledger."),
  "idempotency-key": z
    .string()
    .regex(/^[\x21-\x7e]{1,255}$/, "1 to 255 visible ASCII characters")
    .optional()
    .describe(
      "Repeats of a request with the same key and body get the first answer again, for up to a day and within this process; " +
        "event ids make repeats harmless in any case.",
    ),
});

const counts = z
  .object({
    received: z.int(),
    accepted: z.int(),
    duplicate: z.int(),
    conflict: z.int(),
    rejected: z.int(),
  })
  .describe("received = accepted + duplicate + conflict + rejected");

const result = z.object({
  index: z.int().describe("Position in the body, from 0."),
  eventId: z.string().nullable().describe("As sent; null when it could not be read."),
  status: z.enum(["accepted", "duplicate", "conflict", "rejected"]),
  code: z.string().optional().describe("Why a conflict or rejection."),
  pointer: z.string().optional().describe("JSON pointer into the event."),
  detail: z.string().optional(),
});

const answer = z.object({ counts, dryRun: z.boolean(), results: z.array(result) }).meta({
  id: "IngestAnswer",
  description: "What became of each event, in the order received. All of it is durable.",
});

const queuedAnswer = z
  .object({
    counts: z
      .object({ received: z.int(), queued: z.int(), rejected: z.int() })
      .describe("received = queued + rejected"),
    results: z.array(
      result.extend({
        status: z.enum(["queued", "rejected"]),
        code: z.string().optional().describe("Why a rejection."),
      }),
    ),
  })
  .meta({
    id: "QueuedAnswer",
    description:
      "The message broker keeps all of it durably. What is queued is counted, found to be a duplicate or put into " +
      "quarantine when it is consumed; what is rejected goes to quarantine then.",
  });

/** POST /analytics/v1/events: usage events in, one outcome per event out. */
export async function eventRoutes(parent: Server, context: RouteContext): Promise<void> {
  const bodies = createGate(context.limits.pendingBodyBytesMax, "bytes of events");
  const memory = createIdempotencyMemory({
    clock: context.clock,
    rememberMsMax: IDEMPOTENCY_MS_MAX,
    keysMax: IDEMPOTENCY_KEYS_MAX,
    bytesMax: IDEMPOTENCY_BYTES_MAX,
  });
  await parent.register(async (scope) => {
    const server: Server = scope;
    server.addContentTypeParser("*", { parseAs: "buffer" }, (_request, body, done) =>
      done(null, body),
    );
    server.route({
      method: "POST",
      url: "/analytics/v1/events",
      config: { scope: "events:write", requestBody: "events" },
      schema: {
        tags: ["Events"],
        operationId: "sendEvents",
        summary: "Send usage events",
        description:
          `One event, an array of events, or NDJSON; at most ${context.limits.eventsMax} events and ` +
          `${context.limits.bodyBytesMax} bytes, also after decompression (gzip, zstd). A bad event never holds up the others.`,
        querystring: query,
        headers,
        response: {
          200: answer.describe("Every event was accepted, or had been before."),
          202: queuedAnswer.describe(
            "Published to a message broker, where the service is set up so (INGEST_MODE=broker).",
          ),
          207: answer.describe(
            "Some or all events were not counted: see each result. They are in quarantine.",
          ),
        },
      },
      onRequest: async (request, reply) => {
        formatOfContentType(request.headers["content-type"]);
        encodingOfHeader(request.headers["content-encoding"]);
        reply.raw.once("close", reserve(bodies, request, context.limits.bodyBytesMax));
      },
      handler: async (request, reply) => {
        if (request.query.backfill) requireMore(request, "system:write", "Loading history");
        const sent = {
          body: bodyOf(request),
          ...request.query,
          ...detailsOf(request, request.headers["tallystick-source"]),
          writesFor: writableOrgsOf(request),
        };
        const key = request.headers["idempotency-key"];
        const work = () => answerEvents(context, sent);
        const made =
          key === undefined
            ? await work()
            : await memory.answerOnce(
                // Another sender's keys are its own: this one neither gets its answers nor learns of them.
                JSON.stringify([principalOf(request).id, key]),
                [JSON.stringify(request.query), sent.type, sent.source, sent.body],
                work,
              );
        return sendStored(reply, made);
      },
    });
  });
}

/** Sends an answer that is JSON already: thousands of results are not walked a second time for the schema's sake. */
const sendStored = (reply: FastifyReply, { status, body }: StoredAnswer): FastifyReply =>
  reply.code(status).header("content-type", "application/json; charset=utf-8").send(body);

type SentEvents = {
  body: Buffer;
  type: string;
  encoding: string | undefined;
  source: string;
  backfill: boolean;
  direct: boolean;
  dryRun: boolean;
  correlationId: string;
  traceparent: string | undefined;
  writesFor: WritableOrgs;
};

const bodyOf = ({ body }: FastifyRequest): Buffer =>
  Buffer.isBuffer(body) ? body : Buffer.alloc(0);

function writableOrgsOf(request: FastifyRequest): WritableOrgs {
  const { writesFor } = principalOf(request);
  return writesFor === "any" ? "any" : new Set(writesFor);
}

const detailsOf = (request: FastifyRequest, source: string) => ({
  type: request.headers["content-type"] ?? "",
  encoding: request.headers["content-encoding"],
  source,
  correlationId: request.id,
  traceparent: traceparentOf(request.headers),
});

/** Counts a request's body against what may be held at once, from its headers on; what it inflates to as well. */
function reserve(
  bodies: Gate,
  { headers: { "content-length": length, "content-encoding": encoding } }: FastifyRequest,
  bodyBytesMax: number,
) {
  const sent = length === undefined ? bodyBytesMax : Math.min(Number(length), bodyBytesMax);
  return bodies.enter(encoding === undefined ? sent : sent + bodyBytesMax);
}

async function answerEvents(
  { ingestor, publisher, limits }: RouteContext,
  sent: SentEvents,
): Promise<StoredAnswer> {
  const body = await inflate(sent.body, encodingOfHeader(sent.encoding), limits.bodyBytesMax);
  const items = parseUsageEvents(body, formatOfContentType(sent.type), {
    eventsMax: limits.eventsMax,
  });
  const { source, backfill, correlationId, writesFor } = sent;
  if (sent.dryRun)
    return formatAnswer(items, await ingestor.judge(items, { backfill, writesFor }), true);
  const isForBroker =
    publisher !== undefined &&
    !backfill &&
    !sent.direct &&
    // Consumers do not know whose they are: what its sender may not write goes to quarantine from here.
    staysWithin(items, writesFor) &&
    Math.max(body.length, sent.body.length) <= publisher.bodyBytesMax;
  if (isForBroker && (await publish(publisher, sent))) return formatQueued(items);
  return formatAnswer(
    items,
    await ingestor.ingest(items, { source, backfill, correlationId, writesFor }),
    false,
  );
}

/**
 * Publishes the body as it came. False: it is to be committed here; should the broker have it all the same, its events
 * are duplicates when they are consumed. Throws Failure `broker_unavailable` where it is to be refused.
 */
async function publish(publisher: EventPublisher, sent: SentEvents): Promise<boolean> {
  const outcome = await publisher.publish(sent.body, {
    contentType: sent.type,
    contentEncoding: encodingOfHeader(sent.encoding) ?? undefined,
    correlationId: sent.correlationId,
    headers: {
      "tallystick-source": sent.source,
      ...(sent.traceparent === undefined ? {} : { traceparent: sent.traceparent }),
    },
  });
  if (outcome.isPublished) return true;
  if (publisher.fallback === "direct") return false;
  throw new Failure("broker_unavailable", `${outcome.detail} Send the same events again shortly.`);
}

const reasonOf = ({ code, pointer, detail }: Rejection) => ({ code, pointer, detail });

const eventIdOf = (item: ParsedItem | undefined): string | null =>
  (item?.event ?? item?.rejection)?.eventId ?? null;

function formatQueued(items: readonly ParsedItem[]): StoredAnswer {
  const totals = { received: items.length, queued: 0, rejected: 0 };
  const results = items.map((item, index): z.output<typeof queuedAnswer>["results"][number] => {
    const eventId = eventIdOf(item);
    const status = item.rejection === null ? "queued" : "rejected";
    totals[status] += 1;
    return item.rejection === null
      ? { index, eventId, status }
      : { index, eventId, status, ...reasonOf(item.rejection) };
  });
  const made: z.output<typeof queuedAnswer> = { counts: totals, results };
  return { status: 202, body: JSON.stringify(made) };
}

function formatAnswer(
  items: readonly ParsedItem[],
  outcomes: readonly IngestOutcome[],
  dryRun: boolean,
): StoredAnswer {
  const totals = { received: outcomes.length, accepted: 0, duplicate: 0, conflict: 0, rejected: 0 };
  const results = outcomes.map((outcome, index): z.output<typeof result> => {
    totals[outcome.status] += 1;
    const eventId = eventIdOf(items[index]);
    if (!("code" in outcome)) return { index, eventId, status: outcome.status };
    const { status, code, pointer, detail } = outcome;
    return { index, eventId, status, code, pointer, detail };
  });
  const isGood = totals.conflict === 0 && totals.rejected === 0;
  const made: z.output<typeof answer> = { counts: totals, dryRun, results };
  return { status: isGood ? 200 : 207, body: JSON.stringify(made) };
}

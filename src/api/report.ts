import type { FastifyReply, FastifyRequest } from "fastify";
import { createHash } from "node:crypto";
import { z } from "zod";
import type { Pricing } from "#query";
import { formatAccepted, type ReportFormat } from "./accept.ts";
import { orgIdIn, principalOf } from "./access.ts";
import type { RouteContext } from "./dependencies.ts";
import { ALL_ORGS_NAME } from "./freshness-memory.ts";
import { refuseSpendOrder, seesSpend, withoutSpend } from "./spend.ts";
import type { Sees } from "./tables.ts";

/** What every report says of itself. */
type Reported = {
  freshness: { completeThrough: string | null };
  pricing?: Pricing | undefined;
};
type ReportSchema = z.ZodType<Reported, Reported>;

/** How one report leaves the service: what of it may be seen (the schema is an allow-list), and as which table. */
export type Report<Schema extends ReportSchema> = {
  /** File name of its table, without extension. */
  name: string;
  schema: Schema;
  csv: (answer: z.output<Schema>, sees: Sees) => string;
};

/** What a question comes with. */
export type Exchange = { request: FastifyRequest; reply: FastifyReply; context: RouteContext };

/**
 * Works out an answer and sends it as JSON or CSV, with an ETag; 304 when the client has it already. The ETag leaves
 * the freshness out, which moves every second and is in the header `Tallystick-Complete-Through` of the 304 too; it
 * is one org's, so that no other's ever fits. Without `spend:read` the answer tells no money; with it, headers tell which
 * cost it shows, a table having no other place for it. Throws Failure
 * `not_acceptable`, `forbidden` (ranking by cost without `spend:read`), `overloaded`, and what `work` throws.
 */
export async function sendReport<Schema extends ReportSchema>(
  { request, reply, context }: Exchange,
  report: Report<Schema>,
  work: () => Promise<z.output<Schema>>,
): Promise<FastifyReply> {
  const format = formatAccepted(request.headers.accept);
  const sees: Sees = { spend: seesSpend(principalOf(request)) };
  if (!sees.spend) refuseSpendOrder(request.query);
  const leave = context.reads.enter(1);
  const answer = await work().finally(leave);
  const { completeThrough } = answer.freshness;
  const orgId = orgIdIn(request) ?? ALL_ORGS_NAME;
  context.freshness.remember(orgId, completeThrough);

  const { body, lasting } = formatBody(report, answer, format, sees);
  const digest = createHash("sha256")
    .update(JSON.stringify([format, orgId]))
    .update(lasting);
  const etag = `W/"${digest.digest("base64url").slice(0, 27)}"`;
  reply.header("etag", etag).header("cache-control", "private, no-cache");
  reply.header("tallystick-complete-through", completeThrough ?? "never");
  if (sees.spend && answer.pricing !== undefined) reply.headers(formatPricing(answer.pricing));
  if (isKnown(request.headers["if-none-match"], etag)) return reply.code(304).send();
  if (format === "csv") {
    reply.header("content-type", "text/csv; charset=utf-8; header=present");
    reply.header("content-disposition", `attachment; filename="${report.name}.csv"`);
  } else {
    reply.header("content-type", "application/json; charset=utf-8");
  }
  return reply.send(body);
}

/** Which cost is shown, as headers. */
export const formatPricing = ({ costBasis, bookVersion }: Pricing): Record<string, string> => ({
  "tallystick-cost-basis": costBasis,
  "tallystick-price-book-version": String(bookVersion),
});

/** The body, and the part of it that stays the same while nothing new is counted. */
function formatBody<Schema extends ReportSchema>(
  { schema, csv }: Report<Schema>,
  answer: z.output<Schema>,
  format: ReportFormat,
  sees: Sees,
): { body: string; lasting: string } {
  if (format === "csv") {
    const table = csv(answer, sees);
    return { body: table, lasting: table };
  }
  const { freshness, ...rest }: Reported = z.encode(schema, answer);
  const lasting = JSON.stringify(sees.spend ? rest : withoutSpend(rest));
  return { body: `${lasting.slice(0, -1)},"freshness":${JSON.stringify(freshness)}}`, lasting };
}

/** Weak comparison of RFC 9110 §13.1.2. */
function isKnown(ifNoneMatch: string | undefined, etag: string): boolean {
  if (ifNoneMatch === undefined) return false;
  const opaque = etag.replace(/^W\//, "");
  return ifNoneMatch
    .split(",")
    .some((part) => part.trim() === "*" || part.trim().replace(/^W\//, "") === opaque);
}

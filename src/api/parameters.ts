import { z } from "zod";
import { isZone, orgIdField } from "#contract";
import type { ErrorClass, Status } from "#query";

/** A path that names an org. */
export const orgParams = z.strictObject({ orgId: orgIdField });

/** An instant in RFC 3339, with a zone. */
export const instantField = z.iso
  .datetime({ offset: true, error: "must be RFC 3339 with a zone: 2026-11-20T00:00:00Z" })
  .transform((text) => new Date(text));

/** The name of a time zone. */
export const zoneField = z.string().min(1).max(64).refine(isZone, "must be an IANA time zone");

/** `true` or `false`, false when absent. */
export const flagParameter = (description: string) =>
  z
    .enum(["true", "false"])
    .default("false")
    .transform((value) => value === "true")
    .describe(description);

/** A parameter that may be given several times; absent it is undefined. */
export const listParameter = <Item extends z.ZodType>(
  item: Item,
  itemsMax: number,
  description: string,
) =>
  z
    .preprocess(
      (value) => (value === undefined || Array.isArray(value) ? value : [value]),
      z.array(item).max(itemsMax).optional(),
    )
    .describe(description);

type FilterParameters = {
  modelId?: readonly string[] | undefined;
  clientId?: readonly string[] | undefined;
  actorId?: readonly string[] | undefined;
  tag?: readonly string[] | undefined;
  status?: readonly Status[] | undefined;
  errorClass?: readonly ErrorClass[] | undefined;
};

/** What a report is asked, its filters in the words of questions. */
export function questionOf<Query extends FilterParameters>(query: Query) {
  const { modelId, clientId, actorId, tag, status, errorClass, ...rest } = query;
  return {
    ...rest,
    modelIds: modelId,
    clientIds: clientId,
    actorIds: actorId,
    tags: tag,
    statuses: status,
    errorClasses: errorClass,
  };
}

/** The answers of a route whose report comes as JSON or, with `Accept: text/csv`, as a table. */
export const asReport = <Schema extends z.ZodType>(schema: Schema) => ({
  200: {
    description: "The report.",
    content: { "application/json": { schema }, "text/csv": { schema: z.string() } },
  },
  304: z.undefined().describe("Nothing new."),
});

/** Name of an operation: paths under /api/v1 are other names of the same. */
export const aliasNote = (url: string, operationId: string) =>
  url.startsWith("/api/v1/")
    ? {
        operationId: `${operationId}Alias`,
        description: `Another name of the route under /analytics/v1.`,
      }
    : { operationId };

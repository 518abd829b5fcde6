import { z } from "zod";
import { isZone } from "#contract";

/** An org's id as producers send it: opaque text. */
export const orgIdField = z
  .string()
  .min(1)
  .max(512)
  .regex(/^(?!\*$)[^\0\p{Cs}]*$/u, "must be an org's id; * stands for all orgs and is none")
  .describe("The org's id, as in its events.");

/** A path that names an org. */
export const orgParams = z.strictObject({ orgId: orgIdField });

/** A model's id as producers send it: opaque text. */
export const modelIdField = z
  .string()
  .min(1)
  .max(512)
  .regex(/^[^\0\p{Cs}]*$/u, "must be a model's id")
  .describe("The model's id, as in events.");

/** Text of one line, without control characters. */
export const printableText = (charactersMax: number) =>
  z
    .string()
    .min(1)
    .max(charactersMax)
    .regex(/^[^\p{Cc}\p{Cs}]*$/u, "must be text of one line");

/** What people call something. */
export const nameField = printableText(200);

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

/** The description of a report that comes as JSON or, with `Accept: text/csv`, as a table. */
export const asReport = <Schema extends z.ZodType>(schema: Schema) => ({
  description: "The report.",
  content: { "application/json": { schema }, "text/csv": { schema: z.string() } },
});

/** Name of an operation: paths under /api/v1 are other names of the same. */
export const aliasNote = (url: string, operationId: string) =>
  url.startsWith("/api/v1/")
    ? {
        operationId: `${operationId}Alias`,
        description: `Another name of the route under /analytics/v1.`,
      }
    : { operationId };

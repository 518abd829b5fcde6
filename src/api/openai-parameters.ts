import { z } from "zod";
import { modelIdField, orgIdField } from "#contract";
import { listParameter } from "./parameters.ts";

const LIST_ITEMS_MAX = 100;
const TEXT_CHARACTERS_MAX = 512;
const PAGE_CHARACTERS_MAX = 200;
/** The years that windows may lie in, but for a day at either end. */
const SECONDS_MIN = 86_400;
const SECONDS_MAX = Date.UTC(2199, 11, 31) / 1000;

const instant = z.coerce
  .number()
  .int()
  .min(SECONDS_MIN, "must be Unix time in seconds, of 2 January 1970 or later")
  .max(SECONDS_MAX, "must be Unix time in seconds, not in milliseconds");
const bucketCount = z.coerce.number().int().min(1).optional();

const timeParameters = {
  start_time: instant.describe(
    "Unix seconds. Moved back to a whole hour: the first bucket says where it begins.",
  ),
  end_time: instant
    .optional()
    .describe(
      "Unix seconds, the first instant that does not count; moved back to a whole hour. Left out, the hour that is running counts too.",
    ),
  page: z
    .string()
    .min(1)
    .max(PAGE_CHARACTERS_MAX)
    .optional()
    .describe("`next_page` of the page before; the other parameters as they were."),
};

const member = z.string().min(1).max(TEXT_CHARACTERS_MAX);
const models = listParameter(modelIdField, LIST_ITEMS_MAX, "Only these models.");
const lineItems = listParameter(
  modelIdField,
  LIST_ITEMS_MAX,
  "Only these line items, which are models as a whole: what they cost is not kept per kind of token.",
);
const users = listParameter(member, LIST_ITEMS_MAX, "Only these users: actors of events.");
const keys = listParameter(member, LIST_ITEMS_MAX, "Only these API keys: clients of events.");
const projects = listParameter(
  orgIdField,
  LIST_ITEMS_MAX,
  "A project is an org. A credential of an org may leave it out; one of no org names one.",
);

/** Lists come as `name=a&name=b`, and from client libraries as `name[]=a&name[]=b`. */
const memberParameters = {
  user_ids: users,
  "user_ids[]": users,
  api_key_ids: keys,
  "api_key_ids[]": keys,
  project_ids: projects,
  "project_ids[]": projects,
};

const usageFields = listParameter(
  z.enum(["project_id", "user_id", "api_key_id", "model", "batch", "service_tier", "api_source"]),
  LIST_ITEMS_MAX,
  "One of model, user_id and api_key_id, and any of the others. batch and service_tier are not known here (null); api_source is unlabeled.",
);

/** What GET /v1/organization/usage/completions takes. */
export const usageQuery = z.strictObject({
  ...timeParameters,
  bucket_width: z
    .enum(["1m", "1h", "1d"])
    .default("1d")
    .describe("In UTC. 1m is refused: minutes are not kept."),
  limit: bucketCount.describe(
    "Buckets of a page. Days: 7 when left out, 31 at most; hours: 24 and 168.",
  ),
  models,
  "models[]": models,
  ...memberParameters,
  group_by: usageFields,
  "group_by[]": usageFields,
  batch: z.enum(["true", "false"]).optional().describe("Refused: it is not known here."),
});

const costsFields = listParameter(
  z.enum(["project_id", "line_item", "user_id", "api_key_id", "api_source"]),
  LIST_ITEMS_MAX,
  "One of line_item (the model), user_id and api_key_id, and any of the others. api_source is unlabeled.",
);

/** What GET /v1/organization/costs takes. */
export const costsQuery = z.strictObject({
  ...timeParameters,
  bucket_width: z.enum(["1d"]).default("1d").describe("In UTC."),
  limit: bucketCount.describe("Buckets of a page: 7 when left out, 180 at most."),
  line_items: lineItems,
  "line_items[]": lineItems,
  ...memberParameters,
  group_by: costsFields,
  "group_by[]": costsFields,
});

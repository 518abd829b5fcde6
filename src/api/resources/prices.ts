import { z } from "zod";
import { modelIdField, orgIdField, OUTCOMES } from "#contract";
import { formatCursor, parseCursor } from "#query";
import {
  applyPrices,
  getOrgPrices,
  listBookPage,
  PRICE_LAYERS,
  type PriceChange,
  type PriceEntry,
  priceListFields,
  previewPrices,
} from "#pricing";
import { callerOf, databaseOf } from "../access.ts";
import type { RouteContext, Server } from "../dependencies.ts";
import { cutPage, pageParameters } from "../lists.ts";
import { flagParameter, instantField, orgParams } from "../parameters.ts";

/** Longest list of prices: all that a layer may hold. */
const BODY_BYTES_MAX = 16 * 1024 * 1024;
/** Differences told one by one; all of them are counted. */
const CHANGES_SHOWN_MAX = 1000;

const amount = z.string().describe("Exact decimal, in units of the currency.");
const perMillion = z.object({
  input: amount.optional(),
  cacheRead: amount.optional(),
  cacheWrite5m: amount.optional(),
  cacheWrite1h: amount.optional(),
  output: amount.optional(),
  reasoning: amount.optional(),
});
const price = z
  .object({
    currency: z.string(),
    perMillion: perMillion.describe(
      "Per million tokens of a class; a class without one is unpriced.",
    ),
    perRequest: amount.optional(),
    perSecond: amount.optional(),
    tiers: z.array(z.object({ aboveInputTokens: z.int(), perMillion })).optional(),
    chargedOutcomes: z
      .array(z.enum(OUTCOMES))
      .readonly()
      .optional()
      .describe("Outcomes of calls that are charged, where the price says so itself."),
  })
  .meta({ id: "Price" });
const capacity = z
  .object({ currency: z.string(), perHour: amount, models: z.array(z.string()) })
  .meta({ id: "CapacityPrice" });

const timeFields = {
  from: z.string().nullable().describe("Null: since ever."),
  to: z.string().nullable().describe("The instant after the last; null: for ever."),
};
const layer = z
  .enum(PRICE_LAYERS)
  .describe(
    "own: what the operator said; catalogue: a published list, which any own price comes before.",
  );
const entryFields = {
  layer,
  orgId: z.string().nullable().describe("Null: for all orgs."),
  model: z
    .string()
    .nullable()
    .describe("A model's id, with * at the end all ids that begin so; null: it is a pool."),
  pool: z.string().nullable(),
  ...timeFields,
  price: price.nullable(),
  capacity: capacity.nullable(),
  source: z.string().describe("Where it was said."),
};
const version = z.int().describe("Of the book; 0 before anything was applied.");
const entry = z
  .object({ ...entryFields, version: z.int().describe("The version of the book it came in with.") })
  .meta({ id: "PriceEntry" });
const entryPage = z
  .object({ version, items: z.array(entry), nextCursor: z.string().nullable() })
  .meta({ id: "PricePage" });

const unversioned = z.object(entryFields).meta({ id: "PriceEntryOrder" });
const applied = z
  .object({
    version,
    isApplied: z.boolean().describe("False: it was only asked what would change, or nothing did."),
    counts: z.object({ added: z.int(), changed: z.int(), removed: z.int() }),
    changes: z
      .array(
        z.object({
          what: z.enum(["added", "changed", "removed"]),
          before: unversioned.nullable(),
          after: unversioned.nullable(),
        }),
      )
      .describe(`By model; the first ${CHANGES_SHOWN_MAX}.`),
  })
  .meta({ id: "AppliedPrices" });

const orgPrice = z
  .object({
    model: z.string(),
    isOwn: z.boolean().describe("Whether it is for this org alone."),
    ...timeFields,
    price,
    version: z.int(),
  })
  .meta({ id: "OrgPrice" });
const orgPool = z
  .object({ pool: z.string(), ...timeFields, capacity, version: z.int() })
  .meta({ id: "OrgPool" });
const orgPricePage = z
  .object({
    orgId: z.string(),
    version,
    at: z.string(),
    items: z.array(orgPrice),
    pools: z.array(orgPool).describe("Capacity that is this org's alone."),
    nextCursor: z.string().nullable(),
  })
  .meta({ id: "OrgPricePage" });

const body = z.strictObject({
  layer: layer.default("own"),
  ...priceListFields,
});

const ADMIN = "/analytics/v1/admin/prices";

const iso = (at: Date | null): string | null => at?.toISOString() ?? null;

const shownEntry = (one: PriceEntry): z.output<typeof unversioned> => ({
  layer: one.layer,
  orgId: one.orgId,
  model: one.kind === "model" ? one.subject : null,
  pool: one.kind === "pool" ? one.subject : null,
  from: iso(one.from),
  to: iso(one.to),
  price: one.kind === "model" ? shownPrice(one.terms) : null,
  capacity: one.kind === "pool" ? shownCapacity(one.terms) : null,
  source: one.source,
});

const shownPrice = (
  terms: Extract<PriceEntry, { kind: "model" }>["terms"],
): z.output<typeof price> => ({
  ...terms,
  tiers: terms.tiers?.map((tier) => ({ ...tier })),
});
const shownCapacity = (
  terms: Extract<PriceEntry, { kind: "pool" }>["terms"],
): z.output<typeof capacity> => ({ ...terms, models: [...terms.models] });

const shownChange = ({ what, before, after }: PriceChange) => ({
  what,
  before: before && shownEntry(before),
  after: after && shownEntry(after),
});

/** The price book: all of it for operators, and to an org what holds for it. */
export function priceRoutes(server: Server, context: RouteContext): void {
  addList(server, context);
  addApply(server, context);
  addOrgPrices(server, context);
}

function addList(server: Server, { limits }: RouteContext): void {
  server.route({
    method: "GET",
    url: ADMIN,
    handlerTimeout: limits.readMsMax,
    config: { scope: "system:read" },
    schema: {
      tags: ["Prices"],
      operationId: "listAdminPrices",
      summary: "List the price book",
      description: "Every entry in force, those of the past and of the future too.",
      querystring: z.strictObject({
        layer: layer.optional(),
        orgId: orgIdField.optional().describe("Only what is for this org alone."),
        modelId: modelIdField.optional().describe("Only prices that this model could have."),
        ...pageParameters,
      }),
      response: { 200: entryPage.describe("A page in the order of models and pools.") },
    },
    handler: async (request) => {
      const { limit, cursor, ...asked } = request.query;
      const filter = {
        layer: asked.layer ?? null,
        orgId: asked.orgId ?? null,
        model: asked.modelId ?? null,
      };
      const after = cursor === undefined ? 0 : parseCursor("prices", cursor);
      const found = await listBookPage(databaseOf(request), filter, { after, limit: limit + 1 });
      const page = cutPage(found.entries, limit, {
        cursorOf: ({ id }) => formatCursor("prices", id),
        show: (one) => ({ ...shownEntry(one), version: one.version }),
      });
      return { version: found.version, ...page };
    },
  });
}

function addApply(server: Server, { clock }: RouteContext): void {
  server.route({
    method: "PUT",
    url: ADMIN,
    bodyLimit: BODY_BYTES_MAX,
    config: { scope: "system:write" },
    schema: {
      tags: ["Prices"],
      operationId: "applyAdminPrices",
      summary: "Set all prices of a layer",
      description:
        "In place of those that the layer has: what is not in the body is no longer in the book. All of it or nothing, under a new version. Safe to repeat: the same prices again change nothing.",
      querystring: z.strictObject({
        dryRun: flagParameter("Tell what would change, and change nothing."),
      }),
      body,
      response: { 200: applied.describe("What changed.") },
    },
    handler: async (request) => {
      const { layer: named, ...list } = request.body;
      const { principal, requestId } = callerOf(request);
      const order = { layer: named, list };
      const database = databaseOf(request);
      const { dryRun } = request.query;
      const result = dryRun
        ? await previewPrices(database, order)
        : await applyPrices(database, order, {
            actor: principal.id,
            actorName: principal.name,
            requestId,
            at: new Date(clock.now()),
          });
      const count = (kind: PriceChange["what"]): number =>
        result.changes.filter(({ what }) => what === kind).length;
      return {
        version: result.version,
        isApplied: !dryRun && result.changes.length > 0,
        counts: { added: count("added"), changed: count("changed"), removed: count("removed") },
        changes: result.changes.slice(0, CHANGES_SHOWN_MAX).map(shownChange),
      };
    },
  });
}

function addOrgPrices(server: Server, { clock, limits }: RouteContext): void {
  server.route({
    method: "GET",
    url: "/analytics/v1/orgs/:orgId/prices",
    handlerTimeout: limits.readMsMax,
    config: { scope: "spend:read" },
    schema: {
      tags: ["Prices"],
      operationId: "listOrgPrices",
      summary: "List the prices that hold for an org",
      params: orgParams,
      querystring: z.strictObject({
        at: instantField.optional().describe("The instant at which they hold; now when left out."),
        modelId: modelIdField.optional().describe("Only this model's price: one, or none."),
        ...pageParameters,
      }),
      response: { 200: orgPricePage.describe("A page in the order of models.") },
    },
    handler: async (request) => {
      const { orgId } = request.params;
      const { limit, cursor = "", modelId: model, at } = request.query;
      const atMs = at?.getTime() ?? clock.now();
      const found = await getOrgPrices(databaseOf(request), { orgId, model, atMs });
      const rest = found.prices.filter(({ subject }) => subject > cursor);
      const page = cutPage(rest, limit, {
        cursorOf: ({ subject }) => subject,
        show: (one) => ({
          model: one.subject,
          isOwn: one.orgId !== null,
          from: iso(one.from),
          to: iso(one.to),
          price: shownPrice(one.terms),
          version: one.version,
        }),
      });
      const pools = found.pools.map((one) => ({
        pool: one.subject,
        from: iso(one.from),
        to: iso(one.to),
        capacity: shownCapacity(one.terms),
        version: one.version,
      }));
      return { orgId, version: found.version, at: new Date(atMs).toISOString(), pools, ...page };
    },
  });
}

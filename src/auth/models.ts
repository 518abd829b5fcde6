import { Failure } from "#contract";
import type { Clock } from "#kernel";
import {
  appendAudit,
  type Database,
  findModel,
  listModels,
  type ModelRecord,
  upsertModel,
} from "#store";
import { type Caller, entryOf } from "./caller.ts";
import { requireScope } from "./principal.ts";

export type { ModelRecord } from "#store";

/**
 * What models are called and how they are billed, where somebody said so. They belong to no org, so that reading them is
 * nobody's business; it needs `system:read`. Changes need `system:write` and are audited.
 */
export type Models = {
  /** In the order of their ids. `after` is the last id of the page before. */
  list(caller: Caller, page: { limit: number; after?: string | undefined }): Promise<ModelRecord[]>;
  /** Failure `not_found`: nobody described it. */
  get(caller: Caller, modelId: string): Promise<ModelRecord>;
  /** Makes or replaces the description. Safe to repeat. */
  put(
    caller: Caller,
    modelId: string,
    model: { displayName: string | null; billingTier: string | null },
  ): Promise<ModelRecord>;
};

export type ModelsOptions = { database: Database; clock: Clock };

export function createModels({ database, clock }: ModelsOptions): Models {
  return {
    list: async ({ principal }, page) => {
      requireScope(principal, "system:read");
      return await database.withSystem(({ sql }) => listModels(sql, page));
    },
    get: async ({ principal }, modelId) => {
      requireScope(principal, "system:read");
      const model = await database.withSystem(({ sql }) => findModel(sql, modelId));
      if (model === undefined) throw new Failure("not_found", "Nobody has described this model.");
      return model;
    },
    put: async (caller, modelId, model) => {
      requireScope(caller.principal, "system:write");
      const at = new Date(clock.now());
      return await database.change("*", async (tx) => {
        const [stored] = await upsertModel(tx.sql, { modelId, ...model, at });
        if (stored === undefined) throw new Error("a model that was written is not there");
        const did = { action: "model.set", target: modelId, at, details: { ...model } } as const;
        await appendAudit(tx, 0, entryOf(caller, did));
        return stored;
      });
    },
  };
}

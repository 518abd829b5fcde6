import type { Sql } from "./database.ts";

/** What people call a model, and what it is billed as. */
export type ModelRecord = {
  modelId: string;
  displayName: string | null;
  billingTier: string | null;
  createdAt: Date;
  updatedAt: Date;
};

/** A model by the id its events carry. Primary key. */
export const findModel = async (sql: Sql, modelId: string): Promise<ModelRecord | undefined> => {
  const [model] = await sql<ModelRecord>`
    select model_id as "modelId",
           display_name as "displayName",
           billing_tier as "billingTier",
           created_at as "createdAt",
           updated_at as "updatedAt"
      from model
     where model_id = ${modelId}`;
  return model;
};

/** One page of models by id, from the one after `after` on. Primary key. */
export const listModels = (
  sql: Sql,
  { after = "", limit }: { after?: string | undefined; limit: number },
): Promise<ModelRecord[]> => sql<ModelRecord>`
  select model_id as "modelId",
         display_name as "displayName",
         billing_tier as "billingTier",
         created_at as "createdAt",
         updated_at as "updatedAt"
    from model
   where model_id > ${after}
   order by model_id
   limit ${limit}`;

/** Makes a model or replaces what is said of it. Repeatable. */
export const upsertModel = (
  sql: Sql,
  model: Pick<ModelRecord, "modelId" | "displayName" | "billingTier"> & { at: Date },
): Promise<ModelRecord[]> => sql<ModelRecord>`
  insert into model (model_id, display_name, billing_tier, created_at, updated_at)
  values (${model.modelId}, ${model.displayName}, ${model.billingTier}, ${model.at}, ${model.at})
      on conflict (model_id) do update
     set display_name = excluded.display_name,
         billing_tier = excluded.billing_tier,
         updated_at = excluded.updated_at
  returning model_id as "modelId",
            display_name as "displayName",
            billing_tier as "billingTier",
            created_at as "createdAt",
            updated_at as "updatedAt"`;

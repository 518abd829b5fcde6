import type { Sql } from "./database.ts";

/** The newest of what was folded. Instants in µs since the Unix epoch. */
export type FreshnessDelta = {
  orgId: number;
  modelId: number;
  lastOccurredAtUs: number;
  lastIngestedAtUs: number;
};

/** Moves freshness per org and model forward, never back, in key order. Keys are distinct. Repeatable. */
export const raiseFreshness = (
  sql: Sql,
  deltas: readonly FreshnessDelta[],
  foldedAtUs: number,
): Promise<never[]> => sql`
  insert into freshness as f (org_id, model_id, last_occurred_at, last_ingested_at, last_aggregated_at)
  select d.org_id, d.model_id,
         timestamptz 'epoch' + d.occurred_us * interval '1 microsecond',
         timestamptz 'epoch' + d.ingested_us * interval '1 microsecond',
         timestamptz 'epoch' + ${foldedAtUs}::int8 * interval '1 microsecond'
    from unnest(
           ${deltas.map((delta) => delta.orgId)}::int4[],
           ${deltas.map((delta) => delta.modelId)}::int4[],
           ${deltas.map((delta) => delta.lastOccurredAtUs)}::int8[],
           ${deltas.map((delta) => delta.lastIngestedAtUs)}::int8[]) as d (org_id, model_id, occurred_us, ingested_us)
   order by d.org_id, d.model_id
      on conflict (org_id, model_id) do update
     set last_occurred_at = greatest(f.last_occurred_at, excluded.last_occurred_at),
         last_ingested_at = greatest(f.last_ingested_at, excluded.last_ingested_at),
         last_aggregated_at = greatest(f.last_aggregated_at, excluded.last_aggregated_at)`;

/** The newest of what was folded from one source. Instants in µs since the Unix epoch. */
export type SourceFreshnessDelta = {
  sourceId: number;
  lastOccurredAtUs: number;
  lastIngestedAtUs: number;
};

/** As `raiseFreshness`, per source. */
export const raiseSourceFreshness = (
  sql: Sql,
  deltas: readonly SourceFreshnessDelta[],
  foldedAtUs: number,
): Promise<never[]> => sql`
  insert into source_freshness as f (source_id, last_occurred_at, last_ingested_at, last_aggregated_at)
  select d.source_id,
         timestamptz 'epoch' + d.occurred_us * interval '1 microsecond',
         timestamptz 'epoch' + d.ingested_us * interval '1 microsecond',
         timestamptz 'epoch' + ${foldedAtUs}::int8 * interval '1 microsecond'
    from unnest(
           ${deltas.map((delta) => delta.sourceId)}::int2[],
           ${deltas.map((delta) => delta.lastOccurredAtUs)}::int8[],
           ${deltas.map((delta) => delta.lastIngestedAtUs)}::int8[]) as d (source_id, occurred_us, ingested_us)
   order by d.source_id
      on conflict (source_id) do update
     set last_occurred_at = greatest(f.last_occurred_at, excluded.last_occurred_at),
         last_ingested_at = greatest(f.last_ingested_at, excluded.last_ingested_at),
         last_aggregated_at = greatest(f.last_aggregated_at, excluded.last_aggregated_at)`;

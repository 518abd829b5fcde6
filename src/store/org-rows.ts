import { createRawPartition, type Database, type Tx } from "#store";

/** A table whose rows are orgs', and the column that says whose. */
export type OrgTable = { name: string; org: string };

type Column = { name: string; type: string };

/** Values for columns that may not hold just anything. */
const CHOSEN: Record<string, string> = {
  "purged.what": "'raw'",
  "reconciliation.state": "'match'",
  "audit_log.seq": "1",
  "budget_crossing.month": "'2026-11-01'",
  "budget_terms.month": "'2026-11-01'",
  "budget_terms.amount_nano": "1",
  "budget_terms.thresholds": "'{50}'",
  "rerating.ends_at": "now() + interval '1 day'",
  "rerating_line.rerating_id": "1",
  "rerating_rollup.rerating_id": "1",
};

/** Every table with rows of orgs in the catalogue, partitions left out: their parents show the same rows. */
export const listOrgTables = (sql: Tx["sql"]): Promise<OrgTable[]> => sql<OrgTable>`
  select c.relname as name, a.attname as org
    from pg_class c
    join pg_attribute a on a.attrelid = c.oid and not a.attisdropped
   where c.relnamespace = 'public'::regnamespace
     and c.relkind in ('r', 'p', 'm', 'v')
     and not c.relispartition
     and (a.attname = 'org_id' or (c.relname = 'org' and a.attname = 'id'))
   order by c.relname`;

/** Puts one row of each of these orgs into every table that has rows of orgs, whatever its columns are. */
export async function fillOrgTables(database: Database, orgIds: readonly number[]): Promise<void> {
  await createRawPartition(database, Math.floor(Date.now() / 86_400_000));
  const tables = await listOrgTables(database.sql);
  await database.transaction(async (tx) => {
    for (const { name } of tables.filter((one) => one.name !== "org")) {
      const columns = await tx.sql<Column>`
        select a.attname as name, format_type(a.atttypid, null) as type
          from pg_attribute a
         where a.attrelid = ${name}::regclass
           and a.attnum > 0
           and (a.attname = 'org_id' or (a.attnotnull and not a.atthasdef))
           and a.attidentity = ''
           and not a.attisdropped
         order by a.attnum`;
      for (const orgId of orgIds) {
        const values = columns.map((column) => valueOf(name, column, orgId));
        await tx.exec(
          `insert into ${name} (${columns.map((one) => one.name).join(", ")}) values (${values.join(", ")})`,
        );
      }
    }
  });
}

/** SQL of a value that no other org's row has, where it may differ. */
function valueOf(table: string, { name, type }: Column, orgId: number): string {
  const chosen = CHOSEN[`${table}.${name}`];
  if (chosen !== undefined) return chosen;
  if (name === "org_id") return String(orgId);
  if (/^(smallint|integer|bigint|numeric)$/.test(type)) return name === "seq" ? "1" : "0";
  if (type === "text") return `'of org ${orgId}'`;
  if (type === "text[]") return "'{engineer}'";
  if (type === "bytea") return `sha256('${orgId}')`;
  if (type.startsWith("json")) return "'{}'";
  if (type === "uuid") return "gen_random_uuid()";
  if (type === "boolean") return "false";
  if (type === "date" || type.startsWith("timestamp")) return "now()";
  throw new Error(`${table}.${name} is ${type}: say which value a row of it may have`);
}

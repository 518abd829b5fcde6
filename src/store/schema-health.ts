import type { Sql } from "./database.ts";

/**
 * Tables with an org_id that do not force row-level security on everyone: none in a sound schema.
 * Reads the catalog only; repeatable; locks nothing. Partitions are reached through their parents, where the rows'
 * policies apply, and the API's roles hold no rights on them.
 */
export const listTablesWithoutRowSecurity = (sql: Sql): Promise<{ table: string }[]> => sql<{
  table: string;
}>`
  select c.relname as "table"
    from pg_class c
    join pg_attribute a
      on a.attrelid = c.oid
     and a.attname = 'org_id'
     and not a.attisdropped
   where c.relnamespace = 'public'::regnamespace
     and c.relkind in ('r', 'p')
     and not c.relispartition
     and not (c.relrowsecurity and c.relforcerowsecurity)
     and has_any_column_privilege('tallystick_api', c.oid, 'select')
   order by c.relname
   limit 1000`;

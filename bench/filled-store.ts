import { LatencySketch, MEMBER_KIND, packCurrency } from "#contract";
import type { Database, Tx } from "#store";
import { Random } from "./random.ts";
import { modelName, MODELS, orgName, ORGS } from "./traffic.ts";

/** The org that uses every model in every bucket, and one that is like most. */
export const DENSE_ORG = orgName(0);
export const USUAL_ORG = orgName(7);

const QUARTERS_DAYS = 40;
const MONTHS = 13;
/** Requests of a row up to which a sketch of that many latencies stands for it. */
const SKETCH_SIZES = [4, 30, 200, 1500, 10_000];
const SKETCHES_PER_SIZE = 8;
const USD = packCurrency("USD");
const OUTCOME_CAPACITY = 3;
const OUTCOME_UPSTREAM = 4;

const MEASURES =
  "requests, priced_requests, input_tokens, cache_read_tokens, cache_write_5m_tokens, cache_write_1h_tokens, " +
  "output_tokens, reasoning_tokens, priced_tokens, cost_nano, latency_count, latency_sum_ms, latency_sketch";
const COLUMNS = `org_id, member_id, bucket, outcome, currency, ${MEASURES}`;

/**
 * Thirteen months of an installation written straight into the rollups: hours and days, quarters of an hour for the
 * last 40 days. Most orgs use three to eight models in their working hours; `fineOrgs` of them, and the dense one,
 * have more than days. Coarser rows are the sums of finer ones, and all orgs together the sum of each, so answers find
 * nothing odd; only the sketches are a handful that repeat.
 */
export async function fillStore(database: Database, fineOrgs: number): Promise<{ rows: number }> {
  await database.transaction(async (tx) => {
    await fillWords(tx);
    await fillSketches(tx);
    await tx.exec(tableOfUse(fineOrgs));
    await tx.exec(
      generateRows(
        "rollup_model_15m",
        "15 minutes",
        `now() - interval '${QUARTERS_DAYS} days'`,
        "now()",
      ),
    );
    await tx.exec(
      generateRows(
        "rollup_model_hour",
        "1 hour",
        `now() - interval '${MONTHS} months'`,
        `now() - interval '${QUARTERS_DAYS} days'`,
      ),
    );
    await tx.exec(
      addUp("rollup_model_15m", "rollup_model_hour", { bucket: "date_trunc('hour', bucket)" }),
    );
    await tx.exec(generateDays());
    await tx.exec(
      addUp("rollup_model_hour", "rollup_model_day", { bucket: "date_trunc('day', bucket)" }),
    );
    for (const grain of ["15m", "hour", "day"]) {
      await tx.exec(addUp(`rollup_model_${grain}`, `rollup_org_${grain}`, { member: "0" }));
      await tx.exec(addUp(`rollup_org_${grain}`, `rollup_org_${grain}`, { org: "0" }));
    }
    await fillBesides(tx);
  });
  await database.sql`vacuum analyze`;
  const [row] = await database.sql<{ rows: number }>`
    select sum(reltuples)::int8 as rows from pg_class where relname ~ '^rollup_.*_(15m|hour|day)$'`;
  return { rows: row?.rows ?? 0 };
}

/** Orgs have ids from 1 up, in the order of their names. */
async function fillWords(tx: Tx): Promise<void> {
  const orgs = Array.from({ length: ORGS }, (_, i) => orgName(i));
  const models = Array.from({ length: MODELS }, (_, i) => modelName(i));
  await tx.sql`insert into org (id, external_id) select n, name from unnest(${orgs}::text[]) with ordinality as o (name, n)`;
  await tx.sql`
    insert into dictionary (org_id, kind, value)
    select o.id, ${MEMBER_KIND.model}, m from org o, unnest(${models}::text[]) as m order by o.id, m`;
  await tx.sql`
    insert into dictionary (org_id, kind, value)
    select id, ${MEMBER_KIND.errorCode}, 'rate_limit_exceeded' from org`;
  await tx.sql`insert into source (name) values ('http')`;
}

/** Sketches of latencies as they are in life, of several sizes, and of each size several. */
async function fillSketches(tx: Tx): Promise<void> {
  const random = new Random(500);
  await tx.exec(
    "create temp table sketch (size int4, no int4, latencies int8, sum_ms int8, bytes bytea)",
  );
  for (const [size, latencies] of SKETCH_SIZES.entries()) {
    for (let no = 0; no < SKETCHES_PER_SIZE; no++) {
      const sketch = new LatencySketch();
      let sumMs = 0;
      for (let i = 0; i < latencies; i++) {
        const ms = Math.round(Math.exp(6 + no / 6 + 0.7 * random.normal()));
        sketch.add(ms);
        sumMs += ms;
      }
      await tx.sql`insert into sketch values (${size}, ${no}, ${latencies}, ${sumMs}, ${sketch.encode()})`;
    }
  }
}

/** Which org uses which models, how much at a time, and from which hour (UTC) on its working day is. */
const tableOfUse = (fineOrgs: number): string => `
  create temp table use as
  select o.id as org_id,
         d.id as member_id,
         o.id = 1 as is_dense,
         o.id <= ${fineOrgs} + 1 as is_fine,
         case when o.id = 1 then 120 else 12 end as per_quarter,
         6 + o.id % 8 as opens
    from org o
    join dictionary d on d.org_id = o.id and d.kind = ${MEMBER_KIND.model}
   where o.id > 0
     and (o.id = 1 or (right(d.value, 2)::int4 + o.id * 7) % ${MODELS} < 3 + o.id % 6);
  analyze use`;

/** A stable number 0 … below-1 for a row's place. */
const hash = (salt: string, below: number): string =>
  `(abs(hashint8(extract(epoch from b.bucket)::int8 / 900 * 1000003 + u.member_id * 7919 + ${salt})) % ${below})`;

const inWorkingHours = `(
  extract(isodow from b.bucket) < 6
  and (extract(hour from b.bucket)::int4 - u.opens + 24) % 24 < 9
  and ${hash("1", 10)} < 7)`;

/** Sizes are chosen by the number of requests. */
const sketchSize = (requests: string): string =>
  `case ${SKETCH_SIZES.slice(1)
    .toReversed()
    .map((least, i, all) => `when ${requests} >= ${least} then ${all.length - i}`)
    .join(" ")} else 0 end`;

/** What is derived from a row's requests: about 1,200 tokens and 0.4 cents each. */
const measuresOf = (requests: string): string =>
  `${requests}, ${requests}, ${requests} * 800, ${requests} * 150, 0, 0, ${requests} * 230, ${requests} * 20, ${requests} * 1200, ${requests} * 4000000`;

/** Rows of the models in use, one outcome each, some buckets with two kinds of errors as well; in order of time, as folds write them. */
const generateRows = (table: string, step: string, from: string, to: string): string => `
  insert into ${table} (${COLUMNS})
  select r.org_id, r.member_id, r.bucket, r.outcome, ${USD}, ${measuresOf("r.requests")}, s.latencies, s.sum_ms, s.bytes
    from (
      select u.org_id, u.member_id, b.bucket, x.outcome,
             case when x.outcome = 0 then (u.per_quarter * ${step === "1 hour" ? 4 : 1} / 2 + ${hash("2", 100)} * u.per_quarter / 100)::int8
                  else 1 + ${hash("3", 3)} end as requests,
             ${hash("4", SKETCHES_PER_SIZE)} as no
        from generate_series(date_trunc('day', ${from}), date_trunc('day', ${to}) - interval '1 second', interval '${step}') as b (bucket)
       cross join use u
       cross join (values (0, 10), (${OUTCOME_CAPACITY}, 3), (${OUTCOME_UPSTREAM}, 2)) as x (outcome, tenths)
       where u.is_fine
         and (u.is_dense or ${inWorkingHours})
         and ${hash("5 + x.outcome", 10)} < x.tenths * case when u.is_dense or x.outcome = 0 then 1 else 0.5 end
    ) r
    join sketch s on s.no = r.no and s.size = ${sketchSize("r.requests")}
   order by r.bucket, r.org_id, r.member_id, r.outcome`;

/** Orgs that have days only. */
const generateDays = (): string => `
  insert into rollup_model_day (${COLUMNS})
  select r.org_id, r.member_id, r.bucket, 0, ${USD}, ${measuresOf("r.requests")}, s.latencies, s.sum_ms, s.bytes
    from (
      select u.org_id, u.member_id, b.bucket, 200 + ${hash("2", 200)} as requests, ${hash("4", SKETCHES_PER_SIZE)} as no
        from generate_series(date_trunc('day', now() - interval '${MONTHS} months'), now(), interval '1 day') as b (bucket)
       cross join use u
       where not u.is_fine and extract(isodow from b.bucket) < 6
    ) r
    join sketch s on s.no = r.no and s.size = 2
   order by r.bucket, r.org_id, r.member_id`;

/** Sums of finer rows; of every org but the pseudo-org of all. */
const addUp = (
  from: string,
  into: string,
  key: { org?: string; member?: string; bucket?: string },
): string => `
  insert into ${into} (${COLUMNS})
  select r.org_id, r.member_id, r.bucket, r.outcome, ${USD}, r.requests, r.requests, r.t1, r.t2, 0, 0, r.t3, r.t4,
         r.t1 + r.t2 + r.t3 + r.t4, r.cost_nano, s.latencies, s.sum_ms, s.bytes
    from (
      select ${key.org ?? "org_id"} as org_id, ${key.member ?? "member_id"} as member_id, ${key.bucket ?? "bucket"} as bucket,
             outcome, sum(requests)::int8 as requests, sum(input_tokens)::int8 as t1, sum(cache_read_tokens)::int8 as t2,
             sum(output_tokens)::int8 as t3, sum(reasoning_tokens)::int8 as t4, sum(cost_nano)::int8 as cost_nano
        from ${from}
       where org_id > 0
       group by 1, 2, 3, 4
    ) r
    join sketch s on s.no = r.requests % ${SKETCHES_PER_SIZE} and s.size = ${sketchSize("r.requests")}
   order by r.bucket, r.org_id, r.member_id, r.outcome`;

/** What answers carry beside usage: error codes, freshness, the delivery ledger and its checks. */
async function fillBesides(tx: Tx): Promise<void> {
  // Where there are hours only, all of an hour's errors are put at its start.
  await tx.sql`
    insert into rollup_error_15m (org_id, model_id, bucket, outcome, error_code_id, requests)
    select r.org_id, r.member_id, r.bucket, r.outcome, d.id, r.requests
      from (
        select org_id, member_id, bucket, outcome, requests
          from rollup_model_hour
         where bucket < (select min(bucket) from rollup_model_15m)
         union all
        select org_id, member_id, bucket, outcome, requests
          from rollup_model_15m
      ) r
      join dictionary d on d.org_id = r.org_id and d.kind = ${MEMBER_KIND.errorCode}
     where r.outcome > 1
     order by r.bucket, r.org_id, r.member_id, r.outcome`;
  await tx.sql`
    insert into rollup_error_day (org_id, model_id, bucket, outcome, error_code_id, requests)
    select org_id, model_id, date_trunc('day', bucket), outcome, error_code_id, sum(requests)
      from rollup_error_15m
     group by 1, 2, 3, 4, 5
     order by 3, 1, 2, 4, 5`;
  await tx.sql`
    insert into ledger (org_id, source_id, partition, hour, received, accepted, duplicate, conflict, rejected,
                        received_digest, accepted_digest, updated_at)
    select org_id, 1, 0, bucket, sum(requests), sum(requests), 0, 0, 0, 0, 0, bucket + interval '1 hour'
      from rollup_org_hour
     where org_id > 0
     group by org_id, bucket
     order by bucket, org_id`;
  await tx.sql`
    insert into reconciliation (org_id, hour, state, checked_at)
    select org_id, hour, 'match', updated_at + interval '1 hour' from ledger order by hour, org_id`;
  await tx.sql`
    insert into freshness select org_id, member_id, now(), now(), now() from use`;
  await tx.sql`insert into source_freshness select id, now(), now(), now() from source`;
  await tx.sql`update fold_state set complete_through = now()`;
}

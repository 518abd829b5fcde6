import { type Consumer, type Dimension, DIMENSIONS, type Grain, rollupTable } from "#contract";
import type { Tx } from "./database.ts";
import { CopyBuffer } from "./events.ts";
import { ROLLUP_MEASURES } from "./rollups.ts";
import { selectRows } from "./rows.ts";
import { type Span, systemMember, withinOrgs } from "./verify.ts";

const WIDTHS = { hour: "1 hour", day: "1 day" } as const;
const ROLLUP_KEY = "org_id, member_id, bucket, outcome, currency, rating";
/**
 * The key of parts: they are sorted, grouped and joined again and again, and three words are half the work of six.
 * All numbers that there can be together have a word of their own.
 */
const KEY = "owner, bucket, mark";
const owner = (orgId: string, memberId: string): string =>
  `(${orgId})::int8 * 4294967296 + (${memberId})`;
const MARK = "outcome * 4294967296 + currency * 65536 + rating";
const ORG_OF = "(owner + 2147483648) >> 32";
const MEMBER_OF = `owner - ((${ORG_OF}) << 32)`;
const OUTCOME_AND_CURRENCY = "((mark + 32768) >> 16)";
const RATING_OF = `mark - (${OUTCOME_AND_CURRENCY} << 16)`;
const OUTCOME_OF = `(${OUTCOME_AND_CURRENCY} + 32768) >> 16`;
const CURRENCY_OF = `${OUTCOME_AND_CURRENCY} - ((${OUTCOME_OF}) << 16)`;
const MEASURES = ROLLUP_MEASURES.join(", ");
const typeOf = (measure: string): string => (measure.endsWith("_nano") ? "numeric" : "int8");
const SUMS = ROLLUP_MEASURES.map((name) => `sum(${name})::${typeOf(name)} as ${name}`).join(", ");

/** A day's rows of one dimension in quarters of an hour as they should be, and their latency bins. */
const partTable = (dimension: Dimension): string => `verify_part_${dimension}`;
const binTable = (dimension: Dimension): string => `verify_bin_${dimension}`;

/** Makes the tables for the parts of a day. Once per transaction; they go with it. */
export const createParts = (tx: Tx): Promise<unknown> => {
  const key = "owner int8 not null, bucket timestamptz not null, mark int8 not null";
  const measures = ROLLUP_MEASURES.map((name) => `${name} ${typeOf(name)} not null`).join(", ");
  const tables = DIMENSIONS.map(
    (dimension) => `
  create temp table ${partTable(dimension)} (${key}, ${measures}) on commit drop;
  create temp table ${binTable(dimension)} (${key}, bin int4 not null, count int8 not null) on commit drop`,
  );
  return tx.exec(tables.join(";"));
};

/** Forgets the day before: its events and all parts. */
export const clearDay = (tx: Tx): Promise<unknown> => {
  const parts = DIMENSIONS.flatMap((dimension) => [partTable(dimension), binTable(dimension)]);
  return tx.exec(`truncate verify_event, verify_error, ${parts.join(", ")}`);
};

/** Adds up the day's raw events (`takeRawEvents`) that a consumer has folded, by one dimension. */
export const sumRawParts = (
  tx: Tx,
  dimension: Exclude<Dimension, "org">,
  consumer: Consumer,
): Promise<unknown> => {
  const member = `${dimension}_id`;
  const tokens =
    "(input_tokens::int8 + cache_read_tokens + cache_write_5m_tokens + cache_write_1h_tokens + output_tokens + reasoning_tokens)";
  const events =
    dimension === "tag" ? "verify_event cross join unnest(tag_ids) as t (tag_id)" : "verify_event";
  return tx.exec(`
  insert into ${partTable(dimension)} (${KEY}, ${MEASURES})
  select ${owner("org_id", member)}, bucket, ${MARK},
         sum(requests), coalesce(sum(requests) filter (where cost_nano is not null), 0),
         sum(input_tokens), sum(cache_read_tokens), sum(cache_write_5m_tokens), sum(cache_write_1h_tokens),
         sum(output_tokens), sum(reasoning_tokens),
         coalesce(sum(${tokens}) filter (where cost_nano is not null), 0), coalesce(sum(cost_nano), 0),
         count(latency_ms), coalesce(sum(latency_ms), 0), coalesce(sum(rated_nano), 0)
    from ${events}
   where is_${consumer}
   group by 1, 2, 3;
  insert into ${binTable(dimension)}
  select ${owner("org_id", member)}, bucket, ${MARK}, bin, count(*)
    from ${events}
   where is_${consumer}
     and bin is not null
   group by 1, 2, 3, 4`);
};

/** Where raw is gone: takes one day's own rows of the finest grain left of each org for what they should be. */
export const takeRollupParts = (tx: Tx, dimension: Dimension, day: Span): Promise<unknown> =>
  tx.exec(`
  insert into ${partTable(dimension)} (${KEY}, ${MEASURES})
  select ${owner("org_id", "member_id")}, bucket, ${MARK}, ${MEASURES}
    from (${finestRows(dimension, day)}) as finest`);

const finestRows = (dimension: Dimension, day: Span): string => {
  const rows = (grain: Grain, condition: string) => `
    select ${ROLLUP_KEY}, ${MEASURES}, latency_sketch
      from ${rollupTable(dimension, grain)}
     where ${withinOrgs("bucket", day)}
       and org_id > 0
       and ${condition}`;
  const isPurged = is15mPurged("org_id", day);
  return `${rows("15m", `not ${isPurged}`)} union all ${rows("hour", isPurged)}`;
};

/** Whether retention has deleted a day's 15-minute rows of an org: it does so long before the others. */
const is15mPurged = (orgId: string, day: Span): string =>
  `(${orgId}) = any (array(select p.org_id
                   from purged p
                  where p.what = '15m'
                    and p.day = (to_timestamp(${Number(day.fromSeconds)}) at time zone 'UTC')::date))`;

/** The key of a part, and a rollup row's sketch. The key's 64-bit word comes as text. */
export type SketchRowRead = {
  owner: string;
  bucketSeconds: number;
  mark: number;
  sketch: Buffer;
};

const CURSOR_ROWS = 4000;

/** The sketches of the rows that `takeRollupParts` takes, some at a time. */
export async function* readRollupSketches(
  tx: Tx,
  dimension: Dimension,
  day: Span,
): AsyncGenerator<SketchRowRead[]> {
  await tx.exec(`
    declare verify_rows no scroll cursor for
    select (${owner("org_id", "member_id")})::text as owner, extract(epoch from bucket)::float8 as "bucketSeconds",
           ${MARK} as mark, latency_sketch as sketch
      from (${finestRows(dimension, day)}) as finest
     where latency_count > 0`);
  for (;;) {
    const rows = await selectRows<SketchRowRead>(tx, `fetch ${CURSOR_ROWS} from verify_rows`);
    if (rows.length === 0) break;
    yield rows;
  }
  await tx.exec("close verify_rows");
}

const PG_EPOCH_SECONDS = 946_684_800;
const BIN_ROW_BYTES = 2 + 12 + 12 + 12 + 8 + 12;

/** Latency bins for `copyBinParts`, in binary COPY form. */
export class BinRows extends CopyBuffer {
  /** Adds one bin of a row. */
  add(key: SketchRowRead, bin: number, count: number): void {
    this.reserve(BIN_ROW_BYTES);
    const { view, at } = this;
    view.setInt16(at, 5);
    view.setInt32(at + 2, 8);
    view.setBigInt64(at + 6, BigInt(key.owner));
    view.setInt32(at + 14, 8);
    this.int64(at + 18, (key.bucketSeconds - PG_EPOCH_SECONDS) * 1_000_000);
    view.setInt32(at + 26, 8);
    this.int64(at + 30, key.mark);
    view.setInt32(at + 38, 4);
    view.setInt32(at + 42, bin);
    view.setInt32(at + 46, 8);
    this.int64(at + 50, count);
    this.at = at + BIN_ROW_BYTES;
    this.rows++;
  }
}

/** Adds bins that were read out of sketches to the parts of a dimension. */
export const copyBinParts = (tx: Tx, dimension: Dimension, rows: BinRows): Promise<number> =>
  tx.copyIn(`copy ${binTable(dimension)} from stdin (format binary)`, rows.finish());

/** From the models' parts: the orgs' own, and for both those of all orgs together. */
export const sumSystemParts = (tx: Tx): Promise<unknown> => {
  const statements = [
    { table: partTable, key: "bucket, mark", columns: MEASURES, sums: SUMS },
    { table: binTable, key: "bucket, mark, bin", columns: "count", sums: "sum(count)" },
  ].map(
    ({ table, key, columns, sums }) => `
  insert into ${table("org")} (owner, ${key}, ${columns})
  select ${owner(ORG_OF, "0")} as org, ${key}, ${sums}
    from ${table("model")}
   group by org, ${key};
  insert into ${table("org")} (owner, ${key}, ${columns})
  select 0, ${key}, ${sums}
    from ${table("org")}
   group by ${key};
  insert into ${table("model")} (owner, ${key}, ${columns})
  with member as materialized (
    select m.owner, ${systemMember("m.id")} as system_id
      from (select distinct owner, (${MEMBER_OF})::int4 as id from ${table("model")}) as m)
  select m.system_id, ${key}, ${sums}
    from ${table("model")} p
    join member m using (owner)
   group by m.system_id, ${key}`,
  );
  return tx.exec(statements.join(";"));
};

/**
 * A rollup row that is not what it should be: the measures in the order of ROLLUP_MEASURES and then the latency sketch
 * in hexadecimal digits, null when there is no row.
 */
export type RowDifference = {
  orgId: number;
  memberId: number;
  bucketSeconds: number;
  outcome: number;
  currency: number;
  rating: number;
  expected: string[] | null;
  found: string[] | null;
  /** How many rows of this table and day differ, listed or not. */
  total: number;
};

/**
 * Compares a rollup table's day with the parts, both ways and to the last byte of each sketch. At most `rowsMax`
 * differences.
 */
export async function listRowDifferences(
  tx: Tx,
  target: { dimension: Dimension; grain: Grain; rowsMax: number },
  day: Span,
): Promise<RowDifference[]> {
  const { dimension, grain } = target;
  const kept = (orgId: string) => (grain === "15m" ? `not ${is15mPurged(orgId, day)}` : "true");
  const keptParts = (name: string) => `${name} where ${kept(ORG_OF)}`;
  const columns = [...ROLLUP_MEASURES, "latency_sketch"];
  const texts = (row: string) =>
    [
      ...ROLLUP_MEASURES.map((name) => `${row}.${name}::text`),
      `encode(${row}.latency_sketch, 'hex')`,
    ].join(", ");
  return await selectRows<RowDifference>(
    tx,
    `
  with part as (
    ${atGrain(grain, { key: KEY, columns: MEASURES, sums: SUMS }, keptParts(partTable(dimension)))}
  ), bin as (
    ${atGrain(grain, { key: `${KEY}, bin`, columns: "count", sums: "sum(count)::int8 as count" }, keptParts(binTable(dimension)))}
  ), gap as (
    select ${KEY}, bin, count, (bin - coalesce(lag(bin) over (partition by ${KEY} order by bin), -1) - 1)::int8 as gap
      from bin
  ), sketch as (
    select ${KEY}, string_agg(${BIN_BYTES}, '' order by bin) as bytes
      from gap
     group by ${KEY}
  ), want as (
    select ${KEY}, ${MEASURES}, coalesce(bytes, '') as latency_sketch
      from part
      full join sketch using (${KEY})
  ), have as (
    select ${owner("org_id", "member_id")} as owner, bucket, ${MARK} as mark, ${MEASURES}, latency_sketch
      from ${rollupTable(dimension, grain)}
     where ${withinOrgs("bucket", day)}
       and ${kept("org_id")}
  )
  select (${ORG_OF})::int4 as "orgId", (${MEMBER_OF})::int4 as "memberId",
         extract(epoch from bucket)::float8 as "bucketSeconds",
         (${OUTCOME_OF})::int4 as outcome, (${CURRENCY_OF})::int4 as currency, (${RATING_OF})::int4 as rating,
         case when want.latency_sketch is not null then array[${texts("want")}] end as expected,
         case when have.latency_sketch is not null then array[${texts("have")}] end as found,
         (count(*) over ())::int4 as total
    from want
    full join have using (${KEY})
   where (${columns.map((name) => `want.${name}`).join(", ")})
         is distinct from (${columns.map((name) => `have.${name}`).join(", ")})
   order by ${ORG_OF}, bucket, owner, mark
   limit ${Number(target.rowsMax)}`,
  );
}

/** Parts, which are rows of quarters of an hour, as rows of a grain. */
const atGrain = (
  grain: Grain,
  row: { key: string; columns: string; sums: string },
  from: string,
): string => {
  if (grain === "15m") return `select ${row.key}, ${row.columns} from ${from}`;
  const key = row.key.replace(
    "bucket",
    `date_bin('${WIDTHS[grain]}', bucket, timestamptz 'epoch') as bucket`,
  );
  const places = row.key.split(",").map((_, i) => i + 1);
  return `select ${key}, ${row.sums} from ${from} group by ${places.join(", ")}`;
};

const VARINT_BYTES_MAX = 8;

/** The bytes of a whole number ≥ 0, below 2^56: seven bits a byte, the lowest first (LEB128). */
const varint = (n: string): string => {
  const cases = Array.from({ length: VARINT_BYTES_MAX }, (_, i) => {
    const bytes = i + 1;
    return `when ${n} < ${2 ** (7 * bytes)} then substr(int8send(${varintBits(n, bytes)}), ${9 - bytes})`;
  });
  return `case ${cases.join(" ")} end`;
};

/** The same in the lowest bits of a number, of as many bytes as it takes. */
const varintBits = (n: string, bytes: number): string =>
  Array.from({ length: bytes }, (_, i) => {
    const last = bytes - 1;
    // Byte i holds bits 7i … 7i+6, and a top bit when another byte follows.
    return i < last
      ? `(((${n} >> ${7 * i}) & 127) | 128) << ${8 * (last - i)}`
      : `${n} >> ${7 * i}`;
  })
    .map((byte) => `(${byte})`)
    .join(" | ");

/** A bin in a sketch: the bins left out before it, and its count. Small numbers, which most are, in one go. */
const BIN_BYTES = `
  case when gap < 128 and count < 128 then int2send((gap << 8 | count)::int2)
       when gap < 16384 and count < 128 then substr(int4send(((${varintBits("gap", 2)}) << 8 | count)::int4), 2)
       else (${varint("gap")}) || (${varint("count")})
   end`;

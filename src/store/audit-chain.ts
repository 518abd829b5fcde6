import { createHash } from "node:crypto";
import type { Sql } from "./database.ts";

/** A row of a chain with all that its hash covers. `at` is an ISO 8601 instant with microseconds. */
export type ChainRow = {
  orgId: number;
  seq: number;
  at: string;
  actor: string;
  action: string;
  entry: string;
  hash: Buffer;
};

/** One page of the rows of all chains up to one org's, by org and number, from the one after `after` on. Primary key. */
export const listChainRows = (
  sql: Sql,
  {
    after,
    lastOrg,
    limit,
  }: { after: { orgId: number; seq: number }; lastOrg: number; limit: number },
): Promise<ChainRow[]> => sql<ChainRow>`
  select org_id as "orgId",
         seq,
         to_char(at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as at,
         actor,
         action,
         entry,
         hash
    from audit_log
   where (org_id, seq) > (${after.orgId}::int4, ${after.seq}::int8)
     and org_id <= ${lastOrg}
   order by org_id, seq
   limit ${limit}`;

/** How many rows one org's chain has, or (null) all orgs', by their last numbers. Primary keys, one row an org. */
export async function countChainRows(sql: Sql, orgId: number | null): Promise<number> {
  const [row] = await sql<{ rows: number }>`
    select coalesce(sum(h.seq), 0)::int8 as rows
      from org o
     cross join lateral (select seq from audit_log where org_id = o.id order by seq desc limit 1) h
     where ${orgId}::int4 is null or o.id = ${orgId}`;
  return row?.rows ?? 0;
}

/** The hash of a row, as append_audit makes it. */
export function hashOf(before: Buffer, { seq, entry }: Pick<ChainRow, "seq" | "entry">): Buffer {
  const number = Buffer.alloc(8);
  number.writeBigInt64BE(BigInt(seq));
  return createHash("sha256").update(before).update(number).update(entry, "utf8").digest();
}

/** What is wrong with rows `seq` to `lastSeq`, both included, of one chain. */
export type ChainFault = {
  /** `edited`: not what was hashed. `moved`: hashed under another number. `missing`: not there. */
  kind: "edited" | "moved" | "missing";
  seq: number;
  lastSeq: number;
};

const FIRST: Buffer = Buffer.alloc(32);

/**
 * Follows one chain from its first row on. A fault names the rows it is in and not those after them: each row is held
 * against the one before it as it is, and as it was.
 */
export class ChainFollower {
  #seq = 0;
  /** Hash of the row before: as it is stored, and as its content makes it. Undefined: not known. */
  #stored: Buffer | undefined = FIRST;
  #computed: Buffer | undefined = FIRST;
  /** Stored hash of the row before that one. */
  #earlier: Buffer | undefined;
  #isFaultBefore = false;

  /** Takes the next row, and the one after it when it is at hand; returns what is wrong. */
  follow(row: ChainRow, next: ChainRow | undefined): ChainFault[] {
    const faults: ChainFault[] = [];
    if (row.seq > this.#seq + 1) {
      faults.push({ kind: "missing", seq: this.#seq + 1, lastSeq: row.seq - 1 });
      // What the row's hash was made with is gone: the chain is followed from the hash that it has.
      this.#stored = undefined;
      if (!isEntryOf(row)) faults.push(faultOf("edited", row));
    } else {
      const isHashed = this.#isHashed(row);
      const kind = !isHashed && this.#isMoved(row, next) ? "moved" : "edited";
      if (!isHashed || !isEntryOf(row)) faults.push(faultOf(kind, row));
    }
    this.#isFaultBefore = faults.length > 0;
    this.#seq = row.seq;
    this.#computed = this.#stored && hashOf(this.#stored, row);
    this.#earlier = this.#stored;
    this.#stored = row.hash;
    return faults;
  }

  #isHashed(row: ChainRow): boolean {
    const before = [this.#stored, this.#isFaultBefore ? this.#computed : undefined];
    if (this.#isFaultBefore) before.push(this.#earlier);
    return before.some((hash) => hash !== undefined && hashOf(hash, row).equals(row.hash));
  }

  #isMoved(row: ChainRow, next: ChainRow | undefined): boolean {
    const before = [this.#stored, this.#earlier, next?.hash];
    return [row.seq - 1, row.seq + 1].some((seq) =>
      before.some(
        (hash) => hash !== undefined && hashOf(hash, { seq, entry: row.entry }).equals(row.hash),
      ),
    );
  }
}

const faultOf = (kind: ChainFault["kind"], { seq }: ChainRow): ChainFault => ({
  kind,
  seq,
  lastSeq: seq,
});

/** Whether the columns beside the entry say what it says. */
function isEntryOf({ at, actor, action, entry }: ChainRow): boolean {
  try {
    const said: unknown = JSON.parse(entry);
    if (typeof said !== "object" || said === null) return false;
    const isSame = (name: string, value: string): boolean =>
      Object.entries(said).some(([key, found]) => key === name && found === value);
    return isSame("actor", actor) && isSame("action", action) && isSame("at", milliseconds(at));
  } catch {
    return false;
  }
}

/** Instants in entries have milliseconds: one with more is none of them. */
const milliseconds = (at: string): string => at.replace(/000Z$/, "Z");

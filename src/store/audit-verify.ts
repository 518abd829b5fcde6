import { type AuditAnchor, listAnchors, listBrokenAnchors } from "./audit-anchors.ts";
import {
  ChainFollower,
  type ChainFault,
  type ChainRow,
  countChainRows,
  listChainRows,
} from "./audit-chain.ts";
import { listOrgLabels } from "./answer-context.ts";
import type { Sql } from "./database.ts";

/** What is wrong with rows `seq` to `lastSeq`, both included, of an org's chain. */
export type AuditFault = {
  orgId: number;
  /** External id ("*": the chain of all orgs together); null: there is no such org any more. */
  org: string | null;
  /**
   * `edited`: not what was hashed, or what was hashed before it is no more; `moved`: hashed under another number, because rows before them were put in, taken out or
   * reordered; `missing`: not there; `rewritten`: the last of them is not the one that was anchored, so it or some before it
   * were hashed anew; `cut`: anchored, and beyond the chain's end.
   */
  kind: ChainFault["kind"] | "rewritten" | "cut";
  seq: number;
  lastSeq: number;
};

export type AuditVerification = {
  isSound: boolean;
  chains: number;
  rows: number;
  /** Anchors compared: those in the database, and those that were given. */
  anchors: { stored: number; given: number };
  /** At most 1000. */
  faults: AuditFault[];
  faultCount: number;
};

export type AuditScope = {
  /** One org's chain (0: that of all orgs together) or, absent, every chain. */
  orgId?: number | undefined;
  /** Anchors kept outside of the database. All must have been made before the verification starts. */
  anchors?: AsyncIterable<AuditAnchor> | undefined;
  onProgress?: (progress: { rowsDone: number; rows: number }) => void;
};

const PAGE_ROWS = 500;
const FAULTS_LISTED_MAX = 1000;
const INT4 = { min: -(2 ** 31), max: 2 ** 31 - 1 };

/**
 * Follows every chain from its first row to its last and holds it against the anchors. Reads only, in pages: whatever is
 * appended meanwhile harms nothing. Memory: one page, and what is wrong.
 */
export async function verifyAuditChains(sql: Sql, scope: AuditScope): Promise<AuditVerification> {
  const found = new Faults();
  const counts = { chains: 0, rows: 0, stored: 0, given: 0 };
  const rows = await countChainRows(sql, scope.orgId ?? null);
  const report = (): void => scope.onProgress?.({ rowsDone: counts.rows, rows });
  for await (const page of pagesOf(
    (after, lastOrg) => listChainRows(sql, { after, lastOrg, limit: PAGE_ROWS }),
    scope.orgId,
  )) {
    counts.rows += page.length;
    counts.chains += found.follow(page);
    report();
  }
  const compare = async (anchors: readonly AuditAnchor[]): Promise<void> => {
    for (const broken of await listBrokenAnchors(sql, anchors)) found.addBroken(broken);
    report();
  };
  for await (const page of pagesOf(
    (after, lastOrg) => listAnchors(sql, { after, lastOrg, limit: PAGE_ROWS }),
    scope.orgId,
  )) {
    counts.stored += page.length;
    await compare(page);
  }
  for await (const page of cutPages(scope.anchors, scope.orgId)) {
    counts.given += page.length;
    await compare(page);
  }
  return {
    isSound: found.count === 0,
    chains: counts.chains,
    rows: counts.rows,
    anchors: { stored: counts.stored, given: counts.given },
    faults: await nameOrgs(sql, found.list()),
    faultCount: found.count,
  };
}

/** Pages of what is ordered by org and number, of one org or all, until one is not full. */
async function* pagesOf<Row extends { orgId: number; seq: number }>(
  list: (after: { orgId: number; seq: number }, lastOrg: number) => Promise<Row[]>,
  orgId: number | undefined,
): AsyncGenerator<Row[]> {
  let after = { orgId: orgId ?? INT4.min, seq: 0 };
  for (;;) {
    const page = await list(after, orgId ?? INT4.max);
    const last = page.at(-1);
    if (last === undefined) return;
    yield page;
    if (page.length < PAGE_ROWS) return;
    after = { orgId: last.orgId, seq: last.seq };
  }
}

async function* cutPages(
  anchors: AsyncIterable<AuditAnchor> | undefined,
  orgId: number | undefined,
): AsyncGenerator<AuditAnchor[]> {
  let page: AuditAnchor[] = [];
  for await (const anchor of anchors ?? []) {
    if (orgId !== undefined && anchor.orgId !== orgId) continue;
    page.push(anchor);
    if (page.length < PAGE_ROWS) continue;
    yield page;
    page = [];
  }
  if (page.length > 0) yield page;
}

type Unnamed = Omit<AuditFault, "org">;

/** Gathers faults; those of neighbouring rows are one. */
class Faults {
  #inChains = 0;
  readonly #listed: Unnamed[] = [];
  /** Per org: what was anchored and is beyond the end, and the first anchored row that is another. */
  readonly #cut = new Map<number, Unnamed>();
  readonly #rewritten = new Map<number, Unnamed>();
  #last: Unnamed | undefined;
  #orgId: number | undefined;
  #chain = new ChainFollower();

  /** Follows a page of rows and returns how many chains begin in it. */
  follow(page: readonly ChainRow[]): number {
    let begun = 0;
    page.forEach((row, i) => {
      if (row.orgId !== this.#orgId) {
        this.#orgId = row.orgId;
        this.#chain = new ChainFollower();
        begun++;
      }
      const next = page[i + 1];
      const faults = this.#chain.follow(row, next?.orgId === row.orgId ? next : undefined);
      for (const fault of faults) this.#add({ orgId: row.orgId, ...fault });
    });
    return begun;
  }

  addBroken({ orgId, seq, isThere, lastSeq }: { isThere: boolean } & Omit<Unnamed, "kind">): void {
    if (seq > lastSeq) {
      const before = this.#cut.get(orgId)?.lastSeq ?? 0;
      const end = Math.max(before, seq);
      this.#cut.set(orgId, { orgId, kind: "cut", seq: lastSeq + 1, lastSeq: end });
    } else if (isThere) {
      const before = this.#rewritten.get(orgId)?.lastSeq ?? Infinity;
      const first = Math.min(before, seq);
      // It says that something up to this row is not as it was, not what.
      this.#rewritten.set(orgId, { orgId, kind: "rewritten", seq: 1, lastSeq: first });
    }
    // A row missing before the end was found when the chain was followed.
  }

  get count(): number {
    return this.#inChains + this.#rewritten.size + this.#cut.size;
  }

  list(): Unnamed[] {
    return [...this.#rewritten.values(), ...this.#cut.values(), ...this.#listed]
      .toSorted((a, b) => a.orgId - b.orgId || a.lastSeq - b.lastSeq)
      .slice(0, FAULTS_LISTED_MAX);
  }

  #add(fault: Unnamed): void {
    const last = this.#last;
    const continues =
      last?.orgId === fault.orgId && last.kind === fault.kind && last.lastSeq + 1 === fault.seq;
    if (continues) {
      last.lastSeq = fault.lastSeq;
      return;
    }
    this.#inChains++;
    this.#last = fault;
    if (this.#listed.length < FAULTS_LISTED_MAX) this.#listed.push(fault);
  }
}

async function nameOrgs(sql: Sql, faults: readonly Unnamed[]): Promise<AuditFault[]> {
  const labels = await listOrgLabels(sql, [...new Set(faults.map((fault) => fault.orgId))]);
  const names = new Map(labels.map((label) => [label.id, label.externalId]));
  return faults.map((fault) => ({ ...fault, org: names.get(fault.orgId) ?? null }));
}

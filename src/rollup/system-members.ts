import { ALL_ORGS } from "#contract";
import { listMemberValues, type Sql, upsertMembers } from "#store";

/** Beyond this many the memory is not worth it; they are simply asked for again. */
const REMEMBERED_MAX = 1_000_000;

/**
 * The ids under which an org's models and error codes are counted for all orgs together: dictionary rows of org 0 with
 * the same text. They are durable before they are used, and never change, so they may be remembered for ever.
 */
export class SystemMembers {
  readonly #ids = new Map<number, number>();

  /** Learns the ids for these members, making the missing rows. In a transaction of its own. */
  async resolve(sql: Sql, memberIds: Iterable<number>): Promise<void> {
    if (this.#ids.size > REMEMBERED_MAX) this.#ids.clear();
    const wanted = [...new Set(memberIds)].filter((id) => id > 0 && !this.#ids.has(id));
    if (wanted.length === 0) return;
    const members = await listMemberValues(sql, wanted);
    const texts = members.map(({ kind, value }) => ({ orgId: ALL_ORGS, kind, value }));
    const found = new Map<string, number>();
    // A row another process makes at the same moment shows at the second asking.
    for (let asked = 0; asked < 2; asked++) {
      for (const { id, kind, value } of await upsertMembers(sql, texts))
        found.set(`${kind} ${value}`, id);
      if (members.every(({ kind, value }) => found.has(`${kind} ${value}`))) break;
    }
    for (const { id, kind, value } of members) {
      const systemId = found.get(`${kind} ${value}`);
      if (systemId !== undefined) this.#ids.set(id, systemId);
    }
  }

  /** The id for all orgs. Ids below 1 (none given, other) stand for themselves. Throws when it was not resolved. */
  idOf(memberId: number): number {
    if (memberId <= 0) return memberId;
    const id = this.#ids.get(memberId);
    if (id === undefined) throw new Error(`dictionary has no row ${memberId}`);
    return id;
  }
}

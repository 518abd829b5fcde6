import type { ParsedItem, Rejection } from "#contract";
import { type Database, findOrgStatuses } from "#store";
import { reject } from "./judge-time.ts";
import type { BatchItem } from "./prepared-batch.ts";

/** External ids of the orgs that a sender may write events for. */
export type WritableOrgs = ReadonlySet<string> | "any";

/** Whether every item names an org that its sender may write for. One that names none could, read otherwise, name any. */
export const staysWithin = (items: readonly ParsedItem[], writesFor: WritableOrgs): boolean =>
  writesFor === "any" ||
  items.every(({ event, rejection }) => {
    const { orgId } = event ?? rejection;
    return orgId !== null && writesFor.has(orgId);
  });

function isForeign({ event, rejection }: ParsedItem, writesFor: WritableOrgs): boolean {
  if (writesFor === "any") return false;
  const { orgId } = event ?? rejection;
  return orgId !== null && !writesFor.has(orgId);
}

/** An event that may be sent again once its org was created. */
export const rejectUnknownOrg = (event: Parameters<typeof reject>[0]): Rejection =>
  reject(
    event,
    "unknown_org",
    "/org_id",
    "There is no org of this id. Once it was created, this event can be replayed.",
  );

/** Says which orgs events are counted for: those that their sender may write for, unless suspended or deleted. */
export class OrgRules {
  readonly #database: Database;
  /** By external id; orgs that are active are left out. */
  #inactive: ReadonlyMap<string, string> = new Map();

  constructor(database: Database) {
    this.#database = database;
  }

  /** Reads which orgs are suspended or deleted. */
  async refresh(): Promise<void> {
    const orgs = await findOrgStatuses(this.#database.sql);
    this.#inactive = new Map(orgs.map(({ externalId, status }) => [externalId, status]));
  }

  /**
   * Why an item cannot be counted for the org it names. What names somebody else's org, readable or not, goes to
   * the quarantine of no org: nobody fills or reads another's. So does what names a deleted org: nobody has it any more.
   */
  judge({ item, writesFor }: Pick<BatchItem, "item" | "writesFor">): Rejection | undefined {
    if (isForeign(item, writesFor)) {
      const { eventId, occurredAtUs } = item.event ?? item.rejection;
      const detail = "The sender of this event may not write for the org it names.";
      return {
        code: "org_forbidden",
        pointer: "/org_id",
        detail,
        eventId,
        orgId: null,
        occurredAtUs,
      };
    }
    if (this.#inactive.size === 0 || item.event === null) return undefined;
    const { event } = item;
    const status = this.#inactive.get(event.orgId);
    if (status === "deleted") return { ...rejectUnknownOrg(event), orgId: null };
    if (status === undefined) return undefined;
    const detail = "This org is suspended. Once it is active again, this event can be replayed.";
    return reject(event, "org_suspended", "/org_id", detail);
  }
}

import { ACCEPTED, type IngestOutcome, type Rejection, type UsageEvent } from "#contract";
import type { Database, EventIds } from "#store";
import { type CommitRequest, daysOf } from "./commit-batch.ts";
import { DeclaredTags } from "./declared-tags.ts";
import { OrgRules, rejectUnknownOrg } from "./judge-org.ts";
import { judgeTime, reject, rejectedAs, type TimeRules } from "./judge-time.ts";
import { MemberIds, type MemberLimits } from "./members.ts";
import { type BatchItem, PreparedBatch } from "./prepared-batch.ts";
import type { RawPartitions } from "./raw-partitions.ts";

type Judgeable = Pick<BatchItem, "item" | "isBackfill" | "writesFor" | "receivedAtMs">;

/** The org in whose quarantine and ledger an item stands that is not counted; "" for none. */
const orgNamedBy = ({ item }: BatchItem, rejection: Rejection | undefined): string =>
  (rejection ?? item.event ?? item.rejection).orgId ?? "";

/** Makes what can be committed of what was received: applies the rules, and turns texts into ids. */
export class BatchPreparer {
  readonly #settings: TimeRules & { members: MemberLimits };
  readonly #partitions: RawPartitions;
  readonly #members: MemberIds;
  readonly #orgRules: OrgRules;
  readonly #tags: DeclaredTags;

  constructor(
    database: Database,
    partitions: RawPartitions,
    settings: TimeRules & { members: MemberLimits },
  ) {
    this.#settings = settings;
    this.#partitions = partitions;
    this.#tags = new DeclaredTags(database);
    this.#members = new MemberIds(database, settings.members, (orgId) => this.#tags.keysOf(orgId));
    this.#orgRules = new OrgRules(database);
  }

  /** Reads which orgs are suspended or deleted, and which tags they have declared. */
  async refreshOrgs(): Promise<void> {
    await Promise.all([this.#orgRules.refresh(), this.#tags.refresh()]);
  }

  /** What the rules say of each item. Whether it is a duplicate or a conflict is for the commit to find out. */
  async judge(items: readonly Judgeable[]): Promise<IngestOutcome[]> {
    const rejections = items.map((item) => this.#judgeItem(item));
    const isOrgKnown = await this.#findKnownOrgs(items.flatMap(({ item }) => item.event ?? []));
    return items.map(({ item: { event } }, i) => {
      const rejection = rejections[i];
      if (rejection) return rejectedAs(rejection);
      return event && !isOrgKnown(event.orgId) ? rejectedAs(rejectUnknownOrg(event)) : ACCEPTED;
    });
  }

  /** Tells of each event's org whether it has an id, or gets one. */
  async #findKnownOrgs(events: readonly UsageEvent[]): Promise<(orgId: string) => boolean> {
    if (this.#settings.members.registersOrgs) return () => true;
    const known = await this.#members.findOrgIds(events.map(({ orgId }) => orgId));
    return (orgId) => known.has(orgId);
  }

  /** Those that concern whose event it is come first: they say in whose quarantine it stands. */
  #judgeItem(item: Judgeable, poison?: Rejection): Rejection | undefined {
    return (
      this.#orgRules.judge(item) ?? poison ?? item.item.rejection ?? judgeTime(item, this.#settings)
    );
  }

  /** `poison` is what is wrong with all of them, where that was found out before. */
  async prepare(
    items: readonly BatchItem[],
    how: { correlationId: string; poison?: Rejection },
  ): Promise<CommitRequest> {
    const rejections = items.map((item) => this.#judgeItem(item, how.poison));
    const ids = items.map(({ item: { event }, source }, i) =>
      event && !rejections[i] ? this.#members.findIds(event, source) : undefined,
    );
    await this.#loadMissing(items, rejections, ids);
    const named = items.flatMap((item, i) => (ids[i] ? [] : [orgNamedBy(item, rejections[i])]));
    const orgIds =
      named.length > 0 ? await this.#members.findOrgIds(named) : new Map<string, number>();
    const batch = new PreparedBatch(items, rejections, ids);
    await this.#partitions.ensure(daysOf(batch));
    const place = (i: number) => {
      const known = ids[i];
      if (known) return known;
      const received = items[i];
      if (!received) throw new RangeError(`no item ${i}`);
      return {
        orgId: orgIds.get(orgNamedBy(received, rejections[i])) ?? 0,
        sourceId: this.#members.sourceId(received.source),
      };
    };
    const positionTo = items.at(-1)?.positionAfter?.() ?? null;
    return { batch, place, correlationId: how.correlationId, positionTo };
  }

  /** Gives ids to the events that have none yet, and a rejection to those that cannot get any. */
  async #loadMissing(
    items: readonly BatchItem[],
    rejections: (Rejection | undefined)[],
    ids: (EventIds | undefined)[],
  ): Promise<void> {
    const missing = items.flatMap(({ item: { event }, source }, i) =>
      event && !rejections[i] && !ids[i] ? [{ event, source, i }] : [],
    );
    const refused = await this.#members.load(
      missing.map(({ event }) => event),
      items.map(({ source }) => source),
    );
    for (const { event, source, i } of missing) {
      if (refused.has(event.orgId)) rejections[i] = this.#refuseOrg(event);
      else ids[i] = this.#members.findIds(event, source);
    }
  }

  #refuseOrg(event: UsageEvent): Rejection {
    if (!this.#settings.members.registersOrgs) return rejectUnknownOrg(event);
    const detail = "No further org can be registered: the limit is reached.";
    return reject(event, "unknown_org", "/org_id", detail);
  }
}

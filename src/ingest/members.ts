import {
  MEMBER_KIND,
  MEMBER_NONE,
  MEMBER_OTHER,
  readTags,
  tagOtherWord,
  tagWord,
  type UsageEvent,
} from "#contract";
import {
  countOrgs,
  type Database,
  type EventIds,
  listMembers,
  listOrgs,
  type Member,
  upsertMembers,
  upsertOrgs,
  upsertSources,
} from "#store";

/** Most distinct values an org may bring; further ones are counted under "other", so that one org cannot flood all. */
export type MemberLimits = {
  orgsMax: number;
  /** Whether an org that is not known gets an id with its first event. */
  registersOrgs: boolean;
  modelsMax: number;
  clientsMax: number;
  actorsMax: number;
  errorCodesMax: number;
  /** Of each declared key of metadata. */
  tagValuesMax: number;
};

type OrgMembers = {
  id: number;
  /** By kind - 1. */
  byKind: Map<string, number>[];
  /** How many values each key of metadata has among the tags. */
  tagValues: Map<string, number>;
};

/** A text that has no id yet. */
type Missing = { orgId: number; kind: number; value: string; org: OrgMembers };

/**
 * Texts to ids, cached. An id is durable in the database before anyone sees it, so it may be used in a transaction
 * that fails. The caches never forget: a text keeps its id for good.
 */
export class MemberIds {
  readonly #database: Database;
  readonly #limits: MemberLimits;
  readonly #tagKeysOf: (orgId: string) => readonly string[];
  /** By kind - 1, as in MEMBER_KIND. */
  readonly #membersMax: number[];
  readonly #orgs = new Map<string, OrgMembers>();
  readonly #sources = new Map<string, number>();
  #loading: Promise<unknown> = Promise.resolve();

  /** `tagKeysOf` says which keys of metadata an org has declared, by its external id. */
  constructor(
    database: Database,
    limits: MemberLimits,
    tagKeysOf: (orgId: string) => readonly string[],
  ) {
    this.#database = database;
    this.#limits = limits;
    this.#tagKeysOf = tagKeysOf;
    this.#membersMax = [
      limits.modelsMax,
      limits.clientsMax,
      limits.actorsMax,
      limits.errorCodesMax,
      // Counted key by key.
      Number.POSITIVE_INFINITY,
    ];
  }

  /** Gives every text of these events an id, as far as the limits go. Returns the orgs that got none. */
  load(events: readonly UsageEvent[], sources: Iterable<string>): Promise<Set<string>> {
    // One at a time: two loads of the same new org would each build its maps, and one would lose the other's texts.
    const loaded = this.#loading.then(() => this.#load(events, sources));
    this.#loading = loaded.catch(() => undefined);
    return loaded;
  }

  async #load(events: readonly UsageEvent[], sources: Iterable<string>): Promise<Set<string>> {
    const newSources = [...new Set(sources)].filter((name) => !this.#sources.has(name));
    if (newSources.length > 0) {
      for (const { id, name } of await upsertSources(this.#database.sql, newSources))
        this.#sources.set(name, id);
    }
    const newOrgs = new Set<string>();
    for (const { orgId } of events) if (!this.#orgs.has(orgId)) newOrgs.add(orgId);
    const refused = await this.#loadOrgs(newOrgs);
    await this.#loadMembers(events);
    return refused;
  }

  /**
   * The ids of an event, or undefined when one of its texts has to be loaded first. Values over an org's limit come
   * back as MEMBER_OTHER.
   */
  findIds(event: UsageEvent, source: string): EventIds | undefined {
    const org = this.#orgs.get(event.orgId);
    const sourceId = this.#sources.get(source);
    if (!org || sourceId === undefined) return undefined;
    const modelId = this.#find(org, MEMBER_KIND.model, event.modelId);
    const clientId = this.#find(org, MEMBER_KIND.client, event.clientId);
    const actorId = this.#find(org, MEMBER_KIND.actor, event.actorId);
    const errorCodeId = this.#find(org, MEMBER_KIND.errorCode, event.errorCode);
    const tagIds = this.#findTags(org, event);
    if (
      modelId === undefined ||
      clientId === undefined ||
      actorId === undefined ||
      errorCodeId === undefined ||
      tagIds === undefined
    )
      return undefined;
    return { orgId: org.id, modelId, clientId, actorId, errorCodeId, sourceId, tagIds };
  }

  /** One id for each declared key that the event has a value of; null when there is none. */
  #findTags(org: OrgMembers, event: UsageEvent): number[] | null | undefined {
    const keys = this.#tagKeysOf(event.orgId);
    if (keys.length === 0 || event.metadata === null) return null;
    const words = org.byKind[MEMBER_KIND.tag - 1];
    const ids: number[] = [];
    for (const { key, value } of readTags(event.metadata, keys)) {
      const isFull = (org.tagValues.get(key) ?? 0) >= this.#limits.tagValuesMax;
      const id =
        words?.get(tagWord(key, value)) ?? (isFull ? words?.get(tagOtherWord(key)) : undefined);
      if (id === undefined) return undefined;
      ids.push(id);
    }
    return ids.length === 0 ? null : ids;
  }

  #find(org: OrgMembers, kind: number, value: string | null): number | undefined {
    if (value === null) return MEMBER_NONE;
    const known = org.byKind[kind - 1];
    const id = known?.get(value);
    if (id === undefined && known && known.size >= (this.#membersMax[kind - 1] ?? 0))
      return MEMBER_OTHER;
    return id;
  }

  sourceId(name: string): number {
    const id = this.#sources.get(name);
    if (id === undefined) throw new Error("source was not loaded");
    return id;
  }

  /** Ids of orgs named by rejected items: known orgs only, none is made for them. */
  async findOrgIds(externalIds: readonly string[]): Promise<Map<string, number>> {
    const found = new Map<string, number>();
    const unknown: string[] = [];
    for (const name of externalIds) {
      const org = this.#orgs.get(name);
      if (org) found.set(name, org.id);
      else unknown.push(name);
    }
    if (unknown.length > 0) {
      for (const { id, externalId } of await listOrgs(this.#database.sql, unknown))
        found.set(externalId, id);
    }
    return found;
  }

  async #loadOrgs(wanted: Set<string>): Promise<Set<string>> {
    const refused = new Set<string>();
    if (wanted.size === 0) return refused;
    const { sql } = this.#database;
    const existing = await listOrgs(sql, [...wanted]);
    const known = new Set(existing.map(({ externalId }) => externalId));
    const missing = [...wanted].filter((name) => !known.has(name));
    const room = missing.length === 0 ? 0 : await this.#roomForOrgs();
    for (const name of missing.splice(Math.max(0, room))) refused.add(name);
    if (missing.length > 0) existing.push(...(await upsertOrgs(sql, missing)));
    for (const { id, externalId } of existing) {
      const byKind = Object.keys(MEMBER_KIND).map(() => new Map<string, number>());
      this.#orgs.set(externalId, { id, byKind, tagValues: new Map() });
    }
    const byId = new Map(
      existing.map(({ id, externalId }) => [id, this.#orgs.get(externalId)] as const),
    );
    for (const member of await listMembers(sql, [...byId.keys()])) {
      const org = byId.get(member.orgId);
      if (org) remember(org, member);
    }
    return refused;
  }

  async #roomForOrgs(): Promise<number> {
    const { orgsMax, registersOrgs } = this.#limits;
    return registersOrgs ? orgsMax - (await countOrgs(this.#database.sql)) : 0;
  }

  async #loadMembers(events: readonly UsageEvent[]): Promise<void> {
    const missing = new Map<string, Missing>();
    const want = (org: OrgMembers, kind: number, value: string | null): void => {
      if (value === null || org.byKind[kind - 1]?.has(value) !== false) return;
      missing.set(`${org.id} ${kind} ${value}`, { orgId: org.id, kind, value, org });
    };
    const newTags = new Map<string, number>();
    for (const event of events) {
      const org = this.#orgs.get(event.orgId);
      if (!org) continue;
      want(org, MEMBER_KIND.model, event.modelId);
      want(org, MEMBER_KIND.client, event.clientId);
      want(org, MEMBER_KIND.actor, event.actorId);
      want(org, MEMBER_KIND.errorCode, event.errorCode);
      for (const { key, value } of readTags(event.metadata, this.#tagKeysOf(event.orgId))) {
        const word = tagWord(key, value);
        if (missing.has(`${org.id} ${MEMBER_KIND.tag} ${word}`)) continue;
        const isKnown = org.byKind[MEMBER_KIND.tag - 1]?.has(word) === true;
        const place = `${org.id} ${key}`;
        const made = newTags.get(place) ?? 0;
        const hasRoom = (org.tagValues.get(key) ?? 0) + made < this.#limits.tagValuesMax;
        if (!isKnown && hasRoom) newTags.set(place, made + 1);
        want(org, MEMBER_KIND.tag, isKnown || hasRoom ? word : tagOtherWord(key));
      }
    }
    const wanted = this.#withinLimits([...missing.values()]);
    if (wanted.length === 0) return;
    const made = await upsertMembers(this.#database.sql, wanted);
    for (const member of made) {
      const { orgId, kind, value } = member;
      const wantedBy = missing.get(`${orgId} ${kind} ${value}`);
      if (wantedBy) remember(wantedBy.org, member);
    }
  }

  /** One batch may bring many new values at once: only as many as the org has room for. */
  #withinLimits(wanted: Missing[]): Missing[] {
    const taken = new Map<Map<string, number> | undefined, number>();
    return wanted.filter(({ org, kind }) => {
      const into = org.byKind[kind - 1];
      const size = taken.get(into) ?? into?.size ?? 0;
      if (size >= (this.#membersMax[kind - 1] ?? 0)) return false;
      taken.set(into, size + 1);
      return true;
    });
  }
}

function remember(org: OrgMembers, { kind, value, id }: Member): void {
  const known = org.byKind[kind - 1];
  const at = kind === MEMBER_KIND.tag ? value.indexOf("=") : -1;
  if (at >= 0 && known?.has(value) === false) {
    const key = value.slice(0, at);
    org.tagValues.set(key, (org.tagValues.get(key) ?? 0) + 1);
  }
  known?.set(value, id);
}

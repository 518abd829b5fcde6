import { MEMBER_KIND, MEMBER_NONE, MEMBER_OTHER, type UsageEvent } from "#contract";
import { countOrgs, type Database, type EventIds, listMembers, listOrgs, upsertMembers, upsertOrgs, upsertSources } from "#store";

/** Most distinct values an org may bring; further ones are counted under "other", so that one org cannot flood all. */
export type MemberLimits = { orgsMax: number; modelsMax: number; clientsMax: number; actorsMax: number; errorCodesMax: number };

type OrgMembers = { id: number; byKind: Map<string, number>[] };

/**
 * Texts to ids, cached. An id is durable in the database before anyone sees it, so it may be used in a transaction
 * that fails. The caches never forget: a text keeps its id for good.
 */
export class MemberIds {
  readonly #database: Database;
  readonly #limits: MemberLimits;
  /** By kind - 1, as in MEMBER_KIND. */
  readonly #membersMax: number[];
  readonly #orgs = new Map<string, OrgMembers>();
  readonly #sources = new Map<string, number>();

  constructor(database: Database, limits: MemberLimits) {
    this.#database = database;
    this.#limits = limits;
    this.#membersMax = [limits.modelsMax, limits.clientsMax, limits.actorsMax, limits.errorCodesMax];
  }

  /** Makes sure every text of these events has an id. Returns the org texts refused because there are too many orgs. */
  async load(events: Iterable<UsageEvent>, sources: Iterable<string>): Promise<Set<string>> {
    const newSources = [...new Set(sources)].filter((name) => !this.#sources.has(name));
    if (newSources.length > 0) {
      for (const { id, name } of await upsertSources(this.#database.sql, newSources)) this.#sources.set(name, id);
    }
    const newOrgs = new Set<string>();
    for (const { orgId } of events) if (!this.#orgs.has(orgId)) newOrgs.add(orgId);
    const refused = await this.#loadOrgs(newOrgs);
    await this.#loadMembers(events);
    return refused;
  }

  /** The ids of an event whose texts were loaded. Values over an org's limit come back as MEMBER_OTHER. */
  idsOf(event: UsageEvent, source: string): EventIds {
    const org = this.#orgs.get(event.orgId);
    if (!org) throw new Error("org was not loaded");
    const [models, clients, actors, errorCodes] = org.byKind;
    return {
      orgId: org.id,
      modelId: models?.get(event.modelId) ?? MEMBER_OTHER,
      clientId: event.clientId === null ? MEMBER_NONE : (clients?.get(event.clientId) ?? MEMBER_OTHER),
      actorId: event.actorId === null ? MEMBER_NONE : (actors?.get(event.actorId) ?? MEMBER_OTHER),
      errorCodeId: event.errorCode === null ? MEMBER_NONE : (errorCodes?.get(event.errorCode) ?? MEMBER_OTHER),
      sourceId: this.sourceId(source),
    };
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
      for (const { id, externalId } of await listOrgs(this.#database.sql, unknown)) found.set(externalId, id);
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
    const room = missing.length === 0 ? 0 : this.#limits.orgsMax - (await countOrgs(sql));
    for (const name of missing.splice(Math.max(0, room))) refused.add(name);
    if (missing.length > 0) existing.push(...(await upsertOrgs(sql, missing)));
    for (const { id, externalId } of existing) {
      this.#orgs.set(externalId, { id, byKind: [new Map(), new Map(), new Map(), new Map()] });
    }
    const byId = new Map(existing.map(({ id, externalId }) => [id, this.#orgs.get(externalId)] as const));
    for (const member of await listMembers(sql, [...byId.keys()])) {
      byId.get(member.orgId)?.byKind[member.kind - 1]?.set(member.value, member.id);
    }
    return refused;
  }

  async #loadMembers(events: Iterable<UsageEvent>): Promise<void> {
    const missing = new Map<string, { orgId: number; kind: number; value: string; into: Map<string, number> }>();
    const want = (org: OrgMembers, kind: number, value: string | null): void => {
      if (value === null) return;
      const into = org.byKind[kind - 1];
      if (!into || into.has(value)) return;
      missing.set(`${org.id} ${kind} ${value}`, { orgId: org.id, kind, value, into });
    };
    for (const event of events) {
      const org = this.#orgs.get(event.orgId);
      if (!org) continue;
      want(org, MEMBER_KIND.model, event.modelId);
      want(org, MEMBER_KIND.client, event.clientId);
      want(org, MEMBER_KIND.actor, event.actorId);
      want(org, MEMBER_KIND.errorCode, event.errorCode);
    }
    const wanted = this.#withinLimits([...missing.values()]);
    if (wanted.length === 0) return;
    const made = await upsertMembers(this.#database.sql, wanted);
    for (const { id, orgId, kind, value } of made) missing.get(`${orgId} ${kind} ${value}`)?.into.set(value, id);
  }

  /** One batch may bring many new values at once: only as many as the org has room for. */
  #withinLimits<T extends { orgId: number; kind: number; into: Map<string, number> }>(wanted: T[]): T[] {
    const taken = new Map<Map<string, number>, number>();
    return wanted.filter(({ into, kind }) => {
      const size = taken.get(into) ?? into.size;
      if (size >= (this.#membersMax[kind - 1] ?? 0)) return false;
      taken.set(into, size + 1);
      return true;
    });
  }
}

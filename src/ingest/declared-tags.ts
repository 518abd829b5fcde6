import { type Database, listTagKeys } from "#store";

const NO_KEYS: readonly string[] = [];

/** Which keys of metadata each org has declared, as last read. */
export class DeclaredTags {
  readonly #database: Database;
  /** By external id; orgs that have declared none are left out. */
  #keys: ReadonlyMap<string, readonly string[]> = new Map();

  constructor(database: Database) {
    this.#database = database;
  }

  async refresh(): Promise<void> {
    const orgs = await listTagKeys(this.#database.sql);
    this.#keys = new Map(orgs.map(({ externalId, tagKeys }) => [externalId, tagKeys]));
  }

  /** The keys of an org by its external id. */
  keysOf(orgId: string): readonly string[] {
    return this.#keys.get(orgId) ?? NO_KEYS;
  }
}

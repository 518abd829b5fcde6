import type { Clock } from "#kernel";
import { createRawPartition, type Database, dayOfUs, listRawPartitionDays } from "#store";

/** Days ahead of today whose partition is made before it is needed. */
const DAYS_AHEAD = 2;

/** The raw partitions known to be there. Made ahead of time, and on demand for history. */
export class RawPartitions {
  readonly #database: Database;
  readonly #clock: Clock;
  #known = new Set<number>();

  constructor(database: Database, clock: Clock) {
    this.#database = database;
    this.#clock = clock;
  }

  /** Reads which there are, and makes those of yesterday to the day after tomorrow. */
  async refresh(): Promise<void> {
    this.#known = new Set(await listRawPartitionDays(this.#database));
    const today = dayOfUs(this.#clock.now() * 1000);
    const days: number[] = [];
    for (let day = today - 1; day <= today + DAYS_AHEAD; day++) days.push(day);
    await this.ensure(days);
  }

  /** Resolves when each of these UTC days has its partition. */
  async ensure(days: Iterable<number>): Promise<void> {
    for (const day of days) {
      if (this.#known.has(day)) continue;
      await createRawPartition(this.#database, day);
      this.#known.add(day);
    }
  }
}

import type { IngestOutcome } from "#contract";
import type { BatchItem } from "./prepared-batch.ts";

/** One caller's items, waiting to be committed or to be given up. */
export type Work = {
  items: readonly BatchItem[];
  bytes: number;
  correlationId: string;
  /** Set once the caller was told to come back: the work may still be committed, but nobody waits. */
  isAbandoned: boolean;
  resolve(outcomes: IngestOutcome[]): void;
  reject(error: Error): void;
};

/** Work in order of arrival, bounded, handed out in batches of whatever is there. */
export class WorkQueue {
  readonly #limits: { eventsMax: number; bytesMax: number };
  #work: Work[] = [];
  #events = 0;
  #bytes = 0;
  #waiting: (() => void)[] = [];
  #wantRoom: (() => void)[] = [];
  #isClosed = false;

  constructor(limits: { eventsMax: number; bytesMax: number }) {
    this.#limits = limits;
  }

  /** Events accepted for processing and not answered yet. */
  get pendingEvents(): number {
    return this.#events;
  }

  /** Whether work of this size may come in. An empty queue takes any. */
  hasRoomFor(events: number, bytes: number): boolean {
    if (this.#events === 0) return true;
    return (
      this.#events + events <= this.#limits.eventsMax &&
      this.#bytes + bytes <= this.#limits.bytesMax
    );
  }

  /** Resolves when work of this size may come in. Throws the signal's reason when it is aborted before. */
  async waitForRoom(events: number, bytes: number, signal: AbortSignal): Promise<void> {
    while (!this.hasRoomFor(events, bytes)) {
      signal.throwIfAborted();
      const { promise, resolve } = Promise.withResolvers<void>();
      const wake = (): void => resolve();
      signal.addEventListener("abort", wake, { once: true });
      this.#wantRoom.push(wake);
      await promise;
      signal.removeEventListener("abort", wake);
    }
    signal.throwIfAborted();
  }

  push(work: Work): void {
    this.#work.push(work);
    this.#events += work.items.length;
    this.#bytes += work.bytes;
    this.#waiting.shift()?.();
  }

  /** The next batch of at most `eventsMax` events (a single larger piece of work comes alone); none once closed and empty. */
  async take(eventsMax: number): Promise<Work[]> {
    for (;;) {
      const batch: Work[] = [];
      let events = 0;
      while (this.#work.length > 0) {
        const next = this.#work[0];
        if (!next || (batch.length > 0 && events + next.items.length > eventsMax)) break;
        this.#work.shift();
        if (next.isAbandoned) {
          this.release(next);
          continue;
        }
        batch.push(next);
        events += next.items.length;
      }
      if (batch.length > 0 || this.#isClosed) return batch;
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    }
  }

  /** Work that was taken is done with, one way or the other: its room is free again. */
  release(work: Work): void {
    this.#events -= work.items.length;
    this.#bytes -= work.bytes;
    for (const wake of this.#wantRoom.splice(0)) wake();
  }

  /** No more work comes: takers get what is left, then nothing. */
  close(): void {
    this.#isClosed = true;
    for (const wake of this.#waiting.splice(0)) wake();
  }
}

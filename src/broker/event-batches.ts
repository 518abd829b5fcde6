import { createDeferred, type Deferred } from "./deferred.ts";

/** Where an event goes and what the headers of its message say. */
export type BatchRoute = {
  routingKey: string;
  org: string | undefined;
  traceparent: string | undefined;
};

type Batch = {
  route: BatchRoute;
  lines: string[];
  bytes: number;
  timer: NodeJS.Timeout;
  /** Settled as the message is. */
  sent: Deferred<void>;
};

export type EventBatchesOptions = {
  itemsMax: number;
  bytesMax: number;
  waitMsMax: number;
  /** Takes a whole body (NDJSON); settles when it is confirmed or given up. */
  deliver: (body: Buffer, route: BatchRoute) => Promise<void>;
};

/** Gathers events into messages: one per routing key and org at a time. */
export class EventBatches {
  readonly #options: EventBatchesOptions;
  readonly #open = new Map<string, Batch>();

  constructor(options: EventBatchesOptions) {
    this.#options = options;
  }

  /** Adds one event, `bytes` long with its line end. Settles as its message does. */
  add(line: string, bytes: number, route: BatchRoute): Promise<void> {
    const key = `${route.routingKey}\n${route.org ?? ""}`;
    let batch = this.#open.get(key);
    if (batch !== undefined && batch.bytes + bytes > this.#options.bytesMax) {
      this.#seal(key, batch);
      batch = undefined;
    }
    batch ??= this.#openBatch(key, route);
    batch.lines.push(line);
    batch.bytes += bytes;
    batch.route.traceparent ??= route.traceparent;
    if (batch.lines.length >= this.#options.itemsMax || batch.bytes >= this.#options.bytesMax)
      this.#seal(key, batch);
    return batch.sent.promise;
  }

  /** Hands over what is being gathered. */
  seal(): void {
    for (const [key, batch] of this.#open) this.#seal(key, batch);
  }

  #openBatch(key: string, route: BatchRoute): Batch {
    const batch: Batch = {
      route: { ...route },
      lines: [],
      bytes: 0,
      timer: setTimeout(() => this.#seal(key, batch), this.#options.waitMsMax),
      sent: createDeferred(),
    };
    this.#open.set(key, batch);
    return batch;
  }

  #seal(key: string, batch: Batch): void {
    clearTimeout(batch.timer);
    this.#open.delete(key);
    const body = Buffer.from(`${batch.lines.join("\n")}\n`);
    batch.sent.resolve(this.#options.deliver(body, batch.route));
  }
}

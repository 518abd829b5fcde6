import type { ConsumeMessage } from "#broker";

/** More waited than may. What is buffered can still be used; then one subscribes again, for fewer messages. */
export class BufferFull extends Error {
  override name = "BufferFull";
}

/** Messages that were delivered and not yet taken, in order, with their size. */
export class MessageBuffer {
  readonly #bytesMax: number;
  #messages: ConsumeMessage[] = [];
  #taken = 0;
  #bytes = 0;
  #wake: (() => void) | undefined;
  #end: Error | undefined;

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /**
   * Whether more waits than may; the sender has to be stopped. One message may be of any size, and one more beside it:
   * whoever begins again with the last one done would never come further.
   */
  get isOverfull(): boolean {
    return this.#bytes > this.#bytesMax && this.length > 1;
  }

  /** No more is taken in. */
  get isClosed(): boolean {
    return this.#end !== undefined;
  }

  get length(): number {
    return this.#messages.length - this.#taken;
  }

  push(message: ConsumeMessage): void {
    if (this.#end) return;
    this.#messages.push(message);
    this.#bytes += message.content.length;
    this.#wake?.();
  }

  /** No more comes; what is there can still be taken. */
  close(reason: Error): void {
    this.#end ??= reason;
    this.#wake?.();
  }

  /** The oldest message, left where it is; undefined when there is none at the moment. */
  peek(): ConsumeMessage | undefined {
    return this.#messages[this.#taken];
  }

  /** The oldest message; undefined when there is none at the moment. */
  shift(): ConsumeMessage | undefined {
    const message = this.#messages[this.#taken];
    if (message === undefined) return undefined;
    this.#taken++;
    this.#bytes -= message.content.length;
    // Cut now and then: a shift of the array for each message would move all the others.
    if (this.#taken === this.#messages.length || this.#taken >= 4096) {
      this.#messages = this.#messages.slice(this.#taken);
      this.#taken = 0;
    }
    return message;
  }

  /** Resolves when there is a message. Throws why no more comes, once all are taken; and the signal's reason. */
  async wait(signal: AbortSignal): Promise<void> {
    while (this.length === 0) {
      signal.throwIfAborted();
      if (this.#end) throw this.#end;
      const { promise, resolve } = Promise.withResolvers<void>();
      const wake = (): void => resolve();
      this.#wake = wake;
      signal.addEventListener("abort", wake, { once: true });
      await promise;
      signal.removeEventListener("abort", wake);
      this.#wake = undefined;
    }
  }
}

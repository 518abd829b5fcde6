import { ProducerFault } from "./producer-fault.ts";

type Waiter = { bytes: number; enter: () => void; fail: (fault: ProducerFault) => void };

/** Bounds the bytes held at once. Who waits gets in by turns. */
export class BufferRoom {
  readonly #bytesMax: number;
  readonly #waiters = new Set<Waiter>();
  #taken = 0;

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  /** Bytes held at the moment. */
  get taken(): number {
    return this.#taken;
  }

  /** Takes `bytes` when they fit at once and nobody waits; false: nothing was taken. */
  tryEnter(bytes: number): boolean {
    if (this.#waiters.size > 0 || this.#taken + bytes > this.#bytesMax) return false;
    this.#taken += bytes;
    return true;
  }

  /** Resolves when `bytes` are taken. Rejects with `buffer_full` after `waitMsMax`, and with what `close` is given. */
  async enter(bytes: number, waitMsMax: number | undefined): Promise<void> {
    if (this.tryEnter(bytes)) return;
    let timer: NodeJS.Timeout | undefined;
    let waiter: Waiter | undefined;
    try {
      await new Promise<void>((resolve, reject) => {
        waiter = { bytes, enter: resolve, fail: reject };
        this.#waiters.add(waiter);
        if (waitMsMax !== undefined) timer = setTimeout(() => reject(this.fullFault()), waitMsMax);
      });
    } finally {
      clearTimeout(timer);
      // One that was first in line and gave up makes way for a smaller one.
      if (waiter !== undefined && this.#waiters.delete(waiter)) this.#admit();
    }
  }

  /** Gives back what was taken. */
  leave(bytes: number): void {
    this.#taken -= bytes;
    this.#admit();
  }

  /** Turns all away who wait. */
  close(fault: ProducerFault): void {
    for (const waiter of this.#waiters) waiter.fail(fault);
    this.#waiters.clear();
  }

  /** What is told to who does not fit. */
  fullFault(): ProducerFault {
    return new ProducerFault(
      "buffer_full",
      `${this.#taken} of ${this.#bytesMax} bytes are waiting for the broker to confirm them: ` +
        "it is away, or slower than what is sent. Send this again later, with the same event ids.",
    );
  }

  #admit(): void {
    for (const waiter of this.#waiters) {
      if (this.#taken + waiter.bytes > this.#bytesMax) return;
      this.#taken += waiter.bytes;
      this.#waiters.delete(waiter);
      waiter.enter();
    }
  }
}

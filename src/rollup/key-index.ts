const WORDS = 5;

/**
 * Numbers distinct keys of five 32-bit words 0, 1, 2 … in the order of their first appearance. Open addressing over
 * typed arrays: it is asked once or more for every event, and a Map of joined strings costs ten times as much.
 */
export class KeyIndex {
  #slots = new Int32Array(1024);
  #words = new Int32Array(512 * WORDS);
  #size = 0;

  get size(): number {
    return this.#size;
  }

  /** The key's number; a new one, `size` before the call, when it was not there. */
  place(w0: number, w1: number, w2: number, w3: number, w4: number): number {
    const at = this.#find(w0, w1, w2, w3, w4);
    if (at >= 0) return (this.#slots[at] ?? 0) - 1;
    const place = this.#size++;
    this.#slots[~at] = place + 1;
    const words = this.#words;
    const base = place * WORDS;
    words[base] = w0;
    words[base + 1] = w1;
    words[base + 2] = w2;
    words[base + 3] = w3;
    words[base + 4] = w4;
    if (this.#size * 2 >= this.#slots.length) this.#grow();
    return place;
  }

  /** The key's number, or -1. */
  find(w0: number, w1: number, w2: number, w3: number, w4: number): number {
    const at = this.#find(w0, w1, w2, w3, w4);
    return at >= 0 ? (this.#slots[at] ?? 0) - 1 : -1;
  }

  /** Slot that holds the key, or the complement of the free slot where it would go. */
  #find(w0: number, w1: number, w2: number, w3: number, w4: number): number {
    const slots = this.#slots;
    const words = this.#words;
    const mask = slots.length - 1;
    let hash = Math.imul(w0, 0x9e3779b1) ^ Math.imul(w1, 0x85ebca6b) ^ Math.imul(w2, 0xc2b2ae35);
    hash = Math.imul(hash ^ (hash >>> 15) ^ Math.imul(w3, 0x27d4eb2f) ^ w4, 0x165667b1);
    let at = (hash ^ (hash >>> 13)) & mask;
    for (;;) {
      const slot = slots[at] ?? 0;
      if (slot === 0) return ~at;
      const base = (slot - 1) * WORDS;
      if (
        words[base] === w0 &&
        words[base + 1] === w1 &&
        words[base + 2] === w2 &&
        words[base + 3] === w3 &&
        words[base + 4] === w4
      ) {
        return at;
      }
      at = (at + 1) & mask;
    }
  }

  /** Word `word` (0 … 4) of the key with this number. */
  word(place: number, word: number): number {
    return this.#words[place * WORDS + word] ?? 0;
  }

  #grow(): void {
    const old = this.#words;
    const size = this.#size;
    this.#slots = new Int32Array(this.#slots.length * 2);
    this.#words = new Int32Array(old.length * 2);
    this.#size = 0;
    for (let base = 0; base < size * WORDS; base += WORDS) {
      this.place(
        old[base] ?? 0,
        old[base + 1] ?? 0,
        old[base + 2] ?? 0,
        old[base + 3] ?? 0,
        old[base + 4] ?? 0,
      );
    }
  }
}

/**
 * First row seen for each (key, org) of a batch: open addressing over typed arrays, because it is asked once or
 * more for every event. Keys are four 32-bit words; rows are the caller's indexes.
 */
export class KeyTable {
  readonly #slots: Int32Array;
  readonly #words: Int32Array;
  readonly #mask: number;

  /** Room for `rowsMax` rows, numbered 0 … rowsMax-1. */
  constructor(rowsMax: number) {
    const size = 2 ** Math.ceil(Math.log2(Math.max(16, rowsMax * 2)));
    this.#slots = new Int32Array(size);
    this.#words = new Int32Array(rowsMax * 5);
    this.#mask = size - 1;
  }

  /** Remembers `row` under its key, unless the key is there: returns the row that holds it, or -1 when `row` now does. */
  add(row: number, key: readonly [number, number, number, number], orgId: number): number {
    const at = this.#find(key, orgId);
    if (at >= 0) return (this.#slots[at] ?? 0) - 1;
    this.#slots[~at] = row + 1;
    const words = this.#words;
    const base = row * 5;
    words[base] = key[0];
    words[base + 1] = key[1];
    words[base + 2] = key[2];
    words[base + 3] = key[3];
    words[base + 4] = orgId;
    return -1;
  }

  /** The row under this key, or -1. */
  get(key: readonly [number, number, number, number], orgId: number): number {
    const at = this.#find(key, orgId);
    return at >= 0 ? (this.#slots[at] ?? 0) - 1 : -1;
  }

  /** Slot that holds the key, or the complement of the free slot where it would go. */
  #find(key: readonly [number, number, number, number], orgId: number): number {
    const [k0, k1, k2, k3] = [key[0] | 0, key[1] | 0, key[2] | 0, key[3] | 0];
    let at =
      (Math.imul(
        k3 ^ Math.imul(k0, 0x9e3779b1) ^ Math.imul(k2, 0x85ebca6b) ^ k1 ^ orgId,
        0xc2b2ae35,
      ) >>>
        7) &
      this.#mask;
    for (;;) {
      const slot = this.#slots[at] ?? 0;
      if (slot === 0) return ~at;
      const base = (slot - 1) * 5;
      const words = this.#words;
      if (
        words[base] === k0 &&
        words[base + 1] === k1 &&
        words[base + 2] === k2 &&
        words[base + 3] === k3 &&
        words[base + 4] === orgId
      ) {
        return at;
      }
      at = (at + 1) & this.#mask;
    }
  }
}

/**
 * A blocked Bloom filter over 128-bit keys given as four 32-bit words: eight bits of one 512-bit block each, so a
 * look-up touches one cache line. At 16 bits a key about 0.1 % of absent keys answer "maybe"; present ones always do.
 * Memory: 2 bytes a key of `capacity`, rounded up to a block. Source: Putze, Sanders, Singler 2007.
 */
export class BloomFilter {
  readonly #words: Uint32Array;
  readonly #blocks: number;

  constructor(capacity: number) {
    this.#blocks = Math.max(1, Math.ceil((capacity * 16) / 512));
    this.#words = new Uint32Array(this.#blocks * 16);
  }

  add(w0: number, w1: number, w2: number, w3: number): void {
    const words = this.#words;
    const block = this.#blockOf(w0, w2);
    let bits = mix(w1 ^ Math.imul(w3, 0x85ebca6b));
    for (let i = 0; i < 8; i++) {
      const at = block + ((bits >>> 5) & 15);
      words[at] = (words[at] ?? 0) | (1 << (bits & 31));
      bits = i === 3 ? mix(bits ^ w2) : (bits >>> 7) | (bits << 25);
    }
  }

  /** False means certainly absent. */
  has(w0: number, w1: number, w2: number, w3: number): boolean {
    const words = this.#words;
    const block = this.#blockOf(w0, w2);
    let bits = mix(w1 ^ Math.imul(w3, 0x85ebca6b));
    for (let i = 0; i < 8; i++) {
      if (((words[block + ((bits >>> 5) & 15)] ?? 0) & (1 << (bits & 31))) === 0) return false;
      bits = i === 3 ? mix(bits ^ w2) : (bits >>> 7) | (bits << 25);
    }
    return true;
  }

  /** First word of the key's block: the hash scaled to the number of blocks. */
  #blockOf(w0: number, w2: number): number {
    return Math.floor((mix(w0 ^ Math.imul(w2, 0xc2b2ae35)) / 4_294_967_296) * this.#blocks) * 16;
  }
}

/** Finalizer of MurmurHash3 (public domain): every input bit changes every output bit with probability one half. */
function mix(h: number): number {
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
}

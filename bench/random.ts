/** A seeded source of 32-bit words (xoshiro128**, Blackman and Vigna, public domain): the same seed, the same run. */
export class Random {
  #a: number;
  #b: number;
  #c: number;
  #d: number;

  constructor(seed: number) {
    let state = seed >>> 0;
    const next = (): number => {
      state = (state + 0x9e3779b9) >>> 0;
      let mixed = Math.imul(state ^ (state >>> 16), 0x21f0aaad);
      mixed = Math.imul(mixed ^ (mixed >>> 15), 0x735a2d97);
      return (mixed ^ (mixed >>> 15)) >>> 0;
    };
    [this.#a, this.#b, this.#c, this.#d] = [next(), next(), next(), next()];
  }

  /** 0 … 2^32-1. */
  word(): number {
    const scrambled = Math.imul(rotate(Math.imul(this.#b, 5), 7), 9) >>> 0;
    const shifted = this.#b << 9;
    this.#c ^= this.#a;
    this.#d ^= this.#b;
    this.#b ^= this.#c;
    this.#a ^= this.#d;
    this.#c ^= shifted;
    this.#d = rotate(this.#d, 11);
    return scrambled;
  }

  /** A whole number, 0 … below-1. */
  below(below: number): number {
    return Math.floor((this.word() / 4_294_967_296) * below);
  }

  /** Whether a thing of this chance (0 … 1) happens. */
  chance(share: number): boolean {
    return this.word() < share * 4_294_967_296;
  }

  /** About normal: mean 0, deviation 1. */
  normal(): number {
    return ((this.word() + this.word() + this.word() + this.word()) / 4_294_967_296 - 2) * 1.732;
  }
}

const rotate = (word: number, bits: number): number => (word << bits) | (word >>> (32 - bits));

const VALUE_MAX = 2 ** 31 - 1;
/** Below this every integer has a bin of its own, so the bin is the value. */
const EXACT_BELOW = 100;
/** Distinct bins up to which a sketch stays sparse: the fold holds thousands of sketches with a handful of values. */
const SPARSE_BINS_MAX = 48;

/**
 * The bins, fixed for ever (stored sketches depend on them): bin i holds the integers lows[i] … lows[i+1]-1 and
 * answers values[i], an integer at most 1 % away from each of them. Widths grow by a factor of about 1.02. Made by
 * integer arithmetic, so every machine makes the same ones.
 */
const { lows, values } = createBins();
/** How many bins there are. */
export const LATENCY_BINS = values.length;

function createBins(): { lows: Float64Array; values: Float64Array } {
  const starts: number[] = [];
  const answers: number[] = [];
  for (let low = 0; low <= VALUE_MAX;) {
    const answer = Math.floor((low * 101) / 100);
    starts.push(low);
    answers.push(Math.min(answer, VALUE_MAX));
    low = Math.floor((answer * 100) / 99) + 1;
  }
  starts.push(VALUE_MAX + 1);
  return { lows: Float64Array.from(starts), values: Float64Array.from(answers) };
}

/** Bins of the latencies that calls usually have, looked up instead of searched for. */
const COMMON_BELOW = 32_768;
const commonBins = Uint16Array.from({ length: COMMON_BELOW }, (_, ms) => searchBin(ms));

/** The bin of a latency in whole milliseconds, 0 … 2^31-1. Throws a RangeError for anything else. */
export function binOf(ms: number): number {
  if (!Number.isInteger(ms) || ms < 0 || ms > VALUE_MAX) throw new RangeError(`no latency: ${ms}`);
  return ms < COMMON_BELOW ? (commonBins[ms] ?? 0) : searchBin(ms);
}

function searchBin(ms: number): number {
  if (ms < EXACT_BELOW - 1) return ms;
  let low = EXACT_BELOW - 1;
  let high = LATENCY_BINS - 1;
  while (low < high) {
    const middle = (low + high + 1) >>> 1;
    if ((lows[middle] ?? 0) <= ms) low = middle;
    else high = middle - 1;
  }
  return low;
}

/** The latency a bin stands for, in whole milliseconds: within 1 % of every value in the bin. */
export function valueOfBin(bin: number): number {
  const value = values[bin];
  if (value === undefined) throw new RangeError(`no latency bin: ${bin}`);
  return value;
}

/**
 * Counts of latencies in logarithmic bins. Sketches of parts add up to the sketch of the whole, exactly and in any
 * order; quantiles are within 1 % of the nearest-rank quantile of the values themselves (percentile_disc).
 *
 * Encoded as unsigned LEB128 pairs (bins skipped since the last one, count ≥ 1), in bin order: equal sketches have
 * equal bytes, and the empty one has none.
 *
 * A sketch that latencies were also taken from is a difference: bins may be below 0 until it is added to one that holds
 * them. It has neither bytes of its own nor quantiles.
 */
export class LatencySketch {
  #count = 0;
  /** Sparse: bins ascending with their counts. Dense, once there are many: one slot a bin. */
  #sparseBins: number[] = [];
  #sparseCounts: number[] = [];
  #dense: Float64Array | null = null;

  /** Reads what `encode` wrote. Throws a RangeError on anything else. */
  static decode(bytes: Uint8Array): LatencySketch {
    const sketch = new LatencySketch();
    sketch.mergeEncoded(bytes);
    return sketch;
  }

  /** How many latencies were added, less those taken away. */
  get count(): number {
    return this.#count;
  }

  /** Whether no bin holds anything: adding it to another changes nothing. */
  get isEmpty(): boolean {
    return this.#count === 0 && (this.#dense ?? this.#sparseCounts).every((count) => count === 0);
  }

  /**
   * Adds one latency in whole milliseconds, 0 … 2^31-1, `times` over, or takes it away as often when that is below 0.
   * Throws a RangeError when it is none.
   */
  add(ms: number, times = 1): void {
    this.#addToBin(binOf(ms), times);
  }

  /** Adds all of another sketch, which stays as it is, or takes it away. */
  merge(other: LatencySketch, sign: 1 | -1 = 1): void {
    const dense = other.#dense;
    if (dense === null) {
      const size = other.#sparseBins.length;
      for (let i = 0; i < size; i++) {
        this.#addToBin(other.#sparseBins[i] ?? 0, sign * (other.#sparseCounts[i] ?? 0));
      }
      return;
    }
    for (let bin = 0; bin < dense.length; bin++) {
      const count = dense[bin] ?? 0;
      if (count !== 0) this.#addToBin(bin, sign * count);
    }
  }

  /**
   * Adds all of an encoded sketch, which may be a stretch of other bytes, without building it: the way to sum thousands
   * of stored ones. Throws a RangeError on bytes that no sketch has; this sketch is then of no more use.
   */
  mergeEncoded(bytes: Uint8Array, start = 0, end = bytes.length): void {
    if (end > bytes.length) throw new RangeError("latency sketch is cut short");
    if (end - start > 2 * SPARSE_BINS_MAX && this.#dense === null) this.#becomeDense();
    const dense = this.#dense;
    let bin = -1;
    let at = start;
    let added = 0;
    while (at < end) {
      // Almost every gap and count is one byte.
      let gap = bytes[at++] ?? 0;
      if (gap >= 0x80) {
        const from = at - 1;
        at = endOfVarint(bytes, from, end);
        gap = readVarint(bytes, from, at);
      }
      if (at >= end) throw new RangeError("latency sketch is cut short");
      let count = bytes[at++] ?? 0;
      if (count >= 0x80) {
        const from = at - 1;
        at = endOfVarint(bytes, from, end);
        count = readVarint(bytes, from, at);
      }
      bin += gap + 1;
      if (bin >= LATENCY_BINS || count === 0)
        throw new RangeError("latency sketch has an impossible bin");
      if (dense === null) this.#addToBin(bin, count);
      else {
        dense[bin] = (dense[bin] ?? 0) + count;
        added += count;
      }
    }
    this.#count += added;
  }

  /** Empties it for another use: the way to read thousands of stored ones one after the other. */
  clear(): void {
    this.#count = 0;
    this.#sparseBins = [];
    this.#sparseCounts = [];
    this.#dense?.fill(0);
  }

  /** The sketch's bytes. Throws a RangeError when a bin is below 0. */
  encode(): Buffer {
    return this.encodeWith(NOTHING);
  }

  /**
   * The bytes of this sketch and an encoded one together, without building the sum: the way to add a little to a
   * stored sketch, or to take something from it. Throws a RangeError on bytes that no sketch has, and when more is taken
   * from a bin than it holds.
   */
  encodeWith(encoded: Uint8Array): Buffer {
    const stored = new EncodedBins(encoded);
    const writer = new BinWriter();
    const dense = this.#dense;
    const size = dense === null ? this.#sparseBins.length : dense.length;
    for (let i = 0; i < size; i++) {
      const bin = dense === null ? (this.#sparseBins[i] ?? 0) : i;
      let count = dense === null ? (this.#sparseCounts[i] ?? 0) : (dense[i] ?? 0);
      if (count === 0) continue;
      for (; stored.bin < bin; stored.next()) writer.add(stored.bin, stored.count);
      if (stored.bin === bin) {
        count += stored.count;
        stored.next();
      }
      if (count < 0) throw new RangeError("more latencies are taken from a sketch than it holds");
      if (count > 0) writer.add(bin, count);
    }
    for (; stored.bin < LATENCY_BINS; stored.next()) writer.add(stored.bin, stored.count);
    return writer.finish();
  }

  /**
   * The latency at or below which at least a share `q` (0 … 1) of the latencies lies, in whole milliseconds, within
   * 1 %; null when there are none.
   */
  quantile(q: number): number | null {
    if (!(q >= 0 && q <= 1)) throw new RangeError(`no quantile: ${q}`);
    if (this.#count === 0) return null;
    const rank = Math.max(1, Math.ceil(q * this.#count));
    const dense = this.#dense;
    const size = dense === null ? this.#sparseBins.length : dense.length;
    let seen = 0;
    for (let i = 0; i < size; i++) {
      seen += dense === null ? (this.#sparseCounts[i] ?? 0) : (dense[i] ?? 0);
      if (seen >= rank) return valueOfBin(dense === null ? (this.#sparseBins[i] ?? 0) : i);
    }
    throw new RangeError("latency sketch holds fewer latencies than it counts");
  }

  /** How many latencies `quantile` would tell as more than so many ms. */
  countAbove(ms: number): number {
    const dense = this.#dense;
    let above = 0;
    for (let i = (dense ?? this.#sparseBins).length - 1; i >= 0; i--) {
      if (valueOfBin(dense === null ? (this.#sparseBins[i] ?? 0) : i) <= ms) break;
      above += dense === null ? (this.#sparseCounts[i] ?? 0) : (dense[i] ?? 0);
    }
    return above;
  }

  /** The bins that hold something, ascending, each with its count. */
  *bins(): Generator<readonly [bin: number, count: number]> {
    const dense = this.#dense;
    const size = dense === null ? this.#sparseBins.length : dense.length;
    for (let i = 0; i < size; i++) {
      const count = dense === null ? (this.#sparseCounts[i] ?? 0) : (dense[i] ?? 0);
      if (count !== 0) yield [dense === null ? (this.#sparseBins[i] ?? 0) : i, count];
    }
  }

  #addToBin(bin: number, count: number): void {
    this.#count += count;
    if (this.#dense !== null) {
      this.#dense[bin] = (this.#dense[bin] ?? 0) + count;
      return;
    }
    const bins = this.#sparseBins;
    let at = bins.length;
    while (at > 0 && (bins[at - 1] ?? 0) >= bin) at--;
    if (bins[at] === bin) {
      this.#sparseCounts[at] = (this.#sparseCounts[at] ?? 0) + count;
      return;
    }
    bins.splice(at, 0, bin);
    this.#sparseCounts.splice(at, 0, count);
    if (bins.length > SPARSE_BINS_MAX) this.#becomeDense();
  }

  #becomeDense(): void {
    const dense = new Float64Array(LATENCY_BINS);
    for (const [bin, count] of this.bins()) dense[bin] = count;
    this.#dense = dense;
    this.#sparseBins = [];
    this.#sparseCounts = [];
  }
}

const NOTHING = new Uint8Array(0);

/** Walks the bins of an encoded sketch; behind the last one, `bin` is LATENCY_BINS. */
class EncodedBins {
  readonly #bytes: Uint8Array;
  #at = 0;
  bin = -1;
  count = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
    this.next();
  }

  next(): void {
    if (this.#at >= this.#bytes.length) {
      this.bin = LATENCY_BINS;
      return;
    }
    this.bin += this.#number() + 1;
    this.count = this.#number();
    if (this.bin >= LATENCY_BINS || this.count === 0) {
      throw new RangeError("latency sketch has an impossible bin");
    }
  }

  #number(): number {
    const from = this.#at;
    const byte = this.#bytes[from];
    if (byte !== undefined && byte < 0x80) {
      this.#at = from + 1;
      return byte;
    }
    this.#at = endOfVarint(this.#bytes, from, this.#bytes.length);
    return readVarint(this.#bytes, from, this.#at);
  }
}

/** A gap takes up to 2 bytes, a count up to 8. One at a time is written, from beginning to end without a pause. */
const scratch = Buffer.alloc(LATENCY_BINS * 10);

/** Writes bins, ascending, as a sketch's bytes. */
class BinWriter {
  #at = 0;
  #next = 0;

  add(bin: number, count: number): void {
    this.#number(bin - this.#next);
    this.#number(count);
    this.#next = bin + 1;
  }

  finish(): Buffer {
    return Buffer.from(scratch.subarray(0, this.#at));
  }

  /** Counts stay below 2^53: seven bits a byte, by division where 32-bit shifts would overflow. */
  #number(value: number): void {
    let rest = value;
    while (rest >= 0x80) {
      scratch[this.#at++] = (rest % 0x80) | 0x80;
      rest = Math.floor(rest / 0x80);
    }
    scratch[this.#at++] = rest;
  }
}

function endOfVarint(bytes: Uint8Array, from: number, end: number): number {
  let at = from;
  while (at < end && (bytes[at] ?? 0) >= 0x80) at++;
  if (at >= end || at - from > 7)
    throw new RangeError("latency sketch is cut short or has a number too long");
  return at + 1;
}

function readVarint(bytes: Uint8Array, from: number, end: number): number {
  let value = 0;
  for (let at = end - 1; at >= from; at--) value = value * 0x80 + ((bytes[at] ?? 0) & 0x7f);
  return value;
}

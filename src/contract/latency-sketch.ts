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

/** The bin of a latency in whole milliseconds, 0 … 2^31-1. Throws a RangeError for anything else. */
export function binOf(ms: number): number {
  if (!Number.isInteger(ms) || ms < 0 || ms > VALUE_MAX) throw new RangeError(`no latency: ${ms}`);
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

  /** How many latencies were added. */
  get count(): number {
    return this.#count;
  }

  /** Adds one latency in whole milliseconds, 0 … 2^31-1, `times` over. Throws a RangeError when it is none. */
  add(ms: number, times = 1): void {
    this.#addToBin(binOf(ms), times);
  }

  /** Adds all of another sketch, which stays as it is. */
  merge(other: LatencySketch): void {
    for (const [bin, count] of other.bins()) this.#addToBin(bin, count);
  }

  /**
   * Adds all of an encoded sketch without building it: the way to sum thousands of stored ones.
   * Throws a RangeError on bytes that no sketch has; this sketch is then of no more use.
   */
  mergeEncoded(bytes: Uint8Array): void {
    const length = bytes.length;
    if (length === 0) return;
    if (length > 2 * SPARSE_BINS_MAX && this.#dense === null) this.#becomeDense();
    const dense = this.#dense;
    let bin = -1;
    let at = 0;
    let added = 0;
    while (at < length) {
      // Almost every gap and count is one byte.
      let gap = bytes[at++] ?? 0;
      if (gap >= 0x80) {
        const from = at - 1;
        at = endOfVarint(bytes, from);
        gap = readVarint(bytes, from, at);
      }
      if (at >= length) throw new RangeError("latency sketch is cut short");
      let count = bytes[at++] ?? 0;
      if (count >= 0x80) {
        const from = at - 1;
        at = endOfVarint(bytes, from);
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

  /** The sketch's bytes. */
  encode(): Buffer {
    const bytes: number[] = [];
    let next = 0;
    for (const [bin, count] of this.bins()) {
      writeVarint(bytes, bin - next);
      writeVarint(bytes, count);
      next = bin + 1;
    }
    return Buffer.from(bytes);
  }

  /**
   * The latency at or below which at least a share `q` (0 … 1) of the latencies lies, in whole milliseconds, within
   * 1 %; null when there are none.
   */
  quantile(q: number): number | null {
    if (!(q >= 0 && q <= 1)) throw new RangeError(`no quantile: ${q}`);
    if (this.#count === 0) return null;
    const rank = Math.max(1, Math.ceil(q * this.#count));
    let seen = 0;
    for (const [bin, count] of this.bins()) {
      seen += count;
      if (seen >= rank) return valueOfBin(bin);
    }
    throw new RangeError("latency sketch holds fewer latencies than it counts");
  }

  /** The bins that hold something, ascending, each with its count. */
  *bins(): Generator<readonly [bin: number, count: number]> {
    const dense = this.#dense;
    if (dense === null) {
      for (let i = 0; i < this.#sparseBins.length; i++) {
        yield [this.#sparseBins[i] ?? 0, this.#sparseCounts[i] ?? 0];
      }
      return;
    }
    for (let bin = 0; bin < dense.length; bin++) {
      const count = dense[bin] ?? 0;
      if (count > 0) yield [bin, count];
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

/** Counts stay below 2^53: seven bits a byte, by multiplication where 32-bit shifts would overflow. */
function writeVarint(bytes: number[], value: number): void {
  let rest = value;
  while (rest >= 0x80) {
    bytes.push((rest % 0x80) | 0x80);
    rest = Math.floor(rest / 0x80);
  }
  bytes.push(rest);
}

function endOfVarint(bytes: Uint8Array, from: number): number {
  let at = from;
  while (at < bytes.length && (bytes[at] ?? 0) >= 0x80) at++;
  if (at >= bytes.length || at - from > 7)
    throw new RangeError("latency sketch is cut short or has a number too long");
  return at + 1;
}

function readVarint(bytes: Uint8Array, from: number, end: number): number {
  let value = 0;
  for (let at = end - 1; at >= from; at--) value = value * 0x80 + ((bytes[at] ?? 0) & 0x7f);
  return value;
}

import { median } from "./measure.ts";

const SAMPLE_MS = 250;

/** Values over time, four a second at most. */
export class SeriesSampler {
  readonly points: (readonly [seconds: number, value: number])[] = [];
  readonly #startedMs = performance.now();
  #sampledMs = Number.NEGATIVE_INFINITY;

  /** Reads the value when it is time again; undefined is left out. */
  sample(read: () => number | undefined): void {
    const nowMs = performance.now();
    if (nowMs - this.#sampledMs < SAMPLE_MS) return;
    const value = read();
    if (value === undefined) return;
    this.#sampledMs = nowMs;
    this.points.push([(nowMs - this.#startedMs) / 1000, value]);
  }

  /** The middle value of the second and of the last quarter of the time: whether it grows. Empty with few samples. */
  quarters(unit: number): Record<string, number> {
    const at = (share: number): number => Math.floor(this.points.length * share);
    const middle = (from: number, to: number): number =>
      median(this.points.slice(at(from), at(to)).map(([, value]) => value)) / unit;
    if (this.points.length < 4) return {};
    return { "second quarter": middle(0.25, 0.5), "last quarter": middle(0.75, 1) };
  }
}

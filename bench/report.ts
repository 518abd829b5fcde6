/** A promise of docs/benchmarks.md, and whether the figure keeps it. */
export type Budget = { text: string; isMet: boolean };

/** One figure. */
export type Row = {
  bench: string;
  what: string;
  value: number;
  unit: string;
  /** Further figures of the same measurement and unit, by name. */
  also?: Readonly<Record<string, number>> | undefined;
  /** Beside the reference that `to` names. */
  ratio?: { value: number; to: string } | undefined;
  budget?: Budget | undefined;
};

/** Figures over time, for a picture: seconds from the beginning of a measurement, and values. */
export type Series = {
  bench: string;
  what: string;
  unit: string;
  points: readonly (readonly [seconds: number, value: number])[];
};

const POINTS_MAX = 600;

/** A budget from below, on the value or the ratio. */
export const atLeast = (value: number, least: number, unit = ""): Budget => ({
  text: `≥ ${formatNumber(least)}${unit && ` ${unit}`}`,
  isMet: value >= least,
});

/** A budget from above. */
export const atMost = (value: number, most: number, unit = ""): Budget => ({
  text: `≤ ${formatNumber(most)}${unit && ` ${unit}`}`,
  isMet: value <= most,
});

/** The figures of a run, in the order measured. */
export class Report {
  readonly rows: Row[] = [];
  readonly series: Series[] = [];
  /** What figures depend on beside the machine: versions, by name. */
  readonly facts: Record<string, string> = {};

  add(row: Row): void {
    this.rows.push(row);
  }

  /** Of very many points, the highest of each stretch of time is kept. */
  addSeries(series: Series): void {
    this.series.push({ ...series, points: thin(series.points) });
  }

  /** One line a figure, aligned. */
  formatTable(): string {
    const header = ["bench", "figure", "measured", "beside", "ratio", "budget", ""];
    const lines = this.rows.map((row) => [
      row.bench,
      row.what,
      `${formatNumber(row.value)} ${row.unit}`,
      Object.entries(row.also ?? {})
        .map(([name, value]) => `${name} ${formatNumber(value)}`)
        .join(", "),
      row.ratio ? `${row.ratio.value.toFixed(2)} of ${row.ratio.to}` : "",
      row.budget?.text ?? "",
      row.budget ? (row.budget.isMet ? "ok" : "OVER") : "",
    ]);
    const widths = header.map((name, i) =>
      Math.max(name.length, ...lines.map((line) => line[i]?.length ?? 0)),
    );
    const format = (line: readonly string[]): string =>
      line
        .map((cell, i) => (i === 2 ? cell.padStart(widths[i] ?? 0) : cell.padEnd(widths[i] ?? 0)))
        .join("  ")
        .trimEnd();
    return [
      format(header),
      format(widths.map((width) => "-".repeat(width))),
      ...lines.map(format),
    ].join("\n");
  }
}

function thin(points: Series["points"]): Series["points"] {
  const step = Math.ceil(points.length / POINTS_MAX);
  const kept: Series["points"][number][] = [];
  for (let at = 0; at < points.length; at += step) {
    const stretch = points.slice(at, at + step);
    kept.push(stretch.reduce((highest, point) => (point[1] > highest[1] ? point : highest)));
  }
  return kept.map(([seconds, value]) => [Number(seconds.toFixed(2)), Number(value.toPrecision(6))]);
}

/** Three significant digits below 1,000, whole numbers with separators above. */
export function formatNumber(value: number): string {
  if (Math.abs(value) >= 100) return Math.round(value).toLocaleString("en-US");
  return String(Number(value.toPrecision(3)));
}

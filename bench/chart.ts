import { formatNumber, type Series } from "./report.ts";

const WIDTH = 900;
const PANEL_HEIGHT = 170;
const LEFT = 80;
const RIGHT = 20;
const TOP = 30;
const BOTTOM = 30;

/** A picture (SVG) of figures over time, one panel below the other, each from zero to its highest. */
export function drawSeries(all: readonly Series[]): string {
  const panels = all.map(
    (series, i) => `<g transform="translate(0 ${i * PANEL_HEIGHT})">${drawPanel(series)}</g>`,
  );
  const height = all.length * PANEL_HEIGHT;
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" font-family="sans-serif" font-size="12">`,
    `<rect width="${WIDTH}" height="${height}" fill="white"/>`,
    ...panels,
    "</svg>\n",
  ].join("\n");
}

function drawPanel({ bench, what, unit, points }: Series): string {
  const secondsMax = Math.max(1, ...points.map(([seconds]) => seconds));
  const valueMax = Math.max(1, ...points.map(([, value]) => value));
  const [width, height] = [WIDTH - LEFT - RIGHT, PANEL_HEIGHT - TOP - BOTTOM];
  const x = (seconds: number): string => (LEFT + (seconds / secondsMax) * width).toFixed(1);
  const y = (value: number): string => (TOP + (1 - value / valueMax) * height).toFixed(1);
  const line = points.map(([seconds, value]) => `${x(seconds)},${y(value)}`).join(" ");
  const grid = [0, 0.5, 1].map((share) => {
    const at = y(valueMax * share);
    return (
      `<path d="M${LEFT} ${at}H${WIDTH - RIGHT}" stroke="#ddd"/>` +
      `<text x="${LEFT - 6}" y="${at}" dy="4" text-anchor="end">${formatNumber(valueMax * share)}</text>`
    );
  });
  const times = [0, 0.25, 0.5, 0.75, 1].map(
    (share) =>
      `<text x="${x(secondsMax * share)}" y="${PANEL_HEIGHT - 12}" text-anchor="middle">${formatNumber(secondsMax * share)} s</text>`,
  );
  return [
    `<text x="${LEFT}" y="18" font-weight="bold">${bench}: ${what} (${unit})</text>`,
    ...grid,
    ...times,
    `<polyline points="${line}" fill="none" stroke="#1565c0" stroke-width="1.5"/>`,
  ].join("");
}

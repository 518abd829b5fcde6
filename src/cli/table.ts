/** A column of a table: its heading, and whether it holds numbers (aligned to the right). */
export type Column = { title: string; isNumeric?: boolean };

/** Plain text table, columns two blanks apart, headings underlined; one line per row, ending in a line break. */
export function formatTable(
  columns: readonly Column[],
  rows: readonly (readonly string[])[],
): string {
  const cells = rows.map((row) => columns.map((_, i) => clean(row[i] ?? "")));
  const widths = columns.map(({ title }, i) =>
    Math.max(title.length, ...cells.map((row) => [...(row[i] ?? "")].length)),
  );
  const line = (row: readonly string[]): string =>
    columns
      .map(({ isNumeric = false }, i) => pad(row[i] ?? "", widths[i] ?? 0, isNumeric))
      .join("  ")
      .trimEnd();
  const head = [
    line(columns.map(({ title }) => title)),
    widths.map((width) => "-".repeat(width)).join("  "),
  ];
  return [...head, ...cells.map(line)].map((text) => `${text}\n`).join("");
}

/** Names and values, one per line, without those that have none. */
export const formatFacts = (facts: readonly (readonly [string, string | null])[]): string =>
  formatTable(
    [{ title: "field" }, { title: "value" }],
    facts.flatMap(([name, value]) => (value === null ? [] : [[name, value]])),
  );

const pad = (text: string, width: number, isNumeric: boolean): string => {
  const blanks = " ".repeat(Math.max(0, width - [...text].length));
  return isNumeric ? blanks + text : text + blanks;
};

/** What producers wrote may hold line breaks and terminal escapes: neither belongs on somebody's screen. */
const clean = (text: string): string => text.replaceAll(/[\p{Cc}\p{Cf}\u2028\u2029]/gu, "\ufffd");

const NUMBERS = new Intl.NumberFormat("en-US", { maximumFractionDigits: 1 });

/** A number for people: 1,234,567 or 12.3. */
export const formatNumber = (value: number): string => NUMBERS.format(value);

/** A number and its noun: "1 row", "2,000 rows". */
export const formatCount = (count: number, noun: string): string =>
  `${formatNumber(count)} ${noun}${count === 1 ? "" : "s"}`;

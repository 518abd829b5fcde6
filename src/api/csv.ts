/** What a cell may hold: text, a number or decimal as digits, an instant, a yes or no; null is an empty cell. */
export type CsvCell = string | number | boolean | null;

/**
 * A column: `text` is written so that no spreadsheet takes it for a formula; `plain` (numbers, decimals, instants)
 * is written as it is.
 */
export type CsvColumn<Row> = { name: string; kind: "text" | "plain"; value: (row: Row) => CsvCell };

/** First characters that make a spreadsheet read a cell as a formula (OWASP: CSV injection), full-width ones too. */
const FORMULA = /^[=+\-@\t\r\n\0＝＋－＠]/;

const quoted = (text: string): string => `"${text.replaceAll('"', '""')}"`;

function formatCell(kind: "text" | "plain", value: CsvCell): string {
  if (value === null) return "";
  if (kind === "plain") return String(value);
  const text = String(value);
  return quoted(FORMULA.test(text) ? `'${text}` : text);
}

/** RFC 4180 text: a header row, CRLF after every row, text cells quoted. */
export function formatCsv<Row>(columns: readonly CsvColumn<Row>[], rows: Iterable<Row>): string {
  const lines = [columns.map((column) => column.name).join(",")];
  for (const row of rows) {
    lines.push(columns.map((column) => formatCell(column.kind, column.value(row))).join(","));
  }
  return `${lines.join("\r\n")}\r\n`;
}

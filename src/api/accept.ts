import { Failure } from "#contract";

/** What a report can be had as. */
export type ReportFormat = "json" | "csv";

const MEDIA_TYPES = {
  json: ["application/json", "application/*"],
  csv: ["text/csv", "text/*"],
} as const;

/**
 * Which of the two an `Accept` header prefers (RFC 9110 §12.5.1); JSON when it does not care or is not there.
 * Throws Failure `not_acceptable` when it takes neither.
 */
export function formatAccepted(accept: string | undefined): ReportFormat {
  if (accept === undefined || accept.trim() === "") return "json";
  const ranges = accept.split(",").map(parseRange);
  const json = qualityOf(ranges, MEDIA_TYPES.json);
  const csv = qualityOf(ranges, MEDIA_TYPES.csv);
  if (json === 0 && csv === 0) {
    throw new Failure("not_acceptable", "This report can be had as application/json or text/csv.");
  }
  return csv > json ? "csv" : "json";
}

type MediaRange = { type: string; quality: number };

function parseRange(text: string): MediaRange {
  const [type = "", ...parameters] = text.split(";").map((part) => part.trim().toLowerCase());
  const q = parameters.find((parameter) => parameter.startsWith("q="));
  const quality = q === undefined ? 1 : Number(q.slice(2));
  return { type, quality: quality >= 0 && quality <= 1 ? quality : 0 };
}

/** The most exact range decides: `text/csv;q=0, text/*` refuses CSV. */
function qualityOf(
  ranges: readonly MediaRange[],
  [exact, family]: readonly [string, string],
): number {
  for (const type of [exact, family, "*/*"]) {
    const range = ranges.find((candidate) => candidate.type === type);
    if (range !== undefined) return range.quality;
  }
  return 0;
}

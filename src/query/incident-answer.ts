import { createHash } from "node:crypto";
import { ALL_ORGS, formatInstant, MEMBER_OTHER, QUARTER_HOUR_MS } from "#contract";
import { listWords } from "#store";
import type { Amount } from "./answers.ts";
import {
  excessOf,
  findPeak,
  type Part,
  partsByClass,
  partsByModel,
  rankParts,
} from "./incident-attribution.ts";
import { partsByClient } from "./incident-clients.ts";
import { type SeriesMap, type Spike, WHOLE_ORG } from "./incident-detector.ts";
import { readAffected } from "./incident-reading.ts";
import type { IncidentKind } from "./incident-series.ts";
import { ratioOf } from "./measures.ts";
import { ERROR_CLASSES, type ErrorClass } from "./questions.ts";
import type { Reading } from "./reading.ts";
import { OTHER_WORD } from "./tags.ts";

const PARTS_MAX = 10;
/** From this share on an incident is laid to its callers. */
const CLIENT_SHARE_MIN = 0.9;

/**
 * One contribution. `observed` calls failed (or were slower than the model's usual p95, of those that reported a
 * latency), `expected` would have as usual; `share` is this one's part of all that was too much. Ids as in answers by
 * group; `isOther`: all further ones.
 */
type Contribution = {
  requests: number;
  observed: number;
  expected: number;
  excess: number;
  share: number;
  isOther: boolean;
};
type ModelContribution = Contribution & { modelId: string | null };
type ClientContribution = Contribution & { clientId: string | null };
type ClassContribution = Contribution & { errorClass: ErrorClass | null };

/** A stretch in which an org's calls failed, or took, clearly more than usual. */
export type Incident = {
  /** Made of the org, the kind and the start: the same whenever it is found. */
  id: string;
  kind: IncidentKind;
  /** Half-open, in the window's zone; while open, `end` moves on. */
  start: string;
  end: string;
  isOpen: boolean;
  /** `client`: nearly all errors too many are of the class client. Null: not about errors. */
  cause: "client" | "service" | null;
  /** The worst quarter of an hour of the model hit hardest (null: no single one); error rate, or p95 in ms. */
  peak: {
    start: string;
    modelId: string | null;
    isWholeOrg: boolean;
    value: number;
    baseline: number;
    /** How many times the baseline; null when that is zero. */
    magnitude: number | null;
  };
  /** All calls of the time, to the models that were hit. `slow`: null unless about latency. */
  affected: {
    requests: number;
    errors: number;
    slow: number | null;
    cost: Amount;
    otherCosts: Amount[];
  };
  /** Largest excess first. */
  models: ModelContribution[];
  /** Null across orgs: clients are an org's own. */
  clients: ClientContribution[] | null;
  /** Empty when not about errors. */
  errorClasses: ClassContribution[];
};

/** Says of a spike what it was, whom it hit, and who had to do with it: reads the calls of clients, names and cost. */
export async function describeIncident(
  reading: Reading,
  { series, spike }: { series: SeriesMap; spike: Spike },
): Promise<Incident> {
  const { org, window } = reading;
  const { kind } = spike;
  const span = { startMs: spike.from * QUARTER_HOUR_MS, endMs: spike.until * QUARTER_HOUR_MS };
  const models = partsByModel(series, spike);
  const peak = findPeak(series, spike, rankParts(models));
  const clients =
    org.id === ALL_ORGS
      ? null
      : await partsByClient(reading, { kind, span, slowMs: peak.baseline });
  const classes = kind === "error_rate" ? rankParts(partsByClass(series, spike)) : [];
  const hit = spike.keys.filter((key) => key !== WHOLE_ORG);
  const isHit = ({ key }: Part<number>) => hit.length === 0 || hit.includes(key);
  const slow = models.filter(isHit).reduce((sum, part) => sum + part.observed, 0);
  const nameOf = await readNames(reading, [...models, ...(clients ?? [])]);
  const listed = <Name>(parts: readonly Part<number>[], name: (key: number) => Name) =>
    contributionsOf(rankParts(parts)).map(({ key, ...rest }) => ({ ...name(key), ...rest }));
  const at = (quarter: number) => formatInstant(quarter * QUARTER_HOUR_MS, window.timeZone);
  return {
    id: idOf(org.externalId, kind, span.startMs),
    kind,
    start: at(spike.from),
    end: at(spike.until),
    isOpen: spike.isOpen,
    cause: kind === "error_rate" ? causeOf(classes) : null,
    peak: {
      start: at(peak.quarter),
      modelId: peak.key === WHOLE_ORG ? null : nameOf(peak.key),
      isWholeOrg: peak.key === WHOLE_ORG,
      value: round(peak.value, 6),
      baseline: round(peak.baseline, 6),
      magnitude: peak.baseline === 0 ? null : round(peak.value / peak.baseline, 2),
    },
    affected: {
      ...(await readAffected(reading, span, hit)),
      slow: kind === "latency" ? slow : null,
    },
    models: listed(models, (key) => ({ modelId: nameOf(key) })),
    clients: clients && listed(clients, (key) => ({ clientId: nameOf(key) })),
    errorClasses: listed(classes, (key) => ({ errorClass: ERROR_CLASSES[key] ?? null })),
  };
}

const round = (value: number, digits: number): number =>
  Math.round(value * 10 ** digits) / 10 ** digits;

const idOf = (org: string, kind: IncidentKind, startMs: number): string =>
  createHash("sha256")
    .update(JSON.stringify([org, kind, startMs]))
    .digest("hex")
    .slice(0, 16);

function causeOf(classes: readonly Part<number>[]): "client" | "service" {
  const whole = classes.reduce((sum, part) => sum + excessOf(part), 0);
  const client = classes.find(({ key }) => ERROR_CLASSES[key] === "client");
  const isClient = client !== undefined && excessOf(client) >= whole * CLIENT_SHARE_MIN;
  return isClient ? "client" : "service";
}

/** The first parts, and the others added up in one more. */
function contributionsOf(ranked: readonly Part<number>[]): (Contribution & { key: number })[] {
  const whole = ranked.reduce((sum, part) => sum + excessOf(part), 0);
  const contribution = (part: Part<number>, isOther: boolean) => ({
    key: part.key,
    requests: part.requests,
    observed: part.observed,
    expected: round(part.expected, 3),
    excess: round(excessOf(part), 3),
    share: ratioOf(excessOf(part), whole) ?? 0,
    isOther,
  });
  const rest = ranked.slice(PARTS_MAX);
  const others = rest.reduce(
    (sum, part) => ({
      key: MEMBER_OTHER,
      requests: sum.requests + part.requests,
      observed: sum.observed + part.observed,
      expected: sum.expected + part.expected,
    }),
    { key: MEMBER_OTHER, requests: 0, observed: 0, expected: 0 },
  );
  return [
    ...ranked.slice(0, PARTS_MAX).map((part) => contribution(part, part.key === MEMBER_OTHER)),
    ...(rest.length === 0 ? [] : [contribution(others, true)]),
  ];
}

async function readNames(
  { tx }: Reading,
  parts: readonly Part<number>[],
): Promise<(key: number) => string | null> {
  const ids = parts.map(({ key }) => key).filter((key) => key > 0);
  const words = new Map((await listWords(tx.sql, ids)).map(({ id, value }) => [id, value]));
  return (key) => (key === MEMBER_OTHER ? OTHER_WORD : (words.get(key) ?? null));
}

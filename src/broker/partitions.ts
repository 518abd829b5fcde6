import { parseBrokerUrl } from "./broker-address.ts";
import type { BrokerConnection } from "./connection.ts";
import { exists, TopologyFault } from "./topology-fault.ts";

export type PartitionsQuestion = {
  /** A stream, or a super stream: an exchange with streams bound to it. */
  name: string;
  /** Names the streams outright: N for `name`-0 … `name`-(N - 1), or their names in order. */
  partitions?: number | readonly string[] | undefined;
  /** Base address of the management HTTP API, the only place that tells which streams are bound to an exchange. */
  managementUrl?: string | undefined;
  /** The broker's URL: gives the virtual host, and the credentials when the management URL holds none. */
  url: string;
};

const PARTITIONS_MAX = 1000;
const ANSWER_MS_MAX = 10_000;

/**
 * The streams behind a name, in the order of their partitions. As said by `partitions`; else as bound to the exchange
 * `name`, where a management URL is given; else `name` itself, where a stream of that name or no exchange of that name
 * exists; else `name`-0, `name`-1 … as far as they exist. Throws a TopologyFault when there is an exchange but no
 * stream to be found (`missing`), or the management API refuses or does not answer.
 */
export async function findPartitions(
  connection: BrokerConnection,
  question: PartitionsQuestion,
  signal?: AbortSignal,
): Promise<string[]> {
  const { name, partitions, managementUrl } = question;
  if (typeof partitions === "number") {
    return Array.from({ length: partitions }, (_, nth) => `${name}-${nth}`);
  }
  if (partitions !== undefined) return [...partitions];
  if (managementUrl !== undefined) {
    const bound = await listBound({ ...question, managementUrl }, signal);
    if (bound.length > 0) return bound;
  }
  if (await exists(connection, { kind: "queue", name }, signal)) return [name];
  if (!(await exists(connection, { kind: "exchange", name }, signal))) return [name];
  const found: string[] = [];
  while (found.length < PARTITIONS_MAX) {
    const next = `${name}-${found.length}`;
    if (!(await exists(connection, { kind: "queue", name: next }, signal))) break;
    found.push(next);
  }
  if (found.length > 0) return found;
  throw new TopologyFault(
    "missing",
    `There is an exchange "${name}" on the broker, but no stream "${name}" or "${name}-0". List the super stream's partitions by name, or give the address of the management API, which knows them.`,
  );
}

/** The streams bound to the exchange, in order; none when there is no such exchange. */
async function listBound(
  question: PartitionsQuestion & { managementUrl: string },
  signal: AbortSignal | undefined,
): Promise<string[]> {
  const { name, url } = question;
  const { vhost } = parseBrokerUrl(url);
  const path = `api/exchanges/${encodeURIComponent(vhost)}/${encodeURIComponent(name)}/bindings/source`;
  const answer = await askManagement(question, path, signal);
  if (!Array.isArray(answer)) return [];
  const entries: unknown[] = answer;
  return entries
    .map(readBinding)
    .filter((binding) => binding !== undefined)
    .toSorted((a, b) => a.order - b.order || compareKeys(a.routingKey, b.routingKey))
    .map(({ stream }) => stream)
    .filter((stream, at, all) => all.indexOf(stream) === at);
}

type Binding = { stream: string; routingKey: string; order: number };

function readBinding(entry: unknown): Binding | undefined {
  const binding = entriesOf(entry);
  const { destination, routing_key: routingKey } = binding;
  if (binding["destination_type"] !== "queue" || typeof destination !== "string") return undefined;
  const order = entriesOf(binding["arguments"])["x-stream-partition-order"];
  return {
    stream: destination,
    routingKey: typeof routingKey === "string" ? routingKey : "",
    // Without a number it comes after those that have one.
    order: typeof order === "number" ? order : Number.MAX_SAFE_INTEGER,
  };
}

/** "2" before "10", and the same on every machine. */
const compareKeys = (a: string, b: string): number =>
  /^\d+$/.test(a) && /^\d+$/.test(b) ? Number(a) - Number(b) : a < b ? -1 : Number(a > b);

const entriesOf = (value: unknown): Record<string, unknown> =>
  typeof value === "object" && value !== null ? Object.fromEntries(Object.entries(value)) : {};

/** The answer's JSON; undefined when the broker has no such thing. */
async function askManagement(
  { managementUrl, url }: PartitionsQuestion & { managementUrl: string },
  path: string,
  signal: AbortSignal | undefined,
): Promise<unknown> {
  const base = parseManagementUrl(managementUrl);
  const broker = parseBrokerUrl(url);
  const user = base.username === "" ? broker.username : decodeURIComponent(base.username);
  const password = base.username === "" ? broker.password : decodeURIComponent(base.password);
  base.username = "";
  base.password = "";
  const token = Buffer.from(`${user}:${password}`).toString("base64");
  const timeout = AbortSignal.timeout(ANSWER_MS_MAX);
  try {
    const response = await fetch(new URL(path, base), {
      headers: { authorization: `Basic ${token}`, accept: "application/json" },
      signal: signal === undefined ? timeout : AbortSignal.any([signal, timeout]),
    });
    if (response.ok) return await response.json();
    await response.body?.cancel();
    if (response.status === 404) return undefined;
    throw new TopologyFault(
      "refused",
      `The management API at ${base.host} answered ${response.status}. The user needs the tag "management" and access to the virtual host; or list the partitions by name.`,
    );
  } catch (error) {
    signal?.throwIfAborted();
    if (error instanceof TopologyFault) throw error;
    throw new TopologyFault(
      "unreachable",
      `The management API at ${base.host} does not answer as it should. Check its address, and that the broker's management plugin is on; or list the partitions by name.`,
      { cause: error },
    );
  }
}

function parseManagementUrl(text: string): URL {
  const url = URL.parse(text);
  if (url === null || !/^https?:$/.test(url.protocol)) {
    throw new TypeError("The management API's address must be a URL such as http://host:15672.");
  }
  // A path in front of /api stays: a proxy may want one.
  if (!url.pathname.endsWith("/")) url.pathname += "/";
  return url;
}

import { readFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { z } from "zod";
import { OperatorError, retry, type RetryOptions } from "#kernel";

/** How to reach a running service. */
export type ApiPlace = { url: string; apiKey: string };

/** What the person gave to find it. */
export type ApiHints = { url: string | undefined; apiKey: string | undefined; dataDir: string };

/** One request. The path is already encoded. */
export type ApiRequest = {
  method: "GET" | "POST" | "PUT" | "PATCH" | "DELETE";
  path: string;
  query?: Readonly<Record<string, string | undefined>>;
  headers?: Readonly<Record<string, string>>;
  body?: Buffer;
};

/** The service's HTTP API, as the commands use it. */
export type ApiClient = {
  readonly url: string;
  /** The parsed answer. Throws ApiProblem when the service refused, ServiceUnreachable when it gave no answer. */
  request<T>(request: ApiRequest, schema: z.ZodType<T>): Promise<T>;
};

/** The service gave no answer: it does not run, stopped, or the network is at fault. */
export class ServiceUnreachable extends OperatorError {}

/** The service's answer was a problem (RFC 9457). */
export class ApiProblem extends OperatorError {
  readonly status: number;
  readonly code: string;
  /** What is wrong with the request, by its places (JSON pointers: "/body/orgs/0"). */
  readonly errors: readonly { pointer: string; message: string }[];
  /** From Retry-After. */
  readonly retryAfterSeconds: number | undefined;

  constructor(
    message: string,
    answer: Pick<ApiProblem, "status" | "code" | "errors" | "retryAfterSeconds">,
  ) {
    super(message);
    this.status = answer.status;
    this.code = answer.code;
    this.errors = answer.errors;
    this.retryAfterSeconds = answer.retryAfterSeconds;
  }
}

const REQUEST_MS_MAX = 60_000;
const RETRYABLE_STATUS = new Set([408, 425, 429, 500, 502, 503, 504]);

const serviceNote = z.object({ url: z.url() });

/**
 * The service that `--url` names, or that runs on the data directory; with the key given, or the directory's admin key.
 * Throws OperatorError that says what to do when either cannot be found.
 */
export async function findApi({ url, apiKey, dataDir }: ApiHints): Promise<ApiPlace> {
  const note = url === undefined ? await readNote(dataDir) : { url };
  const key = apiKey ?? (await readOptional(join(dataDir, "admin-key")))?.trim();
  if (key === undefined || key === "") {
    const place = resolve(dataDir, "admin-key");
    throw new OperatorError(
      `No API key: set TALLYSTICK_API_KEY, or name the folder that holds it with --data-dir (looked for ${place}).`,
    );
  }
  return { url: note.url.replace(/\/+$/, ""), apiKey: key };
}

async function readNote(dataDir: string): Promise<{ url: string }> {
  const text = await readOptional(join(dataDir, "service.json"));
  const note = serviceNote.safeParse(parseJson(text ?? ""));
  if (note.success) return note.data;
  throw new OperatorError(
    `No service runs on ${resolve(dataDir)}. Start it with "tallystick start", or say where it is with --url or --data-dir.`,
  );
}

async function readOptional(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return undefined;
    throw new OperatorError(
      `${resolve(path)} cannot be read: ${error instanceof Error ? error.message : String(error)}`,
    );
  }
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** Opens no connection yet: the first request does. */
export function createApiClient({ url, apiKey }: ApiPlace): ApiClient {
  return {
    url,
    request: async ({ method, path, query = {}, headers = {}, body }, schema) => {
      const target = new URL(`${url}${path}`);
      for (const [name, value] of Object.entries(query))
        if (value !== undefined) target.searchParams.set(name, value);
      const answer = await send(target, {
        method,
        headers: { authorization: `Bearer ${apiKey}`, accept: "application/json", ...headers },
        body: body === undefined ? null : new Uint8Array(body),
        redirect: "error",
        signal: AbortSignal.timeout(REQUEST_MS_MAX),
      });
      if (!answer.response.ok) throw problemOf(answer.response, answer.text, url);
      const parsed = schema.safeParse(parseJson(answer.text));
      if (parsed.success) return parsed.data;
      throw new OperatorError(
        `${url} answered with something else than this command expects. Is it a Tallystick of the same version?`,
      );
    },
  };
}

async function send(target: URL, init: RequestInit): Promise<{ response: Response; text: string }> {
  try {
    const response = await fetch(target, init);
    return { response, text: await response.text() };
  } catch (error) {
    throw new ServiceUnreachable(`${target.origin} gives no answer (${reasonOf(error)}).`, {
      cause: error,
    });
  }
}

/** fetch hides what happened in the error's cause, or in the first of several. */
function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  if (error instanceof AggregateError && error.errors.length > 0) return reasonOf(error.errors[0]);
  if ("code" in error && typeof error.code === "string") return error.code;
  return error.cause === undefined ? error.message : reasonOf(error.cause);
}

const problem = z.object({
  title: z.string(),
  detail: z.string().default(""),
  code: z.string().default(""),
  errors: z.array(z.object({ pointer: z.string(), message: z.string() })).default([]),
});

function problemOf({ status, headers }: Response, text: string, url: string): ApiProblem {
  const parsed = problem.safeParse(parseJson(text));
  const { title, detail, code, errors } = parsed.success
    ? parsed.data
    : { title: `HTTP ${status}`, detail: "", code: "", errors: [] };
  const details = errors.map(({ pointer, message }) => `\n  ${pointer}: ${message}`).join("");
  const hint = status === 401 ? " Is the key that of this service?" : "";
  return new ApiProblem(`${url} answered ${status}: ${title}. ${detail}${details}${hint}`.trim(), {
    status,
    code,
    errors,
    retryAfterSeconds: parseRetryAfter(headers.get("retry-after")),
  });
}

/** Seconds only: the form with a date needs two clocks that agree. */
const parseRetryAfter = (text: string | null): number | undefined =>
  text !== null && /^\d{1,6}$/.test(text) ? Number(text) : undefined;

/** Whether the same request may succeed a little later. */
export const isRetryableAnswer = (error: unknown): boolean =>
  error instanceof ServiceUnreachable ||
  (error instanceof ApiProblem && RETRYABLE_STATUS.has(error.status));

/** Runs `work` again while the service is away or asks to wait; never sooner than it asked. */
export function retryAnswer<T>(
  work: () => Promise<T>,
  options: Pick<RetryOptions, "attemptsMax" | "random" | "signal" | "onRetry"> & {
    sleep: NonNullable<RetryOptions["sleep"]>;
  },
): Promise<T> {
  let askedMs = 0;
  return retry(work, {
    ...options,
    waitMs: 200,
    waitMsMax: 10_000,
    isRetryable: isRetryableAnswer,
    onRetry: (error, attempt, waitMs) => {
      askedMs = error instanceof ApiProblem ? (error.retryAfterSeconds ?? 0) * 1000 : 0;
      options.onRetry?.(error, attempt, Math.max(waitMs, askedMs));
    },
    sleep: (ms, signal) => options.sleep(Math.max(ms, askedMs), signal),
  });
}

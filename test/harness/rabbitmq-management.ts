/**
 * A call of RabbitMQ's management HTTP API: method, path from "/api/" on (names in it percent-encoded), body as JSON.
 * Resolves with the answer's JSON, undefined when it is empty; rejects with method, path, status and reason otherwise.
 */
export type ManagementApi = (method: string, path: string, body?: unknown) => Promise<unknown>;

/** The API at `baseUrl` (without credentials) for one user. */
export function managementApi(baseUrl: string, user: string, password: string): ManagementApi {
  const authorization = `Basic ${Buffer.from(`${user}:${password}`).toString("base64")}`;
  return async (method, path, body) => {
    const response = await fetch(new URL(path, baseUrl), {
      method,
      headers: { authorization, "content-type": "application/json" },
      signal: AbortSignal.timeout(30_000),
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    const text = await response.text();
    if (!response.ok) {
      throw new Error(`RabbitMQ answered ${method} ${path} with ${response.status}: ${text}`);
    }
    const answer: unknown = text === "" ? undefined : JSON.parse(text);
    return answer;
  };
}

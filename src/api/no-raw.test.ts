import assert from "node:assert/strict";
import test from "node:test";
import manifest from "../../package.json" with { type: "json" };
import { anEvent } from "#harness";
import { routesOf } from "./access.ts";
import { describedDependencies } from "./document.ts";
import { createServer } from "./server.ts";
import { NOW, testApi } from "./test-api.ts";

const WINDOW = "?start=2026-11-13T00:00:00Z&end=2026-11-20T12:00:00Z";
/** What some cannot do without, by a part of their paths. */
const QUERIES = [
  ["/v1/organization/", "?start_time=1763000000&project_ids=acme"],
  ["/tags", "?tagKey=team"],
] as const;

/** Reports, lists and system answers: every route that answers GET and names nothing but an org. */
async function listPaths(): Promise<string[]> {
  const server = await createServer(describedDependencies(manifest.version), () => false);
  const urls = routesOf(server)
    .filter(({ method }) => [method].flat().includes("GET"))
    .map(({ url }) => url);
  await server.close();
  return [...new Set(urls)]
    .filter((url) => /^\/(analytics\/v1|v1)\//.test(url) && !/\*|:(?!orgId)/.test(url))
    .map((url) => url.replace(":orgId", "acme"));
}

test("no answer reads single events: all come from rollups, with the right to read raw taken away", async () => {
  await using api = await testApi();
  await api.createOrg("acme");
  await api.declareTags("acme", ["team"]);
  await api.send([
    anEvent({ occurred_at: NOW }),
    anEvent({ status: "error", error_class: "capacity" }),
  ]);
  await api.fold();
  const { sql } = api.database;
  await sql`revoke select on usage_event from tallystick_api, tallystick_system`;
  const refused = await api.database
    .withSystem((tx) => tx.sql`select 1 from usage_event`)
    .catch((error: unknown) => String(error));
  assert.match(String(refused), /permission denied/);

  const paths = await listPaths();
  assert.ok(paths.length > 30, `${paths.length} routes`);
  let reports = 0;
  for (const path of paths) {
    const query = QUERIES.find(([part]) => path.includes(part))?.[1] ?? "";
    const bare = await api.ask(path + query);
    const answer = bare.status === 400 ? await api.ask(path + WINDOW) : bare;
    if (answer.status === 404 || answer.status === 406) continue;
    assert.equal(answer.status, 200, `${path}: ${answer.text}`);
    reports++;
  }
  assert.ok(reports > 25, `${reports} answered`);
});

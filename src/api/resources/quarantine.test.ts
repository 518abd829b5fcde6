import assert from "node:assert/strict";
import test from "node:test";
import { anEvent } from "#harness";
import type { Problem } from "../problem.ts";
import { testApi, type TestApi } from "../test-api.ts";

type Entry = {
  id: number;
  code: string;
  pointer: string;
  source: string;
  eventId: string | null;
  state: string;
  resolution: string | null;
  size: number;
};
type Page = { items: Entry[]; nextCursor: string | null };
type Replayed = {
  results: { id: number; status: string; code?: string }[];
  nextCursor: string | null;
};

const ACME = "/analytics/v1/orgs/acme/quarantine";
const SYSTEM = "/analytics/v1/system/quarantine";

const list = async (api: TestApi, path: string): Promise<Page> => {
  const { status, body, text } = await api.ask<Page>(path);
  assert.equal(status, 200, text);
  return body;
};
const post = <Body>(api: TestApi, path: string) => api.ask<Body>(path, { method: "POST" });
const requestsOf = async (api: TestApi): Promise<number> => {
  await api.fold();
  const query = "start=2026-01-01T00:00:00Z&end=2026-11-21T00:00:00Z";
  return (await api.ask<{ totals: { requests: number } }>(`/analytics/v1/orgs/acme/usage?${query}`))
    .body.totals.requests;
};

/** The API, with an org that has one good event: only an org that exists has a quarantine of its own. */
async function apiWithOrg(): Promise<TestApi> {
  const api = await testApi();
  assert.equal((await api.send([anEvent()])).status, 200);
  return api;
}

const OLD = "2026-09-01T00:00:00Z";

test("what was not counted is listed with its reason, and shown with its bytes as they came", async () => {
  await using api = await apiWithOrg();
  const bad = `{"event_id":"b1", "org_id":"acme","model_id":"m","occurred_at":"2026-11-20T10:00:00Z","status":"success","input_tokens":-7}`;
  await api.send(bad);
  const { items, nextCursor } = await list(api, ACME);
  assert.equal(nextCursor, null);
  assert.deepEqual(
    items.map(({ code, pointer, source, eventId, state, size }) => ({
      code,
      pointer,
      source,
      eventId,
      state,
      size,
    })),
    [
      {
        code: "invalid_number",
        pointer: "/input_tokens",
        source: "http",
        eventId: "b1",
        state: "pending",
        size: bad.length,
      },
    ],
  );
  const { body } = await api.ask<Entry & { bytes: string; text: string }>(
    `${ACME}/${items[0]?.id}`,
  );
  assert.equal(body.text, bad);
  assert.equal(Buffer.from(body.bytes, "base64").toString(), bad);
});

test("bytes that are no text are shown in base64 only, and items of no org are the system's", async () => {
  await using api = await testApi();
  const raw = new Uint8Array(Buffer.from([0x7b, 0x22, 0xff, 0xfe, 0x22, 0x3a, 0x31, 0x7d, 0x0a]));
  await api.ask("/analytics/v1/events", {
    method: "POST",
    headers: { "content-type": "application/x-ndjson" },
    body: raw,
  });
  const { items } = await list(api, SYSTEM);
  assert.equal(items.length, 1);
  const { body } = await api.ask<{ bytes: string; text: string | null }>(
    `${SYSTEM}/${items[0]?.id}`,
  );
  assert.equal(body.text, null);
  assert.deepEqual(Buffer.from(body.bytes, "base64"), Buffer.from(raw.slice(0, -1)));
  await api.send([anEvent()]);
  assert.equal((await list(api, ACME)).items.length, 0);
  assert.equal((await api.ask(`${ACME}/${items[0]?.id}`)).status, 404);
});

test("pages follow each other without gap or repeat, filters narrow them, and a cursor serves its own list only", async () => {
  await using api = await apiWithOrg();
  await api.send([
    ...Array.from({ length: 5 }, (_, i) => anEvent({ event_id: `bad-${i}`, status: "maybe" })),
    anEvent({ event_id: "old", occurred_at: OLD }),
  ]);
  const seen: (string | null)[] = [];
  let cursor: string | null = "";
  while (cursor !== null) {
    const page: Page = await list(
      api,
      `${ACME}?limit=2${cursor === "" ? "" : `&cursor=${cursor}`}`,
    );
    seen.push(...page.items.map(({ eventId }) => eventId));
    cursor = page.nextCursor;
  }
  assert.deepEqual(seen.toSorted(), ["bad-0", "bad-1", "bad-2", "bad-3", "bad-4", "old"]);
  assert.equal((await list(api, `${ACME}?code=too_old`)).items.length, 1);
  assert.equal((await list(api, `${ACME}?source=elsewhere`)).items.length, 0);
  assert.equal((await list(api, `${ACME}?state=dropped`)).items.length, 0);

  const { nextCursor } = await list(api, `${ACME}?limit=1`);
  for (const query of [
    `cursor=${nextCursor}x`,
    "cursor=%00",
    "cursor=e30",
    "limit=0",
    "limit=1e9",
    "limit=-1",
    "code=what",
    "state=all",
    "page=2",
  ]) {
    const { status, body } = await api.ask<Problem>(`${ACME}?${query}`);
    assert.equal(status, 400, query);
    assert.match(body.errors[0]?.pointer ?? "", /^\/query\/\w+$/, query);
  }
  assert.equal((await api.ask(`${SYSTEM}?cursor=${nextCursor}`)).status, 400);
});

test("B44: an item too old is replayed as backfill, counted once however often it is replayed", async () => {
  await using api = await apiWithOrg();
  await api.send([anEvent({ occurred_at: OLD })]);
  const { items } = await list(api, ACME);
  const path = `${ACME}/${items[0]?.id}/replay?backfill=true`;
  const first = await post<{ status: string }>(api, path);
  assert.deepEqual([first.status, first.body.status], [200, "accepted"]);
  assert.equal((await post(api, path)).status, 404);
  const [shown] = (await list(api, `${ACME}?state=replayed`)).items;
  assert.deepEqual([shown?.state, shown?.resolution], ["replayed", "accepted"]);
  assert.equal((await list(api, ACME)).items.length, 0);
  assert.equal(await requestsOf(api), 2);
});

test("B44: still bad stays, refused by a rule again is kept under a new number, counted already is a duplicate", async () => {
  await using api = await testApi();
  const event = anEvent({ event_id: "e1" });
  await api.send([event]);
  await api.send([
    anEvent({ event_id: "bad", status: "maybe" }),
    { ...event, output_tokens: 1 },
    anEvent({ event_id: "old", occurred_at: OLD }),
  ]);
  const old = (await list(api, `${ACME}?code=too_old`)).items[0];
  await api.send([anEvent({ event_id: "old", occurred_at: OLD })], "?backfill=true");

  const { body } = await post<Replayed>(api, `${ACME}/replay?backfill=true`);
  assert.deepEqual(body.results.map(({ status }) => status).toSorted(), [
    "conflict",
    "duplicate",
    "rejected",
  ]);
  assert.equal(body.results.find(({ id }) => id === old?.id)?.status, "duplicate");
  const pending = (await list(api, ACME)).items;
  assert.deepEqual(pending.map(({ eventId }) => eventId).toSorted(), ["bad", "e1"]);
  assert.equal((await list(api, `${ACME}?state=replayed`)).items.length, 2);
  assert.equal(await requestsOf(api), 2);
});

test("replay by filter goes page by page and leaves the rest alone", async () => {
  await using api = await apiWithOrg();
  const old = Array.from({ length: 5 }, (_, i) =>
    anEvent({ event_id: `old-${i}`, occurred_at: OLD }),
  );
  await api.send([...old, anEvent({ status: "maybe" })]);
  let cursor = "";
  let accepted = 0;
  do {
    const { body } = await post<Replayed>(
      api,
      `${ACME}/replay?backfill=true&code=too_old&limit=2${cursor}`,
    );
    accepted += body.results.filter(({ status }) => status === "accepted").length;
    cursor = body.nextCursor === null ? "" : `&cursor=${body.nextCursor}`;
  } while (cursor !== "");
  assert.equal(accepted, 5);
  assert.equal(await requestsOf(api), 6);
  assert.equal((await list(api, ACME)).items.length, 1);
});

test("drop gives up one item or all that match, once, and never another org's", async () => {
  await using api = await apiWithOrg();
  await api.send([anEvent({ org_id: "other" })]);
  await api.send([
    anEvent({ status: "maybe" }),
    anEvent({ status: "maybe" }),
    anEvent({ occurred_at: OLD }),
    anEvent({ org_id: "other", status: "maybe" }),
  ]);
  const other = (await list(api, "/analytics/v1/orgs/other/quarantine")).items[0];
  assert.equal((await post(api, `${ACME}/${other?.id}/drop`)).status, 404);
  assert.equal((await post(api, `${ACME}/${other?.id}/replay`)).status, 404);
  assert.equal((await api.ask(`${ACME}/${other?.id}`)).status, 404);

  const [first] = (await list(api, ACME)).items;
  assert.deepEqual((await post(api, `${ACME}/${first?.id}/drop`)).body, {
    dropped: 1,
    more: false,
  });
  assert.equal((await post(api, `${ACME}/${first?.id}/drop`)).status, 404);
  const [shown] = (await list(api, `${ACME}?state=dropped`)).items;
  assert.deepEqual([shown?.id, shown?.resolution], [first?.id, "dropped by admin-key"]);
  assert.deepEqual((await post(api, `${ACME}/drop?limit=1`)).body, { dropped: 1, more: true });
  assert.deepEqual((await post(api, `${ACME}/drop`)).body, { dropped: 1, more: false });
  assert.equal((await list(api, "/analytics/v1/orgs/other/quarantine")).items.length, 1);
  assert.equal((await post(api, "/analytics/v1/orgs/nobody/quarantine/drop")).status, 404);
});

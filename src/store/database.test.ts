import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:net";
import { test } from "node:test";
import { faultProxy, testDatabase } from "#harness";
import { isConnectionLost, openDatabase } from "#store";

test("a session that cannot be opened to the end takes no place in the pool: the next one opens, and closing ends", async () => {
  await using db = await testDatabase();
  await using proxy = await faultProxy({ upstreamPort: Number(new URL(db.url).port) });
  const database = await openDatabase({
    url: proxy.through(db.url),
    ownerConnectionsMax: 1,
    apiConnectionsMax: 1,
    ownerStatementMsMax: 10_000,
    apiStatementMsMax: 10_000,
    connectMsMax: 2_000,
    onIdleError: () => undefined,
  });
  proxy.cutAt("plan_cache_mode");
  await assert.rejects(database.openSession(), isConnectionLost);
  await assert.rejects(
    database.openSession(({ sql }) => sql`select 1 / 0`),
    { code: "22012" },
  );
  const session = await database.openSession();
  assert.deepEqual(await session.sql`select 1 as one`, [{ one: 1 }]);
  await session[Symbol.asyncDispose]();
  await database[Symbol.asyncDispose]();
});

/** A message of PostgreSQL's protocol. */
function message(type: string, body: string): Buffer {
  const bytes = Buffer.from(`${type}____${body}`, "latin1");
  bytes.writeInt32BE(bytes.length - 1, 1);
  return bytes;
}

test("a server that greets and takes its leave in one breath is an outage, and not the end of the process", async () => {
  const greeting = [message("R", "\0\0\0\0"), message("Z", "I")];
  const answer = [message("C", "SELECT 0\0"), message("Z", "I")];
  const leave = message(
    "E",
    "SFATAL\0VFATAL\0C57P01\0Mterminating connection due to administrator command\0\0",
  );
  let connections = 0;
  const server = createServer((socket) => {
    socket.on("error", () => undefined); // the client hangs up as well
    const isFirst = connections++ === 0;
    socket.once("data", () => {
      if (!isFirst) return void socket.end(Buffer.concat([...greeting, leave]));
      socket.once("data", () => socket.end(Buffer.concat(answer)));
      socket.write(Buffer.concat(greeting));
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  assert.ok(typeof address === "object" && address !== null);
  try {
    await using database = await openDatabase({
      url: `postgres://user:password@127.0.0.1:${address.port}/database`,
      ownerConnectionsMax: 1,
      apiConnectionsMax: 1,
      ownerStatementMsMax: 1000,
      apiStatementMsMax: 1000,
      connectMsMax: 1000,
      onIdleError: () => undefined,
    });
    await assert.rejects(database.openSession(), isConnectionLost);
    await assert.rejects(
      database.transaction(({ sql }) => sql`select 1`),
      isConnectionLost,
    );
    assert.ok(connections >= 2);
  } finally {
    server.close();
  }
});

/**
 * Holds the shared broker of the tests and stops it when nobody has used it for a while. A process of its own, because
 * test files come and go and none of them outlives the others. Who connects to its socket is told where the broker is,
 * and uses it for as long as that connection lasts.
 */
import { appendFileSync } from "node:fs";
import { mkdir, rm } from "node:fs/promises";
import { createServer, type Socket } from "node:net";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { startRabbitIn } from "./rabbitmq.ts";
import { rabbitFolder } from "./shared-rabbit.ts";
import { takeLock } from "./single-instance.ts";

const IDLE_CHECKS_MAX = 10;

await keep(rabbitFolder());

async function keep(folder: string): Promise<void> {
  const lock = join(folder, "keeper.pid");
  if (!(await takeLock(lock))) return;
  const stopped = new AbortController();
  for (const signal of ["SIGTERM", "SIGINT"] as const) process.on(signal, () => stopped.abort());
  const home = join(folder, "server");
  try {
    // What a keeper that was killed left behind; its broker died with it.
    await rm(home, { recursive: true, force: true });
    await mkdir(home);
    await using broker = await startRabbitIn(home);
    const where = JSON.stringify({ url: broker.url, managementUrl: broker.managementUrl });
    await using door = await openDoor(join(folder, "socket"), where);
    for (let idle = 0; idle < IDLE_CHECKS_MAX && !stopped.signal.aborted;) {
      await delay(1000, undefined, { signal: stopped.signal }).catch(() => undefined);
      idle = door.visitors.size === 0 ? idle + 1 : 0;
    }
  } catch (error) {
    appendFileSync(join(folder, "keeper.log"), `${String(error)}\n`);
    throw error;
  } finally {
    await rm(home, { recursive: true, force: true, maxRetries: 5 });
    await rm(lock, { force: true });
  }
}

async function openDoor(
  path: string,
  greeting: string,
): Promise<AsyncDisposable & { visitors: ReadonlySet<Socket> }> {
  await rm(path, { force: true });
  const visitors = new Set<Socket>();
  const server = createServer((socket) => {
    visitors.add(socket);
    socket.on("error", () => undefined);
    socket.once("close", () => visitors.delete(socket));
    socket.resume();
    socket.write(`${greeting}\n`);
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(path, resolve);
  });
  return {
    visitors,
    [Symbol.asyncDispose]: async () => {
      // Whoever came in the last moment sees the connection end, and asks again.
      const closed = new Promise((resolve) => server.close(resolve));
      for (const visitor of visitors) visitor.destroy();
      await closed;
    },
  };
}

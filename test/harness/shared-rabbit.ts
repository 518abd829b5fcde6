import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdir } from "node:fs/promises";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { managementApi, type ManagementApi } from "./rabbitmq-management.ts";
import { installDebianRabbit, RABBIT_MISSING } from "./rabbitmq.ts";

/** Where the keeper of the shared broker leaves its state; one per user, so that rights never clash. */
export const rabbitFolder = (): string =>
  join(tmpdir(), `tallystick-test-${process.getuid?.() ?? 0}`, "rabbitmq");

/** A vhost of a test's own, with its queues, streams and connections gone at the end. */
export type TestVhost = AsyncDisposable & {
  /** AMQP 0-9-1 address of the vhost, with credentials. */
  readonly url: string;
  /** Its name, of letters that need no encoding in a path of `api`. */
  readonly vhost: string;
  /** Base address of the management HTTP API, without credentials: those of `url` hold. */
  readonly managementUrl: string;
  readonly api: ManagementApi;
};

/** Where a broker is: its AMQP address with credentials, and its management HTTP API. */
type BrokerAddress = { url: string; managementUrl: string };

/** `await using broker = await testBroker()`: a fresh vhost on the run's shared broker, or on RABBITMQ_TEST_URL. */
export async function testBroker(): Promise<TestVhost> {
  return await openVhost(namedBroker("RABBITMQ_TEST") ?? (await leaseBroker()));
}

/**
 * The brokers that a conformance suite runs on: the tests' own (or RABBITMQ_TEST_URL), and the one at RABBITMQ4_TEST_URL
 * where that is set.
 */
export function brokersUnderTest(): { name: string; open: () => Promise<TestVhost> }[] {
  const second = namedBroker("RABBITMQ4_TEST");
  const brokers = [{ name: "RabbitMQ", open: testBroker }];
  if (second !== undefined) {
    brokers.push({ name: "RabbitMQ of RABBITMQ4_TEST_URL", open: () => openVhost(second) });
  }
  return brokers;
}

/** The broker that `<prefix>_URL` and `<prefix>_MANAGEMENT_URL` name; the latter is port 15672 of the same host if unset. */
function namedBroker(prefix: string): BrokerAddress | undefined {
  const url = process.env[`${prefix}_URL`];
  if (url === undefined || url === "") return undefined;
  const host = URL.parse(url)?.hostname;
  if (host === undefined || host === "")
    throw new Error(`${prefix}_URL is to be an address such as amqp://user:password@host:5672`);
  const managementUrl = process.env[`${prefix}_MANAGEMENT_URL`];
  return { url, managementUrl: managementUrl || `http://${host}:15672` };
}

async function openVhost(broker: BrokerAddress): Promise<TestVhost> {
  const address = new URL(broker.url);
  const user = decodeURIComponent(address.username) || "guest";
  const api = managementApi(
    broker.managementUrl,
    user,
    decodeURIComponent(address.password) || "guest",
  );
  const vhost = `test-${process.pid}-${randomBytes(5).toString("hex")}`;
  const drop = async () => void (await api("DELETE", `/api/vhosts/${vhost}`));
  try {
    await api("PUT", `/api/vhosts/${vhost}`, {});
    const all = { configure: ".*", write: ".*", read: ".*" };
    await api("PUT", `/api/permissions/${vhost}/${encodeURIComponent(user)}`, all);
  } catch (error) {
    await drop().catch(() => undefined);
    throw error;
  }
  address.pathname = `/${vhost}`;
  return {
    url: address.href,
    vhost,
    managementUrl: broker.managementUrl,
    api,
    [Symbol.asyncDispose]: drop,
  };
}

let lease: Promise<BrokerAddress> | undefined;

/**
 * The broker that all test files and runs of this user share. Started (in six seconds) by a keeper process of its own when
 * none runs; the keeper stops it ten seconds after the last process that asked for it is gone.
 */
function leaseBroker(): Promise<BrokerAddress> {
  lease ??= findOrStart();
  return lease;
}

async function findOrStart(): Promise<BrokerAddress> {
  if (!(await installDebianRabbit())) throw new Error(RABBIT_MISSING);
  const folder = rabbitFolder();
  await mkdir(folder, { recursive: true, mode: 0o755 });
  let keeper: { done: boolean } = { done: true };
  for (let waitedMs = 0; waitedMs < 120_000; waitedMs += 100) {
    const found = await askKeeper(join(folder, "socket"));
    if (found) return found;
    // A keeper that finds another one at work ends at once, so asking again is harmless.
    if (keeper.done) keeper = startKeeper();
    await delay(100);
  }
  throw new Error(`no RabbitMQ for the tests; see ${join(folder, "keeper.log")}`);
}

/** What the keeper says, if there is one. The connection stays open while this process lives, and does not keep it alive. */
async function askKeeper(path: string): Promise<BrokerAddress | undefined> {
  return await new Promise((resolve) => {
    const socket = connect(path);
    let said = "";
    socket.setEncoding("utf8");
    socket.on("error", () => undefined);
    socket.once("close", () => resolve(undefined));
    socket.on("data", (piece: string) => {
      said += piece;
      if (!said.endsWith("\n")) return;
      socket.unref();
      resolve(parseAddress(said));
    });
  });
}

function parseAddress(said: string): BrokerAddress | undefined {
  const address: unknown = JSON.parse(said);
  if (typeof address !== "object" || address === null) return undefined;
  if (!("url" in address) || typeof address.url !== "string") return undefined;
  if (!("managementUrl" in address) || typeof address.managementUrl !== "string") return undefined;
  return { url: address.url, managementUrl: address.managementUrl };
}

function startKeeper(): { done: boolean } {
  const state = { done: false };
  const script = fileURLToPath(new URL("./rabbit-keeper.ts", import.meta.url));
  const child = spawn(process.execPath, [script], { detached: true, stdio: "ignore" });
  child.once("exit", () => (state.done = true));
  child.unref();
  return state;
}

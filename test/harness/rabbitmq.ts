import { execFile, spawn, spawnSync, type ChildProcess } from "node:child_process";
import { randomBytes, randomInt } from "node:crypto";
import { existsSync, openSync, closeSync } from "node:fs";
import { chmod, mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { promisify } from "node:util";
import { managementApi, type ManagementApi } from "./rabbitmq-management.ts";
import { temporaryFolder } from "./temporary-folder.ts";
import { waitFor } from "./wait-for.ts";

const run = promisify(execFile);

/** The scripts behind the package's commands: those in /usr/sbin insist on the user "rabbitmq" and its folders. */
const BIN = "/usr/lib/rabbitmq/bin";
/** Definitions lie in Mnesia, the names of streams' and quorum queues' machinery in DETS tables. */
const SETTLE = "mnesia:sync_log(), [dets:sync(Table) || Table <- dets:all()], ok.";
const START_MS_MAX = 60_000;
const STOP_MS_MAX = 30_000;
const PLUGINS = [
  "rabbitmq_management",
  "rabbitmq_prometheus",
  "rabbitmq_stream",
  "rabbitmq_amqp1_0",
];

/** A RabbitMQ node of a test's own, with the means to make it fail. Its user is guest, password guest. */
export type TestBroker = AsyncDisposable & {
  /** AMQP 0-9-1, and 1.0 too; vhost "/". */
  readonly url: string;
  readonly amqpPort: number;
  /** Base address of the management HTTP API, without credentials. */
  readonly managementUrl: string;
  readonly streamPort: number;
  /** `http://…/metrics` of the Prometheus plugin. */
  readonly metricsUrl: string;
  /** Ends it in the orderly way. */
  stop(): Promise<void>;
  /**
   * Ends it at once (SIGKILL); resolves when it is gone. As in life it may have forgotten the queues, exchanges and vhosts
   * that were made in the last seconds before, and a stream made then may stay down for good: where that is not what the
   * test is about, `settle` first.
   */
  kill(): Promise<void>;
  /** Starts it again on the same ports, node name and data. Its streams come back some tenths of a second after this. */
  start(): Promise<void>;
  /** Resolves when what was declared so far is on disk: the broker itself writes it some seconds later. */
  settle(): Promise<void>;
  /** Runs `rabbitmqctl` with these arguments (a second or two) and resolves with what it printed. */
  ctl(...args: string[]): Promise<string>;
  readonly api: ManagementApi;
};

export const hasDebianRabbit = (): boolean => existsSync(join(BIN, "rabbitmq-server"));

/** What to do when there is no RabbitMQ and it may not be installed. */
export const RABBIT_MISSING =
  "RabbitMQ is not installed (Debian package rabbitmq-server), and the tests of streams and queues need it. " +
  "Install that package, run the tests as root on Debian, or set RABBITMQ_TEST_URL and " +
  "RABBITMQ_TEST_MANAGEMENT_URL to a broker with the stream and management plugins.";

/**
 * Installs Debian's RabbitMQ when it is missing and this may be done: as root, where there is apt. The system service
 * that comes with the package is neither started nor enabled.
 */
export async function installDebianRabbit(): Promise<boolean> {
  if (hasDebianRabbit()) return true;
  if (process.getuid?.() !== 0 || !existsSync("/usr/bin/apt-get")) return false;
  process.stderr.write("Installing rabbitmq-server for the tests …\n");
  const options = {
    env: { ...process.env, DEBIAN_FRONTEND: "noninteractive" },
    stdio: ["ignore", "ignore", "inherit"],
  } satisfies Parameters<typeof spawnSync>[2];
  const install = ["-o", "DPkg::Lock::Timeout=120", "install", "-y", "--no-install-recommends"];
  install.push("rabbitmq-server");
  await using _policy = await forbidServices();
  if (spawnSync("apt-get", install, options).status !== 0) {
    spawnSync("apt-get", ["update"], options);
    spawnSync("apt-get", install, options);
  }
  spawnSync("update-rc.d", ["rabbitmq-server", "disable"], { stdio: "ignore" });
  return hasDebianRabbit();
}

/** Debian's way to install a package without starting its service; a rule that is there already stays. */
async function forbidServices(): Promise<AsyncDisposable> {
  const path = "/usr/sbin/policy-rc.d";
  const isOurs = await writeFile(path, "#!/bin/sh\nexit 101\n", { flag: "wx", mode: 0o755 }).then(
    () => true,
    () => false,
  );
  return {
    [Symbol.asyncDispose]: async () => {
      if (isOurs) await rm(path, { force: true });
    },
  };
}

/**
 * Starts a private broker on free loopback ports in a temporary folder: streams, management, Prometheus and AMQP 1.0.
 * `config` are further lines of rabbitmq.conf. It dies with this process, however that ends.
 */
export async function startRabbit(
  options: { config?: readonly string[] } = {},
): Promise<TestBroker> {
  await using stack = new AsyncDisposableStack();
  const { path } = stack.use(await temporaryFolder());
  const broker = stack.use(await startRabbitIn(path, options.config ?? []));
  const owned = stack.move();
  return { ...broker, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

/** The same in `folder`, which exists, is empty and stays. */
export async function startRabbitIn(
  folder: string,
  config: readonly string[] = [],
): Promise<TestBroker> {
  if (!(await installDebianRabbit())) throw new Error(RABBIT_MISSING);
  const node = await prepareNode(folder, config);
  const processes: NodeProcesses = {};
  const start = () => startNode(node, processes);
  await start();
  const { ports } = node;
  const managementUrl = `http://127.0.0.1:${ports.management}`;
  return {
    url: `amqp://guest:guest@127.0.0.1:${ports.amqp}/%2F`,
    amqpPort: ports.amqp,
    managementUrl,
    streamPort: ports.stream,
    metricsUrl: `http://127.0.0.1:${ports.metrics}/metrics`,
    stop: () => stop(processes),
    kill: () => kill(processes),
    start,
    settle: async () => void (await control(node, ["eval", SETTLE])),
    ctl: (...args) => control(node, args),
    api: managementApi(managementUrl, "guest", "guest"),
    [Symbol.asyncDispose]: () => kill(processes),
  };
}

type Ports = Record<"amqp" | "management" | "metrics" | "stream" | "distribution" | "epmd", number>;

/** What stays the same from start to start. */
type Node = {
  name: string;
  folder: string;
  ports: Ports;
  env: NodeJS.ProcessEnv;
  as: { uid?: number; gid?: number };
};

type NodeProcesses = { broker?: ChildProcess; portMapper?: ChildProcess };

async function prepareNode(folder: string, config: readonly string[]): Promise<Node> {
  const ports = await findFreePorts();
  const as = await unprivilegedUser();
  const name = `t${ports.amqp}@localhost`;
  await chmod(folder, 0o700);
  await mkdir(join(folder, "log"));
  await writeFile(join(folder, "rabbitmq.conf"), `${confLines(ports, config).join("\n")}\n`);
  // As the figures of queues below; rabbitmq.conf has no line for it.
  await writeFile(join(folder, "advanced.config"), "[{rabbit, [{stream_tick_interval, 1000}]}].\n");
  await writeFile(join(folder, "enabled_plugins"), `[${PLUGINS.join(",")}].\n`);
  await writeFile(join(folder, ".erlang.cookie"), randomBytes(24).toString("hex"), { mode: 0o400 });
  if (as.uid !== undefined) await run("chown", ["-R", `${as.uid}:${as.gid}`, folder]);
  return { name, folder, ports, env: environment(folder, name, ports), as };
}

function confLines(ports: Ports, config: readonly string[]): string[] {
  return [
    `listeners.tcp.1 = 127.0.0.1:${ports.amqp}`,
    "management.tcp.ip = 127.0.0.1",
    `management.tcp.port = ${ports.management}`,
    "prometheus.tcp.ip = 127.0.0.1",
    `prometheus.tcp.port = ${ports.metrics}`,
    `stream.listeners.tcp.1 = 127.0.0.1:${ports.stream}`,
    "disk_free_limit.absolute = 50MB",
    "vm_memory_high_watermark.absolute = 1GB",
    // The management API's figures follow within a second or two, not five.
    "collect_statistics_interval = 1000",
    ...["global", "basic", "detailed"].map(
      (kind) => `management.sample_retention_policies.${kind}.minute = 1`,
    ),
    "log.console = false",
    "log.file.level = info",
    ...config,
  ];
}

/** Nothing of this process's own environment but the path: a RABBITMQ_… variable of a developer must not lead astray. */
function environment(folder: string, name: string, ports: Ports): NodeJS.ProcessEnv {
  return {
    PATH: process.env["PATH"],
    LANG: "C.UTF-8",
    HOME: folder,
    ERL_EPMD_ADDRESS: "127.0.0.1",
    ERL_EPMD_PORT: String(ports.epmd),
    RABBITMQ_NODENAME: name,
    RABBITMQ_CONF_ENV_FILE: join(folder, "rabbitmq-env.conf"),
    RABBITMQ_CONFIG_FILE: join(folder, "rabbitmq.conf"),
    RABBITMQ_ADVANCED_CONFIG_FILE: join(folder, "advanced.config"),
    RABBITMQ_GENERATED_CONFIG_DIR: join(folder, "config"),
    RABBITMQ_ENABLED_PLUGINS_FILE: join(folder, "enabled_plugins"),
    RABBITMQ_PLUGINS_EXPAND_DIR: join(folder, "plugins"),
    RABBITMQ_MNESIA_BASE: join(folder, "data"),
    RABBITMQ_LOG_BASE: join(folder, "log"),
    RABBITMQ_LOGS: join(folder, "log", "broker.log"),
    RABBITMQ_PID_FILE: join(folder, "broker.pid"),
    RABBITMQ_DIST_PORT: String(ports.distribution),
    RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS: "-kernel inet_dist_use_interface {127,0,0,1}",
    RABBITMQ_CTL_ERL_ARGS: "-kernel inet_dist_use_interface {127,0,0,1}",
    // Threads that are bound to cores would crowd the same ones, broker beside broker.
    RABBITMQ_SCHEDULER_BIND_TYPE: "u",
    // Makes the script become the broker instead of waiting for it: signals reach the broker itself.
    RUNNING_UNDER_SYSTEMD: "true",
  };
}

async function control(node: Node, args: readonly string[]): Promise<string> {
  const all = ["--quiet", "--node", node.name, ...args];
  const { stdout } = await run(join(BIN, "rabbitmqctl"), all, {
    ...node.as,
    env: node.env,
    cwd: node.folder,
  });
  return stdout;
}

/** Starts the port mapper (epmd; else the broker would leave one behind) and the broker; resolves when every listener is up. */
async function startNode(node: Node, processes: NodeProcesses): Promise<void> {
  if (isRunning(processes.broker)) throw new Error("the test broker runs already");
  const epmd = ["epmd", "-address", "127.0.0.1", "-port", String(node.ports.epmd)];
  if (!isRunning(processes.portMapper)) processes.portMapper = spawnMortal(node, epmd);
  const broker = spawnMortal(node, [join(BIN, "rabbitmq-server")]);
  processes.broker = broker;
  const { ports } = node;
  const api = managementApi(`http://127.0.0.1:${ports.management}`, "guest", "guest");
  const expected = [ports.amqp, ports.stream, ports.metrics, ports.management];
  try {
    for (const until = performance.now() + START_MS_MAX; ;) {
      const open = await listeningPorts(api).catch(() => new Set<unknown>());
      if (expected.every((port) => open.has(port))) return;
      if (!isRunning(broker)) throw new Error("it ended");
      if (performance.now() > until) throw new Error("it was not ready in time");
      await delay(50);
    }
  } catch (error) {
    await kill(processes);
    const log = await readFile(join(node.folder, "log", "broker.log"), "utf8").catch(() => "");
    const printed = await readFile(join(node.folder, "log", "printed"), "utf8").catch(() => "");
    const said = `${log.slice(-3000)}\n${printed.slice(-1000)}`;
    throw new Error(`RabbitMQ did not start on port ${ports.amqp}: ${said}`, { cause: error });
  }
}

/** Ports that the broker says it listens on: those of plugins open later than the API that tells. */
async function listeningPorts(api: ManagementApi): Promise<Set<unknown>> {
  const overview = await api("GET", "/api/overview");
  if (typeof overview !== "object" || overview === null || !("listeners" in overview))
    return new Set();
  const { listeners } = overview;
  if (!Array.isArray(listeners)) return new Set();
  return new Set(listeners.map((listener: { port?: unknown }) => listener.port));
}

/**
 * Starts a command in the node's environment and in a process group of its own, where Ctrl-C does not reach it. The
 * system kills it when this process is gone (parent-death signal), so that not even a crash leaves a broker behind.
 */
function spawnMortal(node: Node, command: readonly string[]): ChildProcess {
  const output = openSync(join(node.folder, "log", "printed"), "a");
  const child = spawn("setpriv", ["--pdeathsig", "KILL", ...command], {
    ...node.as,
    env: node.env,
    cwd: node.folder,
    detached: true,
    stdio: ["ignore", output, output],
  });
  closeSync(output);
  // A command that cannot be started counts as one that ended.
  child.on("error", () => undefined);
  child.unref();
  return child;
}

const isRunning = (child: ChildProcess | undefined): child is ChildProcess =>
  child?.pid !== undefined && child.exitCode === null && child.signalCode === null;

async function stop(processes: NodeProcesses): Promise<void> {
  const { broker } = processes;
  if (isRunning(broker)) {
    broker.kill("SIGTERM");
    await waitFor(() => !isRunning(broker), { msMax: STOP_MS_MAX, what: "RabbitMQ to stop" });
  }
  await kill(processes);
}

/** Kills the process groups, so that what the broker started goes with it. */
async function kill(processes: NodeProcesses): Promise<void> {
  for (const child of [processes.broker, processes.portMapper]) {
    if (!isRunning(child) || child.pid === undefined) continue;
    try {
      process.kill(-child.pid, "SIGKILL");
    } catch {
      // It ended in this very moment.
    }
    await waitFor(() => !isRunning(child), { what: "a killed process to be gone" });
  }
}

/** Root's brokers run as the package's user; others' as themselves. */
async function unprivilegedUser(): Promise<{ uid?: number; gid?: number }> {
  if (process.getuid?.() !== 0) return {};
  const passwd = await readFile("/etc/passwd", "utf8");
  const entry = passwd.split("\n").find((line) => line.startsWith("rabbitmq:"));
  const [, , uid, gid] = entry?.split(":") ?? [];
  if (uid === undefined || gid === undefined)
    throw new Error('no user "rabbitmq" to run a broker as');
  return { uid: Number(uid), gid: Number(gid) };
}

/**
 * A row of free loopback ports, below those the system gives to outgoing connections: a broker that is stopped for a
 * while finds its ports free when it comes back.
 */
async function findFreePorts(): Promise<Ports> {
  for (;;) {
    const first = randomInt(12_000 / 8, 32_000 / 8) * 8;
    const row = [0, 1, 2, 3, 4, 5].map((nth) => first + nth);
    const free = await Promise.all(row.map((port) => isFree(port)));
    if (!free.every(Boolean)) continue;
    return {
      amqp: first,
      management: first + 1,
      metrics: first + 2,
      stream: first + 3,
      distribution: first + 4,
      epmd: first + 5,
    };
  }
}

async function isFree(port: number): Promise<boolean> {
  const server = createServer();
  return await new Promise<boolean>((resolve) => {
    server.once("error", () => resolve(false));
    server.listen(port, "127.0.0.1", () => server.close(() => resolve(true)));
  });
}

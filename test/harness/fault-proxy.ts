import { createServer, connect, type Socket } from "node:net";
import { setTimeout as delay } from "node:timers/promises";

/** A TCP proxy on loopback that can fail on demand. Point a connection URL's port at `port`. */
export type FaultProxy = AsyncDisposable & {
  readonly port: number;
  /** The same URL with this proxy's port. */
  through(url: string): string;
  /** Resets every open connection; new ones work. */
  cut(): void;
  /** Refuses new connections (and resets the open ones) until `heal`. */
  refuse(): void;
  /** Holds every byte back for so long, both ways, until `heal`. */
  delay(ms: number): void;
  /** Swallows every byte, both ways, with no sign to either side, until `heal`. */
  blackhole(): void;
  /**
   * The next `times` times a client sends a COMMIT (simple query), lets it reach the server, waits for the server's
   * answer, and resets the connection instead of passing that on: the commit happened and the client cannot know.
   */
  cutAfterCommit(times?: number): void;
  /** How many commits were answered by a cut so far. */
  readonly commitsCut: number;
  /**
   * The next `times` times a client sends something with `text` in it, resets the connection instead of passing that on:
   * the server never sees it.
   */
  cutAt(text: string, times?: number): void;
  /** How often `cutAt` is still to happen. */
  readonly cutsLeft: number;
  /** Ends the fault; connections that were swallowed from stay broken, as in life. */
  heal(): void;
};

type Mode =
  | { kind: "pass" }
  | { kind: "refuse" }
  | { kind: "blackhole" }
  | { kind: "delay"; ms: number };

/** Starts a proxy in front of 127.0.0.1:`upstreamPort`. */
export async function faultProxy(options: { upstreamPort: number }): Promise<FaultProxy> {
  const links = new Set<Link>();
  const state: ProxyState = {
    mode: { kind: "pass" },
    commitCutsLeft: 0,
    commitsCut: 0,
    cut: { text: "", left: 0 },
  };
  const cut = () => {
    for (const link of links) link.reset();
  };
  const server = createServer((client) => {
    if (state.mode.kind === "refuse") {
      client.resetAndDestroy();
      return;
    }
    const link = openLink(client, options.upstreamPort, state);
    links.add(link);
    client.once("close", () => links.delete(link));
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(0, "127.0.0.1", resolve);
  });
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("no port");
  return {
    port: address.port,
    through: (url) =>
      Object.assign(new URL(url), { hostname: "127.0.0.1", port: String(address.port) }).href,
    cut,
    refuse: () => {
      state.mode = { kind: "refuse" };
      cut();
    },
    delay: (ms) => (state.mode = { kind: "delay", ms }),
    blackhole: () => (state.mode = { kind: "blackhole" }),
    cutAfterCommit: (times = 1) => (state.commitCutsLeft = times),
    get commitsCut() {
      return state.commitsCut;
    },
    cutAt: (text, times = 1) => (state.cut = { text, left: times }),
    get cutsLeft() {
      return state.cut.left;
    },
    heal: () => {
      state.mode = { kind: "pass" };
      state.commitCutsLeft = 0;
      state.cut.left = 0;
    },
    [Symbol.asyncDispose]: async () => {
      cut();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

type ProxyState = {
  mode: Mode;
  commitCutsLeft: number;
  commitsCut: number;
  cut: { text: string; left: number };
};
type Link = { reset(): void };

function openLink(client: Socket, upstreamPort: number, state: ProxyState): Link {
  const upstream = connect({ host: "127.0.0.1", port: upstreamPort, noDelay: true });
  client.setNoDelay(true);
  let commitSent = false;
  const reset = () => {
    client.resetAndDestroy();
    upstream.destroy();
  };
  pipe(client, upstream, state, (bytes) => {
    if (state.cut.left > 0 && bytes.includes(state.cut.text)) {
      state.cut.left--;
      reset();
      return false;
    }
    if (state.commitCutsLeft > 0 && isCommit(bytes)) {
      state.commitCutsLeft--;
      commitSent = true;
    }
    return true;
  });
  pipe(upstream, client, state, () => {
    if (!commitSent) return true;
    state.commitsCut++;
    reset();
    return false;
  });
  return { reset };
}

/** Passes bytes on as the mode says, in order; `mayPass` sees each piece first. */
function pipe(
  from: Socket,
  to: Socket,
  state: ProxyState,
  mayPass: (bytes: Buffer) => boolean,
): void {
  let last: Promise<void> = Promise.resolve();
  from.on("data", (bytes: Buffer) => {
    const mode = state.mode;
    if (mode.kind === "blackhole" || !mayPass(bytes)) return;
    const write = () => {
      if (to.destroyed || to.write(bytes)) return;
      from.pause();
      to.once("drain", () => from.resume());
    };
    last = mode.kind === "delay" ? last.then(() => delay(mode.ms)).then(write) : last.then(write);
  });
  from.on("error", () => to.destroy());
  from.on("close", () => void last.then(() => to.end()));
}

/** A simple query message ('Q', length, text, 0) whose text is COMMIT. */
function isCommit(bytes: Buffer): boolean {
  for (let at = 0; at + 5 < bytes.length;) {
    const length = bytes.readInt32BE(at + 1);
    if (bytes[at] !== 0x51 || length < 4) return false;
    if (/^\s*commit\b/i.test(bytes.toString("latin1", at + 5, at + 1 + length))) return true;
    at += length + 1;
  }
  return false;
}

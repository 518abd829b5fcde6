import type { ServerResponse } from "node:http";
import type { Socket } from "node:net";
import type { ApiDependencies, Server } from "./dependencies.ts";
import { createServer } from "./server.ts";

/** The HTTP API, listening. Disposing stops accepting, lets answers under way finish, and closes what is idle. */
export type Api = AsyncDisposable & {
  /** Where it listens, without a slash at the end. */
  readonly url: string;
  /** False: readiness fails from now on, so that no new traffic is sent here; requests are still answered. */
  setReady(isReady: boolean): void;
};

export type ApiOptions = ApiDependencies & {
  host: string;
  /** 0: any free port. */
  port: number;
};

/** Opens the API. Resolves when it listens; throws what listening throws (EADDRINUSE, EACCES). */
export async function openApi({ host, port, ...deps }: ApiOptions): Promise<Api> {
  let isReady = true;
  const server = await createServer(deps, () => isReady);
  const connections = trackConnections(server);
  const url = await server.listen({ host, port });
  return {
    url,
    setReady: (value) => {
      isReady = value;
    },
    [Symbol.asyncDispose]: async () => {
      isReady = false;
      const overdue = setTimeout(() => server.server.closeAllConnections(), deps.limits.drainMsMax);
      try {
        connections.closeIdle();
        await server.close();
      } finally {
        clearTimeout(overdue);
      }
    },
  };
}

/**
 * Knows which connections have a request under way. Node's own list counts one that has not sent a byte as busy, and
 * stops its time-outs when closing: a browser's spare connection would keep the process from ending.
 */
function trackConnections({ server }: Server): { closeIdle(): void } {
  const open = new Map<Socket, Set<ServerResponse>>();
  let isClosing = false;
  server.on("connection", (socket: Socket) => {
    open.set(socket, new Set());
    socket.once("close", () => open.delete(socket));
  });
  server.on("request", ({ socket }, response) => {
    const underWay = open.get(socket);
    underWay?.add(response);
    response.once("close", () => {
      underWay?.delete(response);
      // One whose head was already out when closing began could not be told to end the connection.
      if (isClosing && underWay?.size === 0) socket.end();
    });
  });
  return {
    closeIdle: () => {
      isClosing = true;
      for (const [socket, underWay] of open) {
        if (underWay.size === 0) socket.destroy();
        for (const response of underWay) response.shouldKeepAlive = false;
      }
    },
  };
}

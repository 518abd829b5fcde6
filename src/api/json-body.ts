import type { Server } from "./dependencies.ts";

/** Longest JSON body of a change. Events have a limit of their own. */
const BODY_BYTES_MAX = 64 * 1024;

/** Adds routes that take JSON bodies, and lets them: a body of any other type, or that says `__proto__`, is refused. */
export async function withJsonBodies(
  parent: Server,
  addRoutes: (server: Server) => void,
): Promise<void> {
  await parent.register(async (scope) => {
    const server: Server = scope;
    server.addContentTypeParser(
      "application/json",
      { parseAs: "string", bodyLimit: BODY_BYTES_MAX },
      server.getDefaultJsonParser("error", "error"),
    );
    addRoutes(server);
  });
}

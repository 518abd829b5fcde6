/** For `node --test --test-global-setup`: the servers are there before the first test file and all through the run. */
import { startTestServers } from "./shared-server.ts";

let servers: AsyncDisposable | undefined;

export async function globalSetup(): Promise<void> {
  servers = await startTestServers();
}

export async function globalTeardown(): Promise<void> {
  await servers?.[Symbol.asyncDispose]();
}

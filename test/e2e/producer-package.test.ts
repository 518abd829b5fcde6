import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdir, readdir, readFile, symlink, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { temporaryFolder, testBroker, testService, waitFor } from "#harness";

const run = promisify(execFile);
const ROOT = dirname(dirname(dirname(fileURLToPath(import.meta.url))));

/** A folder with the packed package as a gateway would have it installed, without the network. */
async function installPackage(folder: string): Promise<void> {
  await run("npm", ["pack", "--pack-destination", folder], { cwd: ROOT });
  const [tarball = ""] = (await readdir(folder)).filter((file) => file.endsWith(".tgz"));
  const modules = join(folder, "node_modules");
  await mkdir(join(modules, "tallystick"), { recursive: true });
  const unpacked = join(modules, "tallystick");
  await run("tar", ["-xzf", join(folder, tarball), "-C", unpacked, "--strip-components=1"]);
  for (const name of ["amqplib", "@types"])
    await symlink(join(ROOT, "node_modules", name), join(modules, name));
}

/** The first block of JavaScript in a section of README.md. */
async function codeOfSection(title: string): Promise<string> {
  const text = await readFile(join(ROOT, "README.md"), "utf8");
  const section = text.split(/^## /m).find((part) => part.startsWith(`${title}\n`)) ?? "";
  const [, code] = /^```js\n([^]*?)^```$/m.exec(section) ?? [];
  if (code === undefined) throw new Error(`README.md has no JavaScript under "${title}"`);
  return code;
}

test("the lines that connect a gateway in README.md work as written, with the package as it is packed", async () => {
  await using scope = new AsyncDisposableStack();
  const { path: folder } = scope.use(await temporaryFolder());
  const broker = scope.use(await testBroker());
  const service = scope.use(await testService({ env: { RABBITMQ_URL: broker.url } }));
  await installPackage(folder);
  const code = await codeOfSection("Connect a gateway");
  await writeFile(join(folder, "gateway.mjs"), code);

  const env = { PATH: process.env["PATH"], RABBITMQ_URL: broker.url };
  // Twice: a gateway that starts again sends the same event once more.
  for (const _ of [1, 2])
    await run(process.execPath, ["gateway.mjs"], { cwd: folder, env, timeout: 30_000 });

  const metric = async (status: string): Promise<boolean> => {
    const text = await (await service.request("/metrics")).text();
    return text.includes(`tallystick_ingest_events_total{status="${status}"} 1\n`);
  };
  await waitFor(async () => (await metric("accepted")) && (await metric("duplicate")), {
    what: "the event and its repeat to be consumed",
  });
  const usage = "/analytics/v1/orgs/acme/usage?granularity=hour";
  await waitFor(async () => {
    const { totals } = (await service.get(usage)) as { totals: Record<string, unknown> };
    return totals["requests"] === 1 && totals["inputTokens"] === 1200;
  });
});

test("the package has types that a gateway in TypeScript compiles with", async () => {
  await using scope = new AsyncDisposableStack();
  const { path: folder } = scope.use(await temporaryFolder());
  await installPackage(folder);
  const gateway = `import { openProducer, ProducerFault, type Producer } from "tallystick/producer";
    const usage: Producer = openProducer({ url: "amqp://127.0.0.1", target: { stream: "usage" } });
    try {
      await usage.send({ event_id: "e1" });
    } catch (error) {
      if (error instanceof ProducerFault && error.code === "timeout") throw error;
    }
    await usage.close();
  `;
  const compile = async (source: string) => {
    await writeFile(join(folder, "gateway.mts"), source);
    const options = ["--noEmit", "--strict", "--target", "es2022", "--module", "nodenext"];
    const tsc = join(ROOT, "node_modules", ".bin", "tsc");
    const all = [...options, "--types", "node", "--lib", "es2023,esnext.disposable", "gateway.mts"];
    return await run(tsc, all, { cwd: folder }).then(
      () => "",
      ({ stdout }: { stdout: string }) => stdout,
    );
  };
  assert.equal(await compile(gateway), "");
  assert.match(await compile(gateway.replace("timeout", "tmieout")), /no overlap/);
});

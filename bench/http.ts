import { openBenchApp } from "./bench-app.ts";
import type { Bench } from "./bench.ts";
import { startChild } from "./child.ts";
import { cpuBetween, type CpuReading, median, readOwnCpuUs, readPostgresCpuUs } from "./measure.ts";

const NAME = "HTTP";

/**
 * The service as `npm start` runs it, all in one process, and a sender in another: NDJSON of 1,000 events a request
 * over kept-alive loopback connections, each answered when it is durable.
 */
export async function measureHttp({
  server,
  size,
  report,
  say,
  calibration,
}: Bench): Promise<void> {
  await using scope = new AsyncDisposableStack();
  const db = scope.use(await server.createDatabase());
  const app = scope.use(await openBenchApp(db.url));
  const script = new URL("./http-sender.ts", import.meta.url);
  const sender = scope.use(
    await startChild(script, [app.url, app.adminKey.key, String(size.httpEvents)]),
  );
  const postmaster = await server.pid();
  const readCpu = (): CpuReading => ({
    nodeUs: readOwnCpuUs(),
    rollupUs: null,
    postgresUs: readPostgresCpuUs(postmaster),
  });

  const runs: {
    perSecond: number;
    serviceUs: number;
    postgresUs: number | null;
    senderUs: number;
  }[] = [];
  for (let run = -1; run < size.httpRuns; run++) {
    await sender.ask("prepare");
    const before = readCpu();
    const { accepted = 0, seconds = 0, cpuUs = 0 } = await sender.ask("send");
    const cpu = cpuBetween(before, readCpu());
    if (accepted < size.httpEvents)
      throw new Error(`${accepted} of ${size.httpEvents} events were accepted`);
    // The first is the warm-up.
    if (run < 0) continue;
    runs.push({
      perSecond: accepted / seconds,
      serviceUs: cpu.nodeUs / accepted,
      postgresUs: cpu.postgresUs && cpu.postgresUs / accepted,
      senderUs: cpuUs / accepted,
    });
    say(`${NAME}, ${run + 1}/${size.httpRuns}: ${Math.round(accepted / seconds)} events/s`);
  }
  const perSecond = median(runs.map((run) => run.perSecond));
  const ratio = { value: perSecond / calibration, to: "calibration" };
  report.add({
    bench: NAME,
    what: "answered events, rollup running",
    value: perSecond,
    unit: "events/s",
    ratio,
  });
  const postgres = runs.flatMap((run) => run.postgresUs ?? []);
  report.add({
    bench: NAME,
    what: "CPU of the service",
    value: median(runs.map((run) => run.serviceUs)),
    unit: "µs/event",
    also: {
      ...(postgres.length > 0 && { PostgreSQL: median(postgres) }),
      sender: median(runs.map((run) => run.senderUs)),
    },
  });
}

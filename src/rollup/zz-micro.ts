import { Session } from "node:inspector/promises";
import { writeFileSync } from "node:fs";
import { testDatabase } from "#harness";
import { neverCrash, systemClock } from "#kernel";
import { commitTestBatch, openLane, testEvent } from "./committed-batches.ts";
import { FoldWorker, ROLLUP_DEFAULTS } from "./fold-worker.ts";
await using db = await testDatabase();
const lane = await openLane(db.database);
const n = Number(process.argv[3] ?? 40), per = 10000;
let x = 12345; const rnd = () => { x ^= x << 13; x ^= x >>> 17; x ^= x << 5; return (x>>>0)/2**32; };
const spanS = Number(process.argv[2] ?? 600);
for (let b = 0; b < n; b++) {
  await commitTestBatch(db.database, lane, Array.from({length: per}, () => { const o = rnd()*250|0; return testEvent({org: `org-${o}`, model: `m-${rnd()*40|0}`, client: `c-${rnd()*5|0}`, actor: `a-${rnd()*50|0}`,
    outcome: rnd() < 0.03 ? 3 : 0, errorCode: null, latencyMs: Math.floor(Math.exp(4+rnd()*5)), occurredAtUs: Date.parse("2026-11-20T10:00:00Z")*1000 + Math.floor(rnd()*spanS*1e6)})}));
}
const s = new Session(); s.connect(); await s.post("Profiler.enable"); await s.post("Profiler.start");
for (const c of ["usage","people"] as const) {
  await using w = new FoldWorker(c, {database: db.database, clock: systemClock, crash: neverCrash, settings: {...ROLLUP_DEFAULTS, foldEventsMax: Number(process.argv[4] ?? 100000)}, owner: "b"});
  for (let i = 0; i < 20; i++) {
  const c0 = process.cpuUsage(); const t0 = performance.now();
  const r = await w.foldOnce();
  const cpu = process.cpuUsage(c0); const ms = performance.now()-t0;
  if (r.state === "folded") console.log(c, r.batches, r.events, "ms", ms|0, "node cpu us/event", ((cpu.user+cpu.system)/Math.max(1,r.events)).toFixed(2), "rss", process.memoryUsage().rss>>20);
  if (r.state !== "folded" || !r.hasMore) break;
  }
}
const {profile} = await s.post("Profiler.stop"); writeFileSync("/tmp/partf/micro.cpuprofile", JSON.stringify(profile));

export * from "./reratings.ts";
export {
  type ReratingWorker,
  type ReratingWorkerDeps,
  startReratingWorker,
  type StepResult,
} from "./rerating-worker.ts";
export { listPoolHourPage, type PoolHour } from "./pool-hours.ts";
export { type PoolRating, type PoolRatingDeps, startPoolRating } from "./pool-rating.ts";

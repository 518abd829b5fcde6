/** One sentence on what happened, one on what to do. */
export type Explanation = { what: string; todo: string };
export type Toolchain = { package: string; version: string; integrity: string };
export type NodePlan =
  | { kind: "running" }
  | { kind: "toolchain"; toolchain: Toolchain }
  | ({ kind: "unsupported" } & Explanation);

export const NODE_MAJOR_MIN: number;
export const LAUNCHER_NODE_MAJOR_MIN: number;
export const NPM_MAJOR_MIN: number;
export const LOCK_SILENCE_MS_MAX: number;
export const SERVICE_FLAGS: readonly string[];
export const SERVICE_ENV: Readonly<Record<string, string>>;
export const TOOLCHAINS: Record<string, Toolchain>;

export function flagsFor(args: readonly string[], execArgv: readonly string[]): readonly string[];
export function majorOf(version: string): number;
export function planNode(running: { version: string; platform: string; arch: string }): NodePlan;
export function isToolchainInstalled(stamp: string, toolchain: Toolchain): boolean;
export function toolchainStamp(toolchain: Toolchain): string;
export function packagesStamp(tree: { lockText: string; platform: string; arch: string }): string;
export function arePackagesInstalled(tree: {
  lockText: string;
  stamp: string;
  installedText: string;
  platform: string;
  arch: string;
}): boolean;
export function isLockAbandoned(lock: {
  owner: { host: string; pid: number } | undefined;
  host: string;
  isAlive: (pid: number) => boolean;
  silentMs: number;
}): boolean;
export function explainNpmFailure(failure: {
  code: number | string | null;
  output: string;
  npmVersion?: string | undefined;
}): Explanation;
export const TOOLCHAIN_BYTES: number;
export const PACKAGES_BYTES: number;
export function explainSmallDisk(disk: {
  root: string;
  freeBytes: number;
  neededBytes: number;
}): Explanation | undefined;
export function explainUnwritable(attempt: {
  root: string;
  error: string;
  ownerUid: number | undefined;
  uid: number | undefined;
}): Explanation;
export function formatElapsed(ms: number): string;

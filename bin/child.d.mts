import type { EventEmitter } from "node:events";

/** See child.mjs. */
export function countSignalsOnce(target?: EventEmitter, now?: () => number): void;

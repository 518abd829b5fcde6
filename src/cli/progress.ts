import type { Clock } from "#kernel";
import type { CommandIo } from "./command.ts";
import { formatNumber } from "./table.ts";

const REDRAW_MS = 100;
const LINE_MS = 5000;
const BAR_CELLS = 24;

/** Where a long piece of work stands. */
export type Progress = {
  /** Shows it, at most ten times a second on a terminal and every five seconds elsewhere. */
  show(state: { done: number; total: number; text: string }): void;
  /** A line of its own above the bar: warnings, phases. */
  note(text: string): void;
  /** Takes the bar away. Call it before anything else is printed. */
  clear(): void;
};

/** Progress on standard error: a bar redrawn in place for a person, plain lines for a log. */
export function createProgress(io: CommandIo, clock: Clock): Progress {
  const startedMs = clock.now();
  let shownMs = startedMs - LINE_MS + 1000;
  let isDrawn = false;
  const clear = (): void => {
    if (isDrawn) io.stderr.write("\r\x1b[2K");
    isDrawn = false;
  };
  return {
    clear,
    note: (text) => {
      clear();
      io.stderr.write(`${text}\n`);
    },
    show: ({ done, total, text }) => {
      const nowMs = clock.now();
      if (nowMs - shownMs < (io.isTty ? REDRAW_MS : LINE_MS)) return;
      shownMs = nowMs;
      const share = total > 0 ? Math.min(1, done / total) : 0;
      const percent = `${Math.floor(share * 100)}%`.padStart(4);
      const rest = `${text}${formatRest(share, nowMs - startedMs)}`;
      if (!io.isTty) {
        io.stderr.write(`${percent.trim()} · ${rest}\n`);
        return;
      }
      const filled = Math.round(share * BAR_CELLS);
      io.stderr.write(
        `\r\x1b[2K${percent} ${"█".repeat(filled)}${"░".repeat(BAR_CELLS - filled)} ${rest}`,
      );
      isDrawn = true;
    },
  };
}

/** What is left at the pace so far; nothing while that is a guess. */
function formatRest(share: number, elapsedMs: number): string {
  if (share < 0.02 || elapsedMs < 1000 || share >= 1) return "";
  const seconds = Math.ceil(((elapsedMs / share) * (1 - share)) / 1000);
  return ` · ${seconds < 120 ? `${formatNumber(seconds)} s` : `${formatNumber(Math.ceil(seconds / 60))} min`} left`;
}

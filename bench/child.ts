import { fork } from "node:child_process";
import { once } from "node:events";
import { basename } from "node:path";
import { fileURLToPath } from "node:url";
import { z } from "zod";

/** What a child answers with: figures by name. */
export type Figures = Readonly<Record<string, number>>;

/** A process of its own that does what it is asked, one thing after another. Disposing ends it. */
export type Child = AsyncDisposable & {
  /** Throws when the child failed at it, or ended. */
  ask(request: string, args?: Figures): Promise<Figures>;
};

const answerSchema = z.union([
  z.object({ figures: z.record(z.string(), z.number()) }),
  z.object({ error: z.string() }),
]);
type Answer = z.output<typeof answerSchema>;
const requestSchema = z.object({ name: z.string(), args: z.record(z.string(), z.number()) });
type Request = z.output<typeof requestSchema>;

/** Runs a script that calls `serveParent`; resolves when it is ready for requests. */
export async function startChild(script: URL, args: readonly string[]): Promise<Child> {
  const child = fork(fileURLToPath(script), [...args]);
  const name = basename(script.pathname);
  const receive = async (): Promise<Figures> => {
    const gone = new AbortController();
    const onExit = (): void => gone.abort(new Error(`${name} ended`));
    child.once("exit", onExit);
    try {
      const [message] = await once(child, "message", { signal: gone.signal });
      const answer = answerSchema.parse(message);
      if ("error" in answer) throw new Error(`${name}: ${answer.error}`);
      return answer.figures;
    } finally {
      child.off("exit", onExit);
    }
  };
  let turn: Promise<unknown> = receive();
  await turn;
  return {
    ask: (name, args = {}) => {
      const answer = turn.then(() => {
        child.send({ name, args } satisfies Request);
        return receive();
      });
      turn = answer.catch(() => undefined);
      return answer;
    },
    [Symbol.asyncDispose]: async () => {
      if (child.exitCode !== null || child.signalCode !== null) return;
      const ended = once(child, "exit");
      child.disconnect();
      await ended;
    },
  };
}

/** The child's side: answers requests until the parent lets go or dies. */
export async function serveParent(
  answers: Readonly<Record<string, (args: Figures) => Promise<Figures>>>,
): Promise<void> {
  const send = (answer: Answer): void => void process.send?.(answer);
  process.on("message", (message) => {
    const { name, args } = requestSchema.parse(message);
    const work = answers[name];
    const figures = work ? work(args) : Promise.reject(new Error(`no such request: ${name}`));
    figures.then(
      (figures) => send({ figures }),
      (error: unknown) =>
        send({ error: error instanceof Error ? (error.stack ?? error.message) : String(error) }),
    );
  });
  send({ figures: {} });
  await once(process, "disconnect");
}

import { test, type TestContext } from "node:test";
import { seededNumbers } from "#harness";

/** Whether the long set was asked for (`npm run test:faults`). */
const isLong = process.env["TALLYSTICK_FAULTS"] === "long";

/** A size of the scenario: one for every push, one for the long set. */
export const scaled = <T>(sizes: { short: T; long: T }): T => (isLong ? sizes.long : sizes.short);

/**
 * A test of one fault, all of whose chances come from a seed. A failure tells the seed; TALLYSTICK_SEED=<seed> runs the
 * same scenario again.
 */
export function faultTest(
  name: string,
  body: (seed: number, context: TestContext) => Promise<void>,
): void {
  test(name, async (context) => {
    const seed = seedOfRun();
    try {
      await body(seed, context);
    } catch (error) {
      const told = error instanceof Error ? error : new Error(String(error));
      told.message += `\n(TALLYSTICK_SEED=${seed} runs this scenario again)`;
      throw told;
    }
  });
}

function seedOfRun(): number {
  const wish = Number(process.env["TALLYSTICK_SEED"]);
  return Number.isSafeInteger(wish) && wish > 0 ? wish : 1 + Math.floor(Math.random() * 1e9);
}

/** Numbers from 0 up to, not including, 1 that the seed decides; seeds next to each other have nothing in common. */
export function chancesOf(seed: number): () => number {
  const next = seededNumbers(seed);
  for (let i = 0; i < 20; i++) next();
  return next;
}

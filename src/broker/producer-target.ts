/** Where a producer's messages go. */
export type ProducerTarget =
  | { stream: string }
  | {
      /** Exchange of the super stream; its partitions are bound to it under "0", "1", … */
      superStream: string;
      partitions: number;
      /** All events of an org to one partition (default), or each event to the next one. */
      spread?: "org" | "turns";
    }
  | { queue: string }
  | { exchange: string; routingKey: string };

/** Finds the routing key of what is published to `exchange` ("": straight to the stream or queue of that name). */
export type Router = {
  readonly exchange: string;
  /** For events of this org. */
  keyOf(org: string): string;
  /** For a body whose orgs are not known. */
  nextKey(): string;
};

/** Throws TypeError for a target that cannot be. */
export function createRouter(target: ProducerTarget): Router {
  if ("superStream" in target) return createPartitionRouter(target);
  if ("exchange" in target) return createFixedRouter(target.exchange, target.routingKey);
  const name = "stream" in target ? target.stream : target.queue;
  if (name === "") throw new TypeError("The stream or queue to publish to needs a name.");
  return createFixedRouter("", name);
}

const createFixedRouter = (exchange: string, key: string): Router => ({
  exchange,
  keyOf: () => key,
  nextKey: () => key,
});

function createPartitionRouter(target: Extract<ProducerTarget, { superStream: string }>): Router {
  const { superStream: exchange, partitions, spread = "org" } = target;
  if (exchange === "" || !Number.isInteger(partitions) || partitions < 1) {
    throw new TypeError("A super stream needs a name and how many partitions it has, 1 or more.");
  }
  let turn = 0;
  const nextKey = () => String(turn++ % partitions);
  return {
    exchange,
    keyOf: spread === "turns" ? nextKey : (org) => String(hashOf(org) % partitions),
    nextKey,
  };
}

/** FNV-1a, 32 bits, over UTF-16 units: spreads short ids evenly, and is the same in every process. */
function hashOf(text: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) {
    hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
  }
  return hash >>> 0;
}

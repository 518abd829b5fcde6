/** A stream of random numbers that is the same for the same seeds, on every machine. */
export type Random = {
  /** The next unsigned 32-bit word. */
  word(): number;
  /** 0 ≤ x < 1. */
  unit(): number;
};

/** sfc32 (Chris Doty-Humphrey, PractRand; public domain), seeded with two numbers. */
export function createRandom(seed: number, stream: number): Random {
  let a = seed | 0;
  let b = stream | 0;
  let c = Math.floor(stream / 4_294_967_296) | 0;
  let counter = 1;
  const word = (): number => {
    const t = (a + b + counter) | 0;
    counter = (counter + 1) | 0;
    a = b ^ (b >>> 9);
    b = (c + (c << 3)) | 0;
    c = (c << 21) | (c >>> 11);
    c = (c + t) | 0;
    return t >>> 0;
  };
  // The first words still show the seeds.
  for (let i = 0; i < 12; i++) word();
  return { word, unit: () => word() / 4_294_967_296 };
}

const HEX = Array.from({ length: 65_536 }, (_, i) => i.toString(16).padStart(4, "0"));

/** A canonical lower-case UUIDv7 of this time, its other bits from `random`. */
export function uuid7(atMs: number, random: Random): string {
  const high = Math.floor(atMs / 65_536);
  const [x, y, z] = [random.word(), random.word(), random.word()];
  const version = 0x7000 | (x & 0x0fff);
  const variant = 0x8000 | ((x >>> 12) & 0x3fff);
  return (
    `${HEX[high >>> 16]}${HEX[high & 0xffff]}-${HEX[atMs % 65_536]}-${HEX[version]}-${HEX[variant]}` +
    `-${HEX[y >>> 16]}${HEX[y & 0xffff]}${HEX[z >>> 16]}`
  );
}

/** Quantiles of a log-normal distribution around a median of 1, equally likely each: drawing one is drawing from it. */
export function logNormalTable(sigma: number, size = 4096): Float64Array {
  const table = new Float64Array(size);
  for (let i = 0; i < size; i++) table[i] = Math.exp(sigma * normalQuantile((i + 0.5) / size));
  return table;
}

/** Inverse of the standard normal distribution to about 1e-3 (Abramowitz and Stegun 26.2.23 is 4.5e-4). */
function normalQuantile(p: number): number {
  const isLower = p < 0.5;
  const t = Math.sqrt(-2 * Math.log(isLower ? p : 1 - p));
  const x =
    t -
    (2.515517 + t * (0.802853 + t * 0.010328)) /
      (1 + t * (1.432788 + t * (0.189269 + t * 0.001308)));
  return isLower ? -x : x;
}

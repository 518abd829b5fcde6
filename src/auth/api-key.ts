import { createHash, randomBytes, timingSafeEqual } from "node:crypto";
import { crc32 } from "node:zlib";

/** The parts of `tally_<environment>_<id>_<secret>_<crc>`. Only `secret` is one. */
export type ApiKey = { environment: string; id: string; secret: string };

const LETTERS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const BASE = BigInt(LETTERS.length);
/** More than the 71 bits that 12 letters hold, so that every letter is as likely as any other. */
const ID_BYTES = 16;
const ID_LETTERS = 12;
/** 256 bits take 43 letters of 62. */
const SECRET_BYTES = 32;
const SECRET_LETTERS = 43;
/** 32 bits take 6. */
const CRC_LETTERS = 6;
const FORM =
  /^(?<body>tally_(?<environment>[a-z][a-z0-9]{0,15})_(?<id>[0-9A-Za-z]{12})_(?<secret>[0-9A-Za-z]{43}))_(?<crc>[0-9A-Za-z]{6})$/;

/** Whether a text may stand in a key for where the key belongs: "live", "staging". */
export const isKeyEnvironment = (text: string): boolean => /^[a-z][a-z0-9]{0,15}$/.test(text);

/** A key that nobody has: id and secret from the machine's source of randomness. */
export function createApiKey(environment: string): ApiKey {
  if (!isKeyEnvironment(environment)) throw new RangeError("not the name of a key environment");
  return {
    environment,
    id: toLetters(randomBytes(ID_BYTES), ID_LETTERS),
    secret: toLetters(randomBytes(SECRET_BYTES), SECRET_LETTERS),
  };
}

/** The text a caller sends. Its last part lets a typing error be told without asking anybody. */
export function formatApiKey({ environment, id, secret }: ApiKey): string {
  const body = `tally_${environment}_${id}_${secret}`;
  return `${body}_${checksumOf(body)}`;
}

/** The parts of a key, or undefined: another form, or a checksum that does not fit. */
export function parseApiKey(text: string): ApiKey | undefined {
  const { body, environment, id, secret, crc } = FORM.exec(text)?.groups ?? {};
  if (!body || !environment || !id || !secret || crc !== checksumOf(body)) return undefined;
  return { environment, id, secret };
}

/** What is stored of a secret. It has 256 bits of chance, so that a slow hash would add nothing. */
export const hashSecret = (secret: string): Buffer =>
  createHash("sha256").update(secret, "utf8").digest();

/** Compares in the same time whether or not they are alike. Both are SHA-256 digests. */
export const isSameHash = (a: Uint8Array, b: Uint8Array): boolean =>
  a.byteLength === b.byteLength && timingSafeEqual(a, b);

const checksumOf = (body: string): string => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(crc32(body));
  return toLetters(bytes, CRC_LETTERS);
};

/** The number these bytes are, in base 62, its last `length` letters. */
function toLetters(bytes: Uint8Array, length: number): string {
  let rest = BigInt(`0x${Buffer.from(bytes).toString("hex")}`);
  let text = "";
  for (let i = 0; i < length; i++) {
    text = LETTERS.charAt(Number(rest % BASE)) + text;
    rest /= BASE;
  }
  return text;
}

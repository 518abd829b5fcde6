import { createHash } from "node:crypto";
import { RateLimiterMemory } from "rate-limiter-flexible";
import type { Principal } from "#auth";
import { Failure } from "#contract";
import type { Clock } from "#kernel";

/** Requests per minute; 0: as many as come. */
export type RatesPerMinute = {
  /** Of one address, whoever asks: health and readiness aside. */
  address: number;
  /** Of one address with a credential that is wrong. */
  failedLogin: number;
  /** Of one principal, ingestion aside. */
  key: number;
  /** Of all principals of one org together, ingestion aside. */
  org: number;
  /** Of one principal at ingestion. */
  events: number;
};

/** A limit as a caller sees it. */
export type RateQuota = {
  policy: "address" | "failed-login" | "key" | "org" | "events";
  /** Requests per minute. */
  quota: number;
  remaining: number;
  /** Whole seconds until `quota` is there again. */
  resetSeconds: number;
  isExceeded: boolean;
};

/**
 * Counts requests in this process; each process of several has its own count. An address is that of the connection:
 * what a header claims changes nothing.
 */
export type RateLimits = {
  /** Counts a request from an address. Throws Failure `rate_limited`. */
  countAddress(address: string): Promise<void>;
  /** Counts a request of a principal: what each of its limits says now. */
  countPrincipal(principal: Principal, about: { isIngestion: boolean }): Promise<RateQuota[]>;
  /**
   * Runs `check` on a credential. When too many wrong ones came from the address, one that was not right lately is
   * refused unread: Failure `rate_limited`. Those that were right still get in, so that behind one proxy the mistakes
   * of one caller shut no other out. Throws what `check` throws; `unauthenticated` is what counts as wrong.
   */
  tryCredential<T>(address: string, credential: string, check: () => T | Promise<T>): Promise<T>;
};

const WINDOW_SECONDS = 60;
const RIGHT_CREDENTIALS_MAX = 10_000;
const RIGHT_MS_MAX = 3_600_000;

/** Limits in this process's memory. */
export function createRateLimits(rates: RatesPerMinute, clock: Clock): RateLimits {
  const address = createLimiter("address", rates.address);
  const failedLogin = createLimiter("failed-login", rates.failedLogin);
  const key = createLimiter("key", rates.key);
  const org = createLimiter("org", rates.org);
  const events = createLimiter("events", rates.events);
  const right = createRightCredentials(clock);
  return {
    countAddress: async (from) => refuseExceeded(await address.count(networkOf(from))),
    countPrincipal: async ({ id, orgId }, { isIngestion }) => {
      if (isIngestion) return await events.count(id);
      return [...(await key.count(id)), ...(orgId === null ? [] : await org.count(orgId))];
    },
    tryCredential: async (from, credential, check) => {
      if (rates.failedLogin === 0) return await check();
      const network = networkOf(from);
      const digest = createHash("sha256").update(credential, "utf8").digest("base64");
      const failures = await failedLogin.peek(network);
      if (failures.some(({ remaining }) => remaining === 0) && !right.has(digest)) {
        throw tooMany(failures);
      }
      try {
        const answer = await check();
        right.add(digest);
        return answer;
      } catch (error) {
        if (error instanceof Failure && error.code === "unauthenticated") {
          right.delete(digest);
          await failedLogin.count(network);
        }
        throw error;
      }
    },
  };
}

/** Throws Failure `rate_limited` when one of these is used up. */
export function refuseExceeded(quotas: readonly RateQuota[]): void {
  const exceeded = quotas.filter(({ isExceeded }) => isExceeded);
  if (exceeded.length > 0) throw tooMany(exceeded);
}

/** The fields of draft-ietf-httpapi-ratelimit-headers-11: the limits, and what is left of them. */
export function formatRateLimits(quotas: readonly RateQuota[]): Record<string, string> {
  if (quotas.length === 0) return {};
  return {
    "ratelimit-policy": quotas
      .map(({ policy, quota }) => `"${policy}";q=${quota};w=${WINDOW_SECONDS}`)
      .join(", "),
    ratelimit: quotas
      .map(({ policy, remaining, resetSeconds }) => `"${policy}";r=${remaining};t=${resetSeconds}`)
      .join(", "),
  };
}

const WHOSE: Record<RateQuota["policy"], string> = {
  address: "from this address",
  "failed-login": "from this address with a wrong credential",
  key: "with this credential",
  org: "of this org",
  events: "with events and this credential",
};

function tooMany(quotas: readonly RateQuota[]): Failure {
  const whose = quotas.map(({ policy, quota }) => `${WHOSE[policy]} (${quota} a minute)`);
  return new Failure("rate_limited", `Too many requests ${whose.join(" and ")}.`, {
    retryAfterSeconds: Math.max(...quotas.map(({ resetSeconds }) => resetSeconds)),
  });
}

/** One limit; none (0) counts nothing and says nothing. */
function createLimiter(policy: RateQuota["policy"], quota: number) {
  if (quota === 0) return { count: async () => [], peek: async () => [] };
  const memory = new RateLimiterMemory({ points: quota, duration: WINDOW_SECONDS });
  const quotaOf = (consumedPoints: number, msBeforeNext: number): RateQuota => ({
    policy,
    quota,
    remaining: Math.max(0, quota - consumedPoints),
    resetSeconds: Math.max(1, Math.ceil(msBeforeNext / 1000)),
    isExceeded: consumedPoints > quota,
  });
  return {
    // Counts like `consume`, and answers instead of rejecting when it is too many.
    count: async (whose: string): Promise<RateQuota[]> => {
      const { consumedPoints, msBeforeNext } = await memory.penalty(whose, 1);
      return [quotaOf(consumedPoints, msBeforeNext)];
    },
    peek: async (whose: string): Promise<RateQuota[]> => {
      const known = await memory.get(whose);
      return known === null ? [] : [quotaOf(known.consumedPoints, known.msBeforeNext)];
    },
  };
}

/** Digests of credentials that were right not long ago, the newest so many. */
function createRightCredentials(clock: Clock) {
  const untilMs = new Map<string, number>();
  return {
    has: (digest: string): boolean => (untilMs.get(digest) ?? 0) > clock.now(),
    delete: (digest: string): void => void untilMs.delete(digest),
    add: (digest: string): void => {
      untilMs.delete(digest);
      untilMs.set(digest, clock.now() + RIGHT_MS_MAX);
      const oldest = untilMs.keys().next();
      if (untilMs.size > RIGHT_CREDENTIALS_MAX && oldest.done !== true)
        untilMs.delete(oldest.value);
    },
  };
}

/** What addresses of one holder have in common: an IPv4 address, or the 64 bits in front that one site of IPv6 has. */
function networkOf(address: string): string {
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(address)?.[1];
  if (mapped !== undefined || !address.includes(":")) return mapped ?? address;
  const [head = "", tail] = address.replace(/%.*$/, "").split("::");
  const left = head === "" ? [] : head.split(":");
  const right = tail === undefined || tail === "" ? [] : tail.split(":");
  const zeros = Array.from({ length: Math.max(0, 8 - left.length - right.length) }, () => "0");
  return [...left, ...zeros, ...right].slice(0, 4).join(":");
}

import { createHash, randomBytes } from "node:crypto";
import { Failure } from "#contract";
import type { Clock } from "#kernel";
import {
  appendAudit,
  findSession,
  insertSession,
  revokeSession,
  revokeSessionsOfPrincipal,
  touchSession,
  type Database,
  type FoundSession,
} from "#store";
import { ADMIN } from "./authenticator.ts";
import type { Caller } from "./caller.ts";
import { inTime } from "./lookup.ts";
import type { Principal } from "./principal.ts";
import { findOrgIdOf, packPrincipal, parseStoredPrincipal } from "./stored-principal.ts";

export type SessionOptions = {
  database: Pick<Database, "change">;
  clock: Clock;
  /** Makes session ids, which are no secrets. */
  createId: () => string;
  settings: { sessionHours: number; sessionIdleMinutes: number };
};

/** How somebody signed in. */
export type SignInWay = "key" | "link" | "provider";

/** A session just begun. `token` is known to the browser alone: the database has its SHA-256. */
export type OpenedSession = { token: string; id: string; seconds: number };

/** Sessions of browsers: a random token in place of the credential that somebody signed in with. */
export type Sessions = {
  /**
   * Who signed in with this token, as long as the session, its key or subject and its org last: a change shows within
   * 30 s, after `forget` at once. Without a question to the database when the token is known here. Throws (or rejects
   * with) Failure `unauthenticated`, or `database_unavailable` when the database does not say in time.
   */
  authenticate(token: string): Principal | Promise<Principal>;
  /**
   * Begins a session and ends the one whose token the browser had. Throws Failure `org_suspended`, and
   * `unauthenticated` when the credential has ended meanwhile.
   */
  open(
    caller: Caller,
    order: { by: SignInWay; replaces: string | undefined },
  ): Promise<OpenedSession>;
  /** Ends the session that the caller came by, or all of the caller's, and says how many. Safe to repeat. */
  close(caller: Caller, order: { isEverywhere: boolean }): Promise<number>;
  /** What is known here is asked for again: a key, a subject or an org has changed. */
  forget(): void;
};

/** Longest that a session is trusted without asking the database. */
const TRUSTED_MS = 30_000;
const KNOWN_MAX = 10_000;
const TOKEN_BYTES = 32;

const hashOf = (token: string): Buffer => createHash("sha256").update(token, "utf8").digest();

const ended = (): Failure =>
  new Failure("unauthenticated", "You were signed out. Sign in to come back.");

type Known = {
  principal: Principal;
  /** The session, its key or its subject end then. */
  endsMs: number;
  checkedMs: number;
  seenMs: number;
};

/** Keeps up to 10,000 sessions in memory, as digests of their tokens. */
export function createSessions({ database, clock, createId, settings }: SessionOptions): Sessions {
  const idleMs = settings.sessionIdleMinutes * 60_000;
  const known = new Map<string, Known>();
  const underWay = new Map<string, Promise<Principal>>();
  /** Grows when what is known is dropped, so that an answer from before is not remembered after. */
  let epoch = 0;
  const forget = () => {
    epoch++;
    known.clear();
    underWay.clear();
  };

  const load = async (tokenHash: Buffer, digest: string): Promise<Principal> => {
    const startedIn = epoch;
    const nowMs = clock.now();
    const seenMs = known.get(digest)?.seenMs ?? 0;
    const find = database.change("*", async ({ sql }) => {
      const found = await findSession(sql, tokenHash);
      const principal = found && findLivePrincipal(found, nowMs);
      if (found === undefined || principal === undefined) return undefined;
      const lastSeenMs = Math.max(found.lastSeenAt.getTime(), seenMs);
      if (nowMs - lastSeenMs >= idleMs) return undefined;
      await touchSession(sql, { id: found.id, at: new Date(nowMs) });
      return { principal, endsMs: endOf(found) };
    });
    const live = await inTime(find);
    if (epoch === startedIn) {
      known.delete(digest);
      if (live !== undefined) remember(digest, { ...live, checkedMs: nowMs, seenMs: nowMs });
    }
    if (live === undefined) throw ended();
    return live.principal;
  };
  const remember = (digest: string, entry: Known) => {
    known.set(digest, entry);
    const oldest = known.keys().next();
    if (known.size > KNOWN_MAX && oldest.done !== true) known.delete(oldest.value);
  };

  return {
    forget,
    authenticate: (token) => {
      const tokenHash = hashOf(token);
      const digest = tokenHash.toString("base64");
      const nowMs = clock.now();
      const entry = known.get(digest);
      if (entry !== undefined && nowMs < entry.endsMs && isTrusted(entry.checkedMs, nowMs)) {
        entry.seenMs = nowMs;
        return entry.principal;
      }
      const asked = underWay.get(digest);
      if (asked !== undefined) return asked;
      const answer = load(tokenHash, digest).finally(() => {
        if (underWay.get(digest) === answer) underWay.delete(digest);
      });
      underWay.set(digest, answer);
      return answer;
    },
    open: async (caller, { by, replaces }) => {
      const { principal, requestId } = caller;
      const token = randomBytes(TOKEN_BYTES).toString("base64url");
      const nowMs = clock.now();
      const at = new Date(nowMs);
      const endsMs = Math.min(
        nowMs + settings.sessionHours * 3_600_000,
        principal.expiresAt?.getTime() ?? Number.POSITIVE_INFINITY,
      );
      const id = createId();
      await database.change("*", async (tx) => {
        const orgId = await findOrgIdOf(tx.sql, principal);
        await insertSession(tx.sql, {
          id,
          tokenHash: hashOf(token),
          orgId,
          principalId: principal.id,
          principal: packPrincipal(principal),
          createdAt: at,
          expiresAt: new Date(endsMs),
        });
        // A link may be used minutes after it was made, and a provider asked about somebody who was shut out here.
        const found = await findSession(tx.sql, hashOf(token));
        const signedIn = found && findLivePrincipal(found, nowMs);
        if (signedIn === undefined) {
          throw new Failure("unauthenticated", "This credential is no longer valid here.");
        }
        if (signedIn.isSuspended) {
          throw new Failure("org_suspended", "The org is suspended: nobody of it can sign in.");
        }
        const before =
          replaces === undefined ? undefined : await findSession(tx.sql, hashOf(replaces));
        if (before !== undefined) await revokeSession(tx.sql, { id: before.id, at });
        await appendAudit(tx, orgId, {
          actor: principal.id,
          actorName: principal.name,
          action: "session.start",
          target: id,
          requestId,
          details: { by, replaces: before?.id ?? null },
          at,
        });
      });
      if (replaces !== undefined) forget();
      return { token, id, seconds: (endsMs - nowMs) / 1000 };
    },
    close: async ({ principal, requestId }, { isEverywhere }) => {
      const at = new Date(clock.now());
      const count = await database.change("*", async (tx) => {
        const orgId = await findOrgIdOf(tx.sql, principal);
        const closed = isEverywhere
          ? await revokeSessionsOfPrincipal(tx.sql, { principalId: principal.id, at })
          : await revokeSession(tx.sql, { id: principal.session ?? "", at });
        if (closed.length === 0) return 0;
        await appendAudit(tx, orgId, {
          actor: principal.id,
          actorName: principal.name,
          action: "session.end",
          target: principal.session ?? "",
          requestId,
          details: { sessions: closed.length },
          at,
        });
        return closed.length;
      });
      forget();
      return count;
    },
  };
}

/** A clock that was set back must not make what is known last longer. */
const isTrusted = (checkedMs: number, nowMs: number): boolean =>
  nowMs >= checkedMs && nowMs - checkedMs < TRUSTED_MS;

const endOf = ({ expiresAt, keyEndsAt }: FoundSession): number =>
  Math.min(expiresAt.getTime(), keyEndsAt?.getTime() ?? Number.POSITIVE_INFINITY);

/** Who a session stands for now; undefined when it, its key, its subject or its org has ended. */
function findLivePrincipal(found: FoundSession, nowMs: number): Principal | undefined {
  if (found.revokedAt !== null || nowMs >= endOf(found)) return undefined;
  if (found.orgStatus === "deleted" || found.isSubjectRevoked) return undefined;
  const principal = parseStoredPrincipal(found.principal);
  if (principal === undefined) return undefined;
  const isKeyGone =
    principal.kind === "key" && principal.id !== ADMIN.id && found.keyId !== principal.id;
  if (isKeyGone) return undefined;
  const expiresAt = new Date(endOf(found));
  if (found.orgStatus === "active") return { ...principal, expiresAt, session: found.id };
  return {
    ...principal,
    scopes: principal.scopes.filter((scope) => scope === "self:read"),
    expiresAt,
    session: found.id,
    isSuspended: true,
  };
}

import { refuseField } from "#contract";
import type { Clock } from "#kernel";
import {
  appendAudit,
  type Database,
  findTokenRevocations,
  listTokenRevocations,
  revokeSessionsOfPrincipal,
  type TokenRevocation,
  upsertTokenRevocation,
} from "#store";
import { type Caller, entryOf, readSystem } from "./caller.ts";
import { requireScope } from "./principal.ts";

/**
 * Tokens that are refused though their issuer signed them: one token (`jti`), or all of a subject (`sub`) that were issued
 * up to `createdAt`. `until` is when none of them is good by itself any longer.
 */
export type RevocationRecord = TokenRevocation;

export type NewRevocation = Pick<RevocationRecord, "kind" | "value" | "until"> & {
  /** Absent: the issuer that is configured. */
  issuer?: string | undefined;
};

/** The list of refused tokens, and of sessions begun with them. `create` needs `system:write`, `list` `system:read`. */
export type Revocations = {
  /**
   * Safe to repeat: the later `until` holds, and all that was issued up to now. In force here at once, in other processes
   * within 30 s. Audited in the same transaction.
   */
  create(caller: Caller, revocation: NewRevocation): Promise<RevocationRecord>;
  /** Those still in force, by kind, issuer and value. */
  list(caller: Caller, page: { limit: number }): Promise<RevocationRecord[]>;
};

export type RevocationsOptions = {
  database: Database;
  clock: Clock;
  /** The issuer that is configured; undefined: none is. */
  issuer: string | undefined;
  /** Told when a revocation is committed. */
  onChange: () => void;
};

export function createRevocations(options: RevocationsOptions): Revocations {
  const { database, clock, onChange } = options;
  return {
    create: async (caller, { kind, value, until, issuer = options.issuer }) => {
      requireScope(caller.principal, "system:write");
      const at = new Date(clock.now());
      if (issuer === undefined) {
        throw refuseField(
          "/body/issuer",
          "missing",
          "No issuer is configured here: name the token's.",
        );
      }
      if (until <= at) {
        throw refuseField(
          "/body/until",
          "in_the_past",
          "Tokens that have expired need no revocation.",
        );
      }
      const wanted = { kind, issuer, value, until, createdAt: at, createdBy: caller.principal.id };
      const made = await database.change("*", async (tx) => {
        await upsertTokenRevocation(tx.sql, wanted);
        const ended =
          kind === "sub"
            ? await revokeSessionsOfPrincipal(tx.sql, { principalId: `${issuer}#${value}`, at })
            : [];
        const details = { kind, issuer, until: until.toISOString(), sessionsEnded: ended.length };
        const did = { action: "token.revoke", target: value, at, details } as const;
        await appendAudit(tx, 0, entryOf(caller, did));
        const found = await findTokenRevocations(tx.sql, { issuer, subject: value, jti: value });
        return found.find((one) => one.kind === kind) ?? wanted;
      });
      onChange();
      return made;
    },
    list: async (caller, { limit }) => {
      requireScope(caller.principal, "system:read");
      const at = new Date(clock.now());
      return await readSystem(options, { caller, target: "listAdminRevocations" }, ({ sql }) =>
        listTokenRevocations(sql, { at, limit }),
      );
    },
  };
}

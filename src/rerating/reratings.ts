import { Failure } from "#contract";
import {
  appendAudit,
  type AuditEntry,
  type Database,
  findOrgRecord,
  getPriceVersion,
  insertRerating,
  listLaterReratings,
  listReratingLines,
  listReratings,
  lockPrices,
  lockRerating,
  type ReratingLine,
  type ReratingLineOrder,
  type ReratingRow,
  type ReratingState,
  type ReratingTally,
  type ReratingTotals,
  setReratingState,
  sumReratingLines,
  sumReratingTally,
  type Tx,
} from "#store";

export {
  RERATING_STATES,
  type ReratingFailure,
  type ReratingLine,
  type ReratingRow,
  type ReratingState,
  type ReratingTally,
  type ReratingTotals,
  TALLIED,
} from "#store";

/** What is to be rated again by the newest version of the price book. */
export type ReratingWish = {
  /** External id; null: all orgs. */
  orgId: string | null;
  /** Null: all models. */
  modelId: string | null;
  start: Date;
  end: Date;
  reason: string;
};

/** Who orders it and when, for the audit log. */
export type ReratingChange = Omit<AuditEntry, "action" | "target" | "details">;

/** An order with what it comes to, by currency, and what became of usage whose raw events are gone. */
export type Rerating = ReratingRow & { totals: ReratingTotals[]; tally: ReratingTally[] };

/**
 * Orders a look at what would change if what occurred in [start, end) were rated again. Changes no event. Throws Failure
 * `invalid_request` for times that are none and `not_found` for an org that is not there.
 */
export async function orderRerating(
  database: Database,
  wish: ReratingWish,
  did: ReratingChange,
): Promise<Rerating> {
  if (wish.start >= wish.end)
    throw new Failure("invalid_request", "The end must be later than the start.", {
      details: [
        { pointer: "/body/end", code: "invalid_range", message: "Half-open: [start, end)." },
      ],
    });
  const orgId = await findOrgId(database, wish.orgId);
  const { at, actor: createdBy, actorName: createdByName } = did;
  return await database.change("*", async (tx) => {
    await lockPrices(tx.sql);
    const [made] = await insertRerating(tx.sql, {
      priceVersion: await getPriceVersion(tx.sql),
      orgId,
      model: wish.modelId,
      startsAt: wish.start,
      endsAt: wish.end,
      reason: wish.reason,
      createdAt: at,
      createdBy,
      createdByName,
    });
    if (made === undefined) throw new Error("an order that was written is not there");
    await appendAudit(tx, 0, {
      ...did,
      action: "rerating.create",
      target: String(made.id),
      details: {
        orgId: wish.orgId,
        modelId: wish.modelId,
        start: wish.start.toISOString(),
        end: wish.end.toISOString(),
        reason: wish.reason,
      },
    });
    return await find(tx, made.id);
  });
}

async function findOrgId(database: Database, externalId: string | null): Promise<number> {
  if (externalId === null) return 0;
  const org = await findOrgRecord(database.sql, externalId);
  if (org === undefined || org.status === "deleted")
    throw new Failure("not_found", "There is no such org.");
  return org.id;
}

async function find({ sql }: Pick<Tx, "sql">, id: number): Promise<Rerating> {
  const [order] = await listReratings(sql, { id, before: null, limit: 1 });
  if (order === undefined) throw new Failure("not_found", "There is no such re-rating.");
  return {
    ...order,
    totals: await sumReratingLines(sql, id),
    tally: await sumReratingTally(sql, id),
  };
}

/** Throws Failure `not_found`. */
export const getRerating = (database: Database, id: number): Promise<Rerating> =>
  database.withSystem((tx) => find(tx, id));

/** Orders, the newest first, from before an id (null: the newest) on. */
export const listReratingPage = (
  database: Database,
  page: { before: number | null; limit: number },
): Promise<ReratingRow[]> =>
  database.withSystem(({ sql }) => listReratings(sql, { id: null, ...page }));

/** What an order changes, by day, org, model and currency. Throws Failure `not_found`. */
export const listReratingLinePage = (
  database: Database,
  ask: { id: number; orderBy: ReratingLineOrder; offset: number; limit: number },
): Promise<ReratingLine[]> =>
  database.withSystem(async ({ sql }) => {
    const [order] = await listReratings(sql, { id: ask.id, before: null, limit: 1 });
    if (order === undefined) throw new Failure("not_found", "There is no such re-rating.");
    return await listReratingLines(sql, ask);
  });

/**
 * Says that what was previewed is to be done; the same again changes nothing. Throws Failure `not_found`, and `wrong_state`
 * when it is not previewed, or when the price book has changed since: then what was looked at is not what would be done.
 */
export const applyRerating = (
  database: Database,
  id: number,
  did: ReratingChange,
): Promise<Rerating> =>
  database.change("*", async (tx) => {
    await lockPrices(tx.sql);
    const order = await findAndLock(tx, id);
    if (order.state === "applying" || order.state === "applied") return order;
    const version = await getPriceVersion(tx.sql);
    if (order.state === "previewed" && order.priceVersion !== version)
      throw new Failure(
        "wrong_state",
        `Prices have changed since the preview: it is of version ${order.priceVersion} of the price book, which is at ${version} now. Order a new one.`,
      );
    return await move(tx, order, {
      did,
      from: ["previewed"],
      to: "applying",
      action: "rerating.apply",
    });
  });

/**
 * Says that what was applied, or is being applied, is to be taken back; the same again changes nothing. Throws Failure
 * `not_found`, and `wrong_state` when it was never applied, or when a later one has changed events: an event knows what it
 * cost before the newest one only. As long as it is being applied, no later one has changed an event of it: one by newer
 * prices waits until it has ended, and one by the same prices leaves alone what has them already.
 */
export const undoRerating = (
  database: Database,
  id: number,
  did: ReratingChange,
): Promise<Rerating> =>
  database.change("*", async (tx) => {
    await lockPrices(tx.sql);
    const order = await findAndLock(tx, id);
    if (order.state === "undoing" || order.state === "undone") return order;
    const [later] = order.state === "applied" ? await listLaterReratings(tx.sql, id) : [];
    if (later !== undefined)
      throw new Failure(
        "wrong_state",
        `Re-rating ${later.id} came later: only the newest one that was applied can be undone. Apply the former prices and rate again instead.`,
      );
    return await move(tx, order, {
      did,
      from: ["applying", "applied"],
      to: "undoing",
      action: "rerating.undo",
    });
  });

/**
 * Ends for good an order that has changed nothing; the same again changes nothing. Whoever works on it finds that out and
 * leaves it. Throws Failure `not_found`, and `wrong_state` once it was to be applied.
 */
export const cancelRerating = (
  database: Database,
  id: number,
  did: ReratingChange,
): Promise<Rerating> =>
  database.change("*", async (tx) => {
    const order = await findAndLock(tx, id);
    if (order.state === "cancelled") return order;
    if (order.state === "applying" || order.state === "applied")
      throw new Failure(
        "wrong_state",
        `The re-rating is ${order.state}: undo it instead, which takes back what it has done.`,
      );
    return await move(tx, order, {
      did,
      from: ["ordered", "previewing", "previewed"],
      to: "cancelled",
      action: "rerating.cancel",
    });
  });

/** The order in the state that it keeps until the transaction ends. */
async function findAndLock(tx: Tx, id: number): Promise<Rerating> {
  await lockRerating(tx.sql, id);
  return await find(tx, id);
}

async function move(
  tx: Tx,
  order: Rerating,
  step: {
    did: ReratingChange;
    from: readonly ReratingState[];
    to: "applying" | "undoing" | "cancelled";
    action: "rerating.apply" | "rerating.undo" | "rerating.cancel";
  },
): Promise<Rerating> {
  const { did, from, to, action } = step;
  const finishedAt = to === "cancelled" ? did.at : null;
  const [moved] = await setReratingState(tx.sql, { id: order.id, from, to, finishedAt });
  if (moved === undefined)
    throw new Failure(
      "wrong_state",
      `The re-rating is ${order.state}: it has to be ${from.join(" or ")} for that.`,
    );
  await appendAudit(tx, 0, { ...did, action, target: String(order.id) });
  return await find(tx, order.id);
}

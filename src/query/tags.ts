import { Failure, tagOtherWord, tagWord } from "#contract";
import { listTagWords, type OrgProfile, type Tx } from "#store";
import type { Plan } from "./plan.ts";

/** Stand for members without a name, and for those beyond the cap of names, in filters and answers. */
export const NONE_WORD = "(none)";
export const OTHER_WORD = "(other)";

/** What a question about a tag key reads: words of the org's dictionary. */
export type TagReading = {
  /** All words of the key, and the one among them of all values beyond the cap (null: no event was). */
  ids: readonly number[];
  otherId: number | null;
  /** Whether events without a value of the key are wanted. */
  wantsNone: boolean;
};

/** Throws Failure `invalid_request` for a key that the org has not declared. */
export function requireDeclared({ tag }: Plan, org: Pick<OrgProfile, "tagKeys">): void {
  if (tag === null || org.tagKeys.includes(tag.key)) return;
  const declared = org.tagKeys.length === 0 ? "none" : org.tagKeys.join(", ");
  const message = `${tag.key} is no tag key of this org; declared are: ${declared}`;
  throw new Failure("invalid_request", message, {
    details: [{ pointer: `/query/${tag.parameter}`, code: "unknown_tag", message }],
  });
}

/** Finds the words of the key that a plan asks for, and those among them that its filter names. */
export async function findTags(
  tx: Tx,
  orgId: number,
  { key, words }: { key: string; words: readonly string[] | null },
): Promise<{ tags: TagReading; memberIds: number[] }> {
  const known = await listTagWords(tx.sql, { orgId, key });
  const other = known.find(({ value }) => value === tagOtherWord(key));
  const ids = known.map(({ id }) => id);
  const wanted = new Set(words?.map((word) => tagWord(key, word)));
  const isWanted = (id: number, value: string) =>
    words === null || (id === other?.id ? words.includes(OTHER_WORD) : wanted.has(value));
  return {
    tags: {
      ids,
      otherId: other?.id ?? null,
      wantsNone: words === null || words.includes(NONE_WORD),
    },
    memberIds: known.flatMap(({ id, value }) => (isWanted(id, value) ? [id] : [])),
  };
}

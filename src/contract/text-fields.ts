import { z } from "zod";

/** An org's id as producers send it: opaque text. */
export const orgIdField = z
  .string()
  .min(1)
  .max(512)
  .regex(/^(?!\*$)[^\0\p{Cs}]*$/u, "must be an org's id; * stands for all orgs and is none")
  .describe("The org's id, as in its events.");

/** A model's id as producers send it: opaque text. */
export const modelIdField = z
  .string()
  .min(1)
  .max(512)
  .regex(/^[^\0\p{Cs}]*$/u, "must be a model's id")
  .describe("The model's id, as in events.");

/** Text of one line, without control characters. */
export const printableText = (charactersMax: number) =>
  z
    .string()
    .min(1)
    .max(charactersMax)
    .regex(/^[^\p{Cc}\p{Cs}]*$/u, "must be text of one line");

/** What people call something. */
export const nameField = printableText(200);

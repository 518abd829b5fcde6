import assert from "node:assert/strict";
import { test } from "node:test";
import { createLogger } from "#kernel";

function capture() {
  const lines: string[] = [];
  const logger = createLogger("info", { write: (line) => lines.push(line) });
  return { logger, text: () => lines.join("") };
}

test("credentials never reach the log, wherever they are put", () => {
  const { logger, text } = capture();
  const headers = {
    authorization: "Bearer hunter2",
    cookie: "s=hunter2",
    "set-cookie": "s=hunter2",
  };
  logger.info(
    {
      headers,
      request: { headers },
      adminKey: "hunter2",
      user: { password: "hunter2", apiKey: "hunter2" },
    },
    "Seen",
  );
  assert.match(text(), /"msg":"Seen"/);
  assert.doesNotMatch(text(), /hunter2/);
});

test("an error is logged with code, stack and cause, but without the row a database error quotes", () => {
  const { logger, text } = capture();
  const error = Object.assign(new Error("duplicate key", { cause: new Error("beneath") }), {
    code: "23505",
    detail: "Key (event_id)=(payload-text) already exists.",
    where: "COPY usage_event, line 1: payload-text",
  });
  logger.error({ err: error }, "Failed");
  const line: unknown = JSON.parse(text());
  assert.match(JSON.stringify(line), /"code":"23505".*"message":"beneath"/);
  assert.doesNotMatch(text(), /payload-text/);
});

test("lines below the level are not written, and each line is one JSON object", () => {
  const { logger, text } = capture();
  logger.debug("unseen");
  logger.warn({ text: "a\nb" }, "line\nbreak");
  assert.equal(text().trim().split("\n").length, 1);
  assert.match(text(), /"level":"warn"/);
});

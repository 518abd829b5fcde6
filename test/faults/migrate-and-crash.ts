/** A process to be killed: migrates the database (first argument) from the folder (second) and crashes after step n (third). */
import { pathToFileURL } from "node:url";
import { createCrash, silentLogger } from "#kernel";
import { migrate } from "#store";

const [url = "", folder = "", step = "1"] = process.argv.slice(2);
await migrate(url, {
  logger: silentLogger,
  crash: createCrash("migrate_after_step", Number(step)),
  folder: pathToFileURL(`${folder}/`),
});

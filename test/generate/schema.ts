/** Prints schema.sql: the schema of a freshly migrated database. */
import { dumpSchema } from "../harness/schema-dump.ts";

process.stdout.write(await dumpSchema());

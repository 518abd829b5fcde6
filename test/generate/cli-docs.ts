/** Prints docs/cli.md: the help texts of all commands, with examples. */
import { formatCliDocs } from "../../src/cli/docs.ts";

process.stdout.write(formatCliDocs());

import { auditCommand } from "./audit.ts";
import { budgetsCommand } from "./budgets.ts";
import type { Command } from "./command.ts";
import { configCommand } from "./config.ts";
import { demoCommand } from "./demo.ts";
import { doctorCommand } from "./doctor.ts";
import { importCommand } from "./import.ts";
import { keysCommand } from "./keys.ts";
import { migrateCommand } from "./migrate.ts";
import { modelsCommand } from "./models.ts";
import { orgsCommand } from "./orgs.ts";
import { pricesCommand } from "./prices.ts";
import { quarantineCommand } from "./quarantine.ts";
import { replayCommand } from "./replay.ts";
import { rerateCommand } from "./rerate.ts";
import { signInLinkCommand } from "./sign-in-link.ts";
import { startCommand } from "./start.ts";
import { verifyCommand } from "./verify.ts";

const HEAD = `# Command line

Printed from the help texts in \`src/cli\` by \`node bin/tallystick.mjs dev cli-docs\`; a test fails when it is stale.

\`node bin/tallystick.mjs COMMAND\` (from a clone; \`tallystick COMMAND\` where it is installed). Settings are environment
variables, see [configuration](configuration.md). Answers go to standard output and nothing else does: progress, warnings
and errors go to standard error, so every command can be piped. With \`--json\` the answer is JSON, one line (\`demo\`: one
line per step). Ctrl-C or SIGTERM stops a command in an orderly way; a second one ends it at once.

## Exit codes

The same for all commands, and stable.

| code | meaning |
|---|---|
| 0 | done; the answer is yes |
| 1 | done, and the answer is no: rows were refused, figures differ, a check failed |
| 2 | wrong arguments or settings; nothing was done |
| 3 | something outside is missing or in the way: service, database, file, port, rights |
| 69 | the launcher could not provide Node.js or packages |
| 70 | a fault of Tallystick itself; the stack is printed |
| 130 | stopped by Ctrl-C or a signal before it was done |

## How commands find the service

\`import\`, \`quarantine\`, \`orgs\`, \`keys\`, \`models\`, \`prices\`, \`rerate\`, \`budgets\`, \`sign-in-link\` and \`audit list\` talk to a running service
over its HTTP API. They read \`service.json\` and \`admin-key\` in the data directory, so beside the service they need no options. For one
elsewhere give \`--url\`, and its key in \`TALLYSTICK_API_KEY\`: what stands on a command line can be read by everybody on the
machine. \`verify\`, \`audit verify\`, \`replay\`, \`migrate\` and \`doctor\` talk to the database: the one in the data directory,
or the one that \`DATABASE_URL\` names.
`;

const IMPORT_MORE = `What a row becomes:

| format | one row | fields |
|---|---|---|
| \`ndjson\` | one event per line, as the API takes it | as they are; \`--org\`, \`--model\` and \`--set\` fill in what a line leaves out |
| \`csv\` | RFC 4180, with a header: quoted fields, line breaks in them, LF or CRLF, with or without a byte order mark | columns called like a field, and those that \`--column\` names; an empty cell is a field not given |
| \`azure-llm-trace\` | \`TIMESTAMP,ContextTokens,GeneratedTokens\`: one successful call, UTC | \`occurred_at\` (to the microsecond), \`input_tokens\`, \`output_tokens\` |

Numbers and decimals keep their digits: nothing is rounded on the way. A row without an \`event_id\` gets one made of the
SHA-256 of the file and the line on which the row starts, so the same content (under any name, or through \`-\`) is
counted once, however often it is sent, within the time in which duplicates are recognised. It follows that a file
imported with a wrong \`--column\` cannot be corrected by importing it again: its rows then contradict those that were
counted, and go to quarantine as \`conflict\`.

Bad rows are named by the line on which they start (the header is line 1) and do not hold up the others. Rows that the
service refused are in quarantine; rows that were no CSV at all are only listed. The delivery ledger knows the rows
under the source \`import/<first 12 digits of the file's SHA-256>\`. A service that is away or asks to wait is waited for,
several minutes long.
`;

const REPLAY_MORE = `For the time after a mistake: events that a stream held and that are missing, because a position was set by hand, a
backup was restored, or data was deleted. What is counted stays counted once, so that more than is missing may be
replayed. The ledger has the events under the source \`replay/stream/<name>\`, with the number of the partition; the
position of the live consumption does not move, and the service may be running.

Offsets are each stream's own: of a super stream all partitions are read from the same number. Messages that were
published together are stored together: from a time on, some that are a little older come along. What was refused when
it came first is refused again, and stands in quarantine twice. With \`--backfill\`, events of days whose single events
were deleted are still refused: nobody could tell whether they are counted.
`;

/** What comes after a command's help text. */
const MORE: Readonly<Record<string, string>> = {
  start: examples("tallystick start", "PORT=9000 DATA_DIR=/var/lib/tallystick tallystick start"),
  demo: examples("tallystick demo", "tallystick demo --data-dir /tmp/sample --port 9000 --seed 7"),
  migrate: examples("tallystick migrate --json"),
  import: `${examples(
    "tallystick import calls.ndjson --format ndjson",
    "zcat calls.csv.gz | tallystick import - --format csv --org acme --set status=success \\\n    --column occurred_at=Time --column model_id=Model --column input_tokens=Prompt --column output_tokens=Completion",
    "tallystick import AzureLLMInferenceTrace_conv.csv --format azure-llm-trace --org acme --model chat-large --backfill",
  )}\n${IMPORT_MORE}`,
  replay: `${examples(
    "tallystick replay --source stream/analytics.usage.v1 --from first",
    "tallystick replay --source stream/analytics.usage.v1 --from 2026-11-20T10:00:00Z",
    "tallystick replay --source stream/analytics.usage.v1-2 --from 120000 --to 130000 --json",
  )}\n${REPLAY_MORE}`,
  verify: examples(
    "tallystick verify",
    "tallystick verify --from 2026-11-01 --to 2026-11-08 --json",
  ),
  orgs: examples(
    'tallystick orgs create acme --name "Acme Corp." --time-zone Europe/Berlin --entitlement seats=20',
    "tallystick orgs list --json",
    "tallystick orgs suspend acme",
    "tallystick orgs delete acme --yes",
  ),
  keys: examples(
    "tallystick keys create --org acme --name dashboard --role engineer",
    "tallystick keys create --system --name gateway --role producer --writes-for acme --writes-for globex",
    "tallystick keys list --org acme",
    "tallystick keys rotate 4f9kQx02LmPa --org acme --overlap-hours 48",
    "tallystick keys revoke 4f9kQx02LmPa --org acme",
  ),
  models: examples(
    'tallystick models set chat-large --name "Chat Large" --billing-tier premium',
    "tallystick models list",
  ),
  prices: examples(
    "tallystick prices diff",
    "tallystick prices apply prices",
    "tallystick prices seed --provider openai --provider anthropic --dry-run",
    "tallystick prices list --org acme --model gpt-4o",
  ),
  rerate: examples(
    'tallystick rerate preview --org acme --from 2026-11-01 --to 2026-12-01 --reason "their prices of November"',
    "tallystick rerate apply 7",
    "tallystick rerate undo 7 --no-wait",
    "tallystick rerate cancel 8",
    "tallystick rerate show 7 --limit 100 --json",
  ),
  "sign-in-link": examples("tallystick sign-in-link"),
  audit: examples(
    "tallystick audit verify",
    "tallystick audit verify --anchors /backup/audit-anchors.ndjson --json",
    "tallystick audit list --org acme",
  ),
  quarantine: examples(
    "tallystick quarantine list --org acme",
    "tallystick quarantine show 17 --org acme",
    "tallystick quarantine replay --all --code too_old --backfill --org acme",
    "tallystick quarantine drop 17 18 --org acme",
  ),
  config: examples("tallystick config print", "tallystick config check --json"),
  doctor: examples("tallystick doctor"),
};

function examples(...lines: string[]): string {
  return `\`\`\`sh\n${lines.join("\n")}\n\`\`\`\n`;
}

const COMMANDS: readonly Command[] = [
  startCommand,
  demoCommand,
  importCommand,
  replayCommand,
  verifyCommand,
  orgsCommand,
  keysCommand,
  modelsCommand,
  pricesCommand,
  rerateCommand,
  budgetsCommand,
  signInLinkCommand,
  auditCommand,
  quarantineCommand,
  migrateCommand,
  configCommand,
  doctorCommand,
];

/** The text of docs/cli.md. */
export function formatCliDocs(): string {
  const sections = COMMANDS.map(
    ({ name, summary, usage }) =>
      `## ${name}\n\n${summary}.\n\n\`\`\`text\n${usage}\`\`\`\n\n${MORE[name] ?? ""}`,
  );
  return [HEAD, ...sections].join("\n");
}

import { SETTING_ROWS } from "./config.ts";

/** The text of docs/configuration.md. */
export function formatConfigurationDocs(): string {
  const rows = SETTING_ROWS.map(
    (row) =>
      `| \`${row.name}\` | ${row.byDefault === undefined ? "none" : `\`${row.byDefault}\``} | ${escapeCell(row.description)} Expects ${escapeCell(row.kind)}. |`,
  );
  return `# Configuration

Printed from \`src/config/settings.ts\` by \`node bin/tallystick.mjs dev config-docs\`; a test fails when it is stale.

Tallystick runs without any setting. Each one is an environment variable; an empty one counts as not given. Options of
the command line (\`--port\`, \`--data-dir\`) win over variables. \`tallystick config check\` reports everything that is wrong
at once, \`tallystick config print\` shows what is in force, with secrets blanked.

| Variable | Default | Meaning |
|---|---|---|
${rows.join("\n")}
`;
}

const escapeCell = (text: string): string => text.replaceAll("|", "\\|");

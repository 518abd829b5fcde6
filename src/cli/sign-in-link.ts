import { z } from "zod";
import { loadConfig } from "#config";
import { createApiClient, findApi } from "./api-client.ts";
import {
  apiHintsOf,
  parseArguments,
  SERVICE_OPTIONS,
  SERVICE_USAGE,
  withRefusals,
} from "./arguments.ts";
import { type Command, EXIT, UsageError } from "./command.ts";

const usage = `tallystick sign-in-link [options]

Prints a link that signs one browser in, once and within 15 minutes, as whoever the API key belongs to: beside the service,
the administrator. It begins with PUBLIC_URL where that is set. That a link was made is in the audit log.

${SERVICE_USAGE}
Exit code: 0 done, 1 refused, 2 wrong arguments or settings, 3 the service cannot be reached.
`;

const madeLink = z.object({ path: z.string(), expiresAt: z.string() });

/** `sign-in-link`: see its usage. */
export const signInLinkCommand: Command = {
  name: "sign-in-link",
  summary: "Make a link that signs one browser in",
  usage,
  run: async (args, io) => {
    const { values, positionals } = parseArguments(args, SERVICE_OPTIONS);
    if (positionals.length > 0) throw new UsageError("sign-in-link takes options only.");
    const client = createApiClient(await findApi(apiHintsOf(values, io.env)));
    const home = (values.url === undefined && loadConfig(io.env).config.publicUrl) || client.url;
    return await withRefusals(io, async () => {
      const request = { method: "POST", path: "/analytics/v1/sign-in-links" } as const;
      const { path, expiresAt } = await client.request(request, madeLink);
      const url = `${home}${path}`;
      io.stdout.write(values.json ? `${JSON.stringify({ url, expiresAt })}\n` : `${url}\n`);
      if (!values.json) io.stderr.write(`It signs in once, until ${expiresAt}.\n`);
      return EXIT.ok;
    });
  },
};

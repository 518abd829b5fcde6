/** Prints docs/configuration.md from the settings table. */
import { formatConfigurationDocs } from "#config";

process.stdout.write(formatConfigurationDocs());

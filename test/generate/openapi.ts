/** Prints contracts/openapi.json: the API's description, made from its routes. */
import { createOpenApiDocument } from "#api";
import manifest from "../../package.json" with { type: "json" };

process.stdout.write(await createOpenApiDocument(manifest.version));

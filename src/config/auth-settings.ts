import { z } from "zod";
import { aboutSettings, oneOf, orgList, webUrl, wholeNumber } from "./setting.ts";

/** What the roles claim of a token may mean; with "system:" in front it reaches all orgs. */
const TOKEN_ROLE = /^(?:org_admin|(?:system:)?(?:engineer|finance|producer)|system_admin)$/;

const text = (
  pattern: RegExp,
  about: { description: string; kind: string; example: string; secret?: "whole" },
) => z.string().regex(pattern).optional().register(aboutSettings, about);

const claim = (byDefault: string, description: string) =>
  z
    .string()
    .regex(/^\S{1,200}$/)
    .prefault(byDefault)
    .register(aboutSettings, {
      description,
      kind: "the name of a claim, or a path of names with dots between them",
      example: byDefault,
      byDefault,
    });

const perMinute = (byDefault: number, description: string) =>
  wholeNumber({ description: `${description} 0: as many as come.`, byDefault, min: 0, max: 1e9 });

/** Settings that say who may come in, what for, and how often. Without OIDC_ISSUER there are API keys only. */
export const authSettings = {
  oidcIssuer: webUrl({
    description:
      "The OpenID Connect provider whose access tokens are taken, exactly as its tokens name it in `iss`. None: API keys only.",
    example: "https://login.example/realms/main",
  }),
  oidcAudience: text(/^\S{1,500}$/, {
    description: "What `aud` of a token must name. Needed with OIDC_ISSUER.",
    kind: "a text without spaces",
    example: "https://tallystick.example",
  }),
  oidcJwksUrl: webUrl({
    description:
      "Where the provider's signing keys are. Left out: found by its discovery document.",
    example: "https://login.example/realms/main/protocol/openid-connect/certs",
  }),
  oidcOrgClaim: claim("org", "The claim that names the org a token belongs to."),
  oidcRolesClaim: claim(
    "roles",
    "The claim that names the roles of a token, as text or as a list.",
  ),
  oidcRoleMap: z
    .string()
    .transform((given, context) => {
      const roles = new Map<string, string>();
      for (const pair of given.split(",")) {
        const [, value = "", role = ""] = /^\s*(\S.*?)\s*=\s*([\w:]+)\s*$/.exec(pair) ?? [];
        if (value === "" || !TOKEN_ROLE.test(role) || roles.has(value))
          context.addIssue("not a map of roles");
        roles.set(value, role);
      }
      return roles;
    })
    .optional()
    .register(aboutSettings, {
      description:
        "What the provider calls the roles. system:finance means finance of all orgs. Left out: the claim holds the names used here.",
      kind: "a list of value=role, the role one of org_admin, engineer, finance, producer (of all orgs with system: in front), system_admin",
      example: "Billing=system:finance,Developers=engineer",
    }),
  oidcTokenAgeMaxSeconds: wholeNumber({
    description: "Tokens issued longer ago are refused, whatever their `exp` says.",
    byDefault: 86_400,
    min: 60,
    max: 31_536_000,
  }),
  oidcStaleHours: wholeNumber({
    description:
      "Hours for which the signing keys fetched last are used while the provider cannot be reached.",
    byDefault: 24,
    min: 0,
    max: 720,
  }),
  oidcClientId: text(/^[\x21-\x7e]{1,500}$/, {
    description:
      "The client that signs people in at the provider, with PUBLIC_URL/sign-in/oidc/callback as its redirect URI. None: people sign in with a key or a link.",
    kind: "a text without spaces",
    example: "tallystick",
  }),
  oidcClientSecret: text(/^[\x21-\x7e]{1,500}$/, {
    description: "That client's secret. None: it is a public client, held by PKCE alone.",
    kind: "a text without spaces",
    example: "value-from-the-provider",
    secret: "whole",
  }),
  publicUrl: webUrl({
    description:
      "How browsers reach this service: scheme, host and port, without a path. Left out: the address it listens on.",
    example: "https://tallystick.example",
    isOrigin: true,
    isPlainAllowed: true,
  }),
  sessionHours: wholeNumber({
    description: "Hours after which a person who signed in has to do so again.",
    byDefault: 12,
    min: 1,
    max: 720,
  }),
  sessionIdleMinutes: wholeNumber({
    description: "The same, after minutes without any request.",
    byDefault: 60,
    min: 1,
    max: 43_200,
  }),
  keyEnvironment: z
    .string()
    .regex(/^(?!admin$)[a-z][a-z0-9]{0,15}$/)
    .prefault("live")
    .register(aboutSettings, {
      description:
        "Stands in the API keys made here (tally_live_…) so that nobody mistakes one for another installation's. Keys of other environments are refused.",
      kind: "1 to 16 small letters and digits, a letter first, not admin",
      example: "staging",
      byDefault: "live",
    }),
  unknownOrgs: oneOf(
    ["register", "quarantine"],
    "What becomes of events of an org that is not known: the org is registered with its first event, or they wait in quarantine as unknown_org until it was created.",
  ),
  streamOrgs: orgList(
    "Orgs whose events are taken from the stream; others' are refused as org_forbidden.",
  ),
  queueOrgs: orgList(
    "Orgs whose events are taken from the queue; others' are refused as org_forbidden.",
  ),
  rateIpPerMinute: perMinute(0, "Requests per minute from one address."),
  rateFailedLoginsPerMinute: perMinute(
    60,
    "Requests and sign-ins per minute from one address with a credential that is wrong; further ones are refused unread.",
  ),
  rateKeyPerMinute: perMinute(
    6000,
    "Requests per minute of one key or one person, ingestion aside.",
  ),
  rateOrgPerMinute: perMinute(30_000, "Requests per minute of one org, ingestion aside."),
  rateEventsPerMinute: perMinute(0, "Ingestion requests per minute of one key."),
};

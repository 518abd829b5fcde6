import { fetchIssuerKeys } from "#auth";
import type { Config } from "#config";
import type { Clock } from "#kernel";
import type { Check } from "#platform";

/** Tokens are taken that are so much younger than our clock says; beyond that sign-ins begin to fail. */
const SKEW_SECONDS_MAX = 30;

/** Asks the provider for its signing keys and compares its clock with ours. Without one in the settings: nothing to look at. */
export async function checkIdentity(config: Config, clock: Clock): Promise<Check[]> {
  const { oidcIssuer: issuer, oidcJwksUrl: jwksUrl } = config;
  if (issuer === undefined) return [];
  const name = "identity";
  try {
    const { keys, answeredAt } = await fetchIssuerKeys({ issuer, jwksUrl });
    const found = `${issuer} has ${keys.length} signing key${keys.length === 1 ? "" : "s"}`;
    if (answeredAt === null)
      return [{ name, state: "ok", detail: `${found}; it does not tell its time` }];
    const skewSeconds = Math.round((answeredAt.getTime() - clock.now()) / 1000);
    if (Math.abs(skewSeconds) <= SKEW_SECONDS_MAX)
      return [{ name, state: "ok", detail: `${found}, and its clock agrees with this machine's` }];
    const sense = skewSeconds > 0 ? "ahead of" : "behind";
    const detail = `${found}, but its clock is ${Math.abs(skewSeconds)} s ${sense} this machine's: tokens will be refused. Set the clocks right.`;
    return [{ name, state: "warning", detail }];
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    const detail = `OIDC_ISSUER: ${reason}. Until that is put right, nobody gets in with a token; API keys work.`;
    return [{ name, state: "failed", detail }];
  }
}

import { type BrokerAddress, withoutSecrets } from "./broker-address.ts";

/** Why there is no connection: a kind to compare, a sentence to read. The sentence holds no credentials. */
export type ConnectionFault = { kind: FaultKind; reason: string };

type FaultKind =
  | "refused"
  | "host_unknown"
  | "timed_out"
  | "access_refused"
  | "vhost_refused"
  | "tls"
  | "closed_by_broker"
  | "heartbeat_missed"
  | "broken_off"
  | "other";

/** Says why a connection could not be opened. `msMax` is the time that an attempt has. */
export function describeConnectFault(
  error: unknown,
  address: BrokerAddress,
  msMax: number,
): ConnectionFault {
  const { place, vhost } = address;
  const { code, text } = partsOf(error);
  if (error instanceof ConnectTimeout) {
    return {
      kind: "timed_out",
      reason: `${place} did not open a connection within ${msMax} ms. Check the broker's address, and that no firewall lies between.`,
    };
  }
  const systemFault = describeSystemCode(code, place);
  if (systemFault !== undefined) return systemFault;
  if (/terminated by server: 403\b/.test(text)) {
    return {
      kind: "access_refused",
      reason: `The broker at ${place} refused the user or its password. Check both in the broker's address.`,
    };
  }
  // amqplib keeps the broker's words on this one to itself; it is NOT_ALLOWED (530) in all three cases.
  if (/expected ConnectionOpenOk; got <ConnectionClose/i.test(text)) {
    return {
      kind: "vhost_refused",
      reason: `The broker at ${place} refused the virtual host "${vhost}": it does not exist, this user has no permission for it, or its limit of connections is reached.`,
    };
  }
  const closed = describeClose(text, address);
  if (closed !== undefined) return closed;
  if (isTlsCode(code) || (address.isTls && /\b(?:tls|ssl|certificate)\b/i.test(text))) {
    // OpenSSL's texts bring its source file along; its reason alone is for people.
    const words = error instanceof Error && "reason" in error ? String(error.reason) : text;
    return {
      kind: "tls",
      reason: `TLS with ${place} failed: ${withoutSecrets(words.trim(), address)}. Check that TLS is spoken there, the certificate and the host's name (NODE_EXTRA_CA_CERTS adds an authority).`,
    };
  }
  return describeBreak(code, text, address);
}

/** Says why an open connection ended. */
export function describeLoss(error: unknown, address: BrokerAddress): ConnectionFault {
  const { code, text } = partsOf(error);
  if (text === "Heartbeat timeout") {
    return {
      kind: "heartbeat_missed",
      reason: `The broker at ${address.place} went silent: two heartbeats in a row did not come. It may be overloaded, or the network in between is broken.`,
    };
  }
  return describeClose(text, address) ?? describeBreak(code, text, address);
}

/** The broker's code in the error that a connection ended with; undefined when it was not the broker that closed it. */
export const findReplyCode = (error: unknown): number | undefined =>
  error instanceof Error && "code" in error && typeof error.code === "number"
    ? error.code
    : undefined;

/** What an attempt is aborted with when its time is up. */
export class ConnectTimeout extends Error {
  override name = "ConnectTimeout";
}

/** The code ("" when there is none) and the text of an error; happy eyeballs gives an AggregateError without text. */
function partsOf(error: unknown): { code: string; text: string } {
  if (!(error instanceof Error)) return { code: "", text: String(error ?? "no reason given") };
  const code = "code" in error ? String(error.code) : "";
  return { code, text: error.message === "" ? code : error.message };
}

function describeSystemCode(code: string, place: string): ConnectionFault | undefined {
  switch (code) {
    case "ECONNREFUSED":
      return {
        kind: "refused",
        reason: `Nothing accepts connections at ${place}. Start the broker, or correct its address.`,
      };
    case "ENOTFOUND":
    case "EAI_AGAIN":
      return {
        kind: "host_unknown",
        reason: `The host of ${place} is not known to the name service (${code}). Correct the broker's address, or check DNS.`,
      };
    case "ETIMEDOUT":
    case "EHOSTUNREACH":
    case "ENETUNREACH":
      return {
        kind: "timed_out",
        reason: `${place} cannot be reached over the network (${code}). Check the broker's address, and that no firewall lies between.`,
      };
    default:
      return undefined;
  }
}

/** A close with the broker's own words, as amqplib writes it: `320 (CONNECTION-FORCED) with message "…"`. */
function describeClose(text: string, address: BrokerAddress): ConnectionFault | undefined {
  const [, code, words] =
    /(?:closed|terminated by server): (\d{3}) \([^)]*\) with message "([\s\S]*)"$/.exec(text) ?? [];
  if (code === undefined || words === undefined) return undefined;
  return {
    kind: "closed_by_broker",
    reason: `The broker at ${address.place} closed the connection: ${withoutSecrets(words, address)} (${code}).`,
  };
}

function describeBreak(code: string, text: string, address: BrokerAddress): ConnectionFault {
  if (
    ["ECONNRESET", "EPIPE", "ECONNABORTED"].includes(code) ||
    /closed abruptly|Unexpected close/.test(text)
  ) {
    return {
      kind: "broken_off",
      reason: `The connection to ${address.place} broke off. The broker stopped, a proxy cut in, or no AMQP is spoken there.`,
    };
  }
  return {
    kind: "other",
    reason: `The connection to ${address.place} failed: ${withoutSecrets(text, address)}.`,
  };
}

const isTlsCode = (code: string): boolean =>
  /^(?:ERR_TLS|ERR_SSL|EPROTO|CERT_|UNABLE_TO_|HOSTNAME_MISMATCH|INVALID_CA|PATH_LENGTH|CRL_)|SELF_SIGNED/.test(
    code,
  );

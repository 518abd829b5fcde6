/** Where a broker is and who we are to it, read from its URL. */
export type BrokerAddress = {
  /** "host:port": safe to print. */
  place: string;
  /** Name of the virtual host, decoded; "/" when the URL names none. */
  vhost: string;
  username: string;
  password: string;
  isTls: boolean;
  /** The URL without user and password. Its query may hold what amqplib reads: `channelMax`, `frameMax`. */
  bareUrl: string;
};

/** Reads an amqp:// or amqps:// URL. Throws a TypeError that never quotes it: the URL holds a password. */
export function parseBrokerUrl(text: string): BrokerAddress {
  // URL.parse is of Node.js 22; gateways that use the producer may run on 20.
  const url = URL.canParse(text) ? new URL(text) : null;
  if (url === null || !/^amqps?:$/.test(url.protocol) || url.hostname === "") {
    throw new TypeError(
      "The broker's address must be a URL such as amqp://user:password@host:5672/vhost (amqps:// for TLS).",
    );
  }
  const isTls = url.protocol === "amqps:";
  const isAnonymous = url.username === "" && url.password === "";
  const vhost = decodePart(url.pathname.slice(1));
  const bare = new URL(url);
  bare.username = "";
  bare.password = "";
  return {
    place: `${url.hostname}:${url.port || (isTls ? "5671" : "5672")}`,
    vhost: vhost === "" ? "/" : vhost,
    username: isAnonymous ? "guest" : decodePart(url.username),
    password: isAnonymous ? "guest" : decodePart(url.password),
    isTls,
    bareUrl: bare.href,
  };
}

function decodePart(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw new TypeError(
      "The broker's address holds a % that is no escape. Write %25 for a percent sign in a password.",
    );
  }
}

/** `text` without the password and without the user part of any URL in it. */
export function withoutSecrets(text: string, address: BrokerAddress): string {
  const bare = text.replaceAll(/\b([a-z][a-z0-9+.-]*:\/\/)[^\s/@]*@/gi, "$1");
  const secrets = [address.password, encodeURIComponent(address.password)];
  return secrets.reduce(
    (rest, secret) => (secret === "" ? rest : rest.replaceAll(secret, "***")),
    bare,
  );
}

import { createHash } from "node:crypto";
import type { Principal } from "#auth";

const STYLE = `:root{color-scheme:light dark;--bg:#f7f5f2;--surface:#fff;--ink:#1d1b18;--soft:#56524b;--accent:#1f4fa8;--bad:#b3261e;--bad-bg:#fcebe8;--line:#e3dfd8;--control:#8d877d;--wood:#9a6a2f;--on-accent:#fff}
@media (prefers-color-scheme:dark){:root{--bg:#121314;--surface:#191a1c;--ink:#eceae6;--soft:#b3b0a9;--accent:#8fb4ff;--bad:#ff8f82;--bad-bg:#331c19;--line:#2d3033;--control:#747980;--wood:#c99a5b;--on-accent:#121314}}
*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--ink);font:14px/20px Inter,system-ui,sans-serif}
main{max-width:400px;margin:12vh auto 28px;padding:28px;background:var(--surface);border:1px solid var(--line);border-radius:8px}
.name{display:flex;align-items:center;gap:8px;margin:0 0 16px;color:var(--wood);font-weight:650;letter-spacing:-.02em}
h1{margin:0 0 16px;font-size:20px;line-height:28px;font-weight:600}
p,dl{margin:0 0 16px;overflow-wrap:anywhere}
dt{color:var(--soft)}dd{margin:0 0 8px}
label{display:block;margin:0 0 4px;font-weight:600}
input{width:100%;min-height:36px;padding:6px 8px;color:inherit;background:var(--bg);border:1px solid var(--control);border-radius:6px;font:inherit}
button,.button{display:block;width:100%;min-height:36px;margin:12px 0 0;padding:7px 12px;color:var(--on-accent);background:var(--accent);border:1px solid var(--accent);border-radius:6px;font:inherit;font-weight:600;text-align:center;text-decoration:none;cursor:pointer}
.plain{color:var(--accent);background:none}
.or{margin:16px 0;color:var(--soft);text-align:center}
.hint{margin:16px 0 0;color:var(--soft)}
.problem{padding:8px 12px;color:var(--bad);background:var(--bad-bg);border-radius:6px}
:focus-visible{outline:2px solid var(--accent);outline-offset:2px}
@media (max-width:430px){main{margin:0;min-height:100vh;border:0;border-radius:0}}`;

/** A page loads nothing and runs nothing; the one style in it is named by its digest. */
const POLICY =
  `default-src 'none'; style-src 'sha256-${createHash("sha256").update(STYLE).digest("base64")}'; img-src data:; ` +
  "form-action 'self'; base-uri 'none'; object-src 'none'; frame-ancestors 'none'";

/** What every page of signing in is sent with, beside the headers of all answers. */
export const SIGN_IN_HEADERS = {
  "content-type": "text/html; charset=utf-8",
  "content-security-policy": POLICY,
  "cross-origin-opener-policy": "same-origin",
  // Tells other sites as little as no-referrer, under which browsers send forms with `Origin: null` even to ourselves.
  "referrer-policy": "same-origin",
  "cache-control": "no-store",
  vary: "Cookie",
} as const;

/** What may be offered on the page to sign in. */
export type SignInOffer = {
  /** Path of this service to go on to; null: none was asked for. */
  returnPath: string | null;
  /** Who else can say who somebody is: the identity provider's host. Null: none is configured. */
  provider: string | null;
  /** The address has no TLS, as far as is known: browsers will not keep the session. */
  isPlain: boolean;
  /** What was wrong with the attempt before. */
  problem: string | null;
};

/** The page to sign in on: a key, or the identity provider. */
export function formatSignInPage(offer: SignInOffer): string {
  const { returnPath, provider, isPlain, problem } = offer;
  const back = returnPath === null ? "" : `?return=${encodeURIComponent(returnPath)}`;
  const viaProvider =
    provider === null
      ? ""
      : `<a class="button" href="/sign-in/oidc${escapeText(back)}">Continue with ${escapeText(provider)}</a><p class="or">or</p>`;
  return formatPage(
    "Sign in",
    `${formatProblem(problem)}${returnPath === null ? "" : "<p>Sign in to come back to this view.</p>"}${viaProvider}
<form method="post" action="/sign-in">
<label for="key">API key</label>
<input id="key" name="key" type="password" required autocomplete="current-password" autocapitalize="none" spellcheck="false">
${returnPath === null ? "" : `<input name="return" type="hidden" value="${escapeText(returnPath)}">`}
<button>Sign in</button>
</form>
<p class="hint">First key? It was printed once by <code>tallystick start</code>.</p>
${isPlain ? '<p class="hint">This address has no TLS, and browsers keep nobody signed in without it. If it has, PUBLIC_URL must say so.</p>' : ""}`,
  );
}

/**
 * The page behind a one-time link. It has a button because programs that look at links, to show a preview or to find
 * viruses, would else use the link up. The form goes to the page's own address.
 */
export const formatLinkPage = (): string =>
  formatPage(
    "Sign in with this link",
    `<p>The link works once. It signs in this browser.</p><form method="post"><button>Sign in</button></form>`,
  );

/** What somebody sees who is signed in. */
export function formatSignedInPage(principal: Principal, returnPath: string | null): string {
  const { name, orgId, roles } = principal;
  const onwards =
    returnPath === null
      ? `<p><a href="/docs">API description</a></p>`
      : `<a class="button" href="${escapeText(returnPath)}">Continue</a>`;
  return formatPage(
    "You are signed in",
    `<dl><dt>As</dt><dd>${escapeText(name)}</dd><dt>Org</dt><dd>${escapeText(orgId ?? "all")}</dd>
<dt>${roles.length === 1 ? "Role" : "Roles"}</dt><dd>${escapeText(roles.join(", "))}</dd></dl>${onwards}
<form method="post" action="/sign-out"><button class="plain">Sign out</button></form>
<form method="post" action="/sign-out"><input name="everywhere" type="hidden" value="true"><button class="plain">Sign out everywhere</button></form>`,
  );
}

/** Why signing in did not work, and the way back to the start. */
export const formatSignInProblem = (problem: string): string =>
  formatPage(
    "Not signed in",
    `${formatProblem(problem)}<a class="button" href="/sign-in">Start again</a>`,
  );

const formatProblem = (problem: string | null): string =>
  problem === null ? "" : `<p class="problem" role="alert">${escapeText(problem)}</p>`;

const MARK =
  '<svg viewBox="0 0 26 22" width="26" height="22" fill="currentColor" aria-hidden="true"><path d="M1 3H8.7L6.7 10.2H1zM11 3H12.8L10.9 10.2H9zM15.2 3H19.7L17.7 10.2H13.2zM21.9 3H25V10.2H20z"/><path d="M1 11.8H6.2L4.2 19H1zM8.5 11.8H10.4L8.4 19H6.6zM12.7 11.8H17.2L15.2 19H10.8zM19.5 11.8H25V19H17.5z"/></svg>';

const formatPage = (title: string, body: string): string => `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<title>${title} · Tallystick</title>
<link rel="icon" href="data:,">
<style>${STYLE}</style>
</head>
<body>
<main>
<p class="name">${MARK}Tallystick</p>
<h1>${title}</h1>
${body}
</main>
</body>
</html>
`;

const ESCAPES: Readonly<Record<string, string>> = {
  "&": "&amp;",
  "<": "&lt;",
  ">": "&gt;",
  '"': "&quot;",
  "'": "&#39;",
};

/** Text for an element or a quoted attribute. */
const escapeText = (text: string): string => text.replaceAll(/[&<>"']/g, (c) => ESCAPES[c] ?? c);

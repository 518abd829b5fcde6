const PATH_CHARACTERS_MAX = 2000;
/** One slash, and nothing that browsers read as one or leave out. */
const PATH = /^\/(?![/\\])[^\\\s\p{Cc}]*$/u;
/** Stands for this service while a path is read: the name is reserved and nobody's. */
const HERE = "http://here.invalid";

/**
 * A path of this service, as a browser will understand it; null for everything that would lead elsewhere or is no path.
 * What comes back begins with exactly one slash.
 */
export function localPathOf(text: string | undefined): string | null {
  if (text === undefined || text.length > PATH_CHARACTERS_MAX || !PATH.test(text)) return null;
  const url = URL.parse(text, HERE);
  if (url === null || url.origin !== HERE) return null;
  // `/.//elsewhere` is a path of two slashes once its dots are taken out.
  if (url.pathname.startsWith("//")) return null;
  return `${url.pathname}${url.search}${url.hash}`;
}

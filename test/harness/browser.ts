/** What a service answered a browser. */
export type BrowserAnswer = {
  status: number;
  headers: Headers;
  text: string;
  /** Where it sends the browser; the browser has not gone there. */
  location: string | null;
  /** Cookies as they were set, attributes and all. */
  setCookies: string[];
};

/** Does at one service what browsers do: keeps cookies, and says from which page a form was sent. */
export type TestBrowser = {
  /** Name → value. */
  readonly cookies: Map<string, string>;
  get(path: string, headers?: Record<string, string>): Promise<BrowserAnswer>;
  /** Sends a form from a page of the service; `headers` may say otherwise. */
  submit(
    path: string,
    form?: Record<string, string>,
    headers?: Record<string, string>,
  ): Promise<BrowserAnswer>;
};

/** A browser without cookies. `url` is the service's, without a slash at the end. */
export function openBrowser(url: string): TestBrowser {
  const cookies = new Map<string, string>();
  const keep = (line: string): void => {
    const [, name = "", value = ""] = /^([^=]+)=([^;]*)/.exec(line) ?? [];
    if (/;\s*max-age=0(?:;|$)/i.test(line)) cookies.delete(name);
    else cookies.set(name, value);
  };
  const ask = async (path: string, init: RequestInit): Promise<BrowserAnswer> => {
    const headers = new Headers(init.headers);
    const cookie = [...cookies].map(([name, value]) => `${name}=${value}`).join("; ");
    if (cookie !== "" && !headers.has("cookie")) headers.set("cookie", cookie);
    const response = await fetch(url + path, { ...init, headers, redirect: "manual" });
    const setCookies = response.headers.getSetCookie();
    for (const line of setCookies) keep(line);
    return {
      status: response.status,
      headers: response.headers,
      text: await response.text(),
      location: response.headers.get("location"),
      setCookies,
    };
  };
  return {
    cookies,
    get: (path, headers = {}) => ask(path, { headers }),
    submit: (path, form = {}, headers = {}) =>
      ask(path, {
        method: "POST",
        headers: {
          "content-type": "application/x-www-form-urlencoded",
          origin: url,
          "sec-fetch-site": "same-origin",
          ...headers,
        },
        body: new URLSearchParams(form).toString(),
      }),
  };
}

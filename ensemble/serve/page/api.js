// The server. The token came in the address's fragment, which no server ever sees; it goes into a header of each request.

const KEPT = "rostok.token";

export class Failure extends Error {
  constructor(status, message) { super(message); this.status = status; }
}

const kept = () => sessionStorage.getItem(KEPT);  // of this tab, as long as it is open: it may be the key, which stays valid

/** Take the token out of the address, so that it stands in no history and on no screenshot. */
export async function takeToken() {
  const parts = new URLSearchParams(location.hash.slice(1));
  const token = parts.get("token");
  if (!token) return;
  parts.delete("token");
  history.replaceState(null, "", parts.size ? `#${parts}` : location.pathname);
  if (!kept() || await opens(token)) keepToken(token);  // anybody can make a link with a wrong one
}

export function keepToken(token) { sessionStorage.setItem(KEPT, token); }

async function opens(token) {
  try {
    return (await fetch("/api/notes", { headers: { Authorization: `Bearer ${token}` }, credentials: "omit", cache: "no-store" })).ok;
  } catch {
    return false;
  }
}

async function send(method, path, body, signal) {
  const headers = { Authorization: `Bearer ${kept() ?? ""}` };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let answer;
  try {
    answer = await fetch(path, {
      method, headers, signal, body: body === undefined ? undefined : JSON.stringify(body),
      credentials: "omit", referrerPolicy: "no-referrer", cache: "no-store" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Failure(0, "");
  }
  if (answer.ok) return answer;
  if (answer.status === 401) document.dispatchEvent(new Event("locked"));  // the server was started anew, with another token
  const told = await answer.json().catch(() => ({}));
  throw new Failure(answer.status, told.error?.message ?? answer.statusText);
}

export const get = async (path) => (await send("GET", path)).json();
export const post = async (path, body = {}) => (await send("POST", path, body)).json();
export const remove = async (path) => (await send("DELETE", path)).json();
export const file = async (path) => (await send("GET", path)).blob();

/** The events of a stream: [name, data]. Leaving the loop, or `signal`, closes the connection. */
export async function* events(path, body, signal) {
  const answer = await send("POST", path, body, signal);
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const parts = (rest + value).split("\n\n");
      rest = parts.pop();
      for (const part of parts) {
        const name = /^event: (.*)$/m.exec(part)?.[1];
        const data = /^data: (.*)$/m.exec(part)?.[1];
        if (name && data) yield [name, JSON.parse(data)];
      }
    }
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Failure(0, "");
  } finally {
    reader.cancel().catch(() => {});
  }
}

/** Page: the module that `{% hermes %}` loads: reads its configuration, connects, shows toasts. Fetches bell.js if needed. */
/** @import { Config } from "./toast_types.js" */
/** @import { Pass } from "./types.js" */

import { KINDS } from "./content.js";
import { Hermes, Refused } from "./hermes.js";
import { ToastView } from "./toast_view.js";
import { Toasts } from "./toasts.js";

/** The inline token first, then one POST for each. @param {Config} config @returns {() => Promise<Pass>} */
export function tokenSource({ pass: inline, token_url, csrf_cookie, csrf_token, room, stage, user_id }) {
  return async () => {
    const given = inline;
    inline = undefined;
    if (given) return given;
    const newest = document.cookie.split("; ").find((each) => each.startsWith(`${csrf_cookie}=`))?.slice(csrf_cookie.length + 1);
    const response = await fetch(token_url, {
      method: "POST",
      credentials: "same-origin",
      redirect: "manual", // to the sign-in page: the session has ended
      headers: { "Content-Type": "application/json", "X-CSRFToken": newest ?? csrf_token },
      body: JSON.stringify({ room, stage }),
    });
    const { ok, status, type } = response;
    if (type === "opaqueredirect" || (status >= 400 && status < 500 && status !== 408 && status !== 429)) {
      throw new Refused(`No token for this session (${status || "signed out"}).`);
    }
    if (!ok) throw new Error(`The token could not be fetched (${status}).`);
    const pass = await response.json();
    // Somebody else has signed in: what is theirs does not belong here.
    if (`${pass.user_id}` !== `${user_id}`) throw new Refused("This session is another user's now.");
    return pass;
  };
}

/** @param {string} id of an element that holds JSON */
const read = (id) => JSON.parse(document.getElementById(id)?.textContent || "null");

/** Start what the page's configuration describes; null on a page without one. */
export function start() {
  /** @type {Config | null} */ const config = read("hermes-config");
  if (!config) return null;
  const { url, stage, room, user_id, position } = config;
  const strings = read("hermes-strings") ?? {};
  const toasts = new Toasts();
  const view = new ToastView(toasts, { strings });
  const client = new Hermes({ url, stage, room, user: user_id, position, token: tokenSource(config) });
  /** @type {Promise<import("./bell.js").Bell> | undefined} */ let bell;
  const ring = () =>
    (bell ??= import("./bell.js").then(({ Bell }) => new Bell(client, { name: JSON.stringify([stage, room, user_id]), strings, toasts })));
  if (document.querySelector("[data-hermes-bell]")) void ring();
  const openList = (toasts.onlist = async () => (await ring()).open());
  const hermes = Object.assign(client, { toasts, view, openList });
  const showing = import("./showing.js").then((it) => it.attachShowing(client, toasts.showEntries, { types: [...KINDS] }));
  /** @type {Promise<unknown> | undefined} */ let connecting;
  const connect = () => (connecting ??= showing.finally(() => hermes.connect()));
  // Pages may have left subscribers here before this module came.
  const early = /** @type {any} */ (window).hermes?.subscribers;
  if (Array.isArray(early)) hermes.subscribers.push(...early);
  Object.assign(window, { hermes });
  // The page's own modules run before this event, so their subscribers miss nothing. Who comes late has only `load`.
  if (document.readyState === "complete") connect();
  else for (const type of ["DOMContentLoaded", "load"]) addEventListener(type, connect, { once: true });
  return hermes;
}

export const hermes = start();

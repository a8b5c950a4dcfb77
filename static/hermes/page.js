/** Page: the module that `{% hermes %}` loads: reads its configuration, connects, shows toasts. Uses hermes and toasts. */

import { Hermes, Refused } from "./hermes.js";
import { ToastView } from "./toast_view.js";
import { KINDS, Toasts, contentOf } from "./toasts.js";

/**
 * @typedef {object} Config what the template tag writes into `#hermes-config`
 * @property {string} url
 * @property {string} token_url
 * @property {string} csrf_cookie the name of the cookie that holds the session's newest CSRF token, if scripts may read it
 * @property {string} csrf_token as it was when the page was rendered
 * @property {string} stage
 * @property {string} room
 * @property {string | number} user_id
 * @property {import("./types.js").Position | null} position
 * @property {import("./types.js").Pass} [pass] the inline token
 */

/**
 * A token source: the inline token first, then one POST for each that is needed.
 * @param {Config} config
 * @returns {() => Promise<import("./types.js").Pass>}
 */
export function tokenSource(config) {
  let inline = config.pass;
  return async () => {
    const given = inline;
    inline = undefined;
    if (given) return given;
    const response = await fetch(config.token_url, {
      method: "POST",
      credentials: "same-origin",
      // A redirect goes to the sign-in page: the session has ended.
      redirect: "manual",
      headers: { "Content-Type": "application/json", "X-CSRFToken": cookie(config.csrf_cookie) ?? config.csrf_token },
      body: JSON.stringify({ room: config.room, stage: config.stage }),
    });
    const { status, type } = response;
    if (type === "opaqueredirect" || (status >= 400 && status < 500 && status !== 408 && status !== 429)) {
      throw new Refused(`No token for this session (${status || "signed out"}).`);
    }
    if (!response.ok) throw new Error(`The token could not be fetched (${status}).`);
    const pass = await response.json();
    // Somebody else has signed in meanwhile: what is theirs does not belong on this page.
    if (`${pass.user_id}` !== `${config.user_id}`) throw new Refused("This session is another user's now.");
    return pass;
  };
}

/** @param {string} name */
const cookie = (name) => document.cookie.split("; ").find((each) => each.startsWith(`${name}=`))?.slice(name.length + 1);

/**
 * Start what the page's configuration element describes.
 * @returns {(Hermes & { toasts: Toasts }) | null} null on a page without one
 */
export function start() {
  const element = document.getElementById("hermes-config");
  if (!element) return null;
  /** @type {Config} */
  const config = JSON.parse(element.textContent ?? "");
  const toasts = new Toasts();
  new ToastView(toasts);
  const { url, stage, room, user_id: user, position } = config;
  const hermes = Object.assign(new Hermes({ url, stage, room, user, position, token: tokenSource(config) }), { toasts });
  for (const kind of KINDS) hermes.on(kind, (data) => toasts.show(kind, contentOf(data)));
  // Pages may have put their subscribers here before this module came: `(window.hermes ??= {subscribers: []})`.
  const early = /** @type {any} */ (window).hermes?.subscribers;
  if (Array.isArray(early)) hermes.subscribers.push(...early);
  Object.assign(window, { hermes });
  // The page's own modules run before this event: none of their subscribers misses the first entry. A page that
  // loads this module late has only `load` left to wait for, or nothing.
  if (document.readyState === "complete") hermes.connect();
  else for (const type of ["DOMContentLoaded", "load"]) addEventListener(type, () => hermes.connect(), { once: true });
  return hermes;
}

export const hermes = start();

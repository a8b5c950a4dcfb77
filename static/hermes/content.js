/** Content: what a message says, whatever its producer put there, as text and harmless links. Pure; used by toasts, bell. */
/** @import { Action, Said } from "./toast_types.js" */

export const KINDS = /** @type {const} */ (["info", "success", "warning", "danger", "custom"]);

const ACTIONS = 2; // more is a page's business
const LONGEST = 1000; // characters; a toast is no page
const LONGEST_LABEL = 60;

/**
 * Keep a link only if it is harmless.
 * @param {unknown} link
 * @param {string} [page] the page's own address
 * @returns {string} its address; empty when it is not kept
 */
export function safeLink(link, page = globalThis.location?.href ?? "http://localhost/") {
  if (typeof link !== "string" || !link) return "";
  try {
    const { protocol, host, href } = new URL(link, page);
    if (protocol === "https:" || (protocol === "http:" && host === new URL(page).host)) return href;
  } catch {
    // no address
  }
  return "";
}

/**
 * What a message says.
 * @param {any} data a text, or an object like Content
 * @param {string} [page] the page's own address
 * @returns {Said}
 */
export function contentOf(data, page) {
  const { title, text, link, link_text, actions, icon, look, lasts_ms, draw } = Object(data);
  const told = typeof data === "object" && (title ?? text) !== undefined;
  return {
    title: say(title),
    text: say(told ? text : data), // what is no content is shown, not hidden
    link: safeLink(link, page),
    link_text: say(link_text, LONGEST_LABEL),
    actions: (Array.isArray(actions) ? actions : []).flatMap((each) => actionOf(each, page)).slice(0, ACTIONS),
    icon: say(icon, 16),
    look: /^[\w-]{1,32}$/.exec(say(look))?.[0] ?? "",
    lasts_ms: typeof lasts_ms === "number" && lasts_ms >= 0 ? lasts_ms && Math.min(60_000, Math.max(1000, lasts_ms)) : undefined,
    draw: typeof draw === "function" ? draw : undefined,
  };
}

/** @param {any} action @param {string} [page] @returns {Action[]} */
function actionOf(action, page) {
  const { label, link, name, onclick } = Object(action);
  const address = safeLink(link, page);
  // A button whose link was not kept would do nothing.
  if (!say(label) || (link && !address)) return [];
  const call = typeof onclick === "function" ? onclick : undefined;
  return [{ label: say(label, LONGEST_LABEL), link: address, name: say(name), onclick: call }];
}

/** @param {unknown} value @param {number} [longest] */
function say(value, longest = LONGEST) {
  const text = value && typeof value === "object" ? JSON.stringify(value) : String(value ?? "");
  if (text.length > longest) return `${text.slice(0, longest).replace(/[\ud800-\udbff]$/, "")}…`; // no half of an emoji
  return text.trim() && text;
}

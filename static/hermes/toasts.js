/** Toasts: what is on show, what waits its turn, and for how long. A model without a document; drawn by toast_view.js. */

/**
 * @typedef {"info" | "success" | "warning" | "danger"} Kind
 *
 * @typedef {object} Content
 * @property {string} [title]
 * @property {string} [text]
 * @property {string} [link] https:, http: to the same host, or relative; anything else is left out
 *
 * @typedef {object} Toast
 * @property {number} id
 * @property {Kind} kind
 * @property {string} title
 * @property {string} text
 * @property {string | null} link
 * @property {number} times how often it was shown while it stood
 * @property {number} lasts_ms 0: until it is dismissed
 * @property {number} left_ms of that, when the clock last stopped
 */

export const KINDS = /** @type {const} */ (["info", "success", "warning", "danger"]);

const SECOND = 1000;
// A reader needs about a second per 15 characters; what is dangerous stands longer, so that it is not missed.
const BASE_MS = { info: 5 * SECOND, success: 4 * SECOND, warning: 8 * SECOND, danger: 12 * SECOND };
const READING_MS = 40; // a character
const LONGEST_MS = 20 * SECOND;
const LONGEST_TEXT = 1000; // characters; a toast is no page

/**
 * Keep a link only if following it is harmless.
 * @param {unknown} link
 * @param {string} page the page's own address
 * @returns {string | null} as given, or null
 */
export function safeLink(link, page) {
  if (typeof link !== "string" || !link) return null;
  try {
    const here = new URL(page);
    const there = new URL(link, here);
    if (there.protocol === "https:" || (there.protocol === "http:" && there.host === here.host)) return there.href;
  } catch {
    // no address at all
  }
  return null;
}

/**
 * What a message says, whatever its producer put there.
 * @param {unknown} data a string, or `{title, text, link}`
 * @returns {Content}
 */
export function contentOf(data) {
  if (typeof data !== "object" || data === null) return { text: say(data) };
  const { title, text, link } = /** @type {Record<string, unknown>} */ (data);
  if (title === undefined && text === undefined) return { text: say(data) };
  return { title: say(title), text: say(text), link: typeof link === "string" ? link : undefined };
}

/** @param {unknown} value */
function say(value) {
  if (value === undefined || value === null) return "";
  const text = typeof value === "object" ? JSON.stringify(value) : `${value}`;
  return text.length > LONGEST_TEXT ? `${text.slice(0, LONGEST_TEXT)}…` : text;
}

/** The toasts of a page. */
export class Toasts {
  #host;
  #limit;
  #next = 1;
  #page;
  /** @type {Map<number, { timer: any, since: number }>} */ #running = new Map();
  #waitingLimit;
  /** Called after every change. */
  onchange = () => {};
  /** How many more were asked for than may even wait. */
  overflow = 0;
  #paused = false;
  /** @type {Toast[]} */ shown = [];
  /** @type {Toast[]} */ waiting = [];

  /**
   * @param {object} [options]
   * @param {number} [options.limit] how many stand at once
   * @param {number} [options.waitingLimit] how many more wait their turn; the rest are only counted
   * @param {string} [options.page] the page's address, for links
   * @param {Pick<import("./types.js").Host, "setTimeout" | "clearTimeout" | "Date">} [options.host]
   */
  constructor({ limit = 4, waitingLimit = 20, page = globalThis.location?.href ?? "http://localhost/", host = globalThis } = {}) {
    this.#limit = limit;
    this.#waitingLimit = waitingLimit;
    this.#page = page;
    this.#host = host;
  }

  /**
   * Show a toast, at once or when its turn comes. One that says the same as one that stands is counted on it.
   * @param {string} kind one of KINDS; anything else is info
   * @param {Content | string} content
   * @returns {number} its id; 0 when it is only counted
   */
  show(kind, content) {
    const { title = "", text = "", link } = contentOf(content);
    const known = /** @type {Kind} */ (KINDS.find((each) => each === kind) ?? "info");
    const same = [...this.shown, ...this.waiting].find(
      (toast) => toast.kind === known && toast.title === title && toast.text === text,
    );
    if (same) {
      same.times += 1;
      this.#restart(same);
      this.onchange();
      return same.id;
    }
    if (this.shown.length >= this.#limit && this.waiting.length >= this.#waitingLimit) {
      this.overflow += 1;
      this.onchange();
      return 0;
    }
    const lasts = Math.min(LONGEST_MS, BASE_MS[known] + READING_MS * (title.length + text.length));
    const toast = { id: this.#next++, kind: known, title, text, link: safeLink(link, this.#page), times: 1, lasts_ms: lasts, left_ms: lasts };
    this.waiting.push(toast);
    this.#fill();
    return toast.id;
  }

  /**
   * Take a toast away.
   * @param {number} id
   */
  dismiss(id) {
    this.#stop(id);
    this.shown = this.shown.filter((toast) => toast.id !== id);
    this.waiting = this.waiting.filter((toast) => toast.id !== id);
    this.#fill();
  }

  /** Take all of them away, with those that wait. */
  clear() {
    for (const { id } of this.shown) this.#stop(id);
    this.shown = [];
    this.waiting = [];
    this.overflow = 0;
    this.onchange();
  }

  /** Stop every toast's time: somebody is reading, or nobody can see them. */
  pause() {
    if (this.#paused) return;
    this.#paused = true;
    for (const toast of this.shown) this.#stop(toast.id, toast);
    this.onchange();
  }

  /** Let their time run on. */
  resume() {
    if (!this.#paused) return;
    this.#paused = false;
    for (const toast of this.shown) this.#start(toast);
    this.onchange();
  }

  get paused() {
    return this.#paused;
  }

  #fill() {
    while (this.shown.length < this.#limit && this.waiting.length) {
      const toast = /** @type {Toast} */ (this.waiting.shift());
      this.shown.push(toast);
      this.#start(toast);
    }
    if (!this.waiting.length && this.shown.length < this.#limit) this.overflow = 0;
    this.onchange();
  }

  /** @param {Toast} toast */
  #restart(toast) {
    toast.left_ms = toast.lasts_ms;
    if (!this.#running.has(toast.id)) return;
    this.#stop(toast.id);
    this.#start(toast);
  }

  /** @param {Toast} toast */
  #start(toast) {
    if (this.#paused) return;
    const timer = this.#host.setTimeout(() => this.dismiss(toast.id), toast.left_ms);
    this.#running.set(toast.id, { timer, since: this.#host.Date.now() });
  }

  /**
   * @param {number} id
   * @param {Toast} [toast] to note how much of its time is left
   */
  #stop(id, toast) {
    const running = this.#running.get(id);
    if (!running) return;
    this.#host.clearTimeout(running.timer);
    this.#running.delete(id);
    if (toast) toast.left_ms = Math.max(SECOND, toast.left_ms - (this.#host.Date.now() - running.since));
  }
}

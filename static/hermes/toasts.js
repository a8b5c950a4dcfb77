/** Toasts: what is on show, what waits its turn, and for how long. A model without a document; drawn by toast_view.js. */
/** @import { Content, Toast, ToastOptions } from "./toast_types.js" */

import { KINDS, contentOf } from "./content.js";

const SECOND = 1000;
// What is dangerous stands longest; then a reader needs a second for 25 characters.
const BASE_MS = { info: 5000, success: 4000, warning: 8000, danger: 12_000, custom: 5000 };
const READING_MS = 40;
const LONGEST_MS = 20_000;
const LATEST = 3; // of which a digest says what they were

/** The toasts of a page. */
export class Toasts {
  #next = 1;
  #options;
  /** Called when somebody has chosen an action. @type {(name: string, toast: Toast) => unknown} */
  onaction = () => {};
  /** Called after every change. */
  onchange = () => {};
  /** Called to show what a digest stands for; null: none offers that. @type {(() => unknown) | null} */
  onlist = null;
  paused = false;
  /** @type {Toast[]} */ shown = [];
  /** @type {Toast[]} */ waiting = [];

  /** @param {ToastOptions} [options] */
  constructor(options) {
    this.#options = { limit: 4, waitingLimit: 8, digestFrom: 4, host: globalThis, ...options };
  }

  /**
   * Show a toast, at once or when its turn comes. One that says the same as one that stands is counted on it.
   * @param {string} kind one of KINDS; anything else is info
   * @param {Content | string} content
   * @returns {number} the id of the toast or digest that it is counted in
   */
  show(kind, content) {
    const toast = this.#make(kind, content);
    const same = this.#find(({ says }) => says === toast.says);
    if (same) {
      same.times += 1;
      return this.#again(same);
    }
    this.waiting.push(toast);
    this.#fill();
    const singles = this.waiting.filter(({ count }) => !count);
    // A flood that has begun is one thing: what comes after it joins it.
    if (singles.length <= (singles.length < this.waiting.length ? 0 : this.#options.waitingLimit)) return toast.id;
    this.waiting = this.waiting.filter(({ count }) => count);
    return this.#digest(singles, false);
  }

  /**
   * Show those entries whose type is one of KINDS.
   * @param {import("./types.js").Entry[]} entries
   * @param {{ away?: boolean }} [how] away: they were missed, and many become a digest
   */
  showEntries = (entries, { away = false } = {}) => {
    const told = entries.map(({ data }) => data).filter((data) => KINDS.includes(data?.type));
    const many = told.length >= this.#options.digestFrom || (told.length && this.#find(({ count, away }) => count && away));
    if (away && many) this.#digest(told.map(({ type, data }) => this.#make(type, data)), true);
    else for (const { type, data } of told) this.show(type, data);
  };

  /** @param {number} id */
  dismiss(id) {
    for (const toast of this.shown) if (toast.id === id) this.#stop(toast);
    this.shown = this.shown.filter((toast) => toast.id !== id);
    this.waiting = this.waiting.filter((toast) => toast.id !== id);
    this.#fill();
  }

  /** Take all of them away. */
  clear() {
    for (const toast of this.shown) this.#stop(toast);
    this.shown = [];
    this.waiting = [];
    this.onchange();
  }

  /** For how many there was no room yet. */
  get more() {
    return this.waiting.reduce((sum, { count, times }) => sum + (count || times), 0);
  }

  /** Stop every toast's time, or let it run on. @param {boolean} paused */
  pause(paused = true) {
    if (this.paused === paused) return;
    this.paused = paused;
    for (const toast of this.shown) {
      if (paused) this.#stop(toast);
      else this.#start(toast);
    }
    this.onchange();
  }

  /** @param {string} kind @param {unknown} content @returns {Toast} */
  #make(kind, content) {
    const said = contentOf(content, this.#options.page);
    const { title, text, actions, lasts_ms, draw } = said;
    const known = KINDS.find((each) => each === kind) ?? "info";
    const id = this.#next++;
    // Who may act on it needs as long as for what is dangerous.
    const usual = BASE_MS[actions.length ? "danger" : known] + READING_MS * (title.length + text.length);
    const lasts = lasts_ms ?? Math.min(LONGEST_MS, usual);
    // What only this page's code can say is nobody else's.
    const says = draw || actions.some(({ onclick }) => onclick) ? `${id}` : JSON.stringify([known, said]);
    return { ...said, id, kind: known, times: 1, count: 0, away: false, lasts_ms: lasts, left_ms: lasts, since: 0, timer: 0, says };
  }

  /** @param {(toast: Toast) => unknown} is */
  #find(is) {
    return [...this.shown, ...this.waiting].find(is);
  }

  /** Count toasts in a digest. @param {Toast[]} toasts @param {boolean} away */
  #digest(toasts, away) {
    let digest = this.#find((toast) => toast.count && toast.away === away);
    if (!digest) {
      digest = { ...this.#make("info", { title: "", lasts_ms: LONGEST_MS }), away };
      this.waiting.unshift(digest);
    }
    for (const { kind, times, title, text } of toasts) {
      digest.count += times;
      if (kind === "danger" || (kind === "warning" && digest.kind !== "danger")) digest.kind = kind; // the gravest
      digest.text = [(title || text).split("\n")[0], ...digest.text.split("\n")].filter(Boolean).slice(0, LATEST).join("\n");
    }
    return this.#again(digest);
  }

  /** Let a toast's time begin anew. @param {Toast} toast */
  #again(toast) {
    toast.left_ms = toast.lasts_ms;
    if (toast.timer) {
      this.#options.host.clearTimeout(toast.timer);
      this.#start(toast);
    }
    this.#fill();
    return toast.id;
  }

  #fill() {
    while (this.shown.length < this.#options.limit && this.waiting.length) {
      const toast = /** @type {Toast} */ (this.waiting.shift());
      this.shown.push(toast);
      this.#start(toast);
    }
    this.onchange();
  }

  /** @param {Toast} toast */
  #start(toast) {
    const { host } = this.#options;
    if (this.paused || !toast.lasts_ms) return;
    toast.timer = host.setTimeout(() => this.dismiss(toast.id), toast.left_ms);
    toast.since = host.Date.now();
  }

  /** @param {Toast} toast */
  #stop(toast) {
    const { host } = this.#options;
    if (!toast.timer) return;
    host.clearTimeout(toast.timer);
    toast.timer = 0;
    toast.left_ms = Math.max(SECOND, toast.left_ms - (host.Date.now() - toast.since));
  }
}

/** Read marks: which entries were read in this browser, shared by its tabs through localStorage. Used by bell.js. */
/** @import { Entry, Store } from "./types.js" */

const KEPT = 200; // ids and times; more than any list shows

/**
 * @typedef {object} Marks
 * @property {string} [epoch] of the mark; undefined before anything was read
 * @property {number} [seq] read up to here
 * @property {string[]} ids read one by one, and the last ones below the mark: a new epoch counts anew
 * @property {[string, number][]} times when entries came, by id: entries carry none
 */

/** A member's read entries in a room: all up to a mark, and some after it. */
export class ReadMarks {
  /** @type {Map<string, number>} */ #came = new Map();
  #key;
  /** @type {Marks} */ #marks = { ids: [], times: [] };
  #now;
  #onchange;
  #stale = false;
  #store;

  /**
   * @param {object} options
   * @param {string} options.name whose marks: nobody goes on from somebody else's
   * @param {() => void} options.onchange called after every change, here or in another tab
   * @param {Store | null} [options.storage] localStorage unless given; null keeps nothing beyond this page
   * @param {() => number} [options.now] milliseconds
   */
  constructor({ name, onchange, storage, now = () => Date.now() }) {
    this.#key = `hermes:read:${name}`;
    this.#onchange = onchange;
    this.#store = storage;
    this.#now = now;
    this.#read();
    globalThis.addEventListener?.("storage", this.#told);
  }

  /** Listen to other tabs no longer. */
  close() {
    this.flush();
    globalThis.removeEventListener?.("storage", this.#told);
  }

  /** Whether nothing was ever read here. */
  get isNew() {
    return this.#marks.epoch === undefined;
  }

  /** Whether an entry was read. @param {Entry} entry */
  has({ epoch, seq, id }) {
    const marks = this.#marks;
    return (marks.epoch === epoch && seq <= (marks.seq ?? -1)) || marks.ids.includes(id);
  }

  /** Mark some as read. @param {Entry[]} entries */
  add(entries) {
    this.#read(); // what another tab has marked meanwhile stays marked
    this.#marks.ids = [...new Set([...this.#marks.ids, ...entries.map(({ id }) => id)])].slice(-KEPT);
    this.#write();
  }

  /** Mark all as read, up to the newest of these. @param {Entry[]} entries oldest first */
  addAll(entries) {
    const { epoch, seq } = entries.at(-1) ?? { epoch: this.#marks.epoch ?? "", seq: this.#marks.seq ?? 0 };
    Object.assign(this.#marks, { epoch, seq });
    this.#write();
    this.add(entries);
  }

  /** An entry has just come. Written down by the next `flush`: there may be hundreds a second. @param {Entry} entry */
  came({ id }) {
    if (this.#came.has(id)) return;
    this.#came.set(id, this.#now());
    this.#stale = true;
  }

  /** When an entry came to this browser, in milliseconds; undefined when it was not here. @param {Entry} entry */
  cameAt({ id }) {
    return this.#came.get(id);
  }

  /** Write down when entries came. */
  flush() {
    if (!this.#stale) return;
    this.#stale = false;
    this.#read();
    this.#write();
  }

  /** @param {StorageEvent} event */
  #told = ({ key }) => {
    if (key !== this.#key && key !== null) return;
    this.#read();
    this.#onchange();
  };

  /** Called where it may throw: some browsers forbid to look at it. */
  #storage() {
    return this.#store === undefined ? localStorage : this.#store;
  }

  #read() {
    try {
      const { epoch, seq, ids, times } = JSON.parse(this.#storage()?.getItem(this.#key) ?? "{}");
      if (typeof epoch === "string" && Number.isSafeInteger(seq)) Object.assign(this.#marks, { epoch, seq });
      if (Array.isArray(ids)) this.#marks.ids = ids.map(String);
      // The first tab to have had it is right.
      for (const [id, at] of Array.isArray(times) ? times : []) if (Number.isFinite(at)) this.#came.set(`${id}`, at);
    } catch {
      // forbidden or not ours: this page alone remembers
    }
  }

  #write() {
    const newest = [...this.#came].sort(([, a], [, b]) => a - b).slice(-KEPT);
    this.#came = new Map(newest);
    try {
      this.#storage()?.setItem(this.#key, JSON.stringify({ ...this.#marks, times: newest }));
    } catch {
      this.#store = null; // full or forbidden: from now on this page alone remembers
    }
    this.#onchange();
  }
}

/** Shown: what this tab has dispatched, also before a reload or on another page. Used by hermes.js. */
/** @import { Options, Position } from "./types.js" */

import { positionOf } from "./position.js";

// After a lost history the server sends all that is still there, by default 1,000 entries.
const REMEMBERED = 1024;

/** A member's position in a room, and the ids of the last entries dispatched. */
export class Shown {
  /** @type {Set<string>} */ #ids;
  #name;
  #stale = false;
  #store;
  /** @type {Position | null} */ position;

  /**
   * @param {Options["storage"]} store
   * @param {string[]} identity stage, room and user: nobody goes on from somebody else's position
   * @param {Position | null} rendered A stored one wins, even an older one: what came in between has not been shown.
   */
  constructor(store, identity, rendered) {
    this.#store = store;
    this.#name = JSON.stringify(identity);
    this.position = positionOf(this.#read("position")) ?? rendered;
    if (this.position) this.adopt(this.position); // the next rendered one comes too late
    const ids = this.#read("ids");
    this.#ids = new Set(Array.isArray(ids) ? ids : []);
  }

  /** Take an entry for dispatch; false when it was dispatched before. @param {Position} entry */
  take({ epoch, seq, id }) {
    if (this.position?.epoch === epoch && seq <= this.position.seq) return false;
    const ids = this.#ids;
    this.adopt({ epoch, seq, id });
    if (ids.has(id)) return false;
    ids.add(id);
    this.#stale = true;
    for (const oldest of ids) {
      if (ids.size <= REMEMBERED) break;
      ids.delete(oldest);
    }
    return true;
  }

  /** Go on from where the server says, even where that is lower. @param {Position} position */
  adopt(position) {
    this.position = position;
    this.#write("position", position);
  }

  /** Move on past what was not for us; never back. @param {Position} next */
  advance(next) {
    if (this.position?.epoch === next.epoch && next.seq > this.position.seq) this.adopt(next);
  }

  /** Write the ids down. Not for every entry: they matter only after a lost history, and are 40 KB. */
  flush() {
    if (this.#stale) this.#write("ids", [...this.#ids]);
    this.#stale = false;
  }

  /** It may throw: some browsers forbid to look at it. */
  #storage() {
    return this.#store === undefined ? sessionStorage : this.#store;
  }

  /** @param {string} what */
  #read(what) {
    try {
      return JSON.parse(this.#storage()?.getItem(`hermes:${what}:${this.#name}`) ?? "null");
    } catch {
      return null;
    }
  }

  /** @param {string} what @param {unknown} value */
  #write(what, value) {
    try {
      this.#storage()?.setItem(`hermes:${what}:${this.#name}`, JSON.stringify(value));
    } catch {
      // full or forbidden: this page alone remembers
    }
  }
}

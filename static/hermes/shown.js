/** Shown: what this tab has dispatched, kept so that reload and navigation lose and repeat nothing. Used by hermes.js. */

import { isAhead, positionOf } from "./position.js";

/** @typedef {import("./types.js").Position} Position */

// After `lost(fork)` or `lost(epoch)` the server sends all that is still there, by default 1,000 entries.
const REMEMBERED = 1024;

/** A member's position in a room, and the ids of the last entries dispatched. */
export class Shown {
  /** @type {Set<string>} */ #ids = new Set();
  #idsKey;
  #key;
  #stale = false;
  #store;
  /** @type {Position | null} */ position = null;

  /**
   * @param {import("./types.js").Store | null} store usually sessionStorage; null keeps nothing beyond this page
   * @param {string[]} identity stage, room and user: nobody goes on from somebody else's position
   * @param {Position | null} rendered the room's position when the page was rendered. A stored one wins, even an
   *   older one: what was sent between it and the rendering has not been shown.
   */
  constructor(store, identity, rendered) {
    this.#store = store;
    this.#key = `hermes:position:${JSON.stringify(identity)}`;
    this.#idsKey = `hermes:ids:${JSON.stringify(identity)}`;
    this.position = positionOf(this.#read(this.#key)) ?? rendered;
    const ids = this.#read(this.#idsKey);
    if (Array.isArray(ids)) this.#ids = new Set(ids.slice(-REMEMBERED));
  }

  /**
   * Take an entry for dispatch.
   * @param {Position} entry
   * @returns {boolean} false when it was dispatched before
   */
  take(entry) {
    const known = this.position?.epoch === entry.epoch && entry.seq <= this.position.seq;
    if (known) return false;
    const repeated = this.#ids.has(entry.id);
    this.adopt({ epoch: entry.epoch, seq: entry.seq, id: entry.id });
    if (repeated) return false;
    this.#ids.add(entry.id);
    this.#stale = true;
    if (this.#ids.size > REMEMBERED) this.#ids.delete(/** @type {string} */ (this.#ids.values().next().value));
    return true;
  }

  /**
   * Go on from where the server says, even where that is lower.
   * @param {Position} position
   */
  adopt(position) {
    this.position = position;
    this.#write(this.#key, position);
  }

  /**
   * Move on past what was not for us; never back.
   * @param {Position} position
   */
  advance(position) {
    if (isAhead(this.position, position)) this.adopt(position);
  }

  /** Write the ids down. Not done for every entry: they matter only after a lost history, and are 40 KB. */
  flush() {
    if (!this.#stale) return;
    this.#stale = false;
    this.#write(this.#idsKey, [...this.#ids]);
  }

  /** @param {string} key */
  #read(key) {
    try {
      return JSON.parse(this.#store?.getItem(key) ?? "null");
    } catch {
      return null;
    }
  }

  /**
   * @param {string} key
   * @param {unknown} value
   */
  #write(key, value) {
    try {
      this.#store?.setItem(key, JSON.stringify(value));
    } catch {
      this.#store = null; // full or forbidden: from now on this page alone remembers
    }
  }
}

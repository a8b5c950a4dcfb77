/** Ring: the last entries that the tab with the socket was told, for tabs that come late. Used by share.js. Pure. */
/** @import { Entry, Frame, Position } from "./types.js" */

import { positionOf } from "./position.js";

const RING = 256; // entries kept; who missed more asks the server

export class Ring {
  /** @type {Position | null | undefined} */ #base; // before the first entry
  /** @type {Entry[]} */ #entries = [];

  /** Be another member's. */
  forget() {
    this.#base = undefined;
  }

  /** @param {Entry} entry */
  push(entry) {
    this.#entries.push(structuredClone(entry)); // subscribers may change theirs
    if (this.#entries.length > RING) this.#base = positionOf(this.#entries.shift());
  }

  /**
   * After a control frame: go on from where it was, or begin anew.
   * @param {Extract<Frame, { kind: "control" }>} frame @param {Position | null} position after it
   */
  follow({ type, data }, position) {
    if (this.#base && !/lost|gap|fresh/.test(type + data.status)) return;
    this.#entries = [];
    this.#base = position;
  }

  /** The entries after a position; null when we cannot know all of them. @param {Position | null} position */
  since(position) {
    if (!position) return [];
    const base = this.#base;
    if (base?.epoch !== position.epoch || position.seq < base.seq) return null;
    const known = [base, ...this.#entries].find(({ seq }) => seq === position.seq);
    if (known && known.id !== position.id) return null;
    return this.#entries.filter(({ seq }) => seq > position.seq);
  }
}

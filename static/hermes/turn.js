/** Turn: a tab's turn to lead, by a lock that one tab at a time has. Used by share.js. */

/** Called with what comes of waiting; each at most once for each `wait`, and not after another, or `leave`. */
/** @typedef {{ ours: () => void, taken: () => void, refused: () => void }} Told */

export class Turn {
  #told;
  /** @type {object | undefined} */ #request; // whatever an earlier one still brings is void
  /** @type {() => void} */ #release = () => {};

  /** @param {Told} told */
  constructor(told) {
    this.#told = told;
  }

  /** Wait until it is ours. @param {LockManager} locks @param {string} name @param {boolean} steal take it from who has it */
  wait(locks, name, steal) {
    const abort = new AbortController();
    const giveUp = this.#release;
    const request = (this.#request = {});
    this.#release = () => abort.abort();
    giveUp();
    const ours = () => {
      if (request !== this.#request) return;
      const kept = new Promise((done) => (this.#release = () => done(null)));
      this.#told.ours();
      return kept;
    };
    locks.request(name, steal ? { steal } : { signal: abort.signal }, ours).catch((error) => {
      if (request !== this.#request) return;
      if (error.name === "AbortError") this.#told.taken();
      else this.#told.refused(); // no locks for this page
    });
  }

  /** Wait no longer, or let another tab have it. */
  leave() {
    this.#request = undefined;
    this.#release();
    this.#release = () => {};
  }
}

/** Credentials: the token that a connection shows, fetched when needed and kept while it is good. Used by connection.js. */

/** @typedef {import("./types.js").Pass} Pass */

// A token this close to its end would be refused while it is on its way.
const SPARE_MS = 10_000;

/** Thrown by a token function to say that asking again is of no use, e.g. because the user has signed out. */
export class Refused extends Error {}

/**
 * What a JWT says about its bearer. Not verified: it only names things; authority stays with the server.
 * @param {string} token
 * @returns {Record<string, any>} empty when it is no JWT
 */
export function claims(token) {
  try {
    const text = atob(token.split(".")[1].replace(/-/g, "+").replace(/_/g, "/"));
    return JSON.parse(new TextDecoder().decode(Uint8Array.from(text, (character) => character.charCodeAt(0)))) ?? {};
  } catch {
    return {};
  }
}

/** Asks the source for a token when there is none, or none that is still good. */
export class Credentials {
  /** @type {Pass | null} */ #pass = null;
  /** @type {string | null} */ #refused = null;
  #now;
  #source;
  #until = Infinity;

  /**
   * @param {import("./types.js").TokenSource} source
   * @param {() => number} now milliseconds
   */
  constructor(source, now) {
    this.#source = source;
    this.#now = now;
  }

  /**
   * @param {boolean} [fresh] ask the source even though the token at hand is good
   * @returns {Promise<Pass>}
   * @throws {Refused} the source only has a token that was refused
   */
  async get(fresh = false) {
    if (!fresh && this.#pass && this.#now() < this.#until - SPARE_MS) return this.#pass;
    const given = typeof this.#source === "function" ? await this.#source() : this.#source;
    const pass = typeof given === "string" ? { token: given } : given;
    if (typeof pass?.token !== "string" || !pass.token) throw new Refused("The token function returned no token.");
    if (pass.token === this.#refused) throw new Refused("The token was refused, and there is no other.");
    this.#pass = pass;
    this.expire(pass.expires_in);
    return pass;
  }

  /**
   * The server has said how long the token at hand is good.
   * @param {number | undefined} seconds
   */
  expire(seconds) {
    this.#until = typeof seconds === "number" ? this.#now() + seconds * 1000 : Infinity;
  }

  /** The server has refused the token at hand. */
  refuse() {
    this.#refused = this.#pass?.token ?? null;
    this.#pass = null;
  }
}

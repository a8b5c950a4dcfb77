/** Credentials: the token, fetched when needed and kept while it is good. Used by connection.js. */
/** @import { Pass, TokenSource } from "./types.js" */

const SPARE_MS = 10_000; // a token this close to its end would be refused while it is on its way

/** A token function throws it when asking again is of no use: the user has signed out. */
export class Refused extends Error {}

/**
 * What a JWT says about its bearer. Not verified: it only names things here.
 * @param {string} token
 * @returns {Record<string, any>} empty when it is no JWT
 */
export function claims(token) {
  try {
    const text = atob(token.split(".")[1].replace(/-/g, "+").replace(/_/g, "/"));
    return JSON.parse(new TextDecoder().decode(Uint8Array.from(text, (letter) => letter.charCodeAt(0)))) ?? {};
  } catch {
    return {};
  }
}

/** Asks the source for a token when there is none that is still good. */
export class Credentials {
  #now;
  /** @type {Pass | null} */ #pass = null;
  /** @type {string | undefined} */ #refused;
  #source;
  #until = 0;

  /** @param {TokenSource} source @param {() => number} now milliseconds */
  constructor(source, now) {
    this.#source = source;
    this.#now = now;
  }

  /**
   * @param {boolean} [fresh] ask, although the token at hand is good
   * @returns {Promise<Pass>} rejected with `Refused` when there is only a token that was refused
   */
  async get(fresh) {
    if (!fresh && this.#pass && this.#now() < this.#until - SPARE_MS) return this.#pass;
    const given = typeof this.#source === "function" ? await this.#source() : this.#source;
    const pass = typeof given === "string" ? { token: given } : given;
    if (typeof pass?.token !== "string" || !pass.token) throw new Refused("The token function returned no token.");
    if (pass.token === this.#refused) throw new Refused("The token was refused, and there is no other.");
    this.#pass = pass;
    this.expire(pass.expires_in);
    return pass;
  }

  /** How long the token at hand is good; unless known, until it is refused. @param {number} [seconds] */
  expire(seconds = Infinity) {
    this.#until = this.#now() + seconds * 1000;
  }

  /** The server has refused the token at hand. */
  refuse() {
    this.#refused = this.#pass?.token;
    this.#pass = null;
  }
}

/** Classic: the article's shape on `window`: `hermes.connect(stage, token)` and `hermes.subscribers.push`. Uses hermes.js. */

import { Hermes } from "./hermes.js";

/** @type {import("./types.js").Subscriber[]} */
const early = /** @type {any} */ (window).hermes?.subscribers ?? [];

/** What `window.hermes` holds; the article's pages call `connect` once, when the document is ready. */
export const classic = {
  /** @type {Hermes | null} */
  client: null,
  subscribers: [...early],

  /**
   * Connect with a token that the page's server has put into it.
   * @param {string} stage
   * @param {string} token
   * @param {string} [url] ws(s)://host; the host that served this module unless given
   */
  connect(stage, token, url = new URL("/", import.meta.url).href) {
    this.client?.disconnect();
    this.client = new Hermes({ url, stage, token });
    this.client.subscribers = this.subscribers; // one registry: what is pushed later counts too
    this.client.connect();
  },
};

Object.assign(window, { hermes: classic });

/** Tabs: Alice's, in a browser with several of them. Used by share.test.js and showing.test.js. */

import { Hermes } from "../../static/hermes/hermes.js";
import { freshToken } from "./scene.js";

/** A generator of numbers from 0 to below 1 that repeats with its seed (mulberry32). @param {number} seed */
export const numbers = (seed) => () => {
  seed = (seed + 0x6d2b79f5) | 0;
  let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
  t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
  return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
};

/**
 * A tab of Alice's, not connected yet.
 * @param {import("../../static/hermes/testing_tabs.js").FakeBrowser} browser
 * @param {import("../../static/hermes/testing.js").FakeServer} server
 * @param {Partial<import("../../static/hermes/types.js").Options>} [options]
 */
export function tabOf(browser, server, options = {}) {
  const host = browser.tab();
  let asked = 0;
  const token = () => {
    asked += 1;
    return freshToken();
  };
  const hermes = new Hermes({ url: "ws://hermes.test", stage: "development", token, ...host.to(server), ...options });
  /** @type {string[]} */ const states = [];
  /** @type {any[]} */ const heard = [];
  /** @type {string[]} */ const events = [];
  hermes.on("hermes.state", ({ state }) => states.push(state));
  hermes.on("*", (message) => heard.push(message.data));
  for (const name of ["lost", "gap"]) hermes.on(`hermes.${name}`, (/** @type {any} */ { reason }) => events.push(`${name} ${reason}`));
  /** The tab ends. @param {"close" | "crash"} [how] */
  const end = (how = "close") => host[how]();
  return { hermes, host, server, storage: options.storage ?? host.sessionStorage, states, heard, events, end, asked: () => asked };
}

/** @typedef {ReturnType<typeof tabOf>} Tab */

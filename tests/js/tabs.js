/** Tabs: a browser with several of them, which share locks, channels and one clock. Used by share.test.js. */

import { Hermes } from "../../static/hermes/hermes.js";
import "../../static/hermes/share.js"; // loaded before, so that connecting does not wait for a file
import { FakeHost, FakeServer, FakeStorage } from "../../static/hermes/testing.js";
import { freshToken } from "./scene.js";

/** A generator of numbers from 0 to below 1 that repeats with its seed (mulberry32). @param {number} seed */
export const numbers = (seed) => () => {
  seed = (seed + 0x6d2b79f5) | 0;
  let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
  t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
  return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
};

/** What happens in one browser: messages take their time, but those of one tab to another never overtake each other. */
export class FakeBrowser {
  /** @type {Set<any>} */ channels = new Set();
  clock = new FakeHost();
  /** @type {Map<string, { tab: FakeTab, take: () => void, lose: () => void }[]>} the first one holds it */
  locks = new Map();
  /** milliseconds for the next message or lock */
  latency = () => 0;
  local = new FakeStorage();

  /** Let time pass, and everything happen that is due in it. @param {number} [ms] */
  async pass(ms = 0) {
    // A dynamic import is answered only after the microtasks.
    for (let turn = 0; turn < 3; turn += 1) await new Promise((done) => setImmediate(done));
    await this.clock.pass(ms);
  }

  /** @param {string} name */
  next(name) {
    const [first] = this.locks.get(name) ?? [];
    if (first) this.clock.setTimeout(() => first === this.locks.get(name)?.[0] && first.take(), this.latency());
  }
}

/** One tab's window. */
export class FakeTab extends FakeHost {
  gone = false;
  throttled = false; // as hidden tabs are after five minutes
  /** @type {(() => void)[]} what stands in line while it hangs */ #line = [];
  #stuck = false;

  /** @param {FakeBrowser} browser */
  constructor(browser) {
    super();
    const tab = this;
    this.browser = browser;
    this.Date = browser.clock.Date;
    this.localStorage = browser.local;
    this.BroadcastChannel = /** @type {any} */ (
      class {
        /** @type {((event: any) => void) | null} */ onmessage = null;
        /** @type {Map<any, number>} */ #last = new Map();
        /** @param {string} name */
        constructor(name) {
          this.name = name;
          this.tab = tab;
          browser.channels.add(this);
        }
        /** @param {any} message */
        postMessage(message) {
          const data = structuredClone(message);
          for (const other of browser.channels) {
            if (other === this || other.name !== this.name) continue;
            const at = Math.max(this.#last.get(other) ?? 0, tab.Date.now() + browser.latency());
            this.#last.set(other, at);
            other.tab.later(() => browser.channels.has(other) && other.onmessage?.({ data }), at - tab.Date.now());
          }
        }
        close() {
          browser.channels.delete(this);
        }
      }
    );
    const locks = {
      /** @param {string} name @param {any} options @param {() => any} callback */
      request(name, { signal, steal }, callback) {
        return new Promise((done, fail) => {
          const queue = browser.locks.get(name) ?? [];
          browser.locks.set(name, queue);
          let taken = false;
          const release = () => {
            const at = queue.indexOf(request);
            if (at >= 0) queue.splice(at, 1);
            if (at === 0) browser.next(name);
          };
          const request = {
            tab,
            take: () => {
              if (taken) return;
              taken = true;
              Promise.resolve(tab.gone ? null : callback()).then(done, fail).finally(release);
            },
            lose: () => tab.later(() => fail(new DOMException("stolen", "AbortError"))),
          };
          signal?.addEventListener("abort", () => {
            if (taken) return;
            release();
            fail(new DOMException("given up", "AbortError"));
          });
          if (steal) queue.splice(0, 1, request)[0]?.lose();
          else queue.push(request);
          if (queue[0] === request) browser.next(name);
        });
      },
    };
    this.navigator = /** @type {any} */ ({ onLine: true, locks });
  }

  /** @override @param {() => void} handler @param {number} ms */
  setTimeout(handler, ms) {
    const now = this.Date.now();
    const wait = this.throttled ? Math.ceil((now + ms) / 60_000) * 60_000 - now : ms;
    return /** @type {any} */ (this.later(handler, wait));
  }

  /** @override @param {any} timer */
  clearTimeout(timer) {
    if (timer) timer.cleared = true;
  }

  get stuck() {
    return this.#stuck;
  }

  set stuck(stuck) {
    this.#stuck = stuck;
    while (!this.#stuck && this.#line.length) this.#line.shift()?.();
  }

  /** Do it in this tab, unless that has gone; when it hangs, once it is well. @param {() => void} handler @param {number} [ms] */
  later(handler, ms = this.browser.latency()) {
    const timer = { cleared: false };
    const run = () => {
      if (!this.gone && !timer.cleared) handler();
    };
    this.browser.clock.setTimeout(() => (this.stuck ? this.#line.push(run) : run()), ms);
    return timer;
  }

  /** End without a word; the browser notices. */
  crash() {
    this.gone = true;
    for (const channel of this.browser.channels) if (channel.tab === this) this.browser.channels.delete(channel);
    for (const [name, queue] of this.browser.locks) {
      const held = queue[0]?.tab === this;
      this.browser.locks.set(name, queue.splice(0));
      const kept = /** @type {any[]} */ (this.browser.locks.get(name)).filter((request) => request.tab !== this);
      queue.push(...kept);
      this.browser.locks.set(name, queue);
      if (held) this.browser.next(name);
    }
  }

  /** End as a page does that is closed. */
  close() {
    this.notice("pagehide", { persisted: false });
    this.crash();
  }
}

/**
 * A tab of Alice's, not connected yet.
 * @param {FakeBrowser} browser
 * @param {FakeServer} server
 * @param {Partial<import("../../static/hermes/types.js").Options>} [options]
 */
export function tabOf(browser, server, options = {}) {
  const host = new FakeTab(browser);
  const storage = options.storage ?? new FakeStorage();
  let asked = 0;
  // The server does not see that a page has crashed; the operating system tells it.
  const token = () => {
    asked += 1;
    return freshToken();
  };
  /** @type {any} */ const Socket = class extends /** @type {any} */ (server.WebSocket) {
    /** @param {string} url @param {string[]} protocols */
    constructor(url, protocols) {
      super(url, protocols);
      sockets.push(this);
      if (host.gone) /** @type {any} */ (this).close(1001); // its last promises are kept after its end
      /** @type {any} */ let hear = null;
      Object.defineProperty(this, "onmessage", {
        get: () => hear && ((/** @type {any} */ event) => (host.stuck ? host.later(() => hear?.(event), 0) : hear(event))),
        set: (handler) => (hear = handler),
      });
    }
  };
  /** @type {any[]} */ const sockets = [];
  const hermes = new Hermes({ url: "ws://hermes.test", stage: "development", token, WebSocket: Socket, host, storage, ...options });
  /** @type {string[]} */ const states = [];
  /** @type {any[]} */ const heard = [];
  /** @type {string[]} */ const events = [];
  hermes.on("hermes.state", ({ state }) => states.push(state));
  hermes.on("*", (message) => heard.push(message.data));
  for (const name of ["lost", "gap"]) hermes.on(`hermes.${name}`, (/** @type {any} */ { reason }) => events.push(`${name} ${reason}`));
  /** The tab ends. @param {"close" | "crash"} [how] */
  const end = (how = "close") => {
    host[how]();
    for (const socket of sockets) {
      socket.onmessage = socket.onclose = null;
      socket.close(1001);
    }
  };
  return { hermes, host, server, storage, states, heard, events, end, asked: () => asked };
}

/** @typedef {ReturnType<typeof tabOf>} Tab */

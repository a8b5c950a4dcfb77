/** Testing tabs: a browser with several tabs that share locks, channels and one clock, to test pages that share a socket
 * against the server of testing.js. */

import "./share.js"; // loaded before, so that connecting does not wait for a file
import { FakeHost, FakeStorage } from "./testing.js";

/** @typedef {import("./testing.js").FakeServer} FakeServer */

/** One browser: messages take their time, but those of one tab to another never overtake each other. */
export class FakeBrowser {
  /** @type {Set<any>} */ channels = new Set();
  clock = new FakeHost();
  /** @type {Map<string, { tab: FakeTab, take: () => void, lose: () => void }[]>} the first one holds it */
  locks = new Map();
  /** milliseconds for the next message or lock */
  latency = () => 0;
  localStorage = new FakeStorage();

  /** Open a tab. */
  tab() {
    return new FakeTab(this);
  }

  /** Let time pass, and everything happen that is due in it. @param {number} [ms] */
  async pass(ms = 0) {
    // A dynamic import is answered only after the microtasks.
    const later = globalThis.setImmediate ?? setTimeout;
    for (let turn = 0; turn < 3; turn += 1) await new Promise((done) => void later(done));
    await this.clock.pass(ms);
  }

  /** @param {string} name */
  next(name) {
    const [first] = this.locks.get(name) ?? [];
    if (first) this.clock.setTimeout(() => first === this.locks.get(name)?.[0] && first.take(), this.latency());
  }
}

/** One tab's window. What its page listens to is told by `notice`: `visibilitychange`, `focus`, `freeze`, … */
export class FakeTab extends FakeHost {
  gone = false;
  sessionStorage = new FakeStorage();
  throttled = false; // as hidden tabs are after five minutes
  /** @type {(() => void)[]} what stands in line while it hangs */ #line = [];
  /** @type {any[]} */ #sockets = [];
  #stuck = false;

  /** @param {FakeBrowser} browser */
  constructor(browser) {
    super();
    const tab = this;
    this.browser = browser;
    this.Date = browser.clock.Date;
    this.localStorage = browser.localStorage;
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

  /**
   * What `new Hermes` needs to be a page in this tab: `new Hermes({ url, stage, token, ...tab.to(server) })`.
   * @param {FakeServer} server
   */
  to(server) {
    const tab = this;
    /** @type {any} */ const WebSocket = class extends /** @type {any} */ (server.WebSocket) {
      /** @param {string} url @param {string[]} protocols */
      constructor(url, protocols) {
        super(url, protocols);
        tab.#sockets.push(this);
        if (tab.gone) /** @type {any} */ (this).close(1001); // its last promises are kept after its end
        /** @type {any} */ let hear = null;
        Object.defineProperty(this, "onmessage", {
          get: () => hear && ((/** @type {any} */ event) => (tab.stuck ? tab.later(() => hear?.(event), 0) : hear(event))),
          set: (handler) => (hear = handler),
        });
      }
    };
    return { host: /** @type {import("./types.js").Host} */ (this), storage: this.sessionStorage, WebSocket };
  }

  /** Whether it hangs: then everything stands in line. */
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

  /** End without a word; browser and server notice. */
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
    // The operating system ends its connections.
    for (const socket of this.#sockets) {
      socket.onmessage = socket.onclose = null;
      socket.close(1001);
    }
  }

  /** End as a page does that is closed. */
  close() {
    this.notice("pagehide", { persisted: false });
    this.crash();
  }
}

/** Hermes: what pages talk to: subscribe, connect, send. Takes frames from connection, asks shown whether they are new. */
/** @import { Entry, Host, Options, Pass, Subscriber } from "./types.js" */

import { Connection } from "./connection.js";
import { Credentials, Refused, claims } from "./credentials.js";
import { CONTROL } from "./frames.js";
import { positionOf, socketAddress } from "./position.js";
import { Shown } from "./shown.js";

export { Refused };

const RECENT_MS = 10_000;

/**
 * A member's notifications in one room.
 * @template {Record<string, any>} [Messages=Record<string, any>] the data of each message type
 */
export class Hermes {
  /** Called for an entry that nobody listens to. @type {((message: any, entry: Entry) => void) | null} */
  otherwise = null;
  /** Everyone who listens; `on` adds to it, and so may the article's pages. @type {Subscriber[]} */
  subscribers = [];

  #connection;
  #host;
  #identity = "";
  #options;
  /** @type {{ resolve: (entries: Entry[]) => void, reject: (error: Error) => void, timer: any }[]} */ #recent = [];
  /** @type {Shown | null} */ #shown = null;

  /** @param {Options} options */
  constructor(options) {
    this.#options = options;
    this.#host = options.host ?? /** @type {Host} */ (globalThis);
    if (options.url) new URL(options.url); // a bad address throws here and now
    this.#connection = new Connection({
      WebSocket: options.WebSocket ?? globalThis.WebSocket,
      host: this.#host,
      credentials: new Credentials(options.token, () => this.#host.Date.now()),
      address: (pass) => this.#address(pass),
      onframe: (frame) => {
        if (frame.kind === "entry") this.#take(frame.entry);
        else if (frame.kind === "control") this.#obey(frame.type, frame.data);
      },
      onstate: (change) => {
        if (change.state !== "open") this.#giveUpRecent();
        this.#tell(`${CONTROL}state`, change);
      },
    });
  }

  /** Where the connection stands: idle, connecting, open, waiting, offline or closed. */
  get state() {
    return this.#connection.state;
  }

  /** The last entry that this page has handled; null before the first connection. */
  get position() {
    return this.#shown?.position ?? null;
  }

  /** Connect, and stay connected through everything but a refusal. */
  connect() {
    this.#host.addEventListener?.("pagehide", this.#flush, true);
    this.#connection.start();
  }

  /** Let go of the connection; `connect` goes on from the same position. */
  disconnect() {
    this.#flush();
    this.#connection.stop();
  }

  /** Let go of the connection and of every subscriber. */
  close() {
    this.disconnect();
    this.#host.removeEventListener?.("pagehide", this.#flush, true);
    this.subscribers.length = 0;
    this.otherwise = null;
  }

  /**
   * Listen to the messages of a type; to all of them with `*`; to what the connection does with `hermes.state`,
   * `hermes.hello`, `hermes.recovered`, `hermes.lost`, `hermes.gap`, `hermes.error`, `hermes.goodbye`.
   * @template {keyof Messages & string} Type
   * @param {Type | "*"} type
   * @param {(data: Messages[Type], entry: Entry) => void} callback gets the message's data (with `*` the whole
   *   message) and the entry
   * @returns {() => void} ends it
   */
  on(type, callback) {
    const subscriber = { type, callback };
    this.subscribers.push(subscriber);
    return () => {
      const at = this.subscribers.indexOf(subscriber);
      if (at >= 0) this.subscribers.splice(at, 1);
    };
  }

  /**
   * Listen once.
   * @template {keyof Messages & string} Type
   * @param {Type | "*"} type
   * @param {(data: Messages[Type], entry: Entry) => void} callback
   * @returns {() => void} ends it before
   */
  once(type, callback) {
    const end = this.on(type, (data, entry) => {
      end();
      callback(data, entry);
    });
    return end;
  }

  /**
   * Send to our own room. `hermes.sent` tells that it was accepted, `hermes.error` that it was not.
   * @param {any} data by custom `{type, data}`
   * @returns {boolean} false when there is no open connection
   */
  send(data) {
    return this.#connection.send({ action: "sendMessage", data });
  }

  /**
   * Ask for the room's last entries; they are handed to the caller and not dispatched.
   * @param {number} [limit]
   * @returns {Promise<Entry[]>} oldest first; rejected when the connection is, or gets, closed
   */
  recent(limit = 50) {
    return new Promise((resolve, reject) => {
      if (this.state !== "open") return reject(new Error("Hermes is not connected."));
      const timer = this.#host.setTimeout(() => this.#giveUpRecent(), RECENT_MS);
      this.#recent.push({ resolve, reject, timer });
      this.#connection.send({ action: "recent", limit });
    });
  }

  /** @param {Pass} pass */
  #address(pass) {
    const { stage, url, room, position, storage } = this.#options;
    const said = claims(pass.token);
    const at = pass.stage ?? stage;
    const identity = [at, `${said.room_id ?? pass.room_id ?? room ?? ""}`, `${said.user_id ?? pass.user_id ?? ""}`];
    if (this.#identity !== `${identity}`) {
      // The rendered position belongs to the member the page was rendered for: the first one.
      const rendered = this.#identity ? null : positionOf(position);
      this.#flush();
      this.#shown = new Shown(storage, identity, rendered);
      this.#identity = `${identity}`;
    }
    return socketAddress(pass.url ?? url ?? globalThis.location.origin, at, this.position);
  }

  /** @param {Entry} entry */
  #take(entry) {
    if (!this.#shown?.take(entry)) return;
    const named = this.#tell(entry.data?.type, entry.data?.data, entry);
    const all = this.#tell("*", entry.data, entry);
    if (!named && !all) this.otherwise?.(entry.data, entry);
  }

  /** @param {string} type @param {Record<string, any>} data */
  #obey(type, data) {
    const position = positionOf(data);
    if (position && this.#shown) {
      // hello, lost and gap say from where delivery goes on; the others only how far it has come.
      if (/hello|lost|gap/.test(type)) this.#shown.adopt(position);
      else this.#shown.advance(position);
    }
    if (type === `${CONTROL}recent`) {
      const asked = this.#recent.shift();
      this.#host.clearTimeout(asked?.timer);
      asked?.resolve(Array.isArray(data.entries) ? data.entries : []);
    }
    this.#tell(type, data);
    if (type === `${CONTROL}hello` && data.status !== "fresh") this.#tell(CONTROL + data.status, data);
  }

  #giveUpRecent() {
    for (const { reject, timer } of this.#recent.splice(0)) {
      this.#host.clearTimeout(timer);
      reject(new Error("Hermes got no answer."));
    }
  }

  #flush = () => this.#shown?.flush();

  /** Tell who listens, if anyone does. @param {string} type @param {any} data @param {Entry} [entry] */
  #tell(type, data, entry) {
    // An entry never passes for an event of ours, whatever its producer called it.
    if (typeof type !== "string" || (entry && type.startsWith(CONTROL))) return false;
    const listening = this.subscribers.filter((subscriber) => subscriber?.type === type);
    for (const { callback } of listening) {
      try {
        callback(data, entry);
      } catch (error) {
        // One failing subscriber must not stop the others, and must not go unseen.
        (globalThis.reportError ?? console.error)(error);
      }
    }
    return listening.length > 0;
  }
}

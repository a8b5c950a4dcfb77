/** Hermes: what pages talk to: subscribe, connect, send. Takes frames from connection, asks shown whether they are new. */
/** @import { Entry, Events, Host, Line, Options, Pass, Subscriber, Wiring } from "./types.js" */

import { CAPTURE, Connection } from "./connection.js";
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

  #host;
  #identity = "";
  /** @type {Line | undefined} */ #line;
  #missing = 0;
  #options;
  /** @type {Map<string, { resolve: (entries: Entry[]) => void, reject: (error: Error) => void, timer: any }>} */
  #recent = new Map();
  #ref = 0;
  /** @type {Shown | null} */ #shown = null;
  #wanted = false;
  /** @type {Wiring} */ #wiring;

  /** @param {Options} options */
  constructor(options) {
    this.#options = options;
    const { url, token, WebSocket = globalThis.WebSocket, host = /** @type {Host} */ (globalThis) } = options;
    this.#host = host;
    if (url) new URL(url); // a bad address throws here and now
    this.#wiring = {
      WebSocket,
      host,
      credentials: new Credentials(token, () => host.Date.now()),
      member: (pass) => this.#member(pass),
      become: (member) => this.#become(member),
      position: () => this.position,
      address: (pass, position = this.position) =>
        socketAddress(pass.url ?? url ?? globalThis.location.origin, this.#member(pass)[0], position),
      onframe: (frame) => {
        if (frame.kind === "entry") this.#take(frame.entry);
        else if (frame.kind === "control") this.#obey(frame.type, frame.data);
      },
      onstate: (change) => {
        if (change.state !== "open") for (const ref of this.#recent.keys()) this.#answer({ ref });
        this.#tell(`${CONTROL}state`, change);
      },
    };
  }

  /** Where the connection stands: idle, connecting, open, waiting, offline or closed. */
  get state() {
    return this.#line?.state ?? "idle";
  }

  /** The last entry that this page has handled; null before the first connection. */
  get position() {
    return this.#shown?.position ?? null;
  }

  /** What this tab shares a socket under, and whether the socket is this tab's; null without sharing. */
  get sharing() {
    const { name, leads = false } = this.#line ?? {};
    return name ? { name, leads } : null;
  }

  /** Connect, and stay connected through everything but a refusal. */
  connect() {
    const host = this.#host;
    host.addEventListener?.("pagehide", this.#flush, CAPTURE);
    this.#wanted = true;
    /** @param {new (wiring: Wiring) => Line} Kind */
    const start = (Kind) => this.#wanted && (this.#line ??= new Kind(this.#wiring)).start();
    if (this.#line || this.#options.share === false || !host.navigator?.locks || !host.BroadcastChannel) start(Connection);
    else import("./share.js").then(({ Share }) => start(Share), () => start(Connection));
  }

  /** Let go of the connection; `connect` goes on from the same position. */
  disconnect() {
    this.#wanted = false;
    this.#flush();
    this.#line?.stop();
  }

  /** Let go of the connection and of every subscriber. */
  close() {
    this.disconnect();
    this.#host.removeEventListener?.("pagehide", this.#flush, CAPTURE);
    this.subscribers.length = 0;
    this.otherwise = null;
  }

  /**
   * Listen to the messages of a type, to all of them with `*`, or to an event of the connection, `hermes.…`.
   * @template {keyof (Events & Messages) & string} Type
   * @param {Type} type
   * @param {(data: (Events & Messages)[Type], entry: Entry, missed: boolean) => void} callback gets the message's data
   *   (with `*` the whole message), the entry, and whether it came late: after an absence
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
   * @template {keyof (Events & Messages) & string} Type
   * @param {Type} type
   * @param {(data: (Events & Messages)[Type], entry: Entry, missed: boolean) => void} callback
   * @returns {() => void} ends it before
   */
  once(type, callback) {
    const end = this.on(type, (...about) => {
      end();
      callback(...about);
    });
    return end;
  }

  /**
   * Send to our own room. `hermes.sent` tells that it was accepted, `hermes.error` that it was not.
   * @param {any} data by custom `{type, data}`
   * @returns {boolean} false when there is no open connection
   */
  send(data) {
    return !!this.#line?.send({ action: "sendMessage", data });
  }

  /**
   * Ask for the room's last entries; they are handed to the caller and not dispatched.
   * @param {number} [limit]
   * @returns {Promise<Entry[]>} oldest first; rejected when the connection is, or gets, closed
   */
  recent(limit = 50) {
    return new Promise((resolve, reject) => {
      const ref = `${(this.#ref += 1)}`;
      const timer = this.#host.setTimeout(() => this.#answer({ ref }), RECENT_MS);
      this.#recent.set(ref, { resolve, reject, timer });
      if (!this.#line?.send({ action: "recent", limit, ref })) this.#answer({ ref, message: "Hermes is not connected." });
    });
  }

  /** Stage, room and user, as far as they are known. @param {Partial<Pass>} pass */
  #member(pass) {
    const { stage, room = "", user = "" } = this.#options;
    const said = claims(`${pass.token}`);
    return [pass.stage ?? stage, `${said.room_id ?? pass.room_id ?? room}`, `${said.user_id ?? pass.user_id ?? user}`];
  }

  /** Go on where this member was. @param {string[]} member */
  #become(member) {
    if (this.#identity === `${member}`) return;
    // The rendered position belongs to the member the page was rendered for: the first one.
    const rendered = this.#identity ? null : positionOf(this.#options.position);
    this.#flush();
    this.#shown = new Shown(this.#options.storage, member, rendered);
    this.#identity = `${member}`;
  }

  /** @param {Entry} entry */
  #take(entry) {
    const missed = this.#missing > 0;
    if (missed) this.#missing -= 1;
    if (!this.#shown?.take(entry)) return;
    const named = this.#tell(entry.data?.type, entry.data?.data, entry, missed);
    const all = this.#tell("*", entry.data, entry, missed);
    if (!named && !all) this.otherwise?.(entry.data, entry);
  }

  /** @param {string} type @param {Record<string, any>} data */
  #obey(type, data) {
    const position = positionOf(data);
    if (position && this.#shown) {
      // A loss, and a greeting without a position of ours, say from where delivery goes on; the others how far it has come.
      if (/lost|gap|fresh/.test(type + data.status)) this.#shown.adopt(position);
      else this.#shown.advance(position);
    }
    if (type === `${CONTROL}hello`) this.#missing = data.replayed;
    if (data.ref) this.#answer(data);
    this.#tell(type, data);
    if (type === `${CONTROL}hello` && data.status !== "fresh") this.#tell(CONTROL + data.status, data);
  }

  /** @param {Record<string, any>} data what came for `recent`, or why nothing does */
  #answer({ ref, entries, message = "Hermes got no answer." }) {
    const asked = this.#recent.get(ref);
    this.#recent.delete(ref);
    this.#host.clearTimeout(asked?.timer);
    if (Array.isArray(entries)) asked?.resolve(entries);
    else asked?.reject(new Error(message));
  }

  #flush = () => this.#shown?.flush();

  /** Tell who listens, if anyone does. @param {string} type @param {any} data @param {Entry} [entry] @param {boolean} [missed] */
  #tell(type, data, entry, missed) {
    // An entry never passes for an event of ours, whatever its producer called it.
    if (typeof type !== "string" || (entry && type.startsWith(CONTROL))) return false;
    const listening = this.subscribers.filter((subscriber) => subscriber?.type === type);
    for (const { callback } of listening) {
      try {
        callback(data, entry, missed);
      } catch (error) {
        // One failing subscriber must not stop the others, and must not go unseen.
        (globalThis.reportError ?? console.error)(error);
      }
    }
    return listening.length > 0;
  }
}

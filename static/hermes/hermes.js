/** Hermes: what pages talk to. Takes frames from connection or share, asks shown whether they are new. */
/** @import { Entry, Listen, Line, Options, Pass, Subscriber, Wiring } from "./types.js" */

import { CAPTURE, Connection } from "./connection.js";
import { Credentials, Refused, claims } from "./credentials.js";
import { CONTROL } from "./frames.js";
import { positionOf, socketAddress } from "./position.js";
import { Shown } from "./shown.js";

export { Refused };

const RECENT_MS = 10_000;

/** One that fails must not stop the others, nor go unseen. @param {() => void} call */
function attempt(call) {
  try {
    call();
  } catch (error) {
    (globalThis.reportError ?? console.error)(error);
  }
}

/**
 * A member's notifications in one room.
 * @template {Record<string, any>} [Messages=Record<string, any>] each message type's data
 */
export class Hermes {
  /** For an entry that nobody listens to. @type {((message: any, entry: Entry) => void) | null} */
  otherwise = null;
  /** Who listens; `on` adds to it, and so may the article's pages. @type {Subscriber[]} */
  subscribers = [];

  #host;
  #identity = "";
  /** @type {Line | undefined} */ #line;
  #missing = 0;
  #options;
  /** @type {Map<string, any>} */ #recent = new Map();
  #ref = 0;
  /** @type {Shown | null} */ #shown = null;
  #wanted = false;
  /** @type {Wiring} */ #wiring;

  /** @param {Options} options */
  constructor(options) {
    this.#options = options;
    const { url, token, WebSocket = globalThis.WebSocket, host = globalThis } = options;
    this.#host = host;
    if (url) new URL(url); // a bad address throws here and now
    this.#wiring = {
      WebSocket,
      host,
      credentials: new Credentials(token, () => host.Date.now()),
      member: (pass) => this.#member(pass),
      position: () => this.position,
      address: (pass) => {
        const member = this.#become(pass);
        return socketAddress(pass.url ?? url ?? globalThis.location.origin, member[0], this.position);
      },
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

  /** The last entry that was handled; null before the first connection. */
  get position() {
    return this.#shown?.position ?? null;
  }

  /** Under which name this tab shares a socket, and whether it leads; null without sharing. */
  get sharing() {
    return this.#line?.sharing ?? null;
  }

  /** Connect, and stay connected until refused. */
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

  /** Listen to the messages of a type, to all of them (`*`), or to an event (`hermes.…`). @type {Listen<Messages>} */
  on = (type, callback) => {
    const subscriber = { type, callback };
    this.subscribers.push(subscriber);
    return () => {
      const at = this.subscribers.indexOf(subscriber);
      if (at >= 0) this.subscribers.splice(at, 1);
    };
  };

  /** Listen once. @type {Listen<Messages>} */
  once = (type, callback) => {
    const end = this.on(type, (...about) => {
      end();
      callback(...about);
    });
    return end;
  };

  /**
   * Send to our own room; `hermes.sent` or `hermes.error` answers.
   * @param {any} data by custom `{type, data}`
   * @returns {boolean} false without an open connection
   */
  send(data) {
    return !!this.#line?.send({ action: "sendMessage", data });
  }

  /**
   * The room's last entries, oldest first; they are not dispatched. Rejected when the connection closes.
   * @param {number} [limit]
   * @returns {Promise<Entry[]>}
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

  /** Go on where this member was. @param {Partial<Pass>} pass */
  #become(pass) {
    const member = this.#member(pass);
    const identity = JSON.stringify(member);
    if (this.#identity === identity) return member;
    // The rendered position is the first member's.
    const rendered = this.#identity ? null : positionOf(this.#options.position);
    this.#flush();
    this.#shown = new Shown(this.#options.storage, member, rendered);
    this.#identity = identity;
    return member;
  }

  /** @param {Entry} entry */
  #take(entry) {
    const missed = this.#missing > 0;
    if (missed) this.#missing -= 1;
    if (!this.#shown?.take(entry)) return;
    const named = this.#tell(entry.data?.type, entry.data?.data, entry, missed);
    const all = this.#tell("*", entry.data, entry, missed);
    if (!named && !all) attempt(() => this.otherwise?.(entry.data, entry));
  }

  /** @param {string} type @param {Record<string, any>} data */
  #obey(type, data) {
    const position = positionOf(data);
    if (position && this.#shown) {
      // A loss or a fresh start says where it goes on, the others how far it is.
      if (/lost|gap|fresh/.test(type + data.status)) this.#shown.adopt(position);
      else this.#shown.advance(position);
    }
    if (type === `${CONTROL}hello`) this.#missing = data.replayed;
    if (data.ref) this.#answer(data);
    this.#tell(type, data);
    if (type === `${CONTROL}hello` && data.status !== "fresh") this.#tell(CONTROL + data.status, data);
  }

  /** Settle what `recent` has promised. @param {Record<string, any>} data */
  #answer({ ref, entries, message = "Hermes got no answer." }) {
    const asked = this.#recent.get(ref);
    this.#recent.delete(ref);
    this.#host.clearTimeout(asked?.timer);
    if (Array.isArray(entries)) asked?.resolve(entries);
    else asked?.reject(new Error(message));
  }

  #flush = () => this.#shown?.flush();

  /** Tell who listens. @param {any[]} about type, data, entry, missed */
  #tell(...[type, data, entry, missed]) {
    // No entry passes for an event of ours.
    if (typeof type !== "string" || (entry && type.startsWith(CONTROL))) return false;
    const listening = this.subscribers.filter((subscriber) => subscriber?.type === type);
    for (const each of listening) {
      // Another one may have ended it.
      if (this.subscribers.includes(each)) attempt(() => each.callback(data, entry, missed));
    }
    return listening.length > 0;
  }
}

/** Share: one socket for all tabs of a member. A lock elects the tab that leads and connects; a channel carries the rest.
 * Loaded by hermes.js where the browser has both; uses connection.js, ring.js and turn.js. docs/toolkit.md has the protocol. */
/** @import { Frame, Position, StateChange, State, Wiring } from "./types.js" */

import { FLOOR_MS, delay } from "./backoff.js";
import { CAPTURE, Connection } from "./connection.js";
import { Refused } from "./credentials.js";
import { Ring } from "./ring.js";
import { Turn } from "./turn.js";

const PROTOCOL = 1; // of the messages between tabs: one that speaks another has a channel and a lock of its own
const TOKEN_MS = 15_000; // as long as a connection waits for its token and the greeting
const ANSWER_MS = 5_000; // a tab that leads and is well answers within milliseconds
const TICK_MS = 200; // the tab that leads comes first, if it can
const EVENTS = ["pagehide", "freeze", "pageshow", "resume", "online", "visibilitychange"];

/**
 * Whether what follows `after` would leave out something for a tab that stands at `mine`.
 * @param {Position | null} mine @param {Position | null} after
 */
const behind = (mine, after) => !!mine !== !!after || mine?.epoch !== after?.epoch || (mine?.seq ?? 0) < (after?.seq ?? 0);

/** Whether two name the same member: one by one, for an id may hold a comma. @param {string[]} a @param {string[]} b */
const same = (a, b) => JSON.stringify(a) === JSON.stringify(b);

/** @param {string} name @param {object | null} data @returns {Frame} */
const control = (name, data) => ({ kind: "control", type: `hermes.${name}`, data: { ...data } });

/** A connection like any other to who uses it; behind it, the socket is this tab's or another's. */
export class Share {
  #attempt = 0;
  #away = false; // in the back/forward cache, or frozen: often one after the other
  /** @type {BroadcastChannel | undefined} */ #channel;
  /** @type {Connection | undefined} */ #connection;
  #following = false; // whether we have what the leading tab had, and get what it gets
  /** @type {Record<string, any> | undefined} */ #greeting;
  #id = globalThis.crypto.randomUUID();
  #leads = false;
  /** @type {string[]} */ #member = []; // stage, room and user
  #name = ""; // of the lock and the channel; empty for a tab that is by itself
  #ring = new Ring();
  #term = 0; // of the tab that leads: one that has hung and does not know yet that it was relieved has a lower one
  /** @type {any} */ #timer;
  /** @type {any} */ #hastening;
  #turn = 0; // of joining: whatever an earlier one still waits for is void
  #turnToLead = new Turn({ ours: () => this.#lead(), taken: () => void this.#join(), refused: () => this.#alone() });
  #wiring;
  /** @type {State} */ state = "idle";

  /** @param {Wiring} wiring */
  constructor(wiring) {
    this.#wiring = wiring;
  }

  /** Under which name this tab shares a socket, and whether it leads. */
  get sharing() {
    return this.#name ? { name: this.#name, leads: this.#leads } : null;
  }

  /** Connect, or follow a tab that is connected, until `stop`. */
  start() {
    if (this.state !== "idle" && this.state !== "closed") return;
    for (const type of EVENTS) this.#wiring.host.addEventListener?.(type, this.#noticed, CAPTURE);
    void this.#join();
  }

  /** Leave the others and stay away. @param {Partial<StateChange>} [why] */
  stop(why = {}) {
    for (const type of EVENTS) this.#wiring.host.removeEventListener?.(type, this.#noticed, CAPTURE);
    this.#leave();
    if (this.state !== "idle" || why.state) this.#become({ state: "idle", ...why });
  }

  /** False when there is no open connection to take it. @param {object} frame */
  send(frame) {
    if (this.#connection) return this.#request(this.#id, frame);
    // As text, like a socket's: what cannot be cloned, such as a page library's proxies, can be sent.
    if (this.state === "open") this.#post({ kind: "request", frame: JSON.parse(JSON.stringify(frame)) });
    return this.state === "open";
  }

  // ── Joining and leaving ───────────────────────────────────────────────────────────────────────────────────────────

  async #join() {
    this.#leave();
    const turn = this.#turn;
    const { host, credentials, member, address } = this.#wiring;
    this.#become({ state: "connecting" });
    try {
      const named = member({}).every(Boolean);
      this.#after(TOKEN_MS, () => void this.#join());
      const pass = named ? {} : await credentials.get();
      if (turn !== this.#turn) return;
      const whose = member(pass);
      if (!same(whose, this.#member)) {
        this.#ring.forget();
        this.#greeting = undefined;
      }
      this.#member = whose;
      const url = new URL(address(pass));
      // Nobody shares with a member whom nobody can name.
      if (!whose.every(Boolean)) return this.#lead();
      // Spelled out: two members could have the same hash.
      this.#name = `hermes:${PROTOCOL}:${JSON.stringify([url.origin + url.pathname, ...whose])}`;
    } catch (error) {
      if (turn !== this.#turn) return;
      const reason = error instanceof Error ? error.message : `${error}`;
      if (error instanceof Refused) return this.stop({ state: "closed", reason });
      const ms = delay(this.#attempt++, host.Math.random());
      this.#after(ms, () => void this.#join());
      return this.#become({ state: "waiting", reason, retry_in_ms: Math.round(ms) });
    }
    this.#attempt = 0;
    try {
      this.#channel = new /** @type {typeof BroadcastChannel} */ (host.BroadcastChannel)(this.#name);
    } catch {
      return this.#alone(); // some browsers forbid it together with storage
    }
    this.#channel.onmessage = ({ data }) => this.#arrived(data);
    this.#queue(false);
    if (!this.#leads) this.#ask();
  }

  /** Wait for our turn to lead. @param {boolean} steal or take it: whoever has it does not answer */
  #queue(steal) {
    const { locks } = /** @type {{ locks: LockManager }} */ (this.#wiring.host.navigator);
    this.#turnToLead.wait(locks, this.#name, steal);
  }

  /** Have a socket of our own: what tabs share is not for this page. */
  #alone() {
    this.#leave();
    this.#lead();
  }

  /** Have whoever leads come back. @param {number} ms from now */
  #hasten(ms) {
    const { host } = this.#wiring;
    host.clearTimeout(this.#hastening);
    this.#hastening = host.setTimeout(() => this.#post({ kind: "hasten" }), ms);
  }

  /** Let go of everything that others could wait for. */
  #leave() {
    this.#turn += 1;
    this.#wiring.host.clearTimeout(this.#timer);
    this.#wiring.host.clearTimeout(this.#hastening);
    this.#disconnect();
    this.#channel?.close();
    this.#channel = undefined;
    this.#leads = this.#following = this.#away = false;
    this.#name = "";
    this.#turnToLead.leave();
  }

  /** @param {{ type: string, persisted?: boolean }} event */
  #noticed = ({ type, persisted }) => {
    // Neither a page in the back/forward cache nor a frozen one can do anything for the others.
    if (/hide|freeze/.test(type)) {
      if (this.#away) return;
      this.#leave();
      this.#away = true;
      this.#become({ state: "waiting", reason: type });
    } else if (type === "resume" || persisted) {
      if (this.#away) void this.#join();
    } else if (this.#wiring.host.document?.visibilityState !== "hidden") {
      // Without a channel we wait for a token.
      const ms = FLOOR_MS * this.#wiring.host.Math.random();
      if (this.#channel || this.#connection) this.#hasten(ms);
      else if (this.state === "waiting") void this.#join();
    }
  };

  // ── Leading ───────────────────────────────────────────────────────────────────────────────────────────────────────

  #lead() {
    const { host } = this.#wiring;
    this.#leads = true;
    this.#term = Math.max(this.#term + 1, host.Date.now());
    host.clearTimeout(this.#timer);
    if (this.#connection) this.#tell({ state: this.state });
    else this.#connect();
  }

  /** Open a socket: as the tab that leads, or for a moment, when no other tab can tell us what we missed. */
  #connect() {
    /** @type {Connection} */
    const connection = new Connection({
      ...this.#wiring,
      address: (pass) => {
        const { member, address } = this.#wiring;
        // Nothing of one member may reach another one's tabs.
        if (this.#name && !same(member(pass), this.#member)) throw new Refused("The token is another member's.");
        return address(pass);
      },
      onframe: (frame) => connection === this.#connection && this.#received(frame),
      onstate: (change) => {
        if (connection !== this.#connection) return;
        if (change.state === "closed") return this.stop(change);
        this.#become(change);
        if (this.#leads) this.#tell(change);
      },
    });
    this.#connection = connection;
    connection.start();
  }

  #disconnect() {
    const connection = this.#connection;
    this.#connection = undefined;
    connection?.stop();
  }

  /** A frame from our own socket. @param {Frame} frame */
  #received(frame) {
    if (frame.kind === "other") return;
    if (frame.kind === "control" && `${frame.data.ref}`.includes(".")) {
      const [to, ref] = frame.data.ref.split(".");
      const reply = { ...frame, data: { ...frame.data, ref } };
      return to === this.#id ? this.#wiring.onframe(reply) : this.#post({ kind: "reply", to, frame: reply });
    }
    // First the others: what a subscriber of ours does must not delay theirs.
    if (this.#leads) this.#post({ kind: "frame", after: this.#wiring.position(), frame });
    this.#hear(frame);
    // Alone for a moment: having caught up, try to follow again.
    const pinged = frame.kind === "control" && frame.type === "hermes.ping";
    if (pinged && !this.#leads) this.#post({ kind: "join", position: this.#wiring.position() });
  }

  /** Send for a tab; the answer names it. @param {string} from @param {{ ref?: string }} frame */
  #request(from, frame) {
    return !!this.#connection?.send({ ...frame, ref: `${from}.${frame.ref ?? ""}` });
  }

  /** @param {StateChange} change */
  #tell(change) {
    this.#post({ kind: "state", after: this.#wiring.position(), change });
  }

  /** A tab has come and stands there. @param {string} to @param {Position | null} position */
  #welcome(to, position) {
    const change = { state: this.state };
    if (!this.#greeting) return this.#post({ kind: "welcome", to, change, frames: [] });
    const entries = this.#ring.since(position);
    if (!entries) return this.#post({ kind: "alone", to });
    const head = this.#wiring.position();
    const status = position ? "recovered" : "fresh";
    const greeting = { ...this.#greeting, ...(position ?? head), status, replayed: entries.length };
    const missed = entries.map((entry) => ({ kind: "entry", entry }));
    this.#post({ kind: "welcome", to, change, frames: [control("hello", greeting), ...missed, control("ping", head)] });
  }

  // ── Following ─────────────────────────────────────────────────────────────────────────────────────────────────────

  /** @param {any} message of another tab */
  #arrived({ kind, from, to, term, after, position, change, frame, frames }) {
    if (term < this.#term || (to && to !== this.#id)) return;
    if (term > this.#term && this.#leads) return void this.#join(); // relieved
    this.#term = term ?? this.#term;
    if (kind === "reply") return this.#wiring.onframe(frame);
    if (this.#leads) {
      if (kind === "join") this.#welcome(from, position);
      if (kind === "request") this.#request(from, frame);
      if (kind === "hasten") this.#connection?.hasten();
      return;
    }
    if (kind === "alone") {
      this.#wiring.host.clearTimeout(this.#timer);
      if (!this.#connection) this.#connect();
    } else if (kind === "welcome") {
      this.#disconnect();
      this.#following = true;
      for (const each of frames) this.#hear(each);
      this.#listen();
      if (change.state !== this.state) this.#become(change);
    } else if ((kind === "frame" || kind === "state") && !this.#connection) {
      this.#listen();
      if (change && change.state !== this.state) this.#become(change);
      // The timers of a hidden tab are throttled to one a minute: a visible one watches the time for it.
      if (change?.retry_in_ms) this.#after(change.retry_in_ms + TICK_MS, () => this.#remind());
      if (!this.#following ? kind === "state" : behind(this.#wiring.position(), after)) this.#ask();
      else if (this.#following && frame) this.#hear(frame);
    }
  }

  /** Ask whoever leads for what we have not got. */
  #ask() {
    this.#following = false;
    this.#post({ kind: "join", position: this.#wiring.position() });
    // Not all at once: the first one that takes the lead is heard by the others.
    this.#after(ANSWER_MS * (1 + this.#wiring.host.Math.random()), () => this.#queue(true));
  }

  #remind() {
    if (this.#wiring.host.document?.visibilityState !== "hidden") this.#post({ kind: "hasten" });
    this.#listen();
  }

  /** Expect to hear something: the server's pings are passed on. */
  #listen() {
    this.#after((this.#greeting?.ping_s || 25) * 2000 + 2 * ANSWER_MS, () => this.#ask());
  }

  // ── Both ──────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** A frame for this tab, from whichever socket. @param {Frame} frame */
  #hear(frame) {
    const { position, onframe } = this.#wiring;
    if (frame.kind === "entry") this.#ring.push(frame.entry);
    if (frame.kind === "control" && frame.type === "hermes.hello") this.#greeting = frame.data;
    onframe(frame);
    if (frame.kind === "control") this.#ring.follow(frame, position());
  }

  /** @param {object} message */
  #post(message) {
    this.#channel?.postMessage({ from: this.#id, term: this.#leads ? this.#term : undefined, ...message });
  }

  /** @param {number} ms @param {() => void} then */
  #after(ms, then) {
    const { host } = this.#wiring;
    host.clearTimeout(this.#timer);
    this.#timer = host.setTimeout(then, ms);
  }

  /** @param {StateChange} change */
  #become(change) {
    if (change.state === "connecting" && this.state === "connecting") return; // joining, then the socket
    this.state = change.state;
    this.#wiring.onstate(change);
  }
}

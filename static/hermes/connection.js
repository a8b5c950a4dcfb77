/** Connection: one socket at a time, opened again until told not to. Used by hermes.js; asks credentials and backoff. */
/** @import { State, StateChange, Wiring } from "./types.js" */

import { FLOOR_MS, STEADY_MS, delay, refuses } from "./backoff.js";
import { Refused } from "./credentials.js";
import { parse } from "./frames.js";

const HANDSHAKE_MS = 15_000; // fetching a token, connecting and being greeted, together
const LATE_MS = 2_000; // so late, a timer was throttled: something may stand in line
const REFUSALS = 2; // in a row; a third token would not be better
/** Some of the document's events do not bubble up to the window. */
export const CAPTURE = { capture: true };
const EVENTS = ["pagehide", "freeze", "offline", "pageshow", "resume", "online", "visibilitychange"];

/** Keeps one socket open; docs/toolkit.md draws its states. */
export class Connection {
  #attempt = 0;
  #deadlineMs = HANDSHAKE_MS;
  #heardAt = 0;
  #openedAt = 0;
  #refusals = 0;
  #returnAt = 0;
  /** @type {WebSocket | null} */ #socket = null;
  /** @type {Record<string, any>} */ #timers = {};
  #turn = 0; // of the socket in use: whatever an earlier one still says is void
  #upgraded = false;
  #wiring;
  /** @type {State} */ state = "idle";

  /** @param {Wiring} wiring */
  constructor(wiring) {
    this.#wiring = wiring;
  }

  /** Connect, and stay connected until `stop`. */
  start() {
    if (this.state !== "idle" && this.state !== "closed") return;
    this.#attempt = this.#refusals = this.#returnAt = 0;
    const { host } = this.#wiring;
    for (const type of EVENTS) host.addEventListener?.(type, this.#noticed, CAPTURE);
    void this.#open();
  }

  /** Disconnect and stay so. @param {Partial<StateChange>} [why] */
  stop(why = {}) {
    const { host } = this.#wiring;
    for (const type of EVENTS) host.removeEventListener?.(type, this.#noticed, CAPTURE);
    this.#drop();
    this.#become({ state: "idle", ...why });
  }

  /** False when there is no open connection to take it. @param {object} frame */
  send(frame) {
    if (this.state !== "open") return false;
    this.#socket?.send(JSON.stringify(frame));
    return true;
  }

  async #open() {
    this.#drop();
    const turn = this.#turn;
    const { credentials, address, WebSocket } = this.#wiring;
    this.#upgraded = false;
    this.#become({ state: "connecting" });
    this.#watch(HANDSHAKE_MS);
    let pass;
    try {
      pass = await credentials.get();
      if (turn !== this.#turn) return;
      const socket = new WebSocket(address(pass), ["hermes.v1", `hermes.token.${pass.token}`]);
      this.#socket = socket;
      socket.onopen = () => (this.#upgraded = true);
      socket.onmessage = (event) => turn === this.#turn && this.#arrived(event.data);
      socket.onclose = (event) => turn === this.#turn && this.#ended(event.code, event.reason);
    } catch (/** @type {any} */ error) {
      if (turn !== this.#turn) return;
      const reason = `${error?.message ?? error}`;
      // Waiting makes no bad address or token good; a fetch that failed may succeed.
      if (error instanceof Refused || (pass && error instanceof DOMException)) this.stop({ state: "closed", reason });
      else this.#wait({ reason });
    }
  }

  /** Let go of the socket and of every timer. */
  #drop() {
    this.#turn += 1;
    for (const timer of Object.values(this.#timers)) this.#wiring.host.clearTimeout(timer);
    this.#socket?.close(1000);
    this.#socket = null;
  }

  /** @param {unknown} text */
  #arrived(text) {
    const { host, onframe } = this.#wiring;
    this.#heardAt = host.Date.now();
    const frame = parse(text);
    const turn = this.#turn;
    if (frame.kind === "control") this.#obey(frame.type, frame.data);
    onframe(frame);
    // Only now: who hears of it finds the position that came with it.
    const greeted = frame.kind === "control" && frame.type === "hermes.hello";
    if (greeted && turn === this.#turn) this.#become({ state: "open" });
  }

  /** @param {string} type @param {Record<string, any>} data */
  #obey(type, data) {
    const { host, credentials } = this.#wiring;
    if (type === "hermes.hello") {
      this.#openedAt = host.Date.now();
      this.#watch((data.ping_s || 25) * 2000 + 5000);
    }
    if (type === "hermes.goodbye") this.#returnAt = host.Date.now() + (data.retry_after_ms || 0);
    if (type === "hermes.expiring") void this.#refresh();
    if (type === "hermes.hello" || type === "hermes.refreshed") {
      credentials.expire(data.expires_in_s);
      // A fifth of its life early, at most a minute: time for a second try.
      const left = data.expires_in_s;
      if (left > 0) this.#timer("refresh", (left - Math.min(60, left / 5)) * 1000, () => void this.#refresh());
    }
  }

  async #refresh() {
    const turn = this.#turn;
    this.#timer("refresh", HANDSHAKE_MS, () => void this.#refresh());
    try {
      const { token } = await this.#wiring.credentials.get(true);
      if (turn === this.#turn) this.send({ action: "refresh", token });
    } catch (error) {
      // It is good until the token's end; then the source is asked again.
      if (error instanceof Refused && turn === this.#turn) this.#wiring.host.clearTimeout(this.#timers.refresh);
    }
  }

  /** @param {number} code @param {string} reason */
  #ended(code, reason) {
    const steady = this.state === "open" && this.#wiring.host.Date.now() - this.#openedAt >= STEADY_MS;
    if (steady) this.#attempt = this.#refusals = 0;
    if (refuses(code)) {
      this.#wiring.credentials.refuse();
      if (this.state !== "open") this.#refusals += 1;
      if (this.#refusals >= REFUSALS) return this.stop({ state: "closed", code, reason: reason || "refused" });
    }
    // Hermes refuses after it has accepted; before, it is the network or a proxy.
    return this.#wait({ code, reason: reason || (this.#upgraded ? "" : "unreachable") });
  }

  /** @param {Partial<StateChange>} why */
  #wait(why) {
    const { host } = this.#wiring;
    this.#drop();
    // A draining server gives each client its own moment.
    const slot = this.#returnAt - host.Date.now();
    const ms = slot > 0 ? slot : delay(this.#attempt, host.Math.random());
    this.#attempt += 1;
    this.#timer("return", ms, () => void this.#open());
    // Only a name: a server may be on this machine.
    const state = host.navigator?.onLine === false ? "offline" : "waiting";
    this.#become({ state, retry_in_ms: Math.round(ms), ...why });
  }

  /** @param {any} event */
  #noticed = ({ type, persisted }) => {
    const { host } = this.#wiring;
    // First shown, or left for good.
    if (type.startsWith("page") && !persisted) return;
    // A socket keeps a page out of the back/forward cache, and a frozen page cannot answer for it.
    if (/hide|freeze|offline/.test(type)) return this.#wait({ reason: type });
    if (type === "visibilitychange" && host.document?.visibilityState === "hidden") return;
    this.#timer("hasten", FLOOR_MS * host.Math.random(), () => this.hasten());
  };

  /** Come back now, but not before the server's moment; see whether the socket lives. */
  hasten() {
    if (/waiting|offline/.test(this.state)) {
      if (this.#wiring.host.Date.now() >= this.#returnAt) void this.#open();
    } else this.#check(true);
  }

  /** Expect to hear something so often. @param {number} deadlineMs */
  #watch(deadlineMs) {
    this.#deadlineMs = deadlineMs;
    this.#heardAt = this.#wiring.host.Date.now();
    this.#check(false);
  }

  /** End a connection that was silent for too long. @param {boolean} graceful what stands in line gets a moment */
  #check(graceful) {
    const heardAt = this.#heardAt;
    // A clock set back would make the silence negative.
    const leftMs = this.#deadlineMs - Math.max(0, this.#wiring.host.Date.now() - heardAt);
    if (leftMs > 0) this.#timer("watch", leftMs, () => this.#check(false));
    else if (graceful || -leftMs > LATE_MS) {
      this.#timer("watch", LATE_MS, () => (heardAt < this.#heardAt ? this.#check(true) : this.#ended(1006, "silent")));
    } else this.#ended(1006, "silent");
  }

  /** Set a timer in the place of its namesake. @param {string} name @param {number} ms @param {() => void} then */
  #timer(name, ms, then) {
    const { host } = this.#wiring;
    host.clearTimeout(this.#timers[name]);
    this.#timers[name] = host.setTimeout(then, Math.min(ms, 2 ** 31 - 1)); // beyond, it is due at once
  }

  /** @param {StateChange} change */
  #become(change) {
    if (this.state === "idle" && change.state === "idle") return;
    this.state = change.state;
    this.#wiring.onstate(change);
  }
}

/** Showing: in which one of a browser's tabs an entry is shown: the visible one that was focused last. Between hermes.js,
 * which hears entries in every tab, and whoever draws them. docs/toolkit.md has the protocol. */
/** @import { Entry, Host } from "./types.js" */

import { CAPTURE } from "./connection.js";

const LIMIT = 1024; // entries that wait for a visible tab, and ids that are remembered: a room's history, by default
const SETTLE_MS = 250; // by then whatever the tab before us has shown is known here
const BATCH_MS = 100; // what was missed comes at once, and is shown at once
const LATE_MS = 2_000; // who sees an entry this late was away when it came

/** Forget the oldest beyond the limit. @param {Map<string, any> | Set<string>} items */
function trim(items) {
  for (const oldest of items.keys()) {
    if (items.size <= LIMIT) break;
    items.delete(oldest);
  }
}

/**
 * Have entries shown, each in one tab of the browser. Where tabs share nothing, that is every tab.
 * @param {import("./hermes.js").Hermes} hermes
 * @param {(entries: Entry[], about: { away: boolean }) => void} show `away`: they came while nobody looked, or were missed
 * @param {object} [options]
 * @param {string[]} [options.types] of the messages to show; all unless given
 * @param {Host} [options.host] the window
 * @returns {() => void} ends it
 */
export function attachShowing(hermes, show, { types = ["*"], host = globalThis } = {}) {
  /** @type {BroadcastChannel | undefined} */ let channel;
  let focusedAt = host.document?.hasFocus?.() ? host.Date.now() : 0;
  /** @type {Map<string, { entry: Entry, at: number, missed: boolean }>} */ let held = new Map();
  let name = ""; // of what the tabs share
  let ours = false; // whether it is our turn to show
  /** @type {(() => void) | undefined} */ let release; // of the lock, or of our place in the queue for it
  /** @type {Set<string>} */ const shown = new Set();
  /** @type {any} */ let batch;
  /** @type {any} */ let settling;
  /** @type {any} */ let writing;

  /** @param {object} message */
  const post = (message) => channel?.postMessage(message);
  const visible = () => host.document?.visibilityState !== "hidden";

  /** @param {string[]} ids */
  function remember(ids) {
    for (const id of ids) {
      held.delete(id);
      shown.add(id);
    }
    trim(shown);
  }

  function read() {
    try {
      const ids = JSON.parse(host.localStorage?.getItem(`hermes:shown:${name}`) ?? "[]");
      return Array.isArray(ids) ? ids : [];
    } catch {
      return [];
    }
  }

  function write() {
    host.clearTimeout(writing);
    writing = undefined;
    try {
      if (name) host.localStorage?.setItem(`hermes:shown:${name}`, JSON.stringify([...shown]));
    } catch {
      // Full or forbidden: then only tabs that are open at the same time know of each other.
    }
  }

  function flush() {
    host.clearTimeout(batch);
    // A tab that shares nothing shows all; one that has left the others for a while shows nothing.
    if (!held.size || (name ? !ours : hermes.state !== "open")) return;
    const ids = [...held.keys()];
    /** @type {Entry[]} */ const late = [];
    /** @type {Entry[]} */ const fresh = [];
    const then = host.Date.now() - LATE_MS;
    for (const { entry, at, missed } of held.values()) (missed || at < then ? late : fresh).push(entry);
    remember(ids);
    post({ shown: ids });
    if (name) writing ??= host.setTimeout(write, 1000); // 40 KB are too much for each entry
    for (const entries of [late, fresh]) if (entries.length) show(entries, { away: entries === late });
  }

  /** Take part in what the tabs share by now. */
  function join() {
    const next = hermes.sharing?.name ?? "";
    if (next === name) return;
    leave();
    name = next;
    if (!name || !host.BroadcastChannel) return;
    channel = new host.BroadcastChannel(`${name}:showing`);
    channel.onmessage = ({ data }) => heard(data);
    remember(read());
    post({ ask: true });
    look();
  }

  function leave() {
    if (writing) write();
    giveUp();
    channel?.close();
    channel = undefined;
    name = "";
  }

  function giveUp() {
    ours = false;
    host.clearTimeout(settling);
    settling = undefined;
    release?.();
    release = undefined;
  }

  /** A visible tab wants to show; a hidden one lets another do it. */
  function look() {
    if (!name || !visible()) return giveUp();
    if (release) return;
    const abort = new AbortController();
    const wait = (release = () => abort.abort());
    const lock = { signal: abort.signal };
    host.navigator?.locks
      ?.request(`${name}:showing`, lock, () => {
        if (release !== wait) return;
        post({ showing: focusedAt });
        post({ ask: true });
        settling = host.setTimeout(() => {
          ours = true;
          flush();
        }, SETTLE_MS);
        return new Promise((done) => (release = () => done(null)));
      })
      .catch(() => {});
  }

  /** @param {any} message of another tab */
  function heard(message) {
    if (message.ask && hermes.sharing?.leads) tell();
    if (message.shown) remember(message.shown);
    if (message.held && settling) {
      held = new Map([...message.held.filter((/** @type {any} */ [id]) => !shown.has(id)), ...held]);
      flush();
    }
    // The tab that was focused last goes first.
    if (message.showing < focusedAt && visible()) post({ visible: focusedAt });
    if (message.visible > focusedAt && release) {
      giveUp();
      look();
    }
  }

  /** What waits here waits in every tab, but for those that came later; one of them may be the one to show it. */
  function tell() {
    post({ held: [...held], shown: [...shown] });
  }

  function looked() {
    if (!visible()) return look();
    focusedAt = host.Date.now();
    post({ visible: focusedAt });
    look();
  }

  const ends = types.map((type) =>
    hermes.on(type, (_, entry, missed) => {
      join();
      if (shown.has(entry.id) || held.has(entry.id)) return;
      held.set(entry.id, { entry, at: host.Date.now(), missed });
      trim(held);
      host.clearTimeout(batch);
      if (missed) batch = host.setTimeout(flush, BATCH_MS);
      else flush();
    }),
  );
  ends.push(
    hermes.on("hermes.state", () => {
      join();
      if (held.size && hermes.sharing?.leads) tell();
      flush();
    }),
  );
  host.addEventListener?.("focus", looked);
  host.addEventListener?.("visibilitychange", looked, CAPTURE);
  join();
  return () => {
    for (const end of ends) end();
    host.removeEventListener?.("focus", looked);
    host.removeEventListener?.("visibilitychange", looked, CAPTURE);
    host.clearTimeout(batch);
    leave();
  };
}

/** The demo page: shows the connection, the room's last entries, and how long the form's message took. Uses page.js. */

import { hermes } from "../hermes/page.js";
import { KINDS, contentOf } from "../hermes/content.js";

/** @typedef {import("../hermes/types.js").Entry} Entry */

const FEED = 8; // entries that the list shows
const STATES = {
  idle: "Not connected",
  connecting: "Connecting…",
  open: "Connected",
  waiting: "Reconnecting…",
  offline: "Offline",
  closed: "Disconnected",
};

/** @param {string} id */
const byId = (id) => document.getElementById(id);

/**
 * @param {string} id
 * @param {string} text
 */
function say(id, text) {
  const node = byId(id);
  if (node) node.textContent = text;
}

let received = 0;
/** @type {{ title: string, at: number } | null} */
let awaited = null;

function showPosition() {
  const position = hermes?.position;
  if (!position) return;
  say("position", `#${position.seq}`);
  say("epoch", `in epoch ${position.epoch.slice(0, 8)}`);
}

/**
 * @param {Entry} entry
 * @param {boolean} live
 */
function addToFeed(entry, live) {
  const feed = byId("feed");
  if (!feed || feed.querySelector(`[data-id="${CSS.escape(entry.id)}"]`)) return;
  const { type, data } = entry.data ?? {};
  const { title, text } = contentOf(typeof type === "string" ? data : entry.data);
  const item = document.createElement("li");
  item.dataset.id = entry.id;
  item.dataset.kind = KINDS.find((kind) => kind === type) ?? "other";
  item.dataset.seq = `${entry.seq}`;
  for (const [name, value] of Object.entries({
    title: title || text || "(no text)",
    text: title ? text : "",
    meta: `#${entry.seq} · ${live ? new Date().toLocaleTimeString() : "earlier"}`,
  })) {
    if (!value) continue;
    const line = item.appendChild(document.createElement("span"));
    line.className = name;
    line.textContent = value;
  }
  const later = [...feed.children].find((node) => node instanceof HTMLElement && Number(node.dataset.seq) < entry.seq);
  feed.insertBefore(item, later ?? null);
  while (feed.children.length > FEED) feed.lastElementChild?.remove();
  byId("feed-empty")?.toggleAttribute("hidden", true);
}

/** @param {Entry} entry */
function measure(entry) {
  const title = contentOf(entry.data?.data).title;
  if (!awaited || awaited.title !== title) return;
  say("round-trip", `${Math.round(performance.now() - awaited.at)} ms`);
  awaited = null;
  const way = byId("way");
  way?.classList.remove("lit");
  requestAnimationFrame(() => way?.classList.add("lit"));
}

const current = hermes;
if (current) {
  const pill = byId("state");
  current.on("hermes.state", ({ state, reason, retry_in_ms }) => {
    const name = STATES[/** @type {keyof typeof STATES} */ (state)];
    if (pill) {
      pill.dataset.state = state;
      pill.textContent = name;
    }
    say("connection", name);
    if (state === "waiting" || state === "offline") say("connection-note", `next try in ${Math.ceil((retry_in_ms ?? 0) / 1000)} s`);
    if (state === "closed") say("connection-note", reason ?? "");
    if (state === "open") void current.recent(FEED).then((entries) => entries.forEach((entry) => addToFeed(entry, false)), () => {});
  });
  current.on("hermes.hello", ({ status, replayed }) => {
    const back = { fresh: "from now on", recovered: replayed ? `caught up with ${replayed}` : "nothing missed", lost: "some could not be recovered" };
    say("connection-note", back[/** @type {keyof typeof back} */ (status)] ?? "");
    showPosition();
  });
  current.on("hermes.ping", showPosition);
  current.on("hermes.lost", ({ reason }) => say("received-note", `some were lost (${reason})`));
  current.on("*", (_message, entry) => {
    received += 1;
    say("received", `${received}`);
    showPosition();
    addToFeed(entry, true);
    measure(entry);
  });
}

const form = byId("send");
if (form instanceof HTMLFormElement) {
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const body = new FormData(form);
    awaited = { title: `${body.get("title")}`, at: performance.now() };
    say("send-result", "Sending…");
    try {
      const response = await fetch(form.action, { method: "POST", body, headers: { Accept: "application/json" } });
      const answer = await response.json();
      say("send-result", answer.error ?? "Sent.");
    } catch {
      say("send-result", "The server does not answer. Nothing was sent.");
    }
  });
}

/** The demo page: shows the connection, the room's last entries, and how long the form's message took. Uses page.js. */

import { KINDS, contentOf } from "../hermes/content.js";
import { hermes } from "../hermes/page.js";

/** @typedef {import("../hermes/types.js").Entry} Entry */

const FEED = 6; // entries that the list shows
const STATES = {
  idle: "Not connected",
  connecting: "Connecting…",
  open: "Connected",
  waiting: "Reconnecting…",
  offline: "Offline",
  closed: "Disconnected",
};
/** What the form offers to send, by kind. @type {Record<string, [string, string]>} */
const EXAMPLES = {
  info: ["Order 5075 has come in", "Vandelay Industries · 6 laptops, €8,940.00"],
  success: ["Invoice 2026-118 is paid", "Globex GmbH · €1,240.00"],
  warning: ["Only 3 monitors left", "Order 5071 needs 12 of them by Friday."],
  danger: ["The payment was declined", "Umbrella AG · invoice 2026-103, €760.00"],
  custom: ["Bob has joined the team", "He takes over the orders of the north."],
};

/** @param {string} id */
const byId = (id) => document.getElementById(id);

/** @param {string} id @param {string} text */
function say(id, text) {
  const node = byId(id);
  if (node) node.textContent = text;
}

let received = 0;
/** @type {{ title: string, at: number } | null} */ let awaited = null;
/** @type {{ entry: Entry, at: string }[]} */ let fresh = [];
let drawing = 0;

/** Draw with the next frame, however many entries come until then. */
function soon() {
  drawing ||= requestAnimationFrame(() => {
    drawing = 0;
    say("received", `${received}`);
    const position = hermes?.position;
    if (position) {
      say("position", `#${position.seq}`);
      say("epoch", `in epoch ${position.epoch.slice(0, 8)}`);
    }
    for (const { entry, at } of fresh.splice(0)) addToFeed(entry, at);
  });
}

/** @param {Entry} entry @param {string} at when it came */
function gather(entry, at) {
  fresh.push({ entry, at });
  fresh = fresh.slice(-FEED);
  soon();
}

/** @param {Entry} entry @param {string} at */
function addToFeed(entry, at) {
  const feed = byId("feed");
  if (!feed || feed.querySelector(`[data-id="${CSS.escape(entry.id)}"]`)) return;
  const { type, data } = entry.data ?? {};
  const { title, text } = contentOf(typeof type === "string" ? data : entry.data);
  const item = document.createElement("li");
  item.dataset.id = entry.id;
  item.dataset.kind = KINDS.find((kind) => kind === type) ?? "other";
  item.dataset.seq = `${entry.seq}`;
  const lines = { title: title || text || "(no text)", text: title ? text : "", meta: `#${entry.seq} · ${at}` };
  for (const [name, value] of Object.entries(lines)) {
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
    if (state === "open") void current.recent(FEED).then((entries) => entries.forEach((entry) => gather(entry, "earlier")), () => {});
  });
  current.on("hermes.hello", ({ status, replayed }) => {
    const back = { fresh: "from now on", recovered: replayed ? `caught up with ${replayed}` : "nothing missed", lost: "some could not be recovered" };
    say("connection-note", back[/** @type {keyof typeof back} */ (status)] ?? "");
    soon();
  });
  current.on("hermes.ping", soon);
  current.on("hermes.lost", ({ reason }) => say("received-note", `some were lost (${reason})`));
  current.on("*", (_message, entry) => {
    received += 1;
    gather(entry, new Date().toLocaleTimeString());
    measure(entry);
  });
  // What is no notification changes the page itself: `{type: "order.changed", data: {number, status}}`.
  current.on("order.changed", (data) => {
    const row = byId("orders")?.querySelector(`[data-order="${CSS.escape(`${data?.number}`)}"]`);
    const status = row?.querySelector(".status");
    if (!row || !(status instanceof HTMLElement)) return;
    status.textContent = status.dataset.status = `${data.status}`;
    row.classList.remove("changed");
    requestAnimationFrame(() => row.classList.add("changed"));
  });
}

const form = byId("send");
if (form instanceof HTMLFormElement) {
  const [title, text] = [byId("id_title"), byId("id_text")];
  form.addEventListener("change", ({ target }) => {
    if (!(target instanceof HTMLInputElement) || target.type !== "radio") return;
    if (!(title instanceof HTMLInputElement) || !(text instanceof HTMLTextAreaElement)) return;
    // What somebody has written is not written over.
    if (!Object.values(EXAMPLES).some((example) => example[0] === title.value)) return;
    [title.value, text.value] = EXAMPLES[target.value] ?? ["", ""];
  });
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

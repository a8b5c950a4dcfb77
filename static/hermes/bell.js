/** Bell: the room's recent entries in a panel, and how many of them are unread in this browser. Fetched by page.js. */
/** @import { BellOptions, BellWords, Strings } from "./toast_types.js" */
/** @import { Entry } from "./types.js" */

import { KINDS, contentOf } from "./content.js";
import { anchor, button, element } from "./drawing.js";
import { ReadMarks } from "./read_marks.js";
import { STRINGS, count } from "./strings.js";

/** @type {Strings & BellWords} */
export const BELL_STRINGS = {
  ...STRINGS,
  recent: "Notifications",
  unread: { other: "{n} unread" },
  read: "Mark all read",
  nothing: "Nothing yet. What is sent to this room shows here.",
  unreachable: "Not connected. The list comes when we are back.",
};

/** One panel, and the button that opens it, if the page has a place for one. */
export class Bell {
  /** @type {Map<string, Entry>} by id, oldest first */ #entries = new Map();
  #drawing = 0;
  /** @type {any} */ #from;
  #hermes;
  #limit;
  #place;
  #marks;
  #strings;
  #toasts;
  /** @type {(() => void)[]} */ #ends = [];
  #root = element("div", "hermes-bell");
  #badge = element("span", "hermes-bell__badge");
  #button;
  #panel = element("div", "hermes-bell__panel");
  #head = this.#panel.appendChild(element("div", "hermes-bell__head"));
  /** @type {Entry[]} came since it was last drawn */ #waiting = [];
  #list = this.#panel.appendChild(element("ol", "hermes-bell__list"));
  #empty = this.#panel.appendChild(element("p", "hermes-bell__empty"));
  #all;

  /** @param {import("./hermes.js").Hermes} hermes @param {BellOptions} options */
  constructor(hermes, { name, toasts, place = null, strings = {}, limit = 50, storage, styles = new URL("./bell.css", import.meta.url).href }) {
    this.#hermes = hermes;
    this.#toasts = toasts;
    this.#place = place;
    this.#limit = limit;
    this.#strings = { ...BELL_STRINGS, ...strings };
    this.#marks = new ReadMarks({ name, storage, onchange: () => this.#soon() });
    const { recent, read } = this.#strings;
    this.#button = button("hermes-bell__button", "", () => (this.isOpen ? this.close() : void this.open()));
    this.#button.append(this.#badge);
    this.#button.ariaExpanded = "false";
    const title = element("h2", "hermes-bell__title", recent);
    this.#all = button("hermes-bell__all", read, () => this.readAll());
    const cross = button("hermes-bell__close", "", () => this.close());
    cross.ariaLabel = this.#strings.close;
    this.#head.append(title, this.#all, cross);
    Object.assign(this.#panel, { role: "dialog", ariaLabel: recent, hidden: true, tabIndex: -1 });
    this.#list.tabIndex = 0; // what scrolls can be scrolled with the keyboard
    this.#list.ariaLabel = recent;
    this.#root.append(this.#panel);
    this.#attach();
    this.#dress(styles);
    this.#listen();
    this.#draw();
  }

  get isOpen() {
    return !this.#panel.hidden;
  }

  /** How many entries of the list are unread. */
  get unread() {
    return [...this.#entries.values()].filter((entry) => !this.#marks.has(entry)).length;
  }

  /** Open the panel and move the focus into it. */
  open() {
    if (this.isOpen) return;
    this.#attach();
    this.#from = document.activeElement;
    this.#panel.hidden = false;
    this.#button.ariaExpanded = "true";
    this.#toasts?.clear(); // the list says what they say, and they would stand in front of it
    this.#draw();
    this.#root.removeAttribute("data-turned");
    const { left, right } = this.#panel.getBoundingClientRect();
    this.#root.toggleAttribute("data-turned", left < 0 || right > innerWidth);
    this.#panel.focus();
    void this.#fetch();
  }

  /** Close it; the focus goes back to where it was. */
  close() {
    if (!this.isOpen) return;
    const within = this.#panel.contains(document.activeElement) || document.activeElement === document.body;
    this.#panel.hidden = true;
    this.#button.ariaExpanded = "false";
    if (!within) return;
    if (this.#button.isConnected) this.#button.focus();
    else if (this.#from?.isConnected) this.#from.focus();
  }

  /** Mark all of them read, in every tab of this browser. */
  readAll() {
    this.#marks.addAll([...this.#entries.values()]);
    this.#panel.focus(); // the button is about to go
  }

  /** Take it out of the page. */
  remove() {
    for (const end of this.#ends.splice(0)) end();
    cancelAnimationFrame(this.#drawing);
    this.#marks.close();
    this.#root.remove();
  }

  /** Go where there is a place for us; page libraries replace what is in the body, and us with it. */
  #attach() {
    if (this.#root.isConnected) return;
    const place = this.#place?.isConnected ? this.#place : document.querySelector("[data-hermes-bell]");
    this.#root.toggleAttribute("data-placeless", !place);
    if (place) this.#root.prepend(this.#button);
    else this.#button.remove();
    (place ?? document.body).append(this.#root);
  }

  /** A page that has not loaded our styles gets them. @param {string} address */
  #dress(address) {
    if (getComputedStyle(this.#root).getPropertyValue("--hermes-bell")) return;
    const link = Object.assign(document.createElement("link"), { rel: "stylesheet", href: address });
    document.head.append(link);
  }

  #listen() {
    const { on } = this.#hermes;
    for (const kind of KINDS) this.#ends.push(on.call(this.#hermes, kind, (_data, entry) => this.#came(entry)));
    this.#ends.push(on.call(this.#hermes, "hermes.state", ({ state }) => (state === "open" ? void this.#fetch() : this.#soon())));
    if (this.#hermes.state === "open") void this.#fetch();
    const outside = (/** @type {Event} */ event) => {
      if (this.isOpen && !event.composedPath().includes(this.#root)) this.close();
    };
    const escape = (/** @type {KeyboardEvent} */ event) => {
      if (event.key !== "Escape" || event.defaultPrevented || !this.isOpen) return;
      event.preventDefault();
      this.close();
    };
    const swaps = new MutationObserver(() => !this.#root.isConnected && this.#soon());
    swaps.observe(document.documentElement, { childList: true, subtree: true });
    this.#ends.push(() => swaps.disconnect());
    document.addEventListener("pointerdown", outside);
    this.#root.addEventListener("keydown", escape);
    this.#ends.push(() => document.removeEventListener("pointerdown", outside));
  }

  async #fetch() {
    try {
      const entries = await this.#hermes.recent(this.#limit);
      // What stood there before this browser ever came is no news.
      if (this.#marks.isNew) this.#marks.addAll(entries.filter((entry) => !this.#marks.cameAt(entry)));
      this.#add(entries);
    } catch {
      this.#soon(); // no connection: asked again with the next one
    }
  }

  /** @param {Entry} entry */
  #came(entry) {
    this.#marks.came(entry);
    this.#waiting.push(entry);
    if (this.#waiting.length > this.#limit) this.#waiting.shift(); // a page that nobody sees draws nothing
    this.#soon();
  }

  /** @param {Entry[]} entries oldest first */
  #add(entries) {
    const told = entries.filter(({ data, id }) => KINDS.includes(data?.type) && !this.#entries.has(id));
    if (!told.length) return this.#soon();
    const all = [...this.#entries.values(), ...told];
    // What was fetched may be older than what came meanwhile; only within one life of the history has it an order.
    all.sort((a, b) => (a.epoch === b.epoch ? a.seq - b.seq : 0));
    this.#entries = new Map(all.slice(-this.#limit).map((entry) => [entry.id, entry]));
    this.#soon();
  }

  #soon() {
    this.#drawing ||= requestAnimationFrame(() => this.#draw());
  }

  #draw() {
    cancelAnimationFrame(this.#drawing);
    this.#drawing = 0;
    this.#attach();
    this.#marks.flush();
    if (this.#waiting.length) this.#add(this.#waiting.splice(0));
    const { unread } = this;
    const { recent, nothing, unreachable } = this.#strings;
    const said = unread ? count(this.#strings, "unread", unread) : "";
    this.#badge.textContent = unread ? (unread >= this.#limit ? `${this.#limit}+` : `${unread}`) : "";
    this.#button.ariaLabel = [recent, said].filter(Boolean).join(", ");
    this.#button.toggleAttribute("data-unread", unread > 0);
    this.#all.hidden = !unread;
    if (!this.isOpen) return;
    this.#empty.textContent = this.#hermes.state === "open" ? nothing : unreachable;
    this.#empty.hidden = this.#entries.size > 0;
    this.#list.hidden = !this.#entries.size;
    const kept = new Map([...this.#list.children].map((node) => [/** @type {HTMLElement} */ (node).dataset.id, node]));
    const nodes = [...this.#entries.values()].reverse().map((entry) => kept.get(entry.id) ?? this.#make(entry));
    nodes.forEach((node, at) => {
      const { id } = /** @type {HTMLElement} */ (node).dataset;
      node.toggleAttribute("data-unread", !this.#marks.has(/** @type {Entry} */ (this.#entries.get(id ?? ""))));
      if (this.#list.children[at] !== node) this.#list.insertBefore(node, this.#list.children[at] ?? null);
    });
    while (this.#list.children.length > nodes.length) this.#list.lastElementChild?.remove();
  }

  /** @param {Entry} entry */
  #make(entry) {
    const kind = KINDS.find((each) => each === entry.data.type) ?? "info";
    const { title, text, link, icon } = contentOf(entry.data.data);
    const item = element("li", "hermes-bell__entry");
    Object.assign(item.dataset, { id: entry.id, kind });
    item.append(element("span", "hermes-bell__icon", icon));
    const heading = title || text || this.#strings[kind]; // a link has words
    const body = item.appendChild(element("div", "hermes-bell__body"));
    body.append(element("span", "hermes-bell__kind", `${this.#strings[kind]}: `));
    body.append(link ? anchor("hermes-bell__heading", heading, link) : element("span", "hermes-bell__heading", heading));
    if (title && text) body.append(element("span", "hermes-bell__text", text));
    const at = this.#marks.cameAt(entry);
    if (at) {
      const time = item.appendChild(element("time", "hermes-bell__time"));
      const { locale } = this.#strings;
      const today = new Date(at).toDateString() === new Date().toDateString();
      time.dateTime = new Date(at).toISOString();
      time.textContent = today
        ? new Date(at).toLocaleTimeString(locale, { timeStyle: "short" })
        : new Date(at).toLocaleDateString(locale, { day: "numeric", month: "short" });
    }
    item.addEventListener("click", () => this.#marks.add([entry]));
    return item;
  }
}

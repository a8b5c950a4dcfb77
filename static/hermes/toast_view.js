/** Toast view: draws the model in toasts.js into the page, as text only, in the words of strings.js. Used by page.js. */
/** @import { Toast, ViewOptions } from "./toast_types.js" */

import { anchor, button, element } from "./drawing.js";
import { STRINGS, count } from "./strings.js";
import { swipe } from "./swipe.js";

const HEARD_MS = 5000; // by then a screen reader has it
const ANYWHERE = ["visibilitychange", "pointerdown", "keydown"];

const still = () => document.hidden || matchMedia("(prefers-reduced-motion: reduce)").matches;

/** One region of toasts, at a corner of the page. */
export class ToastView {
  #drawing = 0;
  /** @type {any} */ #from; // what had the focus before it came to us
  #hotkey;
  /** @type {Map<number, HTMLElement>} */ #nodes = new Map();
  #region = element("section", "hermes-toasts");
  #list = this.#region.appendChild(element("ol", "hermes-toasts__list"));
  #more = this.#region.appendChild(element("div", "hermes-toasts__more"));
  // Live regions must be there before what they are to say.
  #aloud = ["status", "alert"].map((role) => {
    const node = this.#region.appendChild(element("div", "hermes-toasts__aloud"));
    node.role = role;
    node.ariaAtomic = "false";
    return node;
  });
  #strings;
  #swiped = 0;
  #toasts;
  #touched = false;

  /** @param {import("./toasts.js").Toasts} toasts @param {ViewOptions} [options] */
  constructor(toasts, { strings = {}, hotkey = "F8" } = {}) {
    this.#toasts = toasts;
    this.#strings = { ...STRINGS, ...strings };
    this.#hotkey = hotkey;
    const { region, clear } = this.#strings;
    this.#region.ariaLabel = region;
    this.#region.ariaKeyShortcuts = hotkey;
    this.#more.append(element("span", ""), button("", clear, () => this.#now(() => toasts.clear())));
    for (const type of ["pointerenter", "pointerleave", "focusin", "focusout"]) this.#region.addEventListener(type, this.#heed);
    for (const type of ANYWHERE) document.addEventListener(type, this.#heed);
    toasts.onchange = this.#soon;
    this.#draw();
  }

  /** Take all out of the page. */
  remove() {
    this.#toasts.onchange = () => {};
    this.#toasts.clear();
    cancelAnimationFrame(this.#drawing);
    for (const type of ANYWHERE) document.removeEventListener(type, this.#heed);
    this.#region.remove();
  }

  /** Draw with the next frame. */
  #soon = () => {
    this.#drawing ||= requestAnimationFrame(() => this.#draw());
  };

  /** Draw now, so that the focus is where it will stay. @param {() => void} change */
  #now(change) {
    this.#touched = false;
    change();
    this.#draw();
    this.#swiped = 0;
  }

  /** @param {any} event */
  #heed = (event) => {
    const { type, target, relatedTarget, pointerType } = event;
    const inside = this.#region.contains(target);
    if (type === "keydown") this.#typed(event, inside);
    if (type === "pointerdown") this.#touched = inside && pointerType !== "mouse";
    if (type === "focusin" && !this.#region.contains(relatedTarget)) this.#from = relatedTarget;
    queueMicrotask(() => this.#hold()); // after the event: at focusout nothing has the focus yet
  };

  /** @param {KeyboardEvent} event @param {boolean} inside */
  #typed(event, inside) {
    const chord = `${event.ctrlKey ? "Control+" : ""}${event.altKey ? "Alt+" : ""}${event.key}`;
    if (chord === "Escape" && inside) {
      const ids = [...this.#nodes.keys()];
      const at = ids.find((id) => this.#nodes.get(id)?.contains(document.activeElement));
      this.#now(() => this.#toasts.dismiss(at ?? ids[ids.length - 1]));
    } else if (chord !== this.#hotkey) return;
    else if (inside) this.#giveBack();
    else this.#focus(Infinity);
    event.preventDefault(); // or Escape would close the page's own dialog too
  }

  /** @param {number} index beyond the last, the last */
  #focus(index) {
    const nodes = [...this.#nodes.values()];
    const node = nodes[index] ?? nodes.at(-1);
    if (node) node.focus();
    else this.#giveBack();
  }

  #giveBack() {
    this.#from?.focus();
  }

  /** Time stands still while somebody reads, and while nobody can. */
  #hold() {
    const region = this.#region;
    // A click leaves a focus behind that nobody means; one that shows was put there.
    const read = this.#touched || region.matches(":hover") || region.querySelector(":focus-visible") !== null;
    this.#toasts.pause(read || document.hidden);
  }

  #draw() {
    cancelAnimationFrame(this.#drawing);
    this.#drawing = 0;
    const { shown, paused, more } = this.#toasts;
    // Page libraries replace the body, and us with it.
    if (!this.#region.isConnected) document.body.append(this.#region);
    const made = shown.filter(({ id }) => !this.#nodes.has(id));
    this.#glide(() => {
      this.#region.toggleAttribute("data-paused", paused);
      for (const id of this.#nodes.keys()) if (!shown.some((toast) => toast.id === id)) this.#leave(id);
      for (const toast of made) this.#nodes.set(toast.id, this.#list.appendChild(this.#make(toast)));
    });
    for (const toast of made) this.#say(toast);
    for (const toast of shown) this.#update(toast);
    this.#more.hidden = !more;
    if (more) this.#more.children[0].textContent = count(this.#strings, "more", more);
    else if (this.#more.contains(document.activeElement)) this.#focus(0);
    // Higher than the page, they scroll.
    const list = this.#list;
    const last = [...this.#nodes.values()].at(-1);
    const end = last ? last.offsetTop + last.offsetHeight : 0;
    list.toggleAttribute("data-tall", end > list.clientHeight + 1);
    if (made.length) list.scrollTop = end;
    // What was hovered may have gone.
    this.#hold();
  }

  /** Change what stands where; all of it glides there. @param {() => void} change */
  #glide(change) {
    const nodes = still() ? [] : [...this.#nodes.values()];
    const top = (/** @type {HTMLElement} */ node) => node.getBoundingClientRect().top;
    const before = nodes.map(top);
    change();
    nodes.forEach((node, n) => {
      const by = before[n] - top(node);
      if (by && !node.inert) node.animate([{ translate: `0 ${by}px` }, { translate: "0 0" }], { duration: 250, easing: "ease-out" });
    });
  }

  /** @param {Toast} toast */
  #heading({ count: n, away, title }) {
    return n ? count(this.#strings, away ? "away" : "flood", n) : title;
  }

  /** Have it read out, once. @param {Toast} toast */
  #say(toast) {
    const node = element("p", "", `${this.#strings[toast.kind]}: ${this.#heading(toast)} ${toast.text}`);
    this.#aloud[toast.kind === "danger" ? 1 : 0].append(node);
    setTimeout(() => node.remove(), HEARD_MS);
  }

  /** @param {Toast} toast */
  #make(toast) {
    const { id, icon, look, link, link_text, actions, draw, lasts_ms } = toast;
    const { onlist, onaction } = this.#toasts;
    const item = element("li", "hermes-toast");
    item.dataset.toast = `${id}`;
    item.dataset.look = look;
    item.tabIndex = -1;
    const card = item.appendChild(element("div", "hermes-toast__card"));
    card.append(element("span", "hermes-toast__icon", icon));
    const body = card.appendChild(element("div", "hermes-toast__body"));
    for (const part of ["kind", "title", "text"]) body.append(element("span", `hermes-toast__${part}`));
    if (draw) body.append(draw());
    const row = body.appendChild(element("div", "hermes-toast__actions"));
    const dismiss = (towards = 0) => {
      this.#swiped = towards;
      this.#now(() => this.#toasts.dismiss(id));
    };
    /** @param {string} label @param {() => unknown} then */
    const offer = (label, then) => row.append(button("hermes-toast__action", label, () => (dismiss(), then())));
    if (link) row.append(anchor("hermes-toast__link", link_text || this.#strings.open, link));
    for (const { label, link: address, name, onclick } of actions) {
      if (address) row.append(anchor("hermes-toast__action", label, address));
      else offer(label, onclick ?? (() => name && onaction(name, toast)));
    }
    if (toast.count && onlist) offer(this.#strings.list, onlist);
    card.append(element("span", "hermes-toast__times"));
    const cross = card.appendChild(button("hermes-toast__close", "", () => dismiss()));
    cross.ariaLabel = this.#strings.close;
    const bar = card.appendChild(element("span", "hermes-toast__time"));
    bar.style.animationDuration = `${lasts_ms}ms`;
    bar.hidden = !lasts_ms;
    swipe(card, dismiss);
    return item;
  }

  /** What may change while it stands. @param {Toast} toast */
  #update(toast) {
    const { id, times, count: n, kind, text } = toast;
    const item = /** @type {HTMLElement} */ (this.#nodes.get(id));
    const state = `${times} ${n}`;
    if (item.dataset.state === state) return;
    Object.assign(item.dataset, { state, kind });
    const parts = {
      kind: `${this.#strings[kind]}: `,
      title: this.#heading(toast),
      text,
      times: times > 1 ? `×${times.toLocaleString(this.#strings.locale)}` : "",
    };
    for (const [part, said] of Object.entries(parts)) {
      const node = item.querySelector(`.hermes-toast__${part}`);
      if (node) node.textContent = said;
    }
    for (const animation of item.lastElementChild?.lastElementChild?.getAnimations() ?? []) animation.currentTime = 0; // anew
  }

  /** @param {number} id */
  #leave(id) {
    const node = /** @type {HTMLElement} */ (this.#nodes.get(id));
    const index = [...this.#nodes.keys()].indexOf(id);
    this.#nodes.delete(id);
    // Who closes one with the keyboard goes on to the next.
    if (node.contains(document.activeElement)) this.#focus(index);
    if (still()) return node.remove();
    // Out of the others' way, where it was.
    node.style.bottom = `${this.#list.offsetHeight - node.offsetTop - node.offsetHeight}px`;
    node.inert = true;
    const to = this.#swiped ? { translate: `${this.#swiped * 110}% 0`, opacity: 0 } : { opacity: 0, scale: 0.94 };
    const last = node.animate([{}, to], { duration: 200, easing: "ease-out", fill: "forwards" });
    last.onfinish = last.oncancel = () => node.remove();
  }
}

/** Toast view: draws the model in toasts.js into the page, as text only. Used by page.js. */

/** @typedef {import("./toasts.js").Toast} Toast */

export const STRINGS = {
  region: "Notifications",
  close: "Close",
  open: "Open",
  clear: "Clear all",
  /** @param {number} count */
  more: (count) => `${count} more`,
  info: "Information",
  success: "Success",
  warning: "Warning",
  danger: "Danger",
};

const SVG = "http://www.w3.org/2000/svg";
/** Strokes on a 24 × 24 grid. */
const ICONS = {
  info: ["M12 11v5", "M12 8h.01"],
  success: ["M8 12.5l2.7 2.7L16 9.8"],
  warning: ["M12 8v5", "M12 16h.01"],
  danger: ["M9 9l6 6", "M15 9l-6 6"],
  close: ["M7 7l10 10", "M17 7L7 17"],
};
const OUTLINES = { info: "circle", success: "circle", danger: "circle", warning: "M12 3.5 21.5 20h-19Z", close: "" };

/**
 * @param {keyof typeof ICONS} name
 * @returns {SVGElement}
 */
function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  const outline = OUTLINES[name];
  if (outline === "circle") {
    const circle = svg.appendChild(document.createElementNS(SVG, "circle"));
    for (const [key, value] of Object.entries({ cx: 12, cy: 12, r: 9 })) circle.setAttribute(key, `${value}`);
  } else if (outline) svg.appendChild(document.createElementNS(SVG, "path")).setAttribute("d", outline);
  for (const stroke of ICONS[name]) svg.appendChild(document.createElementNS(SVG, "path")).setAttribute("d", stroke);
  return svg;
}

/**
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {string} className
 * @param {string} [text]
 */
function element(tag, className, text) {
  const node = document.createElement(tag);
  node.className = className;
  if (text !== undefined) node.textContent = text; // never HTML: it comes from producers
  return node;
}

/** One region of toasts, at a corner of the page. */
export class ToastView {
  #list;
  #more;
  /** @type {Map<number, HTMLElement>} */ #nodes = new Map();
  #region;
  #strings;
  #toasts;

  /**
   * @param {import("./toasts.js").Toasts} toasts
   * @param {object} [options]
   * @param {HTMLElement} [options.parent]
   * @param {Partial<typeof STRINGS>} [options.strings] in the reader's language
   */
  constructor(toasts, { parent = document.body, strings = {} } = {}) {
    this.#toasts = toasts;
    this.#strings = { ...STRINGS, ...strings };
    this.#region = element("section", "hermes-toasts");
    this.#region.setAttribute("aria-label", this.#strings.region);
    this.#region.tabIndex = -1;
    this.#list = this.#region.appendChild(element("ol", "hermes-toasts__list"));
    this.#more = this.#region.appendChild(element("button", "hermes-toasts__more"));
    this.#more.type = "button";
    this.#more.hidden = true;
    this.#more.addEventListener("click", () => toasts.clear());
    this.#listen();
    parent.append(this.#region);
    toasts.onchange = () => this.#draw();
    this.#draw();
  }

  /** Take the region out of the page. */
  remove() {
    this.#toasts.onchange = () => {};
    this.#toasts.clear();
    document.removeEventListener("visibilitychange", this.#hold);
    this.#region.remove();
  }

  #listen() {
    const region = this.#region;
    for (const type of ["pointerenter", "pointerleave", "focusin", "focusout"]) region.addEventListener(type, this.#hold);
    document.addEventListener("visibilitychange", this.#hold);
    region.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      const at = document.activeElement?.closest("[data-toast]");
      const last = this.#toasts.shown.at(-1);
      if (at instanceof HTMLElement) this.#dismiss(Number(at.dataset.toast));
      else if (last) this.#dismiss(last.id);
    });
  }

  /** Time stands still while somebody reads, and while nobody can. */
  #hold = () => {
    // After the event: at focusout nothing has the focus yet.
    queueMicrotask(() => {
      const region = this.#region;
      const read = region.matches(":hover") || region.matches(":focus-within");
      if (read || document.visibilityState === "hidden") this.#toasts.pause();
      else this.#toasts.resume();
    });
  };

  /** @param {number} id */
  #dismiss(id) {
    const node = this.#nodes.get(id);
    // Whoever closes one with the keyboard goes on to the next, and is not thrown to the top of the page.
    const next = node?.contains(document.activeElement) ? (node.nextElementSibling ?? node.previousElementSibling) : null;
    this.#toasts.dismiss(id);
    if (next instanceof HTMLElement) next.querySelector("button")?.focus();
  }

  #draw() {
    const { shown, waiting, overflow, paused } = this.#toasts;
    this.#region.toggleAttribute("data-paused", paused);
    const standing = new Set(shown.map((toast) => toast.id));
    for (const [id, node] of this.#nodes) {
      if (standing.has(id)) continue;
      this.#nodes.delete(id);
      leave(node);
    }
    for (const toast of shown) {
      const node = this.#nodes.get(toast.id);
      if (node) this.#update(node, toast);
      else this.#nodes.set(toast.id, this.#list.appendChild(this.#make(toast)));
    }
    const more = waiting.length + overflow;
    this.#more.hidden = more === 0;
    this.#more.textContent = more ? `${this.#strings.more(more)} · ${this.#strings.clear}` : "";
    // Without toasts there is nothing to hover: the page below must get every click.
    this.#hold();
  }

  /** @param {Toast} toast */
  #make(toast) {
    const item = element("li", "hermes-toast");
    item.dataset.toast = `${toast.id}`;
    item.dataset.kind = toast.kind;
    const card = item.appendChild(element("div", "hermes-toast__card"));
    card.append(icon(toast.kind));
    // The role is what has it read out: at once when it is dangerous, else when the reader pauses.
    const body = card.appendChild(element("div", "hermes-toast__body"));
    body.setAttribute("role", toast.kind === "danger" ? "alert" : "status");
    body.append(element("span", "hermes-toast__kind", `${this.#strings[toast.kind]}: `));
    if (toast.title) body.append(element("strong", "hermes-toast__title", toast.title));
    if (toast.text) body.append(element("span", "hermes-toast__text", toast.text));
    if (toast.link) {
      const link = body.appendChild(element("a", "hermes-toast__link", this.#strings.open));
      link.href = toast.link;
      link.rel = "noopener noreferrer";
    }
    const times = card.appendChild(element("span", "hermes-toast__times"));
    times.hidden = true;
    const close = card.appendChild(element("button", "hermes-toast__close"));
    close.type = "button";
    close.setAttribute("aria-label", this.#strings.close);
    close.append(icon("close"));
    close.addEventListener("click", () => this.#dismiss(toast.id));
    const bar = card.appendChild(element("span", "hermes-toast__time"));
    bar.style.animationDuration = `${toast.lasts_ms}ms`;
    this.#update(item, toast);
    return item;
  }

  /**
   * @param {HTMLElement} item
   * @param {Toast} toast
   */
  #update(item, toast) {
    const times = /** @type {HTMLElement} */ (item.querySelector(".hermes-toast__times"));
    const text = toast.times > 1 ? `×${toast.times}` : "";
    if (times.textContent === text) return;
    times.textContent = text;
    times.hidden = !text;
    const bar = item.querySelector(".hermes-toast__time");
    for (const animation of bar?.getAnimations?.() ?? []) animation.currentTime = 0; // its time runs anew
  }
}

/** @param {HTMLElement} item */
function leave(item) {
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  if (still || document.visibilityState === "hidden" || !item.animate) return item.remove();
  item.inert = true;
  const height = `${item.offsetHeight}px`;
  const last = item.animate(
    [
      { opacity: 1, height },
      { opacity: 0, height, transform: "scale(0.96)", offset: 0.5 },
      { opacity: 0, height: "0px", transform: "scale(0.96)" },
    ],
    { duration: 260, easing: "ease-out" },
  );
  last.onfinish = last.oncancel = () => item.remove();
}

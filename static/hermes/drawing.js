/** Drawing: elements that hold text and nothing else; icons are the stylesheets'. Used by toast_view.js and bell.js. */

/** @template {keyof HTMLElementTagNameMap} Tag @param {Tag} tag @param {string} className */
export function element(tag, className, text = "") {
  const node = document.createElement(tag);
  node.className = className;
  node.textContent = text; // never HTML: it comes from producers
  return node;
}

/** @param {string} className @param {string} text @param {() => unknown} onclick */
export function button(className, text, onclick) {
  const node = element("button", className, text);
  node.type = "button";
  node.onclick = onclick;
  return node;
}

/** @param {string} className @param {string} text @param {string} address a safe one */
export function anchor(className, text, address) {
  return Object.assign(element("a", className, text), { href: address, rel: "noopener noreferrer" });
}

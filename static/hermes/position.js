/** Position: where this page stands in its room's history. Pure; used by shown.js and hermes.js. */
/** @import { Position } from "./types.js" */

/** The position in anything, if it holds one. @param {any} value @returns {Position | null} */
export function positionOf(value) {
  const { epoch, seq, id } = value ?? {};
  if (typeof epoch !== "string" || !epoch || !Number.isSafeInteger(seq) || seq < 0) return null;
  return { epoch, seq, id: typeof id === "string" ? id : "" };
}

/**
 * A socket's address.
 * @param {string} url ws(s):// or http(s)://, with or without `/ws/<stage>`
 * @param {string} stage
 * @param {Position | null} position to resume after; null: from now on
 */
export function socketAddress(url, stage, position) {
  const address = new URL(url);
  address.protocol = address.protocol.replace("http", "ws");
  const path = `/ws/${encodeURIComponent(stage)}`;
  if (!address.pathname.endsWith(path)) address.pathname = address.pathname.replace(/\/+$/, "") + path;
  address.hash = "";
  for (const [key, value] of Object.entries(position ?? {})) address.searchParams.set(key, `${value}`);
  return address.href;
}

/** Frames: a WebSocket text becomes an entry, a control frame, or neither. Pure; used by connection.js. */
/** @import { Frame } from "./types.js" */

/** Only the server may use it: producers and clients that try are refused. */
export const CONTROL = "hermes.";

/** Tell what a frame is. Never throws: one bad frame must not end the handler. @param {unknown} text @returns {Frame} */
export function parse(text) {
  let frame;
  try {
    frame = JSON.parse(/** @type {string} */ (text)) ?? {};
  } catch {
    return { kind: "other" };
  }
  const { seq, epoch, id, data } = frame;
  // A seq makes an entry, whatever its data says: so no producer can forge a control frame.
  if (seq !== undefined) {
    const whole = Number.isSafeInteger(seq) && typeof epoch === "string" && typeof id === "string";
    return whole ? { kind: "entry", entry: frame } : { kind: "other" };
  }
  const type = data?.type;
  if (typeof type !== "string" || !type.startsWith(CONTROL)) return { kind: "other" };
  return { kind: "control", type, data: Object(data.data) };
}

/** Frames: a WebSocket text becomes an entry, a control frame, or neither. Pure; used by connection.js. */

/** Only the server may use it: producers and clients that try are refused. */
export const CONTROL = "hermes.";

/**
 * Tell what a frame is. Never throws: one bad frame must not end the handler.
 * @param {unknown} text
 * @returns {import("./types.js").Frame}
 */
export function parse(text) {
  let frame;
  try {
    frame = JSON.parse(/** @type {string} */ (text));
  } catch {
    return { kind: "other" };
  }
  if (typeof frame !== "object" || frame === null) return { kind: "other" };
  // A seq makes an entry, whatever its data says: so no producer can forge a control frame.
  if ("seq" in frame) {
    const whole = Number.isSafeInteger(frame.seq) && typeof frame.epoch === "string" && typeof frame.id === "string";
    return whole ? { kind: "entry", entry: frame } : { kind: "other" };
  }
  const type = frame.data?.type;
  if (typeof type !== "string" || !type.startsWith(CONTROL)) return { kind: "other" };
  const data = frame.data.data;
  return { kind: "control", type, data: typeof data === "object" && data !== null ? data : {} };
}

/** Back-off: how long to stay away, and whether to come back with the same token. Pure; asked by connection.js. */

const FLOOR_MS = 500; // a server that restarts is not met by all its clients in the same instant
const CEILING_MS = 20_000; // nobody waits longer than this for a server that is back

/** A connection that held this long was a good one: the next failure starts from the floor. */
export const STEADY_MS = 30_000;

/**
 * Full jitter: anything between the floor and a top that doubles with each failure.
 * @param {number} attempt failures before this one
 * @param {number} random 0 ≤ random < 1
 * @returns {number} milliseconds
 */
export function delay(attempt, random) {
  const top = Math.min(CEILING_MS, FLOOR_MS * 2 ** (attempt + 1));
  return FLOOR_MS + random * (top - FLOOR_MS);
}

/**
 * Whether a close code refuses this token. 44xx does; 41xx and every other code mean "come back".
 * @param {number} code
 */
export function refuses(code) {
  return code >= 4400 && code <= 4499;
}

/** Backoff: how long to stay away, and when to ask for another token. Pure; used by connection.js. */

export const FLOOR_MS = 500; // all clients of a server or network are not back in the same instant
const CEILING_MS = 20_000; // nobody waits longer

/** After a connection that held so long, the next failure starts from the floor. */
export const STEADY_MS = 30_000;

/**
 * Full jitter: milliseconds between the floor and a top that doubles with each failure.
 * @param {number} attempt failures before
 * @param {number} random from 0 to 1
 */
export const delay = (attempt, random) =>
  FLOOR_MS + random * (Math.min(CEILING_MS, FLOOR_MS * 2 ** (attempt + 1)) - FLOOR_MS);

/** Whether a close code refuses this token; all others mean "come back". @param {number} code */
export const refuses = (code) => code >= 4400 && code < 4500;

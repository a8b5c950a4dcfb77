/** The scene of the tests: a room, Alice's page in it, and a clock that the test moves. */

import { Hermes } from "../../static/hermes/hermes.js";
import { FakeHost, FakeServer, FakeStorage } from "../../static/hermes/testing.js";

/**
 * A JWT that nobody has signed; the toolkit only reads its names.
 * @param {object} claims
 */
export function jwt(claims) {
  const part = (/** @type {object} */ value) => Buffer.from(JSON.stringify(value)).toString("base64url");
  return `${part({ alg: "HS512" })}.${part(claims)}.c2ln`;
}

let serial = 0;

/** @param {string | number} [user] */
export const freshToken = (user = "1") => jwt({ user_id: user, room_id: "acme", jti: (serial += 1) });

/**
 * Alice's page, not connected yet.
 * @param {Partial<import("../../static/hermes/types.js").Options> & { server?: FakeServer }} [options]
 */
export function alice({ server = new FakeServer(), ...options } = {}) {
  const host = new FakeHost();
  const storage = new FakeStorage();
  let asked = 0;
  const token = () => {
    asked += 1;
    return freshToken();
  };
  const hermes = new Hermes({ url: "ws://hermes.test", stage: "development", token, WebSocket: server.WebSocket, host, storage, ...options });
  /** @type {string[]} */ const states = [];
  /** @type {any[]} */ const heard = [];
  hermes.on("hermes.state", ({ state }) => states.push(state));
  hermes.on("*", (message) => heard.push(message.data));
  return { hermes, host, server, storage, states, heard, asked: () => asked };
}

/**
 * Alice's page, connected.
 * @param {Parameters<typeof alice>[0]} [options]
 */
export async function connectedAlice(options) {
  const scene = alice(options);
  scene.hermes.connect();
  await scene.host.pass();
  return scene;
}

/** @param {any} data */
export const info = (data) => ({ type: "info", data });

/** Coming back: when, with which token, from which position. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { Refused } from "../../static/hermes/hermes.js";
import { FakeServer } from "../../static/hermes/testing.js";
import { alice, connectedAlice, freshToken, info } from "./scene.js";

test("a page that was away gets what it missed, once and in order", async () => {
  const { server, host, heard, states } = await connectedAlice();
  server.publish(info(1));
  server.drop();
  server.publish(info(2));
  server.publish(info(3));
  await host.pass(1000);
  server.publish(info(4));
  assert.deepEqual(heard, [1, 2, 3, 4]);
  assert.deepEqual(states, ["connecting", "open", "waiting", "connecting", "open"]);
});

test("it comes back with its position, and even to a room's very first entry", async () => {
  const { server, host, heard } = await connectedAlice();
  server.drop();
  server.publish(info("the very first"));
  await host.pass(1000);
  assert.equal(server.last.url.search, "?epoch=e1&seq=0&id=");
  server.drop();
  await host.pass(2000);
  assert.equal(server.last.url.search, "?epoch=e1&seq=1&id=m1");
  assert.deepEqual(heard, ["the very first"]);
});

test("it waits longer from failure to failure, up to twenty seconds", async () => {
  const { hermes, server, host } = alice();
  /** @type {number[]} */ const waits = [];
  hermes.on("hermes.state", ({ retry_in_ms }) => retry_in_ms && waits.push(retry_in_ms));
  server.reachable = false;
  hermes.connect();
  await host.pass(60_000);
  assert.deepEqual(waits.slice(0, 8), [750, 1250, 2250, 4250, 8250, 10_250, 10_250, 10_250]);
});

test("only a connection that held for thirty seconds starts the waiting anew", async () => {
  const { hermes, server, host } = await connectedAlice();
  /** @type {number[]} */ const waits = [];
  hermes.on("hermes.state", ({ retry_in_ms }) => retry_in_ms && waits.push(retry_in_ms));
  for (const up of [1000, 1000, 1000, 31_000]) {
    await host.pass(up);
    server.drop();
    await host.pass(5000);
  }
  assert.deepEqual(waits, [750, 1250, 2250, 750]);
});

test("a draining server's return slot is kept, also when the network comes back", async () => {
  const { server, host } = await connectedAlice();
  server.last.control("goodbye", { ...server.head, retry_after_ms: 9000 });
  server.drop(4112);
  await host.pass(5000);
  host.notice("online");
  await host.pass(3900);
  assert.equal(server.all.length, 1);
  await host.pass(200);
  assert.equal(server.all.length, 2);
});

test("codes that say come back are followed with the same token", async () => {
  const { server, host, asked } = await connectedAlice();
  for (const code of [4108, 4109, 4113, 4129, 1000, 1001, 1011, 1012, 4000]) {
    server.drop(code);
    await host.pass(20_000);
  }
  assert.equal(server.all.length, 10);
  assert.equal(asked(), 1);
});

test("after a refusal it comes back with another token", async () => {
  const { server, host, asked, states } = await connectedAlice();
  const first = server.last.token;
  server.drop(4401);
  await host.pass(1000);
  assert.notEqual(server.last.token, first);
  assert.equal(asked(), 2);
  assert.equal(states.at(-1), "open");
});

test("after two refusals in a row it stops and says so", async () => {
  const { hermes, host, server } = alice();
  /** @type {any[]} */ const changes = [];
  hermes.on("hermes.state", (change) => changes.push(change));
  server.refusals = [4403, 4403, 4403];
  hermes.connect();
  await host.pass(120_000);
  assert.equal(server.all.length, 2);
  assert.deepEqual(changes.at(-1), { state: "closed", code: 4403, reason: "refused" });
  assert.equal(hermes.state, "closed");
  assert.equal(host.pending, 0);
});

test("the end of an open connection is no refusal of the next token", async () => {
  const { hermes, server, host } = await connectedAlice();
  /** @type {any[]} */ const changes = [];
  hermes.on("hermes.state", (change) => changes.push(change));
  // Revoked; and its next token is of the very second of the revocation.
  server.refusals = [4403];
  server.drop(4403);
  await host.pass(10_000);
  assert.equal(hermes.state, "open");
  assert.deepEqual(
    changes.filter(({ code }) => code === 4403).map(({ state }) => state),
    ["waiting", "waiting"],
  );
});

test("a refused token that is the only one is not shown twice", async () => {
  const { hermes, host, server } = alice({ token: freshToken() });
  server.refusals = [4401, 4401];
  hermes.connect();
  await host.pass(60_000);
  assert.equal(server.all.length, 1);
  assert.equal(hermes.state, "closed");
});

test("after it stopped, connect begins again", async () => {
  const { hermes, host, server } = alice();
  server.refusals = [4401, 4401];
  hermes.connect();
  await host.pass(60_000);
  hermes.connect();
  await host.pass();
  assert.equal(hermes.state, "open");
});

test("a token function that fails is asked again later, and one that refuses is not", async () => {
  let fails = 2;
  const flaky = async () => {
    if (fails-- > 0) throw new Error("503");
    return freshToken();
  };
  const patient = alice({ token: flaky });
  patient.hermes.connect();
  await patient.host.pass(5000);
  assert.equal(patient.hermes.state, "open");

  const refused = alice({
    token: () => {
      throw new Refused("signed out");
    },
  });
  refused.hermes.connect();
  await refused.host.pass(60_000);
  assert.equal(refused.hermes.state, "closed");
  assert.equal(refused.server.all.length, 0);
});

test("a token function whose fetch was aborted is asked again", async () => {
  const reasons = [new DOMException("The operation timed out.", "TimeoutError"), new DOMException("aborted", "AbortError"), undefined];
  const { hermes, host } = alice({ token: () => (reasons.length ? Promise.reject(reasons.shift()) : freshToken()) });
  hermes.connect();
  await host.pass(20_000);
  assert.equal(hermes.state, "open");
});

test("an address that no socket takes ends it", async () => {
  const { hermes, host } = alice({
    WebSocket: /** @type {any} */ (
      class {
        constructor() {
          throw new DOMException("ws: from https:", "SecurityError");
        }
      }
    ),
  });
  hermes.connect();
  await host.pass(60_000);
  assert.equal(hermes.state, "closed");
});

test("a token function that never answers does not hold it up for ever", async () => {
  let asked = 0;
  const { hermes, host } = alice({
    token: () => {
      asked += 1;
      return asked === 1 ? new Promise(() => {}) : freshToken();
    },
  });
  hermes.connect();
  await host.pass(17_000);
  assert.equal(hermes.state, "open");
});

test("the issuer's address and stage win", async () => {
  const { hermes, host, server } = alice({ token: () => ({ token: freshToken(), url: "wss://elsewhere.test/ws/production", stage: "production" }) });
  hermes.connect();
  await host.pass();
  assert.equal(server.last.url.href, "wss://elsewhere.test/ws/production");
});

test("a connection that falls silent is given up after two pings and five seconds", async () => {
  const { server, host, hermes } = await connectedAlice();
  const silent = server.last;
  await host.pass(54_000);
  assert.equal(hermes.state, "open");
  server.mute = true;
  await host.pass(1100);
  assert.equal(hermes.state, "waiting");
  assert.equal(server.connections.has(silent), false);
});

test("any arrival keeps it alive", async () => {
  const { server, host, hermes } = await connectedAlice();
  for (let n = 0; n < 10; n += 1) {
    await host.pass(50_000);
    server.last.send("not even JSON");
  }
  assert.equal(hermes.state, "open");
  assert.equal(server.all.length, 1);
});

test("a server that never greets is left after fifteen seconds", async () => {
  const { hermes, host, server } = alice();
  server.mute = true;
  hermes.connect();
  await host.pass(14_900);
  assert.equal(hermes.state, "connecting");
  server.mute = false;
  await host.pass(2000);
  assert.equal(server.all.length, 2);
  assert.equal(hermes.state, "open");
});

test("a throttled timer gives what stands in line a moment to be heard", async () => {
  const { server, host, hermes } = await connectedAlice();
  host.sleep(300_000);
  await host.pass(1000);
  assert.equal(hermes.state, "open");
  server.last.control("ping", server.head);
  await host.pass(30_000);
  assert.equal(server.all.length, 1);
});

test("a machine that slept comes back when nothing is heard", async () => {
  const { server, host, hermes } = await connectedAlice();
  host.sleep(300_000);
  await host.pass(2500);
  assert.equal(hermes.state, "waiting");
  await host.pass(1000);
  assert.equal(server.all.length, 2);
});

test("a clock set back by an hour does not end a connection", async () => {
  const { server, host, hermes } = await connectedAlice();
  host.sleep(-3_600_000);
  await host.pass(30_000);
  server.last.control("ping", server.head);
  await host.pass(40_000);
  assert.equal(hermes.state, "open");
  assert.equal(server.all.length, 1);
});

test("it comes back within half a second when the network does, and when the page is looked at", async () => {
  const { server, host, hermes } = await connectedAlice();
  server.reachable = false;
  server.drop();
  await host.pass(60_000);
  server.reachable = true;
  const before = server.all.length;
  host.Math.random = () => 0.5; // all the tabs of a network are not back in the same instant
  host.notice("online");
  await host.pass(249);
  assert.equal(server.all.length, before);
  await host.pass(1);
  assert.equal(server.all.length, before + 1);
  assert.equal(hermes.state, "open");

  server.reachable = false;
  server.drop();
  await host.pass(60_000);
  server.reachable = true;
  host.document.visibilityState = "hidden";
  host.notice("visibilitychange");
  await host.pass(300);
  assert.notEqual(hermes.state, "open");
  host.document.visibilityState = "visible";
  host.notice("visibilitychange");
  await host.pass(300);
  assert.equal(hermes.state, "open");
});

test("without a network the state is offline, and it goes on trying: a server may be on this machine", async () => {
  const { server, host, hermes, states } = await connectedAlice();
  host.navigator.onLine = false;
  host.notice("offline");
  assert.equal(hermes.state, "offline");
  await host.pass(1000);
  assert.equal(hermes.state, "open");
  assert.deepEqual(states, ["connecting", "open", "offline", "connecting", "open"]);
  assert.equal(server.connections.size, 1);
});

test("a page that goes into the back/forward cache lets go, and comes back with what it missed", async () => {
  const { server, host, heard } = await connectedAlice();
  host.notice("pagehide", { persisted: true });
  assert.equal(server.connections.size, 0);
  server.publish(info("meanwhile"));
  host.notice("pageshow", { persisted: true });
  await host.pass(500);
  assert.deepEqual(heard, ["meanwhile"]);
});

test("a frozen page lets go, and comes back when it is resumed", async () => {
  const { server, host, hermes } = await connectedAlice();
  host.notice("freeze");
  assert.equal(server.connections.size, 0);
  host.sleep(3_600_000);
  host.notice("resume");
  await host.pass(500);
  assert.equal(hermes.state, "open");
});

test("a page being left for good is not connected again", async () => {
  const { server, host } = await connectedAlice();
  host.notice("pagehide", { persisted: false });
  host.notice("pageshow", { persisted: false });
  await host.pass();
  assert.equal(server.all.length, 1);
});

test("what an earlier socket still says is void", async () => {
  const { server, host, heard } = await connectedAlice();
  const old = server.last;
  const { onmessage, onclose } = old.socket;
  server.drop();
  await host.pass(1000);
  onmessage({ data: JSON.stringify({ seq: 99, epoch: "e1", id: "ghost", data: info("ghost") }) });
  onclose({ code: 4401 });
  assert.deepEqual(heard, []);
  assert.equal(server.connections.size, 1);
});

// ── Tokens ──────────────────────────────────────────────────────────────────────────────────────────────────────────

test("a token is renewed before its end without a new connection", async () => {
  const { server, host, asked } = await connectedAlice({ server: new FakeServer({ expires_in_s: 300 }) });
  for (let n = 0; n < 40; n += 1) {
    await host.pass(20_000);
    server.last.control("ping", server.head);
  }
  assert.equal(server.all.length, 1);
  const refreshes = server.last.received.filter(({ action }) => action === "refresh");
  assert.equal(refreshes.length, 3);
  assert.equal(new Set(refreshes.map(({ token }) => token)).size, 3);
  assert.equal(asked(), 4);
});

test("a token that is good for months is not renewed all the time: a browser's timers end after 24 days", async () => {
  const { server, host, asked } = await connectedAlice({ server: new FakeServer({ expires_in_s: 60 * 86_400 }) });
  await host.pass(1000);
  assert.equal(asked(), 1);
  assert.deepEqual(server.last.received, []);
});

test("it is also renewed when the server says that it expires", async () => {
  const { server, host } = await connectedAlice();
  server.last.control("expiring", { expires_in_s: 30 });
  await host.pass();
  assert.equal(server.last.received[0].action, "refresh");
});

test("a renewal that fails is tried again while there is time", async () => {
  let asked = 0;
  const { server, host } = await connectedAlice({
    server: new FakeServer({ expires_in_s: 300 }),
    token: async () => {
      asked += 1;
      if (asked === 2) throw new Error("503");
      return freshToken();
    },
  });
  for (let n = 0; n < 14; n += 1) {
    await host.pass(20_000);
    server.last.control("ping", server.head);
  }
  assert.equal(server.last.received.filter(({ action }) => action === "refresh").length, 1);
  assert.equal(asked, 3);
});

test("a renewal that is refused leaves the connection until its token's end", async () => {
  let asked = 0;
  const { server, host, hermes } = await connectedAlice({
    server: new FakeServer({ expires_in_s: 300 }),
    token: async () => {
      asked += 1;
      if (asked > 1) throw new Refused("signed out");
      return freshToken();
    },
  });
  for (let n = 0; n < 14; n += 1) {
    await host.pass(20_000);
    server.last.control("ping", server.head);
  }
  assert.equal(hermes.state, "open");
  server.drop(4401);
  await host.pass(5000);
  assert.equal(hermes.state, "closed");
});

// ── Where it goes on ────────────────────────────────────────────────────────────────────────────────────────────────

test("a new life of the history is told as lost, and what is still there is shown once", async () => {
  const { hermes, server, host, heard } = await connectedAlice();
  /** @type {string[]} */ const lost = [];
  hermes.on("hermes.lost", ({ reason }) => lost.push(reason));
  const one = server.publish(info(1));
  const two = server.publish(info(2));
  server.drop();
  server.beginAgain([one, two]);
  server.publish(info(3));
  await host.pass(1000);
  assert.deepEqual(lost, ["epoch"]);
  assert.deepEqual(heard, [1, 2, 3]);
  assert.deepEqual(hermes.position, server.head);
});

test("trimmed entries are told as lost, and the rest follows", async () => {
  const { hermes, server, host, heard } = await connectedAlice();
  let reason;
  hermes.on("hermes.lost", (data) => (reason = data.reason));
  server.publish(info(1));
  server.drop();
  for (const n of [2, 3, 4]) server.publish(info(n));
  server.history.splice(0, 2);
  await host.pass(1000);
  assert.equal(reason, "trimmed");
  assert.deepEqual(heard, [1, 3, 4]);
});

test("a whole recovery is told as recovered", async () => {
  const { hermes, server, host } = await connectedAlice();
  let replayed;
  hermes.on("hermes.recovered", (data) => (replayed = data.replayed));
  server.drop();
  server.publish(info(1));
  await host.pass(1000);
  assert.equal(replayed, 1);
});

test("a position that lost or gap names is adopted, even where it is lower", async () => {
  const { hermes, server, heard } = await connectedAlice();
  for (const n of [1, 2, 3]) server.publish(info(n));
  server.last.control("lost", { reason: "fork", from: 2, to: 3, epoch: "e1", seq: 1, id: "m1" });
  assert.deepEqual(hermes.position, { epoch: "e1", seq: 1, id: "m1" });
  server.last.send(JSON.stringify({ user_id: 1, room_id: "acme", id: "other2", epoch: "e1", seq: 2, data: info("the other 2") }));
  assert.deepEqual(heard, [1, 2, 3, "the other 2"]);
  server.last.control("gap", { reason: "trimmed", from: 3, to: 7, epoch: "e1", seq: 7, id: "m7" });
  assert.equal(hermes.position?.seq, 7);
});

test("a ping moves on who is addressed by nothing, and never back or into another epoch", async () => {
  const { hermes, server, host } = await connectedAlice();
  server.last.control("ping", { epoch: "e1", seq: 5, id: "m5" });
  assert.equal(hermes.position?.seq, 5);
  server.last.control("ping", { epoch: "e1", seq: 4, id: "m4" });
  server.last.control("ping", { epoch: "e2", seq: 9, id: "m9" });
  assert.deepEqual(hermes.position, { epoch: "e1", seq: 5, id: "m5" });
  server.drop();
  await host.pass(1000);
  assert.equal(server.last.url.search, "?epoch=e1&seq=5&id=m5");
});

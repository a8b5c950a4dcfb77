/** Subscribing, dispatching, and what a page remembers. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { Hermes } from "../../static/hermes/hermes.js";
import { FakeServer, FakeStorage } from "../../static/hermes/testing.js";
import { alice, connectedAlice, freshToken, info, jwt } from "./scene.js";

/** @param {string} name */
const golden = (name) => JSON.parse(readFileSync(new URL(`../wire/${name}.json`, import.meta.url), "utf8"));

test("a page shows its token as a subprotocol and in no address", async () => {
  const { server } = await connectedAlice();
  assert.equal(server.last.protocols[0], "hermes.v1");
  assert.match(server.last.token, /^[\w-]+\.[\w-]+\.[\w-]+$/);
  assert.equal(server.last.url.href, "ws://hermes.test/ws/development");
});

test("the state goes from idle over connecting to open", async () => {
  const scene = alice();
  assert.equal(scene.hermes.state, "idle");
  scene.hermes.connect();
  assert.equal(scene.hermes.state, "connecting");
  await scene.host.pass();
  assert.deepEqual(scene.states, ["connecting", "open"]);
  scene.hermes.connect();
  await scene.host.pass();
  assert.equal(scene.server.all.length, 1);
});

test("a subscriber gets the data of its type, and the entry", async () => {
  const { hermes, server } = await connectedAlice();
  /** @type {any[]} */ const got = [];
  hermes.on("info", (data, entry) => got.push([data, entry.seq, entry.user_id]));
  server.publish(info("one"));
  server.publish({ type: "danger", data: "not for info" });
  assert.deepEqual(got, [["one", 1, "1"]]);
});

test("subscribing ends with what it returned, and once ends by itself", async () => {
  const { hermes, server } = await connectedAlice();
  /** @type {any[]} */ const got = [];
  const end = hermes.on("info", (data) => got.push(`on ${data}`));
  hermes.once("info", (data) => got.push(`once ${data}`));
  server.publish(info(1));
  server.publish(info(2));
  end();
  end();
  server.publish(info(3));
  assert.deepEqual(got, ["on 1", "once 1", "on 2"]);
});

test("the article's way of subscribing works too", async () => {
  const { hermes, server } = await connectedAlice();
  /** @type {any[]} */ const got = [];
  hermes.subscribers.push({ type: "info", callback: (data) => got.push(data) });
  server.publish(info("one"));
  assert.deepEqual(got, ["one"]);
});

test("one failing subscriber does not stop the others, and is reported", async (t) => {
  const { hermes, server } = await connectedAlice();
  /** @type {any[]} */ const reported = [];
  t.mock.method(console, "error", (/** @type {any} */ error) => reported.push(error.message));
  /** @type {any[]} */ const got = [];
  hermes.on("info", () => {
    throw new Error("a bug");
  });
  hermes.subscribers.push(/** @type {any} */ (null), /** @type {any} */ ({ type: "info" }));
  hermes.on("info", (data) => got.push(data));
  server.publish(info(1));
  server.publish(info(2));
  assert.deepEqual(got, [1, 2]);
  assert.equal(reported[0], "a bug");
});

test("a listener that fails on what nobody listens to is reported, and stops nothing", async (t) => {
  const { hermes, server } = await connectedAlice();
  hermes.subscribers.length = 0;
  const reported = t.mock.method(console, "error", () => {});
  hermes.otherwise = () => {
    throw new Error("a bug");
  };
  server.publish(info(1));
  assert.equal(reported.mock.callCount(), 1);
  assert.equal(hermes.position?.seq, 1);
});

test("who was ended while others are told is not told any more", async () => {
  const { hermes, server } = await connectedAlice();
  /** @type {any[]} */ const got = [];
  hermes.on("info", (data) => {
    got.push(`first ${data}`);
    endSecond();
    if (data === 2) hermes.close();
  });
  const endSecond = hermes.on("info", (data) => got.push(`second ${data}`));
  hermes.on("info", (data) => got.push(`third ${data}`));
  server.publish(info(1));
  server.publish(info(2));
  assert.deepEqual(got, ["first 1", "third 1", "first 2"]);
});

test("bad JSON and strange frames end nothing", async () => {
  const { server, heard } = await connectedAlice();
  for (const text of ["{", "null", "[]", '{"data":{"type":"hermes.unheard_of"}}', '{"seq":0}']) server.last.send(text);
  server.publish(info("after"));
  assert.deepEqual(heard, ["after"]);
});

test("entries whose data is no object reach those who listen to everything", async () => {
  const { hermes, server } = await connectedAlice();
  /** @type {any[]} */ const got = [];
  hermes.on("*", (message) => got.push(message));
  hermes.subscribers.shift();
  hermes.subscribers.shift();
  for (const data of [null, 7, "text", [1]]) server.publish(data);
  assert.deepEqual(got, [null, 7, "text", [1]]);
});

test("an entry cannot pass for an event of ours", async () => {
  const { hermes, server } = await connectedAlice();
  let lost = 0;
  hermes.on("hermes.lost", () => (lost += 1));
  server.publish({ type: "hermes.lost", data: {} });
  assert.equal(lost, 0);
});

test("what nobody listens to goes to otherwise", async () => {
  const server = new FakeServer();
  const { hermes } = await connectedAlice({ server });
  hermes.subscribers.length = 0;
  /** @type {any[]} */ const got = [];
  hermes.otherwise = (message) => got.push(message.data);
  const end = hermes.on("info", () => {});
  server.publish(info(1));
  end();
  server.publish(info(2));
  assert.deepEqual(got, [2]);
});

test("an entry that comes twice is dispatched once", async () => {
  const { server, heard } = await connectedAlice();
  const entry = server.publish(info(1));
  server.last.send(JSON.stringify(entry));
  server.publish(info(2));
  server.last.send(JSON.stringify(entry));
  assert.deepEqual(heard, [1, 2]);
});

test("sending goes to the server as the golden frame says, and comes back", async () => {
  const { hermes, server, heard } = await connectedAlice();
  /** @type {any[]} */ const sent = [];
  hermes.on("hermes.sent", ({ id }) => sent.push(id));
  assert.equal(hermes.send(golden("client_send_message").data), true);
  assert.deepEqual(server.last.received, [golden("client_send_message")]);
  assert.deepEqual(heard, ["hello"]);
  assert.deepEqual(sent, ["m1"]);
});

test("without a connection sending says no, and recent is rejected", async () => {
  const { hermes } = alice();
  assert.equal(hermes.send(1), false);
  await assert.rejects(hermes.recent(), /not connected/);
});

test("recent entries are handed to who asked and to nobody else", async () => {
  const { hermes, server, heard } = await connectedAlice();
  server.publish(info(1));
  server.publish(info(2));
  assert.deepEqual((await hermes.recent()).map((entry) => entry.data.data), [1, 2]);
  assert.deepEqual(server.last.received, [golden("client_recent")]);
  assert.deepEqual(heard, [1, 2]);
});

test("asking for recent entries ends when the connection ends, or nobody answers", async () => {
  const { hermes, host, server } = await connectedAlice();
  server.last.control = () => {};
  const cut = assert.rejects(hermes.recent(), /no answer/);
  server.drop();
  await cut;
  await host.pass(2000);
  server.last.control = () => {};
  const silent = assert.rejects(hermes.recent(), /no answer/);
  await host.pass(10_000);
  await silent;
});

test("events of the connection are heard under their wire names", async () => {
  const { hermes, server, host } = alice();
  /** @type {string[]} */ const got = [];
  for (const name of ["hello", "recovered", "lost", "gap", "error", "goodbye"]) hermes.on(`hermes.${name}`, () => got.push(name));
  hermes.connect();
  await host.pass();
  server.last.send(JSON.stringify(golden("gap")));
  server.last.send(JSON.stringify(golden("error")));
  server.last.send(JSON.stringify(golden("goodbye")));
  assert.deepEqual(got, ["hello", "gap", "error", "goodbye"]);
});

test("close lets go of everything", async () => {
  const { hermes, server, host } = await connectedAlice();
  hermes.close();
  assert.equal(server.connections.size, 0);
  assert.equal(hermes.subscribers.length, 0);
  assert.equal(host.pending, 0);
  await host.pass(60_000);
  assert.equal(server.all.length, 1);
});

test("a subscriber may disconnect while it is told of the greeting", async () => {
  const { hermes, host, server } = alice();
  hermes.on("hermes.hello", () => hermes.disconnect());
  hermes.connect();
  await host.pass();
  assert.equal(hermes.state, "idle");
  assert.equal(server.connections.size, 0);
});

// ── What a page remembers ───────────────────────────────────────────────────────────────────────────────────────────

/** The next page in the same tab. @param {Awaited<ReturnType<typeof connectedAlice>>} before @param {object} [options] */
const nextPage = (before, options) => connectedAlice({ server: before.server, storage: before.storage, ...options });

test("what is sent between two pages is shown on the second, once and in order", async () => {
  const first = await connectedAlice();
  first.server.publish(info(1));
  first.host.notice("pagehide");
  first.server.drop(1001);
  first.hermes.disconnect();
  first.server.publish(info(2));
  first.server.publish(info(3));
  const second = await nextPage(first);
  first.server.publish(info(4));
  assert.deepEqual([...first.heard, ...second.heard], [1, 2, 3, 4]);
});

test("a position rendered into the page covers the time until it connects", async () => {
  const server = new FakeServer();
  server.publish(info("before"));
  const position = server.head;
  server.publish(info("while the page loads"));
  const { heard, hermes } = await connectedAlice({ server, position });
  assert.deepEqual(heard, ["while the page loads"]);
  assert.deepEqual(hermes.position, server.head);
});

test("a stored position wins over the rendered one, although that is newer", async () => {
  const first = await connectedAlice();
  first.server.publish(info(1));
  first.hermes.disconnect();
  first.server.publish(info("between the pages"));
  const second = await nextPage(first, { position: first.server.head });
  assert.deepEqual(second.heard, ["between the pages"]);
});

test("a page on which nothing came leaves its rendered position to the next one", async () => {
  const server = new FakeServer();
  server.publish(info("before"));
  const first = await connectedAlice({ server, position: server.head });
  first.hermes.disconnect();
  server.publish(info("between the pages"));
  const second = await nextPage(first, { position: server.head });
  assert.deepEqual(second.heard, ["between the pages"]);
});

test("another member in the same tab does not go on from the first one's position", async () => {
  const first = await connectedAlice();
  first.server.publish(info(1));
  first.hermes.disconnect();
  const bob = await nextPage(first, { token: () => freshToken("2") });
  assert.equal(bob.server.last.url.search, "");
  assert.equal([...first.storage.items.keys()].filter((key) => key.startsWith("hermes:position:")).length, 2);
});

test("another member on the same page does not go on from the first one's position", async () => {
  const users = ["1", "2"];
  const scene = await connectedAlice({ token: () => freshToken(users.shift()), position: { epoch: "e1", seq: 0, id: "" } });
  scene.server.publish(info(1));
  scene.server.drop(4401);
  await scene.host.pass(1000);
  assert.equal(scene.server.last.url.search, "");
});

test("members whose names differ by a comma alone have positions of their own", async () => {
  const members = [{ room_id: "acme,1", user_id: "2" }, { room_id: "acme", user_id: "1,2" }];
  const { server, host } = await connectedAlice({ token: () => jwt(members.shift() ?? {}) });
  server.publish(info(1));
  server.drop(4401);
  await host.pass(1000);
  assert.deepEqual(server.all.map(({ url }) => url.search), ["", ""]);
});

test("with another stage comes another position", async () => {
  const first = await connectedAlice();
  first.server.publish(info(1));
  first.hermes.disconnect();
  const second = await nextPage(first, { stage: "production" });
  assert.equal(second.server.last.url.href, "ws://hermes.test/ws/production");
});

test("a browser that forbids storage costs memory across pages and nothing else", async () => {
  const storage = {
    getItem: () => {
      throw new Error("forbidden");
    },
    setItem: () => {
      throw new Error("full");
    },
  };
  for (const given of [storage, null]) {
    const { server, heard, host } = await connectedAlice({ storage: given });
    server.publish(info(1));
    server.drop();
    server.publish(info(2));
    await host.pass(1000);
    assert.deepEqual(heard, [1, 2]);
  }
});

test("a storage that is too full for the ids still keeps the position", async () => {
  const storage = new FakeStorage();
  const full = {
    getItem: (/** @type {string} */ key) => storage.getItem(key),
    setItem: (/** @type {string} */ key, /** @type {string} */ value) => {
      if (value.length > 500) throw new DOMException("full", "QuotaExceededError");
      storage.setItem(key, value);
    },
  };
  const first = await connectedAlice({ storage: full });
  for (let n = 0; n < 100; n += 1) first.server.publish(info(n));
  first.host.notice("pagehide", { persisted: false });
  first.server.publish(info("kept"));
  first.hermes.disconnect();
  const second = await nextPage({ ...first, storage });
  assert.deepEqual(second.heard, []);
});

test("rubbish in the storage is no position", async () => {
  const storage = new FakeStorage();
  const key = JSON.stringify(["development", "acme", "1"]);
  storage.setItem(`hermes:position:${key}`, '{"epoch":7}');
  storage.setItem(`hermes:ids:${key}`, "{");
  const { server, hermes } = await connectedAlice({ storage });
  assert.equal(server.last.url.search, "");
  assert.equal(hermes.state, "open");
});

test("ids that were shown before a reload are known after a lost history", async () => {
  const first = await connectedAlice();
  const kept = [first.server.publish(info(1)), first.server.publish(info(2))];
  first.host.notice("pagehide");
  first.hermes.disconnect();
  first.server.beginAgain(kept);
  first.server.publish(info(3));
  const second = await nextPage(first);
  assert.deepEqual(second.heard, [3]);
});

test("of the ids only the last 1,024 are remembered", async () => {
  const { server, hermes, storage } = await connectedAlice();
  for (let n = 0; n < 1100; n += 1) server.publish(info(n));
  hermes.disconnect();
  const ids = JSON.parse(/** @type {string} */ (storage.getItem('hermes:ids:["development","acme","1"]')));
  assert.equal(ids.length, 1024);
  assert.equal(ids[0], "m77");
});

test("a bad address is refused at once", () => {
  assert.throws(() => new Hermes({ url: "not an address", stage: "development", token: "t" }), /Invalid URL/);
});

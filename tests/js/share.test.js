/** Tabs of one member: one socket, every entry in each tab once and in order, whoever goes or comes. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { FakeServer } from "../../static/hermes/testing.js";
import { FakeBrowser } from "../../static/hermes/testing_tabs.js";
import { freshToken, info, jwt } from "./scene.js";
import { numbers, tabOf } from "./tabs.js";

/**
 * A browser with so many connected tabs.
 * @param {number} count
 * @param {Parameters<typeof tabOf>[2]} [options]
 */
async function scene(count, options) {
  const browser = new FakeBrowser();
  const server = new FakeServer();
  const tabs = Array.from({ length: count }, () => tabOf(browser, server, options));
  for (const { hermes } of tabs) {
    hermes.connect();
    await browser.pass(10);
  }
  return { browser, server, tabs };
}

test("twenty tabs hold one socket, and each hears every entry once", async () => {
  const { browser, server, tabs } = await scene(20);
  for (let n = 1; n <= 20; n += 1) server.publish(info(n));
  await browser.pass(10);
  assert.equal(server.all.length, 1);
  const all = Array.from({ length: 20 }, (_, n) => n + 1);
  for (const { heard, states, hermes } of tabs) {
    assert.deepEqual(heard, all);
    assert.deepEqual(states, ["connecting", "open"]);
    assert.deepEqual(hermes.position, server.head);
  }
  assert.deepEqual(tabs.map(({ hermes }) => hermes.sharing?.leads), [true, ...Array(19).fill(false)]);
});

for (const how of /** @type {const} */ (["close", "crash"])) {
  test(`when the leading tab ends by ${how}, another one leads, and nothing is lost or repeated`, async () => {
    const { browser, server, tabs } = await scene(3);
    server.publish(info(1));
    await browser.pass(10);
    tabs[0].end(how);
    server.publish(info(2));
    await browser.pass(10);
    server.publish(info(3));
    await browser.pass(10);
    assert.equal(server.connections.size, 1);
    assert.equal(server.all.length, 2);
    for (const { heard } of tabs.slice(1)) assert.deepEqual(heard, [1, 2, 3]);
  });
}

test("a tab that comes later follows, and gets what came since its page was rendered", async () => {
  const { browser, server, tabs } = await scene(1);
  server.publish(info("before"));
  const position = server.head;
  server.publish(info("while it loads"));
  await browser.pass(10);
  const late = tabOf(browser, server, { position });
  late.hermes.connect();
  await browser.pass(10);
  server.publish(info("after"));
  await browser.pass(10);
  assert.deepEqual(late.heard, ["while it loads", "after"]);
  assert.deepEqual(tabs[0].heard, ["before", "while it loads", "after"]);
  assert.equal(server.all.length, 1);
});

test("a tab whose member is named needs no token to follow", async () => {
  const { tabs } = await scene(3, { room: "acme", user: 1 });
  assert.deepEqual(tabs.map(({ asked }) => asked()), [1, 0, 0]);
});

test("a tab that follows looks like one that is connected: it is greeted, then gets what it missed, told as such", async () => {
  const { browser, server } = await scene(1);
  const position = server.head;
  server.publish(info("missed"));
  await browser.pass(10);
  const late = tabOf(browser, server, { position });
  /** @type {any[]} */ const got = [];
  late.hermes.on("hermes.hello", ({ status, replayed }) => got.push(status, replayed));
  late.hermes.on("hermes.recovered", () => got.push("recovered"));
  late.hermes.on("info", (data, _, missed) => got.push(data, missed));
  late.hermes.connect();
  await browser.pass(10);
  server.publish(info("live"));
  await browser.pass(10);
  assert.deepEqual(got, ["recovered", 1, "recovered", "missed", true, "live", false]);
});

test("other members, rooms, stages, servers and versions share nothing", async () => {
  const browser = new FakeBrowser();
  const server = new FakeServer();
  const others = [{ user: 1 }, { user: 2 }, { room: "globex" }, { stage: "production" }, { url: "ws://elsewhere.test" }];
  const tabs = others.map((each) => tabOf(browser, server, { room: "acme", user: 1, token: "opaque", ...each }));
  for (const { hermes } of tabs) hermes.connect();
  await browser.pass(10);
  assert.equal(server.all.length, 5);
  assert.equal(new Set(tabs.map(({ hermes }) => hermes.sharing?.name)).size, 5);
});

test("nobody shares with a member whom nobody can name, nor where sharing is off", async () => {
  for (const options of [{ token: "opaque" }, { token: "opaque", room: "acme" }, { share: false }]) {
    const { server, tabs, browser } = await scene(2, options);
    server.publish(info(1));
    await browser.pass(10);
    assert.equal(server.all.length, 2);
    assert.deepEqual(tabs.map(({ heard, hermes }) => [heard, hermes.sharing]), [[[1], null], [[1], null]]);
  }
});

test("a token that has become another member's ends the tab that got it, and reaches no other", async () => {
  const browser = new FakeBrowser();
  const server = new FakeServer();
  const users = ["1", "2"];
  const first = tabOf(browser, server, { token: () => freshToken(users.shift()) });
  const second = tabOf(browser, server);
  for (const { hermes } of [first, second]) {
    hermes.connect();
    await browser.pass(10);
  }
  server.drop(4401);
  await browser.pass(5000);
  assert.equal(first.hermes.state, "closed");
  assert.deepEqual(first.states.slice(-1), ["closed"]);
  server.publish(info("for Alice"));
  await browser.pass(10);
  assert.deepEqual([first.heard, second.heard], [[], ["for Alice"]]);
  assert.ok(second.hermes.sharing?.leads);
});

test("a member whose name differs by a comma alone is another one", async () => {
  const members = [{ room_id: "acme,1", user_id: "2" }, { room_id: "acme", user_id: "1,2" }];
  const { browser, server, tabs } = await scene(1, { token: () => jwt(/** @type {object} */ (members.shift())) });
  server.drop(4401);
  await browser.pass(5000);
  assert.deepEqual([tabs[0].hermes.state, server.all.length], ["closed", 1]);
});

test("no token goes over the channel", async () => {
  const browser = new FakeBrowser();
  const server = new FakeServer();
  const seen = new (tabOf(browser, server).host.BroadcastChannel)('hermes:1:["ws://hermes.test/ws/development","development","acme","1"]');
  /** @type {string[]} */ const said = [];
  seen.onmessage = (/** @type {any} */ { data }) => said.push(JSON.stringify(data));
  const tabs = [tabOf(browser, server), tabOf(browser, server)];
  for (const { hermes } of tabs) {
    hermes.connect();
    await browser.pass(10);
  }
  server.last.control("expiring", { expires_in_s: 30 });
  server.publish(info(1));
  await browser.pass(10);
  tabs[0].end();
  await browser.pass(10);
  assert.equal(server.all.length, 2);
  assert.ok(said.length > 5);
  for (const { token } of server.all) assert.ok(!said.join().includes(token) && !said.join().includes(token.split(".")[1]));
});

// ── What tabs ask for ───────────────────────────────────────────────────────────────────────────────────────────────

test("each tab sends through the one socket, and hears of it alone", async () => {
  const { browser, server, tabs } = await scene(3);
  /** @type {string[]} */ const sent = [];
  tabs.forEach(({ hermes }, n) => hermes.on("hermes.sent", ({ id }) => sent.push(`${n} ${id}`)));
  for (const { hermes } of tabs) assert.equal(hermes.send(info("hi")), true);
  await browser.pass(10);
  assert.deepEqual(sent.sort(), ["0 m1", "1 m2", "2 m3"]);
  for (const { heard } of tabs) assert.deepEqual(heard, ["hi", "hi", "hi"]);
  assert.equal(server.all.length, 1);
});

test("recent entries come to the tab that asked, also when several ask at once", async () => {
  const { browser, server, tabs } = await scene(3);
  for (const n of [1, 2, 3]) server.publish(info(n));
  await browser.pass(10);
  const asked = [tabs[2].hermes.recent(1), tabs[0].hermes.recent(2), tabs[1].hermes.recent(3), tabs[2].hermes.recent(2)];
  await browser.pass(10);
  const got = await Promise.all(asked);
  assert.deepEqual(got.map((entries) => entries.map((entry) => entry.data.data)), [[3], [2, 3], [1, 2, 3], [2, 3]]);
});

test("what a tab asks while nobody leads is answered with no", async () => {
  const { browser, server, tabs } = await scene(2);
  server.reachable = false;
  tabs[0].end();
  const asked = assert.rejects(tabs[1].hermes.recent(), /no answer/);
  await browser.pass(100);
  await asked;
  assert.equal(tabs[1].hermes.send(1), false);
  await assert.rejects(tabs[1].hermes.recent(), /not connected/);
});

// ── States ──────────────────────────────────────────────────────────────────────────────────────────────────────────

test("all tabs say how the one connection stands", async () => {
  const { browser, server, tabs } = await scene(2);
  server.drop();
  await browser.pass(1);
  assert.deepEqual(tabs.map(({ hermes }) => hermes.state), ["waiting", "waiting"]);
  await browser.pass(1000);
  assert.deepEqual(tabs.map(({ states }) => states), Array(2).fill(["connecting", "open", "waiting", "connecting", "open"]));
});

test("a look at any tab ends the waiting of all", async () => {
  const { browser, server, tabs } = await scene(2);
  server.reachable = false;
  server.drop();
  await browser.pass(60_000);
  server.reachable = true;
  const before = server.all.length;
  tabs[1].host.notice("visibilitychange");
  await browser.pass(500); // not all browsers of a network in the same instant
  assert.equal(server.all.length, before + 1);
  assert.deepEqual(tabs.map(({ hermes }) => hermes.state), ["open", "open"]);
});

test("a hidden tab that leads, and whose timers are throttled, does not keep the visible ones waiting", async () => {
  const { browser, server, tabs } = await scene(2);
  tabs[0].host.throttled = true;
  server.drop();
  await browser.pass(1000);
  assert.deepEqual(tabs.map(({ hermes }) => hermes.state), ["open", "open"]);
});

test("a tab that disconnects leaves the others connected, and goes on from where it was", async () => {
  const { browser, server, tabs } = await scene(2);
  for (const { hermes } of tabs) {
    hermes.disconnect();
    assert.equal(hermes.state, "idle");
    assert.equal(hermes.sharing, null);
    server.publish(info("away"));
    await browser.pass(100);
    hermes.connect();
    await browser.pass(100);
    assert.equal(hermes.state, "open");
  }
  assert.deepEqual(tabs.map(({ heard }) => heard), Array(2).fill(["away", "away"]));
  assert.equal(server.connections.size, 1);
});

test("a refusal of one tab's tokens lets another one try its own", async () => {
  const browser = new FakeBrowser();
  const server = new FakeServer();
  const refused = tabOf(browser, server, { token: freshToken() });
  const other = tabOf(browser, server);
  for (const { hermes } of [refused, other]) {
    hermes.connect();
    await browser.pass(10);
  }
  server.drop(4401);
  await browser.pass(2000);
  assert.deepEqual([refused.hermes.state, other.hermes.state], ["closed", "open"]);
});

test("a token function that fails at first is asked again", async () => {
  let fails = 2;
  const token = () => {
    if (fails-- > 0) throw new Error("503");
    return freshToken();
  };
  const { browser, tabs } = await scene(1, { token });
  assert.equal(tabs[0].hermes.state, "waiting");
  await browser.pass(5000);
  assert.deepEqual(tabs[0].states, ["connecting", "waiting", "connecting", "waiting", "connecting", "open"]);
});

test("a look at a tab that waits for a token ends the waiting", async () => {
  let fails = true;
  const token = () => {
    if (fails) throw new Error("503");
    return freshToken();
  };
  const { browser, tabs } = await scene(1, { token });
  await browser.pass(60_000);
  fails = false;
  tabs[0].host.notice("visibilitychange");
  await browser.pass(10);
  assert.equal(tabs[0].hermes.state, "open");
});

test("a token function that never answers does not hold it up for ever", async () => {
  let asked = 0;
  const token = () => ((asked += 1) === 1 ? new Promise(() => {}) : freshToken());
  const { browser, tabs } = await scene(1, { token });
  await browser.pass(15_000);
  assert.deepEqual(tabs[0].states, ["connecting", "open"]);
});

test("where the browser has locks but none for this page, it connects by itself", async () => {
  const browser = new FakeBrowser();
  const server = new FakeServer();
  const { host, hermes, heard } = tabOf(browser, server);
  host.navigator = /** @type {any} */ ({ locks: { request: () => Promise.reject(new DOMException("opaque origin", "SecurityError")) } });
  hermes.connect();
  await browser.pass(10);
  server.publish(info(1));
  await browser.pass(10);
  assert.deepEqual([heard, hermes.sharing, hermes.state], [[1], null, "open"]);
});

test("where the browser forbids the channel, it connects by itself", async () => {
  const browser = new FakeBrowser();
  const server = new FakeServer();
  const { host, hermes, heard } = tabOf(browser, server);
  // Firefox does, where it keeps a site from storing anything.
  host.BroadcastChannel = /** @type {any} */ (
    class {
      constructor() {
        throw new DOMException("The operation is insecure.", "SecurityError");
      }
    }
  );
  hermes.connect();
  await browser.pass(10);
  server.publish(info(1));
  await browser.pass(10);
  assert.deepEqual([heard, hermes.sharing, hermes.state], [[1], null, "open"]);
});

test("a tab that follows may send what cannot be cloned, and it says the same from every tab", async () => {
  const { browser, server, tabs } = await scene(2);
  const amount = { value: 3, toJSON: () => "3 EUR" };
  for (const { hermes } of tabs) hermes.send(info(new Proxy({ amount, call: () => {} }, {})));
  await browser.pass(10);
  assert.deepEqual(server.history.map(({ data }) => data), [info({ amount: "3 EUR" }), info({ amount: "3 EUR" })]);
});

test("what a subscriber makes of an entry, a tab that comes later does not see", async () => {
  const { browser, server, tabs } = await scene(1);
  tabs[0].hermes.on("info", (data) => Object.assign(data, { drawn: () => {} }));
  const position = server.head;
  server.publish(info({ id: 7 }));
  const late = tabOf(browser, server, { position });
  late.hermes.connect();
  await browser.pass(10);
  assert.deepEqual([late.heard, late.hermes.state], [[{ id: 7 }], "open"]);
});

test("a tab that fails on what it has missed follows all the same", async (t) => {
  t.mock.method(console, "error", () => {});
  const { browser, server } = await scene(1);
  const position = server.head;
  for (const n of [1, 2, 3]) server.publish(info(n));
  const late = tabOf(browser, server, { position });
  late.hermes.subscribers.length = 0;
  /** @type {any[]} */ const got = [];
  late.hermes.otherwise = ({ data }) => {
    got.push(data);
    throw new Error("a bug");
  };
  late.hermes.connect();
  await browser.pass(10);
  assert.deepEqual([got, late.hermes.state, server.all.length], [[1, 2, 3], "open", 1]);
});

// ── Frozen, cached, stuck ───────────────────────────────────────────────────────────────────────────────────────────

for (const [away, back] of /** @type {const} */ ([["freeze", "resume"], ["pagehide", "pageshow"]])) {
  for (const who of [0, 1]) {
    test(`after ${away} a tab that ${who ? "followed" : "led"} catches up from the others at ${back}`, async () => {
      const { browser, server, tabs } = await scene(3);
      server.publish(info(1));
      await browser.pass(10);
      tabs[who].host.notice(away, { persisted: true });
      for (const n of [2, 3]) server.publish(info(n));
      await browser.pass(100);
      assert.equal(server.connections.size, 1);
      assert.deepEqual(tabs[who].heard, [1]);
      const before = server.all.length;
      tabs[who].host.notice(back, { persisted: true });
      await browser.pass(10);
      for (const { heard } of tabs) assert.deepEqual(heard, [1, 2, 3]);
      assert.equal(server.all.length, before);
    });
  }
}

test("who missed more than the others have kept asks the server, for a moment", async () => {
  const { browser, server, tabs } = await scene(2);
  tabs[1].host.notice("freeze");
  for (let n = 1; n <= 600; n += 1) server.publish(info(n));
  await browser.pass(100);
  tabs[1].host.notice("resume");
  await browser.pass(100);
  assert.equal(tabs[1].heard.length, 600);
  assert.equal(server.connections.size, 2);
  server.last.control("ping", server.head);
  await browser.pass(100);
  assert.equal(server.connections.size, 1);
  server.publish(info(601));
  await browser.pass(10);
  for (const { heard } of tabs) assert.deepEqual(heard, Array.from({ length: 601 }, (_, n) => n + 1));
});

test("a tab that stood in another life of the history is told by the server what is lost", async () => {
  const { browser, server, tabs } = await scene(2);
  server.publish(info(1));
  await browser.pass(10);
  tabs[1].host.notice("freeze");
  const kept = [server.publish(info(2))];
  await browser.pass(10);
  server.drop();
  server.beginAgain(kept);
  server.publish(info(3));
  await browser.pass(2000);
  tabs[1].host.notice("resume");
  await browser.pass(100);
  server.last.control("ping", server.head);
  await browser.pass(100);
  for (const { heard, events } of tabs) {
    assert.deepEqual(heard, [1, 2, 3]);
    assert.deepEqual(events, ["lost epoch"]);
  }
  assert.equal(server.connections.size, 1);
});

test("a tab that leads and hangs is relieved, and follows once it is well", async () => {
  const { browser, server, tabs } = await scene(3);
  tabs[0].host.stuck = true;
  await browser.pass(50_000);
  server.publish(info(1));
  await browser.pass(30_000);
  assert.deepEqual(tabs.map(({ heard }) => heard), [[], [1], [1]]);
  assert.deepEqual(tabs.map(({ hermes }) => !!hermes.sharing?.leads).slice(1).filter(Boolean).length, 1);
  tabs[0].host.stuck = false;
  await browser.pass(1000);
  server.publish(info(2));
  await browser.pass(10);
  for (const { heard } of tabs) assert.deepEqual(heard, [1, 2]);
  assert.equal(server.connections.size, 1);
});

test("a position that the others know under another entry is the server's to judge", async () => {
  const { browser, server, tabs } = await scene(2);
  for (const n of [1, 2]) server.publish(info(n));
  await browser.pass(10);
  const fork = tabOf(browser, server, { position: { epoch: "e1", seq: 2, id: "of a life that was undone" } });
  fork.hermes.connect();
  await browser.pass(10);
  assert.deepEqual(fork.events, ["lost fork"]);
  assert.deepEqual(tabs.map(({ events }) => events), [[], []]);
});

test("tabs that hear nothing because there is nothing to hear stay as they are", async () => {
  const { browser, server, tabs } = await scene(3);
  for (let n = 0; n < 100; n += 1) {
    await browser.pass(25_000);
    server.last.control("ping", server.head);
  }
  await browser.pass(10);
  assert.equal(server.all.length, 1);
  assert.deepEqual(tabs.map(({ states }) => states.length), [2, 2, 2]);
});

// ── Anything, in any order ──────────────────────────────────────────────────────────────────────────────────────────

/**
 * Let tabs come, go, freeze, hang and crash at random, and see what each of them heard.
 * @param {number} seed
 * @param {boolean} [lives] whether the history may lose its epoch, though not its entries
 */
async function adventure(seed, lives) {
  const random = numbers(seed);
  /** @template T @param {T[]} items @returns {T} */
  const one = (items) => items[Math.floor(random() * items.length)];
  const browser = new FakeBrowser();
  browser.latency = () => Math.floor(random() * 30);
  browser.clock.Math.random = random;
  const server = new FakeServer();
  const ping = () => {
    for (const connection of server.connections) connection.control("ping", server.head);
    browser.clock.setTimeout(ping, 25_000);
  };
  ping();
  /** @type {{ tab: import("./tabs.js").Tab, since: number, name: string, frozen?: boolean, cached?: boolean }[]} */ let tabs = [];
  /** @type {string[]} */ const story = [];
  /** @type {typeof tabs} */ const gone = [];
  let count = 0;
  const open = () => {
    const position = server.head;
    const tab = tabOf(browser, server, { position, room: "acme", user: "1" });
    tab.host.Math.random = random;
    tab.hermes.connect();
    tabs.push({ tab, since: position.seq, name: `tab ${(count += 1)}` });
  };
  const actions = {
    publish: () => {
      for (let n = one([1, 1, 1, 5, lives ? 2 : one([1, 300])]); n > 0; n -= 1) server.publish(info(server.head.seq + 1));
    },
    open: () => tabs.length < 8 && open(),
    end: () => {
      const [it] = tabs.splice(Math.floor(random() * tabs.length), 1);
      it?.tab.end(one(["close", "crash"]));
      if (it) gone.push(it);
    },
    freeze: () => {
      const it = one(tabs);
      if (!it || it.frozen || it.cached || it.tab.host.stuck) return;
      const how = one(/** @type {const} */ (["frozen", "cached"]));
      it[how] = true;
      it.tab.host.notice(how === "frozen" ? "freeze" : "pagehide", { persisted: true });
    },
    thaw: () => {
      const it = one(tabs.filter(({ frozen, cached }) => frozen || cached));
      if (it) thaw(it);
    },
    hang: () => {
      const it = one(tabs);
      if (it && !it.frozen && !it.cached) it.tab.host.stuck = !it.tab.host.stuck;
    },
    drop: () => server.drop(one([1006, 1012, 4108, 4401])),
    fail: () => (server.reachable = random() < 0.7),
    reconnect: () => {
      const it = one(tabs.filter(({ frozen, cached }) => !frozen && !cached));
      it?.tab.hermes.disconnect();
      it?.tab.hermes.connect();
    },
    begin: () => {
      if (!lives || random() < 0.5) return;
      server.drop();
      server.beginAgain([...server.history]);
    },
    wait: () => browser.pass(one([5, 50, 500, 5000, 40_000, 100_000])),
  };
  /** @param {typeof tabs[0]} it */
  const thaw = (it) => {
    it.tab.host.notice(it.frozen ? "resume" : "pageshow", { persisted: true });
    it.frozen = it.cached = false;
  };
  open();
  for (let step = 0; step < 60; step += 1) {
    const name = /** @type {keyof typeof actions} */ (one([...Object.keys(actions), "publish", "publish", "wait"]));
    story.push(name);
    await actions[name]();
    await browser.pass(one([0, 0, 10, 100]));
  }
  server.reachable = true;
  for (const it of tabs) {
    it.tab.host.stuck = false;
    if (it.frozen || it.cached) thaw(it);
    if (it.tab.hermes.state === "closed") it.tab.hermes.connect();
  }
  await browser.pass(180_000);
  const about = `seed ${seed}: ${story.join(" ")}`;
  for (const { tab, since, name } of tabs) {
    // After a lost epoch a tab is sent even what was there before its page was rendered.
    const heard = tab.events.length ? tab.heard.filter((n) => n > since) : tab.heard;
    assert.deepEqual(heard, server.history.slice(since).map((entry) => entry.data.data), `${name} of ${about}`);
    assert.deepEqual(tab.events.filter((event) => !lives || event !== "lost epoch"), [], about);
    assert.equal(new Set(tab.heard).size, tab.heard.length, about);
    assert.equal(tab.hermes.state, "open", about);
  }
  for (const { tab, since, name } of lives ? [] : gone) {
    assert.deepEqual(tab.heard, server.history.slice(since, since + tab.heard.length).map((entry) => entry.data.data), `${name} of ${about}`);
  }
  assert.equal(server.connections.size, tabs.length ? 1 : 0, about);
  assert.equal(tabs.filter(({ tab }) => tab.hermes.sharing?.leads).length, tabs.length ? 1 : 0, about);
}

test("whatever tabs and networks do, each tab hears every entry once and in order, through one socket in the end", async () => {
  const start = Number(process.env.SEED ?? Date.now() % 1_000_000);
  const runs = Number(process.env.RUNS ?? 40);
  for (let seed = start; seed < start + runs; seed += 1) await adventure(seed);
});

test("also when the history loses its epoch", async () => {
  const start = Number(process.env.SEED ?? Date.now() % 1_000_000);
  const runs = Number(process.env.RUNS ?? 20);
  for (let seed = start; seed < start + runs; seed += 1) await adventure(seed, true);
});

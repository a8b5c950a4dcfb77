/** Which tab shows an entry: one for each browser. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { attachShowing } from "../../static/hermes/showing.js";
import { FakeServer } from "../../static/hermes/testing.js";
import { FakeBrowser } from "../../static/hermes/testing_tabs.js";
import { connectedAlice, info } from "./scene.js";
import { numbers, tabOf } from "./tabs.js";

/** @param {number} count @param {Parameters<typeof tabOf>[2] & { types?: string[] }} [options] */
async function scene(count, options) {
  const browser = new FakeBrowser();
  const server = new FakeServer();
  /** @type {string[]} */ const shown = [];
  const open = async () => {
    const tab = tabOf(browser, server, options);
    const name = `tab ${tabs.length}`;
    const detach = attachShowing(
      tab.hermes,
      (entries, { away }) => shown.push(`${name}: ${entries.map((entry) => entry.data.data)}${away ? " away" : ""}`),
      { host: tab.host, types: options?.types },
    );
    tabs.push({ ...tab, detach, look: (/** @type {boolean} */ at) => look(tab, at) });
    tab.hermes.connect();
    await browser.pass(300);
  };
  /** Look at a tab, or away from it. @param {ReturnType<typeof tabOf>} tab @param {boolean} at */
  const look = async (tab, at) => {
    tab.host.document.visibilityState = at ? "visible" : "hidden";
    tab.host.notice("visibilitychange");
    await browser.pass(300);
  };
  /** @type {(ReturnType<typeof tabOf> & { detach: () => void, look: (at: boolean) => Promise<void> })[]} */ const tabs = [];
  for (let n = 0; n < count; n += 1) await open();
  return { browser, server, tabs, shown, open };
}

test("an entry is heard in every tab and shown in one", async () => {
  const { browser, server, tabs, shown } = await scene(5);
  for (const n of [1, 2]) server.publish(info(n));
  await browser.pass(1000);
  for (const { heard } of tabs) assert.deepEqual(heard, [1, 2]);
  assert.deepEqual(shown, ["tab 0: 1", "tab 0: 2"]);
});

test("it is shown in the visible tab that was focused last", async () => {
  const { browser, server, tabs, shown } = await scene(4);
  for (const n of [2, 1, 3]) await tabs[n].look(true);
  server.publish(info("a"));
  await browser.pass(10);
  await tabs[3].look(false);
  server.publish(info("b"));
  await browser.pass(10);
  tabs[1].end("crash");
  await browser.pass(300);
  server.publish(info("c"));
  await browser.pass(10);
  assert.deepEqual(shown, ["tab 3: a", "tab 1: b", "tab 2: c"]);
});

test("while no tab is visible it waits, and then comes as one that came while nobody looked", async () => {
  const { browser, server, tabs, shown } = await scene(3);
  for (const { look } of tabs) await look(false);
  for (const n of [1, 2, 3]) server.publish(info(n));
  await browser.pass(60_000);
  assert.deepEqual(shown, []);
  await tabs[2].look(true);
  assert.deepEqual(shown, ["tab 2: 1,2,3 away"]);
  await tabs[1].look(true);
  server.publish(info(4));
  await browser.pass(10);
  assert.deepEqual(shown, ["tab 2: 1,2,3 away", "tab 1: 4"]);
});

test("what waits is shown in a tab that was opened only then", async () => {
  const { browser, server, tabs, shown, open } = await scene(2);
  for (const { look } of tabs) await look(false);
  server.publish(info(1));
  await browser.pass(60_000);
  await open();
  await browser.pass(300);
  assert.deepEqual(shown, ["tab 2: 1 away"]);
  assert.deepEqual(tabs[2].heard, []);
});

test("what the leading tab held is shown although that has ended", async () => {
  const { browser, server, tabs, shown } = await scene(3);
  for (const { look } of tabs) await look(false);
  server.publish(info(1));
  await browser.pass(10);
  tabs[0].end("crash");
  await browser.pass(5000);
  await tabs[1].look(true);
  assert.deepEqual(shown, ["tab 1: 1 away"]);
});

test("a tab that comes back does not show what another one has shown, nor does a browser that was started again", async () => {
  const { browser, server, tabs, shown } = await scene(2);
  await tabs[1].look(false);
  tabs[1].host.notice("freeze");
  server.publish(info(1));
  await browser.pass(2000);
  tabs[1].host.notice("resume");
  await browser.pass(300);
  await tabs[0].look(false);
  await tabs[1].look(true);
  assert.deepEqual(tabs[1].heard, [1]);
  assert.deepEqual(shown, ["tab 0: 1"]);
  // The same position as before, as after a crash of the browser: its entry comes again, and is known.
  for (const tab of tabs) tab.end("crash");
  const restored = tabOf(browser, server, { position: { epoch: "e1", seq: 0, id: "" } });
  attachShowing(restored.hermes, (entries) => shown.push(`restored: ${entries.length}`), { host: restored.host });
  restored.hermes.connect();
  await browser.pass(1000);
  assert.deepEqual(restored.heard, [1]);
  assert.deepEqual(shown, ["tab 0: 1"]);
});

test("rubbish in the storage keeps nothing from showing", async () => {
  for (const rubbish of ["null", "7", '{"a":1}', "{", '["m0"]']) {
    const { browser, server, tabs, shown, open } = await scene(0);
    browser.localStorage.setItem('hermes:shown:hermes:1:["ws://hermes.test/ws/development","development","acme","1"]', rubbish);
    await open();
    server.publish(info(1));
    await browser.pass(10);
    assert.deepEqual([shown, tabs.length], [["tab 0: 1"], 1], rubbish);
  }
});

test("what was missed comes at once, and is told apart", async () => {
  const { browser, server, shown } = await scene(2);
  server.publish(info("live"));
  await browser.pass(10);
  server.drop();
  for (const n of [1, 2, 3]) server.publish(info(n));
  await browser.pass(2000);
  server.publish(info("live again"));
  await browser.pass(10);
  assert.deepEqual(shown, ["tab 0: live", "tab 0: 1,2,3 away", "tab 0: live again"]);
});

test("only the types that are named are shown; the others go to who listens, or to otherwise", async () => {
  const { browser, server, tabs, shown } = await scene(1, { types: ["info"] });
  tabs[0].hermes.subscribers.splice(0, 2);
  /** @type {any[]} */ const others = [];
  tabs[0].hermes.otherwise = (message) => others.push(message.data);
  server.publish(info(1));
  server.publish({ type: "invoice.paid", data: 2 });
  await browser.pass(10);
  assert.deepEqual([shown, others], [["tab 0: 1"], [2]]);
});

test("without sharing each tab shows its own", async () => {
  const { browser, server, shown } = await scene(2, { share: false });
  server.publish(info(1));
  await browser.pass(10);
  assert.deepEqual(shown, ["tab 0: 1", "tab 1: 1"]);
  const alone = await connectedAlice();
  /** @type {any[]} */ const got = [];
  const detach = attachShowing(alone.hermes, (entries, { away }) => got.push([entries.length, away]), { host: alone.host });
  alone.server.publish(info(1));
  alone.server.drop();
  for (const n of [2, 3]) alone.server.publish(info(n));
  await alone.host.pass(2000);
  detach();
  alone.server.publish(info(4));
  assert.deepEqual(got, [[1, false], [2, true]]);
});

test("a tab that is detached or disconnected leaves the showing to the others", async () => {
  const { browser, server, tabs, shown } = await scene(3);
  tabs[0].detach();
  await browser.pass(300);
  server.publish(info(1));
  await browser.pass(10);
  tabs[1].hermes.disconnect();
  await browser.pass(300);
  server.publish(info(2));
  await browser.pass(10);
  assert.deepEqual(shown, ["tab 1: 1", "tab 2: 2"]);
});

test("a thousand may wait, and no more", async () => {
  const { browser, server, tabs } = await scene(1);
  /** @type {number[]} */ const counts = [];
  tabs[0].detach();
  attachShowing(tabs[0].hermes, (entries) => counts.push(entries.length), { host: tabs[0].host });
  await tabs[0].look(false);
  for (let n = 0; n < 1500; n += 1) server.publish(info(n));
  await browser.pass(100);
  await tabs[0].look(true);
  assert.deepEqual(counts, [1024]);
});

/** Look here and there while entries come and tabs come and go; the first tab stays. @param {number} seed */
async function adventure(seed) {
  const random = numbers(seed);
  /** @template T @param {T[]} items @returns {T} */
  const one = (items) => items[Math.floor(random() * items.length)];
  const { browser, server, tabs, shown, open } = await scene(1, { position: { epoch: "e1", seq: 0, id: "" } });
  browser.latency = () => Math.floor(random() * 30);
  browser.clock.Math.random = random;
  let live = [0];
  /** @type {string[]} */ const story = [];
  const actions = {
    publish: () => {
      for (let n = one([1, 1, 5]); n > 0; n -= 1) server.publish(info(server.head.seq + 1));
    },
    open: async () => {
      if (live.length > 5) return;
      await open();
      live.push(tabs.length - 1);
    },
    close: () => {
      const n = one(live.slice(1));
      if (n === undefined) return;
      live = live.filter((each) => each !== n);
      tabs[n].end("close");
    },
    look: () => tabs[one(live)].look(random() < 0.6),
    freeze: () => {
      const { host } = tabs[one(live)];
      host.notice("freeze");
      browser.clock.setTimeout(() => host.notice("resume"), one([100, 5000]));
    },
    drop: () => server.drop(),
    wait: () => browser.pass(one([10, 100, 1000, 10_000])),
  };
  for (let step = 0; step < 40; step += 1) {
    const name = /** @type {keyof typeof actions} */ (one([...Object.keys(actions), "publish", "publish", "wait"]));
    story.push(name);
    await actions[name]();
    await browser.pass(one([0, 0, 10, 100]));
  }
  await browser.pass(10_000);
  await tabs[0].look(true);
  await browser.pass(10_000);
  const numbersShown = shown.flatMap((line) => line.replace(/^tab \d+: | away$/g, "").split(",").map(Number));
  const all = server.history.map((entry) => entry.data.data);
  assert.deepEqual(numbersShown.sort((a, b) => a - b), all, `seed ${seed}: ${story.join(" ")}`);
}

test("wherever one looks, and whichever tabs come and go, each entry is shown once", async () => {
  const start = Number(process.env.SEED ?? Date.now() % 1_000_000);
  const runs = Number(process.env.RUNS ?? 20);
  for (let seed = start; seed < start + runs; seed += 1) await adventure(seed);
});

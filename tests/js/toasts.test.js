/** The toasts' model: what stands, what waits, and for how long. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { KINDS, contentOf, safeLink } from "../../static/hermes/content.js";
import { STRINGS, count } from "../../static/hermes/strings.js";
import { FakeHost, FakeServer } from "../../static/hermes/testing.js";
import { Toasts } from "../../static/hermes/toasts.js";

/** @param {ConstructorParameters<typeof Toasts>[0]} [options] */
function scene(options) {
  const host = new FakeHost();
  const toasts = new Toasts({ host, page: "http://app.test/here/", ...options });
  return { host, toasts, titles: () => toasts.shown.map(({ title, text }) => title || text) };
}

test("a toast stands for a while and goes, a longer text for longer", async () => {
  const { host, toasts, titles } = scene();
  toasts.show("success", "short");
  toasts.show("success", "x".repeat(200));
  await host.pass(4300);
  assert.deepEqual(titles(), ["x".repeat(200)]);
  await host.pass(8000);
  assert.deepEqual(titles(), []);
  toasts.show("info", "y".repeat(5000));
  assert.equal(toasts.shown[0].lasts_ms, 20_000);
});

test("what is dangerous stands longest", () => {
  const { toasts } = scene();
  for (const kind of ["success", "info", "warning", "danger"]) toasts.show(kind, kind[0]);
  const times = toasts.shown.map(({ lasts_ms }) => lasts_ms);
  assert.deepEqual(times, [...times].sort((a, b) => a - b));
});

test("a kind that nobody knows is information", () => {
  const { toasts } = scene();
  toasts.show("invoice.paid", "text");
  toasts.show("__proto__", "text 2");
  assert.deepEqual(toasts.shown.map(({ kind }) => kind), ["info", "info"]);
  assert.deepEqual(KINDS, ["info", "success", "warning", "danger", "custom"]);
});

test("only so many stand at once, and the others wait their turn", async () => {
  const { host, toasts, titles } = scene({ limit: 2, waitingLimit: 3 });
  for (let n = 1; n <= 5; n += 1) toasts.show("info", `${n}`);
  assert.deepEqual(titles(), ["1", "2"]);
  assert.deepEqual(toasts.waiting.map(({ text }) => text), ["3", "4", "5"]);
  assert.equal(toasts.more, 3);
  toasts.dismiss(toasts.shown[0].id);
  assert.deepEqual(titles(), ["2", "3"]);
  await host.pass(60_000);
  assert.deepEqual([titles(), toasts.waiting.length, toasts.more], [[], 0, 0]);
});

test("when too many wait, one digest waits for all of them, and none is forgotten in its count", async () => {
  const { host, toasts, titles } = scene({ limit: 2, waitingLimit: 3 });
  for (let n = 1; n <= 500; n += 1) toasts.show(n === 300 ? "warning" : "success", { title: `${n}` });
  assert.deepEqual(titles(), ["1", "2"]);
  assert.equal(toasts.more, 498);
  const [digest] = toasts.waiting;
  assert.deepEqual([toasts.waiting.length, digest.count, digest.away, digest.kind], [1, 498, false, "warning"]);
  assert.equal(digest.text, "500\n499\n498");
  toasts.dismiss(toasts.shown[0].id);
  assert.deepEqual([toasts.shown.map(({ count }) => count), toasts.more], [[0, 498], 0]);
  // It stands: what comes now has a turn of its own again, until there are too many.
  for (let n = 501; n <= 503; n += 1) toasts.show("info", `${n}`);
  assert.equal(toasts.more, 3);
  toasts.show("danger", "504");
  assert.deepEqual([toasts.more, digest.count, digest.kind], [0, 502, "danger"]);
  await host.pass(60_000);
  assert.deepEqual([toasts.shown, toasts.waiting, host.pending], [[], [], 0]);
});

test("repeats that wait are counted in the digest as often as they were shown", () => {
  const { toasts } = scene({ limit: 1, waitingLimit: 1 });
  for (const text of ["a", "b", "b", "b", "c"]) toasts.show("info", text);
  assert.deepEqual([toasts.more, toasts.waiting[0].count], [4, 4]);
});

test("what was missed becomes one digest when it is much, and toasts when it is little", () => {
  const { toasts } = scene({ digestFrom: 4 });
  const server = new FakeServer();
  const missed = (/** @type {number} */ n) => Array.from({ length: n }, (_, i) => server.publish({ type: "info", data: `missed ${n}.${i}` }));
  toasts.showEntries(missed(3), { away: true });
  assert.deepEqual(toasts.shown.map(({ count }) => count), [0, 0, 0]);
  toasts.clear();
  toasts.showEntries([...missed(7), server.publish({ type: "cart.changed", data: {} })], { away: true });
  assert.deepEqual(toasts.shown.map(({ count, away }) => [count, away]), [[7, true]]);
  assert.equal(count(STRINGS, "away", toasts.shown[0].count), "7 while you were away");
  toasts.showEntries(missed(1), { away: true });
  assert.deepEqual(toasts.shown.map(({ count }) => count), [8]);
  toasts.showEntries(missed(6));
  assert.deepEqual([toasts.shown.map(({ count }) => count), toasts.more], [[8, 0, 0, 0], 3]);
});

test("entries of other types, and entries that are nothing at all, are not shown", () => {
  const { toasts } = scene();
  const server = new FakeServer();
  for (const data of [{ type: "invoice.paid", data: 1 }, { type: "toString" }, { type: ["info"] }, null, 7, "text"]) toasts.showEntries([server.publish(data)]);
  assert.equal(toasts.shown.length, 0);
});

test("a repeat is counted on the one that stands, whose time begins anew", async () => {
  const { host, toasts } = scene();
  toasts.show("info", { title: "Disk full", text: "server 1" });
  await host.pass(5000);
  toasts.show("info", { title: "Disk full", text: "server 1" });
  toasts.show("warning", { title: "Disk full", text: "server 1" });
  assert.deepEqual(toasts.shown.map(({ times }) => times), [2, 1]);
  await host.pass(5000);
  assert.equal(toasts.shown.length, 2);
});

test("time stands still while somebody reads, and runs on for what was left, at least a second", async () => {
  const { host, toasts } = scene();
  toasts.show("success", "a"); // 4.04 s
  await host.pass(4000);
  toasts.pause();
  toasts.pause();
  assert.equal(toasts.paused, true);
  await host.pass(600_000);
  toasts.show("success", "b");
  assert.equal(toasts.shown.length, 2);
  toasts.pause(false);
  toasts.pause(false);
  await host.pass(900);
  assert.equal(toasts.shown.length, 2);
  await host.pass(200);
  assert.equal(toasts.shown.length, 1);
  await host.pass(4000);
  assert.equal(toasts.shown.length, 0);
});

test("a repeat while time stands still does not start it", async () => {
  const { host, toasts } = scene();
  toasts.show("info", "a");
  toasts.pause();
  toasts.show("info", "a");
  await host.pass(60_000);
  assert.equal(toasts.shown.length, 1);
});

test("clear takes all of them away and leaves no timer", () => {
  const { host, toasts } = scene({ limit: 1 });
  for (const text of ["a", "b"]) toasts.show("info", text);
  toasts.clear();
  assert.deepEqual([toasts.shown.length, toasts.waiting.length, host.pending], [0, 0, 0]);
});

test("each change is told", async () => {
  const { host, toasts } = scene();
  let changes = 0;
  toasts.onchange = () => (changes += 1);
  const id = toasts.show("info", "a");
  toasts.show("info", "a");
  toasts.dismiss(id);
  await host.pass(0);
  assert.equal(changes, 3);
});

test("a repeat says all of the same: another link or another action is another toast", () => {
  const { toasts } = scene({ limit: 9 });
  const paid = { title: "Invoice paid" };
  for (const extra of [{ link: "/1" }, { link: "/2" }, { actions: [{ label: "Undo", name: "undo" }] }, { icon: "€" }, {}]) toasts.show("info", { ...paid, ...extra });
  toasts.show("info", paid);
  assert.deepEqual(toasts.shown.map(({ times }) => times), [1, 1, 1, 1, 2]);
  // Two functions that look the same may do different things.
  for (let n = 0; n < 2; n += 1) toasts.show("info", { title: "Saved", actions: [{ label: "Undo", onclick: () => n }] });
  assert.equal(toasts.shown.length, 7);
});

test("a toast stands for as long as it is told to, or until it is dismissed", async () => {
  const { host, toasts } = scene({ limit: 9 });
  for (const lasts_ms of [0, 1, 3000, 1e9, -5, NaN]) toasts.show("info", { title: `${lasts_ms}`, lasts_ms });
  assert.deepEqual(toasts.shown.map(({ lasts_ms }) => lasts_ms), [0, 1000, 3000, 60_000, 5080, 5120]);
  await host.pass(600_000);
  assert.deepEqual(toasts.shown.map(({ title }) => title), ["0"]);
});

test("who may act on a toast has as much time as for a dangerous one", () => {
  const { toasts } = scene();
  toasts.show("success", { title: "Order cancelled", actions: [{ label: "Undo", name: "undo" }] });
  assert.ok(toasts.shown[0].lasts_ms > 12_000);
});

test("whatever a producer sends becomes text", () => {
  const said = (/** @type {unknown} */ data) => {
    const { title, text, link } = contentOf(data, "http://app.test/here/");
    return [title, text, link];
  };
  assert.deepEqual(said("text"), ["", "text", ""]);
  assert.deepEqual(said(7), ["", "7", ""]);
  assert.deepEqual(said(null), ["", "", ""]);
  assert.deepEqual(said({ title: "t", text: "x", link: "/a" }), ["t", "x", "http://app.test/a"]);
  assert.deepEqual(said({ title: { a: 1 }, text: ["b"] }), ['{"a":1}', '["b"]', ""]);
  assert.deepEqual(said({ amount: 3 }), ["", '{"amount":3}', ""]);
  assert.deepEqual(said({ title: "t", link: 5 }), ["t", "", ""]);
  assert.equal(said("x".repeat(9999))[1].length, 1001);
});

test("what no text can be made of is told by its parts, and stops nothing", () => {
  // A producer's JSON can hold what JavaScript cannot turn into a text or a number.
  const odd = JSON.parse('{"toString":1,"valueOf":1,"toJSON":1,"__proto__":{"title":"x"}}');
  const said = contentOf({ title: odd, text: odd, link: odd, link_text: odd, icon: odd, look: odd, lasts_ms: odd, actions: [odd, { label: odd, name: odd }] });
  assert.match(said.title, /toString/);
  assert.deepEqual([said.link, said.look, said.lasts_ms], ["", "", undefined]);
  const { toasts } = scene();
  const entry = { id: "a", epoch: "e", seq: 1, user_id: 1, room_id: "acme" };
  toasts.showEntries([odd, "before", { look: odd, lasts_ms: odd, title: "odd" }, "after"].map((data, n) => ({ ...entry, id: `${n}`, data: { type: "info", data } })));
  assert.equal(toasts.shown.length, 4);
  assert.equal(/** @type {any} */ ({}).title, undefined);
});

test("only a number says how long a toast stands", () => {
  for (const lasts_ms of ["", "0", false, null, [], {}, NaN, -1]) assert.equal(contentOf({ title: "t", lasts_ms }).lasts_ms, undefined, `${lasts_ms}`);
  assert.equal(contentOf({ title: "t", lasts_ms: Infinity }).lasts_ms, 60_000);
});

test("what is cut is cut between characters, and an icon of one family is whole", () => {
  assert.doesNotMatch(contentOf("😀".repeat(999)).text, /\p{Surrogate}/u);
  assert.doesNotMatch(contentOf(`a${"😀".repeat(999)}`).text, /\p{Surrogate}/u);
  assert.equal(contentOf({ title: "t", icon: "👩‍👩‍👧‍👦" }).icon, "👩‍👩‍👧‍👦");
});

test("blank words are none: neither a title, nor a button that nobody could name", () => {
  const { title, actions } = contentOf({ title: " \n ", text: "x", actions: [{ label: "  ", name: "go" }] });
  assert.deepEqual([title, actions], ["", []]);
});

test("at most two actions, each with words and with something harmless to do", () => {
  const link = (/** @type {unknown} */ each) => ({ label: "go", link: each });
  const { actions } = contentOf({ title: "t", actions: [null, 7, { name: "no words" }, link("javascript:alert(1)"), link("/a"), { label: { a: 1 }, name: ["n"], onclick: "alert(1)" }, link("/c")] }, "http://app.test/");
  assert.deepEqual(actions, [
    { label: "go", link: "http://app.test/a", name: "", onclick: undefined },
    { label: '{"a":1}', link: "", name: '["n"]', onclick: undefined },
  ]);
  assert.deepEqual(contentOf({ title: "t", actions: "<b>" }).actions, []);
});

test("a look is a name and nothing that a stylesheet could trip over", () => {
  assert.equal(contentOf({ title: "t", look: "invoice-2" }).look, "invoice-2");
  for (const look of ['x"] *', "a b", "", {}, "x".repeat(33)]) assert.equal(contentOf({ title: "t", look }).look, "");
});

test("numbers of things are said as their language says them", () => {
  const polish = { ...STRINGS, locale: "pl", more: { one: "jeszcze {n}", few: "jeszcze {n} inne", many: "jeszcze {n} innych", other: "jeszcze {n} innego" } };
  assert.deepEqual([1, 3, 5].map((n) => count(polish, "more", n)), ["jeszcze 1", "jeszcze 3 inne", "jeszcze 5 innych"]);
  assert.deepEqual([1, 2].map((n) => count(STRINGS, "flood", n)), ["1 more notification", "2 more notifications"]);
  assert.equal(count({ ...STRINGS, locale: "de" }, "away", 1234), "1.234 while you were away");
});

test("only links that are harmless are kept", () => {
  const page = "http://app.test/here/";
  const kept = { "https://other.test/x": "https://other.test/x", "/a": "http://app.test/a", "b?c#d": "http://app.test/here/b?c#d", "http://app.test/y": "http://app.test/y" };
  for (const [link, address] of Object.entries(kept)) assert.equal(safeLink(link, page), address);
  const refused = ["javascript:alert(1)", " javascript:alert(1)", "JaVaScRiPt:alert(1)", "java\nscript:alert(1)", "data:text/html,x", "vbscript:x",
    "http://other.test/", "//other.test/x", "file:///etc/passwd", "blob:http://app.test/1", "http://app.test:81/", "https://", "", null, 7, {}];
  for (const link of refused) assert.equal(safeLink(link, page), "", `${link}`);
});

/** The toasts' model: what stands, what waits, and for how long. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { FakeHost } from "../../static/hermes/testing.js";
import { Toasts, contentOf, safeLink } from "../../static/hermes/toasts.js";

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
});

test("only so many stand at once, the others wait their turn, and the rest is counted", async () => {
  const { host, toasts, titles } = scene({ limit: 2, waitingLimit: 3 });
  for (let n = 1; n <= 8; n += 1) toasts.show("info", `${n}`);
  assert.deepEqual(titles(), ["1", "2"]);
  assert.deepEqual(toasts.waiting.map(({ text }) => text), ["3", "4", "5"]);
  assert.equal(toasts.overflow, 3);
  toasts.dismiss(toasts.shown[0].id);
  assert.deepEqual(titles(), ["2", "3"]);
  await host.pass(60_000);
  assert.deepEqual([titles(), toasts.waiting.length, toasts.overflow], [[], 0, 0]);
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
  toasts.resume();
  toasts.resume();
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

test("whatever a producer sends becomes text", () => {
  assert.deepEqual(contentOf("text"), { text: "text" });
  assert.deepEqual(contentOf(7), { text: "7" });
  assert.deepEqual(contentOf(null), { text: "" });
  assert.deepEqual(contentOf({ title: "t", text: "x", link: "/a" }), { title: "t", text: "x", link: "/a" });
  assert.deepEqual(contentOf({ title: { a: 1 }, text: ["b"] }), { title: '{"a":1}', text: '["b"]', link: undefined });
  assert.deepEqual(contentOf({ amount: 3 }), { text: '{"amount":3}' });
  assert.deepEqual(contentOf({ title: "t", link: 5 }), { title: "t", text: "", link: undefined });
  assert.equal(contentOf("x".repeat(9999)).text?.length, 1001);
});

test("only links that are harmless are kept", () => {
  const page = "http://app.test/here/";
  const kept = { "https://other.test/x": "https://other.test/x", "/a": "http://app.test/a", "b?c#d": "http://app.test/here/b?c#d", "http://app.test/y": "http://app.test/y" };
  for (const [link, address] of Object.entries(kept)) assert.equal(safeLink(link, page), address);
  const refused = ["javascript:alert(1)", " javascript:alert(1)", "JaVaScRiPt:alert(1)", "java\nscript:alert(1)", "data:text/html,x", "vbscript:x",
    "http://other.test/", "//other.test/x", "file:///etc/passwd", "blob:http://app.test/1", "http://app.test:81/", "https://", "", null, 7, {}];
  for (const link of refused) assert.equal(safeLink(link, page), null, `${link}`);
});

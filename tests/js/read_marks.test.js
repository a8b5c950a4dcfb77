/** Read marks: what was read stays read, in every tab and in every life of the history. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { ReadMarks } from "../../static/hermes/read_marks.js";
import { FakeServer, FakeStorage } from "../../static/hermes/testing.js";

/** @param {Partial<ConstructorParameters<typeof ReadMarks>[0]>} [options] */
function scene(options) {
  let changes = 0;
  const storage = new FakeStorage();
  const server = new FakeServer();
  const open = () => new ReadMarks({ name: "alice", storage, onchange: () => (changes += 1), now: () => 1000, ...options });
  const publish = (/** @type {number} */ n) => Array.from({ length: n }, () => server.publish({ type: "info", data: "text" }));
  return { storage, server, publish, open, changes: () => changes };
}

test("what was read one by one is read, and nothing else", () => {
  const { publish, open, changes } = scene();
  const marks = open();
  const entries = publish(3);
  assert.equal(marks.isNew, true);
  marks.add([entries[1]]);
  assert.deepEqual(entries.map((entry) => marks.has(entry)), [false, true, false]);
  assert.equal(changes(), 1);
  assert.deepEqual(publish(3).map((entry) => open().has(entry)), [false, false, false]);
});

test("all up to the newest is read, and still after a reload", () => {
  const { publish, open } = scene();
  const entries = publish(3);
  open().addAll(entries);
  const [next] = publish(1);
  const again = open();
  assert.deepEqual([...entries, next].map((entry) => again.has(entry)), [true, true, true, false]);
  assert.equal(again.isNew, false);
});

test("an empty room that was looked at is no longer new", () => {
  const { publish, open } = scene();
  open().addAll([]);
  assert.equal(open().isNew, false);
  assert.deepEqual(publish(1).map((entry) => open().has(entry)), [false]);
});

test("in another life of the history what was read stays read, and a low number means nothing", () => {
  const { server, publish, open } = scene();
  const entries = publish(5);
  open().addAll(entries);
  server.beginAgain(entries.slice(2));
  const [next] = publish(1);
  assert.deepEqual([...server.history.slice(0, 3), next].map((entry) => open().has(entry)), [true, true, true, false]);
});

test("what another tab has marked meanwhile stays marked", () => {
  const { publish, open } = scene();
  const [here, there] = [open(), open()];
  const entries = publish(2);
  there.add([entries[0]]);
  here.add([entries[1]]);
  assert.deepEqual(entries.map((entry) => open().has(entry)), [true, true]);
});

test("another member of the same browser has marks of their own", () => {
  const { publish, open, storage } = scene();
  const entries = publish(2);
  open().addAll(entries);
  const bob = new ReadMarks({ name: "bob", storage, onchange: () => {} });
  assert.deepEqual(entries.map((entry) => bob.has(entry)), [false, false]);
});

test("when entries came is written down once, however many tabs have them", () => {
  const { publish, open } = scene();
  const [first] = publish(1);
  const marks = open();
  marks.came(first);
  marks.flush();
  const again = open();
  again.came(first);
  assert.equal(again.cameAt(first), 1000);
  assert.equal(again.cameAt(publish(1)[0]), undefined);
});

test("no more is kept than any list shows", () => {
  const { publish, open, storage } = scene();
  const marks = open();
  const entries = publish(500);
  for (const entry of entries) marks.came(entry);
  marks.addAll(entries);
  const { ids, times } = JSON.parse(storage.getItem("hermes:read:alice") ?? "");
  assert.deepEqual([ids.length, times.length], [200, 200]);
});

test("a storage that is forbidden, full or somebody else's is no reason to fail", () => {
  const { publish, open, storage } = scene();
  const entries = publish(2);
  for (const rubbish of ["{", "7", '{"ids": 7, "times": 7, "epoch": 7}', '{"ids": [{}], "times": [[1, "x"]]}', "null"]) {
    storage.setItem("hermes:read:alice", rubbish);
    const marks = open();
    assert.deepEqual(entries.map((entry) => marks.has(entry)), [false, false]);
  }
  const forbidden = () => {
    throw new Error("forbidden");
  };
  for (const store of [null, { getItem: forbidden, setItem: forbidden }]) {
    const marks = new ReadMarks({ name: "alice", storage: store, onchange: () => {} });
    marks.came(entries[0]);
    marks.addAll(entries);
    assert.deepEqual(entries.map((entry) => marks.has(entry)), [true, true]);
    marks.close();
  }
});

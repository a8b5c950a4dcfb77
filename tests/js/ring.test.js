/** The ring: what a tab that comes late may be told, and when nobody can know all of it. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { Ring } from "../../static/hermes/ring.js";

/** @param {number} seq @param {string} [id] */
const entry = (seq, id = `id${seq}`) => /** @type {any} */ ({ epoch: "e", seq, id, data: { seq } });
/** @param {number} seq @param {string} [id] */
const position = (seq, id = `id${seq}`) => ({ epoch: "e", seq, id });
/** @param {string} type @param {object} [data] */
const control = (type, data = {}) => ({ kind: /** @type {const} */ ("control"), type: `hermes.${type}`, data: /** @type {any} */ (data) });

/** A ring that began at a position and was told entries after it. @param {number} base @param {number} last */
function told(base, last) {
  const ring = new Ring();
  ring.follow(control("hello", { status: "fresh" }), position(base));
  for (let seq = base + 1; seq <= last; seq += 1) ring.push(entry(seq));
  return ring;
}

/** @param {any[] | null} entries */
const seqs = (entries) => entries?.map(({ seq }) => seq) ?? null;

test("who stands somewhere in the ring is told what follows, and who comes anew is told nothing", () => {
  const ring = told(4, 7);
  assert.deepEqual(seqs(ring.since(position(4))), [5, 6, 7]);
  assert.deepEqual(seqs(ring.since(position(6))), [7]);
  assert.deepEqual(seqs(ring.since(position(7))), []);
  assert.deepEqual(ring.since(null), []);
});

test("who missed more than is kept, lives in another epoch, or has another entry at its place, asks the server", () => {
  const ring = told(0, 300);
  assert.equal(ring.since(position(43)), null);
  assert.equal(ring.since(position(44))?.length, 256);
  assert.equal(ring.since({ ...position(200), epoch: "f" }), null);
  assert.equal(ring.since(position(200, "another")), null);
});

test("after a gap, what was lost, or another member, it begins anew; after anything else it goes on", () => {
  for (const [frame, goesOn] of /** @type {const} */ ([
    [control("ping"), true],
    [control("hello", { status: "recovered" }), true],
    [control("hello", { status: "lost" }), false],
    [control("gap"), false],
  ])) {
    const ring = told(4, 7);
    ring.follow(frame, position(7));
    assert.deepEqual(seqs(ring.since(position(5))), goesOn ? [6, 7] : null, frame.type);
  }
  const ring = told(4, 7);
  ring.forget();
  assert.equal(ring.since(position(5)), null);
  ring.follow(control("ping"), position(7));
  assert.deepEqual(ring.since(position(7)), []);
});

test("what a subscriber does to an entry changes nothing for tabs that come late", () => {
  const ring = told(0, 0);
  const mine = entry(1);
  ring.push(mine);
  mine.data.seq = 99;
  assert.equal(ring.since(position(0))?.[0].data.seq, 1);
});

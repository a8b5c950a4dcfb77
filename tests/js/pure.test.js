/** Backoff, position, frames, credentials: the parts without a socket. */

import assert from "node:assert/strict";
import { readFileSync, readdirSync } from "node:fs";
import { test } from "node:test";

import { delay, refuses } from "../../static/hermes/backoff.js";
import { Credentials, Refused, claims } from "../../static/hermes/credentials.js";
import { parse } from "../../static/hermes/frames.js";
import { positionOf, socketAddress } from "../../static/hermes/position.js";
import { jwt } from "./scene.js";

const WIRE = new URL("../wire/", import.meta.url);

test("a delay lies between half a second and a top that doubles up to twenty seconds", () => {
  assert.equal(delay(0, 0), 500);
  assert.equal(delay(0, 0.999999) < 1000, true);
  assert.equal(Math.round(delay(1, 1)), 2000);
  assert.equal(delay(50, 0), 500);
  for (const attempt of [5, 6, 100, 5000]) assert.equal(delay(attempt, 1), 20_000);
});

test("only 44xx refuses the token", () => {
  for (const code of [4400, 4401, 4403, 4499]) assert.equal(refuses(code), true);
  for (const code of [1000, 1006, 1012, 3000, 4000, 4108, 4112, 4113, 4129, 4199, 4399, 4500]) assert.equal(refuses(code), false);
});

test("a position is read from whatever holds one", () => {
  assert.deepEqual(positionOf({ epoch: "e", seq: 0, id: "", more: 1 }), { epoch: "e", seq: 0, id: "" });
  assert.deepEqual(positionOf({ epoch: "e", seq: 3 }), { epoch: "e", seq: 3, id: "" });
  for (const bad of [null, undefined, 1, "e", {}, { epoch: "", seq: 1 }, { epoch: "e", seq: -1 }, { epoch: "e", seq: 1.5 }, { epoch: 1, seq: 1 }]) {
    assert.equal(positionOf(bad), null);
  }
});

test("a socket's address is made from a host, a page or a socket's address", () => {
  for (const url of ["ws://h:8000", "ws://h:8000/", "http://h:8000/", "http://h:8000/ws/dev", "ws://h:8000/ws/dev#x"]) {
    assert.equal(socketAddress(url, "dev", null), "ws://h:8000/ws/dev");
  }
  assert.equal(socketAddress("https://h/below/", "dev", null), "wss://h/below/ws/dev");
  const position = { epoch: "e&1", seq: 7, id: "ü/?=" };
  const query = new URL(socketAddress("wss://h", "dev", position)).searchParams;
  assert.deepEqual(Object.fromEntries(query), { epoch: "e&1", seq: "7", id: "ü/?=" });
  assert.equal(new URL(socketAddress("wss://h", "dev", { epoch: "e", seq: 0, id: "" })).search, "?epoch=e&seq=0&id=");
});

test("every golden frame from the server is what its name says", () => {
  const names = readdirSync(WIRE).filter((name) => name.endsWith(".json") && !name.startsWith("client_"));
  assert.ok(names.length >= 12);
  for (const name of names) {
    const text = readFileSync(new URL(name, WIRE), "utf8");
    const frame = parse(text);
    const kind = name.replace(/(_.*)?\.json$/, "");
    if (kind === "entry") {
      assert.equal(frame.kind, "entry");
    } else {
      assert.equal(frame.kind === "control" && frame.type, `hermes.${kind}`, name);
    }
  }
});

test("golden frames that move the position hold one", () => {
  for (const name of ["hello", "hello_lost", "lost", "gap", "ping", "goodbye"]) {
    const frame = JSON.parse(readFileSync(new URL(`${name}.json`, WIRE), "utf8"));
    assert.ok(positionOf(frame.data.data), name);
  }
});

test("a frame that is nothing of ours is nothing, and never throws", () => {
  const bad = ["", "{", "null", "1", "[]", "{}", '{"data":null}', '{"data":{"type":7}}', '{"data":{"type":"info"}}', '{"seq":1}',
    '{"data":{"type":{"toString":1}}}', '{"data":{"type":["hermes.hello"]}}', '{"seq":"1","epoch":"e","id":"x"}', '{"seq":1.5,"epoch":"e","id":"x"}', '{"seq":1,"epoch":"e"}', undefined, new Uint8Array(2)];
  for (const text of bad) assert.equal(parse(text).kind, "other", `${text}`);
});

test("a frame with a seq is an entry even where its data imitates a control frame", () => {
  const forged = { seq: 1, epoch: "e", id: "x", data: { type: "hermes.goodbye", data: { retry_after_ms: 1e9 } } };
  assert.equal(parse(JSON.stringify(forged)).kind, "entry");
});

test("a control frame without data has an empty one", () => {
  assert.deepEqual(parse('{"data":{"type":"hermes.ping"}}'), { kind: "control", type: "hermes.ping", data: {} });
});

test("claims are read from a JWT, and from anything else none", () => {
  assert.deepEqual(claims(jwt({ user_id: "ü", room_id: "acme" })), { user_id: "ü", room_id: "acme" });
  for (const text of ["", "abc", "a.b.c", "a.bnVsbA.c"]) assert.deepEqual(claims(text), {});
});

test("a token is asked for once and kept while it is good", async () => {
  let now = 0;
  let asked = 0;
  const credentials = new Credentials(() => ({ token: `t${(asked += 1)}`, expires_in: 60 }), () => now);
  assert.equal((await credentials.get()).token, "t1");
  now = 49_000;
  assert.equal((await credentials.get()).token, "t1");
  now = 51_000;
  assert.equal((await credentials.get()).token, "t2");
  assert.equal((await credentials.get(true)).token, "t3");
});

test("a refused token is not shown again", async () => {
  const credentials = new Credentials("only", () => 0);
  await credentials.get();
  credentials.refuse();
  await assert.rejects(credentials.get(), Refused);
});

test("a token function that returns no token is told so", async () => {
  for (const nothing of [undefined, null, "", {}, { token: 5 }]) {
    await assert.rejects(new Credentials(/** @type {any} */ (() => nothing), () => 0).get(), Refused);
  }
});

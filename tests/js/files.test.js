/** The toolkit as files: small, complete, importable as they are. */

import assert from "node:assert/strict";
import { readFileSync, readdirSync } from "node:fs";
import { test } from "node:test";
import { gzipSync } from "node:zlib";

const HERMES = new URL("../../static/hermes/", import.meta.url);
const CORE = ["hermes", "connection", "credentials", "shown", "frames", "position", "backoff"].map((name) => `${name}.js`);
const SHARING = ["share.js", "ring.js", "turn.js"];
const TOASTS = ["toasts", "content", "toast_view", "strings", "drawing", "swipe", "page"].map((name) => `${name}.js`);

/** @param {string} name */
const read = (name) => readFileSync(new URL(name, HERMES), "utf8");

/** The bytes of files that travel as one, gzipped and not minified. @param {string[]} names */
const gzipped = (names) => gzipSync(names.map(read).join("\n"), { level: 9 }).length;

/** What a module loads, itself included; not what it fetches when it is needed. @param {string[]} names */
function loaded(names) {
  const reached = new Set(names);
  for (const name of reached) for (const [, path] of read(name).matchAll(/^import .* from "\.\/(\w+\.js)"/gm)) reached.add(path);
  return [...reached].sort();
}

test("the core is at most 8 KiB, with toasts at most 16 KiB, prose and all", () => {
  assert.deepEqual(loaded(["page.js"]), [...CORE, ...TOASTS].sort());
  assert.ok(gzipped(CORE) <= 8 * 1024, `${gzipped(CORE)} bytes`);
  assert.ok(gzipped([...CORE, ...TOASTS]) <= 16 * 1024, `${gzipped([...CORE, ...TOASTS])} bytes`);
});

test("the sharing, which is loaded apart, weighs what the documents say", () => {
  const text = readFileSync(new URL("../../docs/toolkit.md", import.meta.url), "utf8");
  assert.deepEqual(loaded(["share.js"]).filter((name) => !CORE.includes(name)), [...SHARING].sort());
  const [, share, beside, showing] = text.match(/`turn\.js` are ([\d.]+) KiB \(([\d.]+) KiB[\s\S]*?`showing\.js` is ([\d.]+) KiB/) ?? [];
  assert.ok(gzipped(SHARING) <= Number(share) * 1024, `${gzipped(SHARING)} bytes`);
  const more = gzipped([...CORE, ...SHARING]) - gzipped(CORE);
  assert.ok(more <= Number(beside) * 1024, `${more} bytes`);
  assert.ok(gzipped(["showing.js"]) <= Number(showing) * 1024, `${gzipped(["showing.js"])} bytes`);
});

test("what travels file by file weighs what the documents say", () => {
  const text = readFileSync(new URL("../../docs/toolkit.md", import.meta.url), "utf8").replaceAll(/\s+/g, " ");
  const [, core, toasts, page] = text.match(/file by file, .*? are ([\d.]+) and ([\d.]+) KiB, .*? fetches ([\d.]+) KiB/) ?? [];
  const [, looks, bellLooks, bell] = text.match(/stylesheets \(([\d.]+) KiB, the bell's ([\d.]+) KiB\) and the bell \(([\d.]+) KiB\)/) ?? [];
  const apart = (/** @type {string[]} */ names) => names.reduce((sum, name) => sum + gzipped([name]), 0) / 1024;
  const said = [[core, CORE], [toasts, [...CORE, ...TOASTS]], [page, [...CORE, ...TOASTS, ...SHARING, "showing.js"]],
    [looks, ["toasts.css"]], [bellLooks, ["bell.css"]], [bell, ["bell.js", "read_marks.js"]]];
  for (const [most, names] of said) assert.ok(apart(/** @type {string[]} */ (names)) <= Number(most), `${names}: ${apart(/** @type {string[]} */ (names))}`);
});

test("the bell is fetched only by who wants it", () => {
  assert.deepEqual(loaded(["bell.js"]), ["bell.js", "content.js", "drawing.js", "read_marks.js", "strings.js"]);
  for (const name of [...CORE, ...TOASTS]) assert.doesNotMatch(read(name), /^import .*bell/m, name);
});

test("every import names a file beside it, with its .js, and nothing else", () => {
  for (const name of readdirSync(HERMES).filter((each) => each.endsWith(".js"))) {
    const imports = [...read(name).matchAll(/(?:from|import\()\s*"([^"]+)"/g)].map(([, path]) => path);
    for (const path of imports) {
      assert.match(path, /^\.\/\w+\.js$/, `${name} imports ${path}`);
      assert.ok(readFileSync(new URL(path, HERMES)), `${name} imports ${path}`);
    }
  }
});

test("nothing turns text into HTML or code", () => {
  for (const name of readdirSync(HERMES).filter((each) => each.endsWith(".js"))) {
    assert.doesNotMatch(read(name), /innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function/, name);
  }
});

test("the core needs no browser to be imported, and no module that it does not name", async () => {
  const { Hermes } = await import("../../static/hermes/hermes.js");
  assert.equal(new Hermes({ stage: "development", token: "t", WebSocket: /** @type {any} */ (class {}) }).state, "idle");
  assert.deepEqual(loaded(["hermes.js"]), [...CORE].sort());
});

test("the package exports the same files", () => {
  const { exports, dependencies } = JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8"));
  assert.equal(dependencies, undefined);
  for (const path of Object.values(exports)) assert.ok(readFileSync(new URL(`../../${path.default ?? path}`, import.meta.url)));
});

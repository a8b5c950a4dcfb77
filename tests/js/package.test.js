/** The package as its users get it: packed, installed, typed, bundled. */

import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, realpathSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";

import { build } from "esbuild";

const ROOT = fileURLToPath(new URL("../../", import.meta.url));
const app = mkdtempSync(join(tmpdir(), "hermes-package-"));

/** @param {string} command @param {string[]} arguments_ @param {string} [cwd] */
const run = (command, arguments_, cwd = app) => execFileSync(command, arguments_, { cwd, encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });

before(() => {
  run("npm", ["pack", "--silent", "--pack-destination", app], ROOT);
  const [tarball] = readdirSync(app).filter((name) => name.endsWith(".tgz"));
  writeFileSync(join(app, "package.json"), JSON.stringify({ name: "app", type: "module", private: true }));
  run("npm", ["install", "--silent", "--offline", "--no-audit", "--no-fund", `./${tarball}`]);
});
after(() => rmSync(app, { recursive: true }));

test("it installs and works in Node, with the fake server of its own", () => {
  writeFileSync(
    join(app, "use.js"),
    `import { Hermes } from "hermes-toolkit";
    import { FakeHost, FakeServer } from "hermes-toolkit/testing.js";
    import "hermes-toolkit/toasts.js";
    import "hermes-toolkit/showing.js";
    const server = new FakeServer();
    const host = new FakeHost();
    const hermes = new Hermes({ url: "ws://test", stage: "development", token: "t", WebSocket: server.WebSocket, host });
    hermes.on("invoice.paid", ({ id }) => console.log("paid", id));
    hermes.connect();
    await host.pass(0);
    server.publish({ type: "invoice.paid", data: { id: 7 } });`,
  );
  assert.equal(run("node", ["use.js"]), "paid 7\n");
});

test("what the documents say of testing tabs that share is so", () => {
  const text = readFileSync(join(ROOT, "docs/toolkit.md"), "utf8");
  const [code] = text.match(/import { FakeServer } from ".\/hermes\/testing.js";\nimport { FakeBrowser }[\s\S]*?(?=```)/) ?? [""];
  const own = `import { Hermes } from "./hermes/hermes.js";\n`;
  const check = `console.log(server.all.length, server.connections.size, pages[1].sharing.leads, pages[1].state);`;
  writeFileSync(join(app, "tabs.js"), `${own}${code}${check}`.replaceAll('"./hermes/hermes.js"', '"hermes-toolkit"').replaceAll('"./hermes/', '"hermes-toolkit/'));
  assert.equal(run("node", ["tabs.js"]), "2 1 true open\n");
});

test("a user's own map of messages types what the callbacks get", () => {
  writeFileSync(
    join(app, "use.ts"),
    `import { Hermes } from "hermes-toolkit";
    import type { Entry } from "hermes-toolkit/types.js";
    const hermes = new Hermes<{ "invoice.paid": { id: number }; note: string }>({ stage: "production", token: async () => "t" });
    hermes.on("invoice.paid", ({ id }, entry: Entry, missed: boolean) => id.toFixed(entry.seq) + missed);
    hermes.once("note", (text) => text.toUpperCase());
    hermes.on("hermes.state", ({ state, retry_in_ms }) => state === "waiting" && retry_in_ms!.toFixed());
    hermes.on("hermes.lost", ({ reason }) => reason.trim());
    hermes.on("*", (message) => message.anything);
    hermes.recent(5).then((entries) => entries[0].seq.toFixed());
    // @ts-expect-error an id is a number
    hermes.on("invoice.paid", ({ id }) => id.trim());
    // @ts-expect-error no such message
    hermes.on("invoice.payed", () => {});
    // @ts-expect-error no such state
    hermes.on("hermes.state", ({ state }) => state === "opened");
    const untyped = new Hermes({ stage: "production", token: "t", share: false, room: "acme", user: 7 });
    untyped.on("whatever", (data) => data.anything);
    `,
  );
  const compilerOptions = { strict: true, noEmit: true, target: "es2022", module: "nodenext", types: [] };
  writeFileSync(join(app, "tsconfig.json"), JSON.stringify({ compilerOptions, files: ["use.ts"] }));
  const { status, stdout } = spawnSync("node", [join(ROOT, "node_modules/typescript/bin/tsc")], { cwd: app, encoding: "utf8" });
  assert.equal(status, 0, stdout);
});

test("installed from its folder it is typed too, once that folder has its tools; without them it installs and works", () => {
  for (const tools of [true, false]) {
    const folder = join(app, `hermes-${tools}`);
    const user = join(app, `user-${tools}`);
    for (const made of [folder, user]) mkdirSync(made);
    for (const name of ["package.json", "tsconfig.json", "tsconfig.types.json", "static/hermes"]) cpSync(join(ROOT, name), join(folder, name), { recursive: true });
    if (tools) symlinkSync(realpathSync(join(ROOT, "node_modules")), join(folder, "node_modules"));
    writeFileSync(join(user, "package.json"), JSON.stringify({ name: "user", type: "module", private: true }));
    run("npm", ["install", "--silent", "--offline", "--no-audit", "--no-fund", folder], user);
    writeFileSync(join(user, "use.js"), `import { Hermes } from "hermes-toolkit"; console.log(new Hermes({ stage: "s", token: "t" }).state);`);
    assert.equal(run("node", ["use.js"], user), "idle\n");
    if (!tools) continue;
    writeFileSync(
      join(user, "use.ts"),
      `import { Hermes } from "hermes-toolkit";
      const hermes = new Hermes<{ note: string }>({ stage: "s", token: "t" });
      hermes.on("note", (text) => text.trim());
      // @ts-expect-error no such message
      hermes.on("notes", () => {});`,
    );
    const compilerOptions = { strict: true, noEmit: true, target: "es2022", module: "nodenext", types: [], lib: ["es2022", "dom"] };
    writeFileSync(join(user, "tsconfig.json"), JSON.stringify({ compilerOptions, files: ["use.ts"] }));
    const { status, stdout } = spawnSync("node", [join(ROOT, "node_modules/typescript/bin/tsc")], { cwd: user, encoding: "utf8" });
    assert.equal(status, 0, stdout);
  }
});

test("a bundler takes it, loads the sharing apart, and leaves out what is not used", async () => {
  writeFileSync(join(app, "entry.js"), `import { Hermes } from "hermes-toolkit"; globalThis.hermes = new Hermes({ stage: "s", token: "t" });`);
  const { outputFiles, metafile } = await build({
    absWorkingDir: app,
    entryPoints: ["entry.js"],
    bundle: true,
    splitting: true,
    minify: true,
    metafile: true,
    write: false,
    format: "esm",
    outdir: "out",
  });
  const inputs = Object.keys(metafile.inputs).map((path) => path.replace(/.*\//, ""));
  assert.ok(inputs.includes("share.js") && !inputs.includes("toasts.js") && !inputs.includes("testing.js"));
  const [entry] = outputFiles.filter(({ path }) => path.endsWith("entry.js"));
  assert.ok(!entry.text.includes("BroadcastChannel)("), "the sharing is loaded only where it can be");
  const loaded = outputFiles.filter(({ text }) => !text.includes("onmessage=({data"));
  const size = gzipSync(loaded.map(({ text }) => text).join("\n"), { level: 9 }).length;
  assert.ok(size < 5 * 1024, `${size} bytes`);
});

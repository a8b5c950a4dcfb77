/**
 * The admin's dashboard: shows every few seconds what the server says now. The page is whole without it.
 * Text goes into the document as text, lines as a path's points.
 */

const EVERY_MS = 3_000;
const LATEST_MS = 30_000; // between two tries while the server does not answer
const ANSWER_MS = 8_000;

/** @typedef {{key: string, title: string, value: string, note: string, state: string, lines: string[], rounds: string}} Tile */
/** @typedef {{groups: {title: string, tiles: Tile[]}[], servers: string[][], relays: string[][]}} Report */

/** @param {Element} page @param {Tile} tile */
function showTile(page, tile) {
  const element = page.querySelector(`[data-tile="${CSS.escape(tile.key)}"]`);
  if (!(element instanceof HTMLElement)) return;
  element.dataset.state = tile.state;
  for (const name of /** @type {const} */ (["value", "note"])) {
    const part = element.querySelector(`[data-${name}]`);
    if (part && part.textContent !== tile[name]) part.textContent = tile[name];
  }
  element.querySelector("svg")?.setAttribute("aria-label", tile.rounds);
  element.querySelectorAll("path").forEach((path, index) => path.setAttribute("d", tile.lines[index] ?? ""));
}

/** @param {Element} page @param {string} name @param {string[][]} rows */
function showTable(page, name, rows) {
  const body = page.querySelector(`[data-table="${name}"]`);
  if (!(body instanceof HTMLTableSectionElement)) return;
  const lines = rows.map((row) => {
    const line = document.createElement("tr");
    for (const text of row) line.insertCell().textContent = text;
    return line;
  });
  if (!lines.length) {
    const line = document.createElement("tr");
    const cell = line.insertCell();
    cell.colSpan = Number(body.dataset.columns);
    cell.textContent = body.dataset.empty ?? "";
    lines.push(line);
  }
  body.replaceChildren(...lines);
}

/** @param {HTMLElement} page */
function keepLive(page) {
  const status = page.querySelector("[data-status]");
  let failures = 0;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;

  /** @param {string} text */
  const say = (text) => {
    if (status && status.textContent !== text) status.textContent = text;
  };

  async function look() {
    try {
      const answer = await fetch(page.dataset.live ?? "", {
        headers: { Accept: "application/json" },
        redirect: "error", // signed out
        signal: AbortSignal.timeout(ANSWER_MS),
      });
      if (!answer.ok) throw new Error(String(answer.status));
      const report = /** @type {Report} */ (await answer.json());
      for (const { tiles } of report.groups) for (const tile of tiles) showTile(page, tile);
      showTable(page, "servers", report.servers);
      showTable(page, "relays", report.relays);
      failures = 0;
      say("Live");
    } catch {
      failures += 1;
      say("The server does not answer, or you are signed out. These figures are old.");
    }
    page.dataset.isLive = String(!failures);
    plan(Math.min(EVERY_MS * 2 ** failures, LATEST_MS));
  }

  /** @param {number} ms */
  function plan(ms) {
    clearTimeout(timer);
    if (!document.hidden) timer = setTimeout(look, ms);
  }

  document.addEventListener("visibilitychange", () => plan(0));
  plan(EVERY_MS);
  say("Live");
}

for (const page of document.querySelectorAll("[data-live]")) if (page instanceof HTMLElement) keepLive(page);

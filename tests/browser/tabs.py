"""Tabs for the tests: pages of one browser that write down what they dispatch, show and draw. Used by test_share."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from playwright.sync_api import BrowserContext, Page

from tests.processes import Hermes

# Shown as a text, it is a page that has nothing of ours, and that a browser may keep in its back/forward cache.
PAGE = "/static/hermes/toasts.css"
# What it writes down is in localStorage, under the tab's own
# keys: it outlives the tab.
SCRIPT = """
(async () => {
    if (location.pathname !== "/static/hermes/toasts.css") return;
    // Playwright takes every page for visible and focused.
    let visible = true;
    Object.defineProperty(document, "visibilityState", { get: () => (visible ? "visible" : "hidden") });
    window.look = (at) => {
        visible = at;
        document.dispatchEvent(new Event("visibilitychange", { bubbles: true }));
    };
    const { Hermes, Refused } = await import("/static/hermes/hermes.js");
    const { attachShowing } = await import("/static/hermes/showing.js");
    const { ToastView } = await import("/static/hermes/toast_view.js");
    const { Toasts } = await import("/static/hermes/toasts.js");
    const about = JSON.parse(decodeURIComponent(location.hash.slice(1)));
    const write = (kind) => (...items) => {
        const key = `${kind}:${about.tab}`;
        localStorage.setItem(key, JSON.stringify([...JSON.parse(localStorage.getItem(key) ?? "[]"), ...items]));
    };
    const [seen, seqs, shown, drawn] = ["seen", "seqs", "shown", "drawn"].map(write);
    const [states, events] = ["states", "events"].map(write);
    const csrf = document.cookie.split("; ").find((each) => each.startsWith("csrftoken=")).slice("csrftoken=".length);
    const token = window.mint ?? (async () => {
        const headers = { "Content-Type": "application/json", "X-CSRFToken": csrf };
        const response = await fetch("/notifications/token", { method: "POST", headers, body: "{}" });
        if (response.status >= 400 && response.status < 500) throw new Refused(`${response.status}`);
        return response.json();
    });
    const hermes = new Hermes({ stage: "development", token, ...about.options });
    hermes.on("*", (message, { seq }) => {
        seen(message.data);
        seqs(seq);
    });
    hermes.on("hermes.state", ({ state, code, reason }) => states([state, code ?? 0, reason ?? ""]));
    for (const name of ["lost", "gap", "recovered", "refreshed"]) hermes.on(`hermes.${name}`, () => events(name));
    // Room for all: none waits, and none becomes part of a digest while somebody looks.
    const toasts = new Toasts({ limit: 1000 });
    new ToastView(toasts);
    new MutationObserver((changes) => {
        for (const { addedNodes } of changes)
            for (const node of addedNodes)
                if (node.matches?.(".hermes-toast")) drawn(node.querySelector(".hermes-toast__text").textContent);
    }).observe(document.body, { childList: true, subtree: true });
    attachShowing(hermes, (entries, { away }) => {
        shown(...entries.map((entry) => [entry.data.data, away]));
        toasts.showEntries(entries, { away });
    });
    hermes.connect();
    addEventListener("pageshow", ({ persisted }) => persisted && events("restored"));
    window.hermes = hermes;
    window.about = about;
    window.written = (kind) => JSON.parse(localStorage.getItem(`${kind}:${about.tab}`) ?? "[]");
})();
"""


def open_tab(context: BrowserContext, hermes: Hermes, name: str, state: str = "open", **options: Any) -> Page:
    """Open a tab and wait until it is connected.

    Args:
        context: a browser profile that is signed in.
        hermes: the server.
        name: of the tab, for what it writes down.
        state: what it comes to.
        options: of its `new Hermes`.
    """
    page = context.new_page()
    page.add_init_script(SCRIPT)
    page.goto(f"{hermes.url}{PAGE}#{json.dumps({'tab': name, 'options': options})}")
    page.wait_for_function("(state) => window.hermes?.state === state", arg=state, timeout=30_000)
    return page


def written(page: Page, kind: str) -> dict[str, list[Any]]:
    """What each tab of a page's browser has written down, closed tabs too: by the tab's name.

    Args:
        page: any tab that is still open.
        kind: `seen` (data), `seqs` (of the same entries), `shown`, `drawn` (each toast's text), `states` or `events`.
    """
    stored: dict[str, str] = page.evaluate("() => ({...localStorage})")
    return {key.partition(":")[2]: json.loads(value) for key, value in stored.items() if key.startswith(f"{kind}:")}


def wait_for_seen(pages: Iterable[Page], count: int) -> None:
    """Wait until each of these tabs has dispatched so many entries."""
    for page in pages:
        page.wait_for_function("(count) => window.written?.('seen').length >= count", arg=count, timeout=20_000)


def history(page: Page, count: int) -> list[Any]:
    """The last entries' data, 200 at most, in the order of the room's history, which is not always that of sending."""
    texts: list[Any] = page.evaluate(
        "async (count) => (await hermes.recent(count)).map((entry) => entry.data.data)", count
    )
    return texts

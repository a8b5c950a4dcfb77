"""A page with the toolkit alone, in a real browser, against the fake server of testing.js. Called by conftest."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from playwright.sync_api import BrowserContext, Page, Route

ROOT = Path(__file__).parents[2]
ORIGIN = "http://app.test"
STRICT = (
    "default-src 'self'; object-src 'none'; base-uri 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
TYPES = {".js": "text/javascript", ".css": "text/css", ".html": "text/html", ".svg": "image/svg+xml"}
# What a page's own module does, with a server that is in the page: nothing is faked between its frames and the toasts.
MODULE = """
import { Bell } from "/static/hermes/bell.js";
import { Hermes } from "/static/hermes/hermes.js";
import { FakeServer } from "/static/hermes/testing.js";
import { ToastView } from "/static/hermes/toast_view.js";
import { Toasts } from "/static/hermes/toasts.js";
import { KINDS } from "/static/hermes/content.js";

const options = JSON.parse(document.getElementById("options").textContent);
const server = new FakeServer();
const hermes = new Hermes({ url: "ws://app.test", stage: "development", token: "t", WebSocket: server.WebSocket });
const toasts = new Toasts(options.toasts);
const view = new ToastView(toasts, options.view);
const place = document.querySelector("[data-hermes-bell]");
const bell = new Bell(hermes, { name: "alice", place, toasts, ...options.bell });
toasts.onlist = () => bell.open();
for (const kind of KINDS) hermes.on(kind, (_data, entry) => toasts.showEntries([entry]));
Object.assign(window, { hermes, server, toasts, view, bell });
hermes.connect();
"""
PAGE = """<!doctype html>
<html lang="{lang}" dir="{dir}">
<head>
  <meta charset="utf-8">
  <meta name="viewport" content="width=device-width, initial-scale=1">
  <meta name="color-scheme" content="light dark">
  <title>App</title>
  <link rel="stylesheet" href="/static/hermes/toasts.css">
  <link rel="stylesheet" href="/static/hermes/bell.css">
  <link rel="stylesheet" href="/page.css">
  <script type="application/json" id="options">{options}</script>
  <script type="module" src="/module.js"></script>
</head>
<body>
  <header><h1>Orders</h1><span data-hermes-bell></span></header>
  <main><button id="own">A button of the page</button></main>
</body>
</html>
"""
STYLES = """
body { margin: 0; font: 16px/1.5 system-ui, sans-serif }
header { display: flex; align-items: center; justify-content: space-between; padding: 0.5rem 1rem }
main { padding: 1rem }
"""


def open_toolkit(
    context: BrowserContext,
    *,
    csp: str = STRICT,
    lang: str = "en",
    direction: str = "ltr",
    html: str = PAGE,
    module: str = MODULE,
    files: Mapping[str, str] | None = None,
    **options: Any,
) -> Page:
    """Open a page that is served from the repository's files and nowhere else; whatever it asks for besides is refused.

    Args:
        context: the browser profile.
        csp: the page's Content-Security-Policy.
        lang: the page's language.
        direction: ltr or rtl.
        html: the page; {lang}, {dir} and {options} are filled in.
        module: its own module, at /module.js.
        files: more files, by their paths.
        options: `toasts`, `view`, `bell`: options of these three.
    """
    text = html
    for name, value in {"lang": lang, "dir": direction, "options": json.dumps(options)}.items():
        text = text.replace(f"{{{name}}}", value)
    given = {"/": text, "/module.js": module, "/page.css": STYLES, **(files or {})}

    def answer(route: Route) -> None:
        path = re.sub(r"[?#].*", "", route.request.url.removeprefix(ORIGIN))
        body = given.get(path)
        if body is None and path.startswith("/static/") and (ROOT / path[1:]).is_file():
            body = (ROOT / path[1:]).read_text("utf-8")
        if not route.request.url.startswith(f"{ORIGIN}/") or body is None:
            return route.abort()
        suffix = Path(path).suffix or ".html"
        headers = {"Content-Type": f"{TYPES[suffix]}; charset=utf-8"}
        if csp and suffix == ".html":
            headers["Content-Security-Policy"] = csp
        return route.fulfill(status=200, body=body, headers=headers)

    context.route("**/*", answer)
    page = context.new_page()
    page.goto(f"{ORIGIN}/")
    page.wait_for_function("() => window.hermes?.state === 'open'")
    return page

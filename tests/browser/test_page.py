"""The template tag's module on pages of its own: when it connects, and when it does not. Uses toolkit_page's files."""

from __future__ import annotations

import json

import pytest
from playwright.sync_api import Browser, Route

from tests.browser.toolkit_page import ORIGIN, ROOT, TYPES

pytestmark = pytest.mark.browser
CONFIG = {
    "url": "ws://app.test",
    "token_url": "/token",
    "csrf_cookie": "csrftoken",
    "csrf_token": "x",
    "stage": "development",
    "room": "acme",
    "user_id": 1,
    "position": None,
}
HTML = f"""<!doctype html>
<html lang="en"><head><title>App</title>
<script type="application/json" id="hermes-config">{json.dumps(CONFIG)}</script>
<script type="module" src="/static/hermes/page.js"></script>
</head><body><img src="/late.svg" alt=""></body></html>"""


def test_a_session_that_has_ended_is_asked_for_a_token_once_however_long_the_page_loads(browser: Browser) -> None:
    context = browser.new_context()
    asked: list[Route] = []
    late: list[Route] = []

    def answer(route: Route) -> None:
        path = route.request.url.removeprefix(ORIGIN)
        if path == "/late.svg":
            late.append(route)
        elif path == "/token":
            asked.append(route)
            route.fulfill(status=403)
        elif path == "/":
            route.fulfill(body=HTML, content_type="text/html")
        else:
            suffix = path[path.rindex(".") :]
            route.fulfill(body=(ROOT / path[1:]).read_text("utf-8"), content_type=TYPES[suffix])

    context.route("**/*", answer)
    page = context.new_page()
    page.goto(f"{ORIGIN}/", wait_until="commit")
    page.wait_for_function("() => window.hermes?.state === 'closed'")
    page.evaluate("() => hermes.on('hermes.state', ({state}) => { window.then = state; })")
    assert late
    late[0].fulfill(body="<svg xmlns='http://www.w3.org/2000/svg'/>", content_type=TYPES[".svg"])
    page.wait_for_load_state("load")
    # What the load has begun is asked for before this is answered.
    page.evaluate("() => new Promise((done) => setTimeout(done)).then(() => fetch('/static/hermes/page.js'))")
    assert page.evaluate("() => [window.then, hermes.state]") == [None, "closed"]
    assert len(asked) == 1
    context.close()

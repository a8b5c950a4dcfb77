"""What axe-core finds: nothing, in light and dark, from left to right and back, wide and narrow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import SignIn, Toolkit
from tests.processes import Hermes

pytestmark = pytest.mark.browser
AXE = Path(__file__).parents[2] / "node_modules/axe-core/axe.min.js"
LOOKS = {
    "light": {},
    "dark": {"color_scheme": "dark"},
    "rtl": {"direction": "rtl", "lang": "he"},
    "dark and rtl": {"color_scheme": "dark", "direction": "rtl", "lang": "he"},
    "phone": {"viewport": {"width": 390, "height": 844}},
    "dark phone": {"viewport": {"width": 390, "height": 844}, "color_scheme": "dark"},
    "more contrast": {"contrast": "more"},
    "forced colors": {"forced_colors": "active"},
}
CONTENT = [
    (
        "info",
        {"title": "Order 5071 has been shipped", "text": "Initech, 3 parcels", "link": "/x", "link_text": "Track it"},
    ),
    ("success", {"title": "Invoice 2026-118 is paid", "text": "Globex GmbH · 1,240.00 €"}),
    (
        "warning",
        {
            "title": "Disk 90 % full",
            "actions": [{"label": "Free space", "name": "free"}, {"label": "More", "link": "/d"}],
        },
    ),
    ("danger", {"title": "Restore failed", "text": "db-primary"}),
    ("custom", {"title": "Bob has joined", "icon": "👋"}),
    ("info", "A text alone"),
]


def judge(page: Page) -> None:
    """Assert that axe finds no violation of its rules, and nothing of the toolkit's whose contrast it cannot judge."""
    if not page.evaluate("() => 'axe' in window"):
        page.evaluate(AXE.read_text("utf-8"))
    found: dict[str, Any] = page.evaluate(
        """async () => {
            const {violations, passes, incomplete} = await axe.run({
                runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"],
            });
            const tell = (id, {html, failureSummary}) => `${id}: ${html} ${failureSummary}`;
            // What it cannot judge: what lies under something else, or is one letter long, is judged elsewhere.
            const elsewhere = ["bgOverlap", "elmPartiallyObscuring", "elmPartiallyObscured", "shortTextContent"];
            const ours = ({target, any: [{data}]}) =>
                `${target}`.includes("hermes-") && !elsewhere.includes(data.messageKey);
            const unsure = incomplete
                .filter(({id}) => id === "color-contrast")
                .map(({id, nodes}) => ({id, nodes: nodes.filter(ours)}));
            const brief = [...violations, ...unsure].flatMap(({id, nodes}) => nodes.map((node) => tell(id, node)));
            return {brief, rules: passes.map(({id}) => id)};
        }"""
    )
    assert found["brief"] == []
    assert {"color-contrast", "button-name", "region"} <= set(found["rules"])


def settle(page: Page) -> None:
    page.mouse.move(2, 2)
    page.wait_for_function("() => document.getAnimations().every((each) => each.animationName === 'hermes-time')")


@pytest.mark.parametrize("look", LOOKS)
def test_axe_finds_nothing_in_toasts_digest_and_bell(toolkit: Toolkit, look: str) -> None:
    page = toolkit(**LOOKS[look], toasts={"limit": 5})
    page.evaluate(
        """(all) => {
            for (const [type, data] of [...all, all[2]]) {
                const content = typeof data === "string" ? {text: data} : data;
                server.publish({type, data: {...content, lasts_ms: 0}});
            }
        }""",
        CONTENT,
    )
    expect(page.locator(".hermes-toast")).to_have_count(5)
    expect(page.locator(".hermes-toasts__more")).to_be_visible()
    settle(page)
    judge(page)
    # A hover or a focus lays a deck open; then every toast's colours count.
    page.locator(".hermes-toast:last-child .hermes-toast__close").focus()
    page.wait_for_function("() => document.getAnimations().every((each) => each.animationName === 'hermes-time')")
    judge(page)
    page.locator(".hermes-bell__button").click()
    expect(page.locator(".hermes-bell__entry")).to_have_count(7)
    settle(page)
    judge(page)
    page.get_by_role("button", name="Mark all read").click()
    page.keyboard.press("Escape")
    page.evaluate("() => toasts.showEntries(server.history, {away: true})")
    expect(page.locator(".hermes-toast:not([inert])", has_text="7 while you were away")).to_be_visible()
    settle(page)
    judge(page)


@pytest.mark.parametrize("look", ["light", "dark", "rtl", "phone", "dark phone"])
def test_axe_finds_nothing_on_the_demo_page(signed_in: SignIn, look: str) -> None:
    options = {name: value for name, value in LOOKS[look].items() if name in ("color_scheme", "viewport")}
    page = signed_in("alice", **options)
    page.evaluate("(dir) => { document.documentElement.dir = dir; }", "rtl" if look == "rtl" else "ltr")
    page.evaluate("(all) => { for (const [kind, content] of all) hermes.toasts.show(kind, content); }", CONTENT[:4])
    expect(page.locator(".hermes-toast")).to_have_count(4)
    settle(page)
    judge(page)
    page.evaluate("() => hermes.openList()")
    settle(page)
    judge(page)


def test_axe_finds_nothing_where_members_sign_in(browser: Browser, hermes: Hermes) -> None:
    page = browser.new_page()
    page.goto(f"{hermes.url}/sign-in/")
    expect(page.get_by_role("button", name="Sign in")).to_be_visible()
    judge(page)
    page.close()

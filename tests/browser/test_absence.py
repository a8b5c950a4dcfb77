"""An absence, the whole way: what came meanwhile is summed up in one digest, shown in one tab."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import SignIn
from tests.processes import Hermes
from tests.waiting import wait_until

pytestmark = pytest.mark.browser
TOAST = ".hermes-toast"


def send(hermes: Hermes, page: Page, count: int, name: str) -> None:
    """Send so many and wait until they are in the history, as another member's page sees it."""
    for n in range(count):
        hermes.send("acme", {"type": "info", "data": {"title": f"{name} {n}", "text": "meanwhile"}})
    titles = "async () => (await hermes.recent(50)).map((entry) => entry.data?.data?.title ?? '')"
    wait_until(
        lambda: sum(title.startswith(f"{name} ") for title in page.evaluate(titles)) == count, 20, "all have a place"
    )


def test_seven_while_you_were_away(signed_in: SignIn, hermes: Hermes) -> None:
    alice, bob = signed_in("alice"), signed_in("bob")
    alice.goto("about:blank")
    send(hermes, bob, 7, "Away")
    alice.goto(hermes.url)
    digest = alice.locator(TOAST, has_text="7 while you were away")
    expect(digest).to_be_visible()
    expect(alice.locator(TOAST, has_text="Away 3")).to_have_count(0)
    digest.get_by_role("button", name="Show all").click()
    expect(alice.get_by_text("Away 3", exact=True).first).to_be_visible()


def test_who_comes_back_with_two_tabs_is_told_once(signed_in: SignIn, hermes: Hermes) -> None:
    first, bob = signed_in("alice"), signed_in("bob")
    second = first.context.new_page()
    second.goto(hermes.url)
    expect(second.locator("#state")).to_have_text("Connected")
    for page in (first, second):
        page.goto("about:blank")
    send(hermes, bob, 7, "Twice")
    for page in (first, second):
        page.goto(hermes.url)
        expect(page.locator("#state")).to_have_text("Connected")
    wait_until(
        lambda: sum(page.locator(TOAST, has_text="7 while you were away").count() for page in (first, second)) >= 1
    )
    hermes.send("acme", {"type": "info", "data": {"title": "Now"}})
    wait_until(lambda: sum(page.locator(TOAST, has_text="Now").count() for page in (first, second)) >= 1)
    digests = [page.locator(TOAST, has_text="7 while you were away").count() for page in (first, second)]
    assert sorted(digests) == [0, 1]
    assert sorted(page.locator(TOAST, has_text="Now").count() for page in (first, second)) == [0, 1]

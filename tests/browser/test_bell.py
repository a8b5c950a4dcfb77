"""The bell in a real browser: what is recent, what is unread, in every tab of one browser. Drives bell.js."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import SignIn, Toolkit
from tests.browser.toolkit_page import PAGE
from tests.processes import Hermes

pytestmark = pytest.mark.browser
ENTRY = ".hermes-bell__entry"
BADGE = ".hermes-bell__badge"


def publish(page: Page, *titles: str, kind: str = "info") -> None:
    page.evaluate(
        "([kind, titles]) => titles.forEach((title) => server.publish({type: kind, data: {title}}))", [kind, titles]
    )


def bell(page: Page, name: str = "") -> None:
    page.get_by_role("button", name=re.compile(f"^Notifications{name}")).click()


def test_it_counts_what_is_unread_and_lists_what_is_recent_newest_first(toolkit: Toolkit) -> None:
    page = toolkit()
    expect(page.locator(BADGE)).to_be_hidden()
    publish(page, "one", "two")
    publish(page, "three", kind="danger")
    publish(page, "not for people", kind="cart.changed")
    expect(page.locator(BADGE)).to_have_text("3")
    bell(page, ", 3 unread$")
    expect(page.locator(ENTRY)).to_have_text([re.compile("Danger: three"), re.compile("two"), re.compile("one")])
    expect(page.locator(f"{ENTRY} time").first).to_have_text(re.compile(r"\d:\d\d"))
    expect(page.locator(".hermes-toast:not([inert])")).to_have_count(0)  # the list says what they said


def test_all_can_be_marked_read_and_stay_so_after_a_reload(toolkit: Toolkit) -> None:
    page = toolkit()
    publish(page, "one", "two")
    bell(page)
    page.get_by_role("button", name="Mark all read").click()
    expect(page.locator(BADGE)).to_be_hidden()
    expect(page.get_by_role("button", name="Mark all read")).to_be_hidden()
    expect(page.locator(f"{ENTRY}[data-unread]")).to_have_count(0)
    expect(page.get_by_role("dialog")).to_be_focused()
    publish(page, "three")
    expect(page.locator(BADGE)).to_have_text("1")
    page.locator(ENTRY, has_text="three").click()
    expect(page.locator(BADGE)).to_be_hidden()


def test_every_tab_of_the_browser_knows_what_was_read_and_another_member_does_not(
    signed_in: SignIn, hermes: Hermes
) -> None:
    alice, bob = signed_in("alice"), signed_in("bob")
    other = alice.context.new_page()
    other.goto(hermes.url)
    expect(other.locator("#state")).to_have_text("Connected")
    for page in (alice, other, bob):
        bell(page)
        if page.get_by_role("button", name="Mark all read").is_visible():
            page.get_by_role("button", name="Mark all read").click()
        page.keyboard.press("Escape")
        expect(page.locator(BADGE)).to_be_hidden()
    for n in range(3):
        hermes.send("acme", {"type": "info", "data": {"title": f"Order {n}"}})
    for page in (alice, other, bob):
        expect(page.locator(BADGE)).to_have_text("3")
    bell(other)
    other.get_by_role("button", name="Mark all read").click()
    expect(alice.locator(BADGE)).to_be_hidden()
    alice.reload()
    expect(alice.locator("#state")).to_have_text("Connected")
    bell(alice)
    expect(alice.locator(ENTRY).first).to_contain_text("Order")
    expect(alice.locator(BADGE)).to_be_hidden()
    expect(bob.locator(BADGE)).to_have_text("3")


def test_what_was_there_before_this_browser_ever_came_is_no_news(signed_in: SignIn, hermes: Hermes) -> None:
    hermes.send("globex", {"type": "info", "data": "before"})
    page = signed_in("charlie")
    bell(page)
    expect(page.locator(ENTRY).first).to_contain_text("before")
    expect(page.locator(BADGE)).to_be_hidden()


def test_escape_and_a_click_elsewhere_close_it_and_the_focus_goes_back(toolkit: Toolkit) -> None:
    page = toolkit()
    publish(page, "one")
    page.focus(".hermes-bell__button")
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog", name="Notifications")).to_be_focused()
    expect(page.locator(".hermes-bell__button")).to_have_attribute("aria-expanded", "true")
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Mark all read")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(page.locator(".hermes-bell__button")).to_be_focused()
    page.keyboard.press("Enter")
    page.mouse.click(20, 400)
    expect(page.get_by_role("dialog")).to_have_count(0)


def test_a_page_without_a_place_for_it_has_the_list_alone(toolkit: Toolkit) -> None:
    page = toolkit(html=PAGE.replace("<span data-hermes-bell></span>", ""))
    publish(page, "one")
    page.focus("#own")
    page.evaluate("() => bell.open()")
    expect(page.get_by_role("dialog", name="Notifications")).to_be_in_viewport(ratio=1)
    expect(page.locator(".hermes-bell__button")).to_have_count(0)
    page.keyboard.press("Escape")
    expect(page.locator("#own")).to_be_focused()


def test_it_says_that_there_is_nothing_and_that_there_is_no_connection(toolkit: Toolkit) -> None:
    page = toolkit()
    bell(page)
    expect(page.locator(".hermes-bell__empty")).to_contain_text("Nothing yet")
    page.evaluate("() => hermes.disconnect()")
    expect(page.locator(".hermes-bell__empty")).to_contain_text("Not connected")
    page.evaluate("() => { server.publish({type: 'info', data: 'meanwhile'}); hermes.connect(); }")
    expect(page.locator(ENTRY)).to_have_count(1)


def test_a_page_that_has_not_loaded_its_looks_gets_them(toolkit: Toolkit) -> None:
    page = toolkit(html=PAGE.replace('<link rel="stylesheet" href="/static/hermes/bell.css">', ""))
    bell(page)
    expect(page.locator(".hermes-bell__panel")).to_have_css("position", "absolute")
    assert page.locator("link[href$='bell.css']").count() == 1


@pytest.mark.parametrize("direction", ["ltr", "rtl"])
@pytest.mark.parametrize("width", [360, 1000])
def test_the_panel_is_inside_the_page(toolkit: Toolkit, direction: str, width: int) -> None:
    page = toolkit(direction=direction, viewport={"width": width, "height": 640})
    publish(page, *(f"a title that is long enough to be cut somewhere {n}" for n in range(30)))
    bell(page)
    expect(page.get_by_role("dialog")).to_be_in_viewport(ratio=1)
    assert page.evaluate("() => document.documentElement.scrollWidth") <= width


def test_the_digest_of_an_embedded_page_fetches_the_list_when_it_is_asked_for(
    signed_in: SignIn, hermes: Hermes
) -> None:
    page = signed_in("alice")
    hermes.send("acme", {"type": "info", "data": "the newest"})
    expect(page.locator(".hermes-toast", has_text="the newest")).to_be_visible()
    page.evaluate("() => hermes.openList()")
    expect(page.locator(ENTRY).first).to_contain_text("the newest")

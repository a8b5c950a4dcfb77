"""The toasts in a real browser: who can read, reach, pause and dismiss them. Drives toast_view.js on its own page."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import Toolkit

pytestmark = pytest.mark.browser
TOAST = ".hermes-toast:not([inert])"
REGION = ".hermes-toasts"


def show(page: Page, kind: str, title: str, text: str = "", **extra: Any) -> None:
    """Have the server publish what shows as a toast, and wait until it does."""
    message = {"type": kind, "data": {"title": title, "text": text, **extra}}
    page.evaluate("async (message) => { server.publish(message); await new Promise(requestAnimationFrame); }", message)


def toast(page: Page, text: str) -> Locator:
    return page.locator(TOAST, has_text=text)


def hide(page: Page, hidden: bool) -> None:
    """Have the page believe that it is hidden, as a browser says it: headless ones never do."""
    page.evaluate(
        """(hidden) => {
            const said = {hidden, visibilityState: hidden ? "hidden" : "visible"};
            for (const [name, value] of Object.entries(said)) {
                Object.defineProperty(document, name, {value, configurable: true});
            }
            document.dispatchEvent(new Event("visibilitychange", {bubbles: true}));
        }""",
        hidden,
    )


def settle(page: Page) -> None:
    """Wait until everything stands where it will stay; only the remaining time may move."""
    page.wait_for_function("() => document.getAnimations().every((each) => each.animationName === 'hermes-time')")


# ── Screen readers ───────────────────────────────────────────────────────────────────────────────────────────────────
def test_each_toast_is_read_out_once_dangerous_ones_at_once_and_others_when_there_is_time(toolkit: Toolkit) -> None:
    page = toolkit()
    # What a screen reader is told: text that is added to a live region that was there before.
    page.evaluate(
        """() => {
            window.told = [];
            for (const role of ["status", "alert"]) {
                const region = document.querySelector(`.hermes-toasts [role=${role}]`);
                new MutationObserver((changes) => changes.forEach(({addedNodes, type}) =>
                    addedNodes.forEach((node) => told.push(`${role}: ${node.textContent}`)))
                ).observe(region, {childList: true, subtree: true, characterData: true});
            }
        }"""
    )
    show(page, "danger", "The restore failed", "db-primary")
    for _ in range(3):
        show(page, "info", "The invoice is ready")
    page.evaluate("() => toasts.dismiss(toasts.shown[0].id)")
    expect(page.locator(TOAST)).to_have_count(1)
    assert page.evaluate("() => told") == [
        "alert: Danger: The restore failed db-primary",
        "status: Information: The invoice is ready ",
    ]
    # No second live region says it again, and it is not left for who reads on through the page.
    assert page.locator(f"{TOAST} [role], {TOAST}[role]").count() == 0
    expect(page.locator(f"{REGION} [role] p")).to_have_count(0)
    expect(page.get_by_role("region", name="Notifications")).to_have_count(1)


def test_the_kind_is_said_in_words_and_buttons_say_what_they_do(toolkit: Toolkit) -> None:
    page = toolkit()
    show(page, "warning", "Disk 90 % full", actions=[{"label": "Free space", "name": "free"}])
    snapshot = page.locator(TOAST).aria_snapshot()
    assert "Warning:" in snapshot
    assert 'button "Free space"' in snapshot
    assert 'button "Close"' in snapshot


# ── The keyboard ─────────────────────────────────────────────────────────────────────────────────────────────────────
def test_a_key_brings_the_focus_to_the_newest_toast_and_back(toolkit: Toolkit) -> None:
    page = toolkit()
    page.focus("#own")
    page.keyboard.press("F8")
    expect(page.locator("#own")).to_be_focused()  # there is nothing to go to
    show(page, "info", "one")
    show(page, "info", "two", link="/orders")
    page.keyboard.press("F8")
    expect(toast(page, "two")).to_be_focused()
    expect(page.locator(REGION)).to_have_attribute("data-paused", "")
    for name in ("Open", "Close"):
        page.keyboard.press("Tab")
        expect(toast(page, "two").get_by_text(name).or_(toast(page, "two").get_by_label(name))).to_be_focused()
    page.keyboard.press("F8")
    expect(page.locator("#own")).to_be_focused()
    expect(page.locator(REGION)).not_to_have_attribute("data-paused", "")


def test_escape_closes_one_after_the_other_and_the_focus_goes_back_to_where_it_was(toolkit: Toolkit) -> None:
    page = toolkit()
    page.focus("#own")
    for name in ("one", "two", "three"):
        show(page, "info", name)
    page.keyboard.press("Escape")
    expect(page.locator(TOAST)).to_have_count(3)  # the page's Escape is not ours
    page.keyboard.press("F8")
    page.keyboard.press("Shift+Tab")
    expect(toast(page, "two").get_by_role("button", name="Close")).to_be_focused()
    page.keyboard.press("Enter")
    expect(toast(page, "two")).to_have_count(0)
    expect(toast(page, "three")).to_be_focused()
    page.keyboard.press("Escape")
    expect(toast(page, "one")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.locator(TOAST)).to_have_count(0)
    expect(page.locator("#own")).to_be_focused()


def test_tab_goes_from_the_page_through_the_toasts_in_their_order(toolkit: Toolkit) -> None:
    page = toolkit()
    show(page, "info", "one", link="/a", actions=[{"label": "Undo", "name": "undo"}])
    show(page, "info", "two")
    page.focus("#own")
    passed = []
    for _ in range(4):
        page.keyboard.press("Tab")
        passed.append(page.evaluate("() => document.activeElement.ariaLabel ?? document.activeElement.textContent"))
    assert passed == ["Open", "Undo", "Close", "Close"]


def test_another_key_can_be_chosen_or_none(toolkit: Toolkit) -> None:
    page = toolkit(view={"hotkey": "Alt+n"})
    show(page, "info", "one")
    page.keyboard.press("F8")
    expect(toast(page, "one")).not_to_be_focused()
    page.keyboard.press("Alt+n")
    expect(toast(page, "one")).to_be_focused()
    assert page.locator(REGION).get_attribute("aria-keyshortcuts") == "Alt+n"


def test_a_toast_that_goes_while_it_has_the_focus_hands_it_on(toolkit: Toolkit) -> None:
    page = toolkit()
    page.focus("#own")
    show(page, "info", "one")
    show(page, "info", "two")
    toast(page, "one").get_by_role("button", name="Close").focus()
    page.evaluate("() => toasts.dismiss(toasts.shown[0].id)")
    expect(toast(page, "two")).to_be_focused()
    page.evaluate("() => toasts.clear()")
    expect(page.locator("#own")).to_be_focused()


# ── Time ─────────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_a_toast_goes_by_itself_and_its_time_stands_still_under_the_pointer(toolkit: Toolkit) -> None:
    page = toolkit()
    show(page, "success", "stays", lasts_ms=1500)
    toast(page, "stays").hover()
    expect(page.locator(REGION)).to_have_attribute("data-paused", "")
    bar = toast(page, "stays").locator(".hermes-toast__time")
    width = bar.evaluate("(bar) => bar.getBoundingClientRect().width")
    page.wait_for_timeout(1800)
    assert bar.evaluate("(bar) => bar.getBoundingClientRect().width") == width
    page.mouse.move(5, 5)
    expect(page.locator(REGION)).not_to_have_attribute("data-paused", "")
    page.wait_for_function(
        "(width) => !(document.querySelector('.hermes-toast__time')?.getBoundingClientRect().width >= width)", arg=width
    )
    expect(toast(page, "stays")).to_have_count(0)


def test_time_stands_still_while_the_page_is_hidden(toolkit: Toolkit) -> None:
    page = toolkit()
    show(page, "success", "stays", lasts_ms=1000)
    hide(page, True)
    page.wait_for_timeout(1500)
    expect(toast(page, "stays")).to_have_count(1)
    hide(page, False)
    expect(toast(page, "stays")).to_have_count(0)


def test_a_click_does_not_leave_the_time_standing_still(toolkit: Toolkit) -> None:
    page = toolkit()
    show(page, "info", "one")
    show(page, "success", "two")
    toast(page, "one").get_by_role("button", name="Close").click()
    page.mouse.move(5, 5)
    page.wait_for_function("() => !toasts.paused")


def test_what_stands_until_it_is_dismissed_shows_no_time(toolkit: Toolkit) -> None:
    page = toolkit()
    show(page, "danger", "stands", lasts_ms=0)
    expect(toast(page, "stands").locator(".hermes-toast__time")).to_be_hidden()


# ── What they say and offer ──────────────────────────────────────────────────────────────────────────────────────────
def test_a_repeat_is_counted(toolkit: Toolkit) -> None:
    page = toolkit()
    for _ in range(3):
        show(page, "warning", "Disk 90 % full")
    expect(page.locator(TOAST)).to_have_count(1)
    expect(page.locator(".hermes-toast__times")).to_have_text("×3")


@pytest.mark.parametrize("link", ["/guide/", "https://example.com/x"])
def test_a_harmless_link_can_be_followed(toolkit: Toolkit, link: str) -> None:
    page = toolkit()
    show(page, "info", "with a link", link=link, link_text="Read on")
    anchor = page.get_by_role("link", name="Read on")
    expect(anchor).to_have_attribute("href", page.evaluate("(link) => new URL(link, location).href", link))
    expect(anchor).to_have_attribute("rel", "noopener noreferrer")


def test_up_to_two_actions_do_what_they_say_and_close_the_toast(toolkit: Toolkit) -> None:
    page = toolkit()
    page.evaluate("() => { window.chosen = []; toasts.onaction = (name, {title}) => chosen.push([name, title]); }")
    actions = [{"label": label, "name": label.lower()} for label in ("Approve", "Refuse", "Third")]
    show(page, "custom", "Bob asks for a discount", actions=actions)
    assert toast(page, "Bob").locator(".hermes-toast__action").all_text_contents() == ["Approve", "Refuse"]
    page.get_by_role("button", name="Refuse").click()
    expect(page.locator(TOAST)).to_have_count(0)
    assert page.evaluate("() => chosen") == [["refuse", "Bob asks for a discount"]]
    page.evaluate(
        """() => {
            const undo = {label: "Undo", onclick: () => chosen.push("undone")};
            toasts.show("info", {title: "Order cancelled", actions: [undo]});
        }"""
    )
    page.get_by_role("button", name="Undo").click()
    assert page.evaluate("() => chosen.at(-1)") == "undone"


def test_a_custom_toast_has_an_icon_a_look_and_content_of_its_own(toolkit: Toolkit) -> None:
    page = toolkit()
    page.evaluate(
        """() => toasts.show("custom", {
            title: "Upload", icon: "☁️", look: "upload",
            draw: () => Object.assign(document.createElement("progress"), {max: 10, value: 4, ariaLabel: "Upload"}),
        })"""
    )
    expect(toast(page, "Upload")).to_have_attribute("data-look", "upload")
    expect(toast(page, "Upload").locator(".hermes-toast__icon")).to_have_text("☁️")
    expect(toast(page, "Upload").get_by_role("progressbar")).to_be_visible()


def test_a_look_and_colours_are_the_pages_to_choose(toolkit: Toolkit) -> None:
    page = toolkit()
    choose = "(names) => names.forEach((name) => document.documentElement.style.setProperty(name, 'rgb(51, 102, 153)'))"
    page.evaluate(choose, ["--hermes-surface", "--hermes-info"])
    show(page, "info", "one")
    card = page.locator(".hermes-toast__card")
    # The surface, with a tint of the kind's colour, which is the same here.
    assert card.evaluate("(card) => getComputedStyle(card).backgroundColor") == "color(srgb 0.2 0.4 0.6)"


def test_it_speaks_the_readers_language(toolkit: Toolkit) -> None:
    more = {"one": "jeszcze {n}", "few": "jeszcze {n} inne", "many": "jeszcze {n} innych", "other": "jeszcze {n}"}
    strings = {
        "locale": "pl",
        "region": "Powiadomienia",
        "close": "Zamknij",
        "clear": "Zamknij wszystkie",
        "more": more,
    }
    page = toolkit(lang="pl", view={"strings": strings}, toasts={"limit": 1})
    for n in range(3):
        show(page, "info", f"{n}", lasts_ms=0)
    expect(page.locator(".hermes-toasts__more")).to_have_text("jeszcze 2 inneZamknij wszystkie")
    for n in range(3, 6):
        show(page, "info", f"{n}", lasts_ms=0)
    expect(page.locator(".hermes-toasts__more span")).to_have_text("jeszcze 5 innych")
    expect(page.get_by_role("region", name="Powiadomienia")).to_have_count(1)
    expect(page.get_by_role("button", name="Zamknij", exact=True)).to_be_visible()


def test_only_so_many_stand_at_once_and_the_rest_can_be_cleared(toolkit: Toolkit) -> None:
    page = toolkit()
    for n in range(7):
        show(page, "info", f"number {n}", lasts_ms=0)
    expect(page.locator(".hermes-toasts__more")).to_contain_text("3 more")
    expect(page.locator(TOAST)).to_have_count(4)
    page.get_by_role("button", name="Clear all").click()
    expect(page.locator(TOAST)).to_have_count(0)
    expect(page.locator(".hermes-toasts__more")).to_be_hidden()


MISSED = """(count) => {
    const missed = Array.from({length: count}, (_, n) => server.publish({type: "x", data: 0}));
    missed.forEach((entry, n) => { entry.data = {type: n === 3 ? "danger" : "info", data: {title: `Order ${n}`}}; });
    toasts.showEntries(missed, {away: true});
}"""


def test_after_an_absence_a_digest_stands_for_what_was_missed_and_opens_the_list(toolkit: Toolkit) -> None:
    page = toolkit()
    page.evaluate(MISSED, 7)
    digest = toast(page, "7 while you were away")
    expect(page.locator(TOAST)).to_have_count(1)
    expect(digest).to_have_attribute("data-kind", "danger")
    expect(digest.locator(".hermes-toast__text")).to_have_text("Order 6\nOrder 5\nOrder 4")
    digest.get_by_role("button", name="Show all").click()
    expect(page.get_by_role("dialog", name="Notifications")).to_be_visible()
    expect(page.locator(".hermes-bell__entry")).to_have_count(7)
    expect(page.locator(TOAST)).to_have_count(0)


def test_a_short_absence_needs_no_digest(toolkit: Toolkit) -> None:
    page = toolkit()
    page.evaluate(MISSED, 3)
    expect(page.locator(TOAST)).to_have_count(3)


def test_without_a_list_a_digest_offers_none(toolkit: Toolkit) -> None:
    page = toolkit()
    page.evaluate("() => { toasts.onlist = null; }")
    page.evaluate(MISSED, 7)
    expect(toast(page, "7 while you were away")).to_be_visible()
    expect(page.get_by_role("button", name="Show all")).to_have_count(0)


# ── Touch and small pages ────────────────────────────────────────────────────────────────────────────────────────────
def swipe(page: Page, card: Locator, by: tuple[int, int], slow: bool = False) -> None:
    """Drag a finger from the middle of a card."""
    settle(page)
    box = card.bounding_box()
    assert box
    session = page.context.new_cdp_session(page)
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    for step in range(9):
        kind = "touchStart" if step == 0 else "touchMove"
        point = {"x": x + by[0] * step / 8, "y": y + by[1] * step / 8}
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [point]})
        if slow:
            page.wait_for_timeout(60)
    session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})


@pytest.mark.parametrize("by", [160, -160])
def test_a_swipe_to_either_side_dismisses(toolkit: Toolkit, by: int) -> None:
    page = toolkit(has_touch=True)
    show(page, "info", "one", lasts_ms=0)
    show(page, "info", "two", lasts_ms=0)
    swipe(page, toast(page, "one").locator(".hermes-toast__card"), (by, 4))
    expect(toast(page, "one")).to_have_count(0)
    expect(toast(page, "two")).to_have_count(1)


def test_a_short_or_upright_swipe_springs_back_and_follows_no_link(toolkit: Toolkit) -> None:
    page = toolkit(has_touch=True)
    show(page, "info", "one", link="/elsewhere", lasts_ms=0)
    for by in ((40, 2), (5, 120)):
        swipe(page, toast(page, "one").locator(".hermes-toast__card"), by, slow=True)
        page.wait_for_function("() => !document.querySelector('.hermes-toast__card').style.translate")
        expect(toast(page, "one")).to_have_count(1)
    swipe(page, page.get_by_role("link", name="Open"), (30, 0), slow=True)
    assert page.url.endswith("app.test/")


def test_the_mouse_selects_text_and_does_not_swipe(toolkit: Toolkit) -> None:
    page = toolkit()
    show(page, "danger", "Error 4711", "copy me")
    box = toast(page, "4711").locator(".hermes-toast__title").bounding_box()
    assert box
    page.mouse.move(box["x"] + 2, box["y"] + 10)
    page.mouse.down()
    page.mouse.move(box["x"] + 200, box["y"] + 10, steps=5)
    page.mouse.up()
    assert "Error 4711" in page.evaluate("() => getSelection().toString()")
    expect(page.locator(TOAST)).to_have_count(1)


PHONE = {"width": 360, "height": 640}


def test_a_phone_shows_them_whole(toolkit: Toolkit) -> None:
    page = toolkit(viewport=PHONE)
    show(page, "danger", "x" * 200, "y" * 900)
    box = page.locator(TOAST).bounding_box()
    assert box
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 360
    assert page.evaluate("() => document.documentElement.scrollWidth") <= 360


def test_on_a_phone_they_stand_behind_each_other_until_they_are_touched(toolkit: Toolkit) -> None:
    page = toolkit(viewport=PHONE, has_touch=True)
    for name in ("one", "two", "three"):
        show(page, "info", name, "a text that needs two lines on a page that is as narrow as this one is")
    tops = """() => [...document.querySelectorAll(".hermes-toast")].map((each) => each.getBoundingClientRect().top)"""
    settle(page)
    first, _, last = page.evaluate(tops)
    assert last - first < 30, "a deck"
    page.touchscreen.tap(180, last + 40)
    expect(page.locator(REGION)).to_have_attribute("data-paused", "")
    settle(page)
    first, second, last = page.evaluate(tops)
    assert last - second > 60, "laid open"
    assert second - first > 60
    page.touchscreen.tap(180, 100)
    page.wait_for_function("() => !toasts.paused")


# ── Where they stand ─────────────────────────────────────────────────────────────────────────────────────────────────
def test_the_page_below_gets_its_clicks(toolkit: Toolkit) -> None:
    page = toolkit()
    show(page, "info", "one")
    box = page.locator(REGION).bounding_box()
    assert box
    below = page.evaluate("([x, y]) => document.elementFromPoint(x, y).className", [box["x"] + 5, box["y"] + 2])
    assert "hermes" not in below


def test_from_right_to_left_the_toasts_stand_on_the_left(toolkit: Toolkit) -> None:
    page = toolkit(direction="rtl", lang="he")
    show(page, "info", "שלום", "עולם")
    settle(page)
    box = page.locator(TOAST).bounding_box()
    close = page.get_by_role("button", name="Close").bounding_box()
    assert box
    assert close
    assert box["x"] < 100
    assert close["x"] < box["x"] + box["width"] / 2
    # The time runs out towards the end of the line too.
    bar = page.locator(".hermes-toast__time")
    page.wait_for_function("() => document.querySelector('.hermes-toast__time').getBoundingClientRect().width < 350")
    edges = bar.evaluate("(bar) => [bar, bar.parentElement].map((each) => each.getBoundingClientRect().right)")
    assert abs(edges[0] - edges[1]) < 3


def test_a_page_library_that_replaces_the_body_does_not_end_them(toolkit: Toolkit) -> None:
    page = toolkit()
    show(page, "info", "before")
    page.evaluate("() => document.body.replaceWith(document.createElement('body'))")
    show(page, "info", "after")
    expect(toast(page, "after")).to_be_visible()
    expect(page.locator(REGION)).to_have_count(1)


def test_taken_out_of_the_page_they_leave_nothing_behind(toolkit: Toolkit) -> None:
    page = toolkit()
    show(page, "info", "one")
    page.evaluate("() => { view.remove(); bell.remove(); }")
    page.evaluate("() => server.publish({type: 'info', data: 'two'})")
    page.keyboard.press("F8")
    page.evaluate("() => new Promise(requestAnimationFrame)")
    assert page.locator("[class^=hermes]").count() == 0


def test_who_wants_no_motion_gets_none(toolkit: Toolkit) -> None:
    page = toolkit(reduced_motion="reduce", has_touch=True)
    for name in ("one", "two"):
        show(page, "info", name)
        assert page.evaluate("() => document.getAnimations().length") == 0
    expect(page.locator(".hermes-toast__time").first).to_be_hidden()
    toast(page, "one").get_by_role("button", name="Close").click()
    assert page.evaluate("() => document.getAnimations().length") == 0
    assert page.locator(".hermes-toast").count() == 1
    page.locator(".hermes-bell__button").click()
    assert page.evaluate("() => document.getAnimations().length") == 0


def test_toasts_that_are_higher_than_the_page_are_scrolled(toolkit: Toolkit) -> None:
    page = toolkit(viewport={"width": 640, "height": 300})  # 1280 x 600, zoomed to 200 %
    for n in range(4):
        show(page, "info", f"toast {n} " + "Donaudampfschifffahrtsgesellschaft" * 3, "a line\n" * 9, lasts_ms=0)
    page.locator(TOAST).last.hover()
    settle(page)
    assert in_sight(page, 3), "the newest"
    assert not in_sight(page, 0)
    page.mouse.wheel(0, -5000)
    page.wait_for_function("() => document.querySelector('.hermes-toasts__list').scrollTop === 0")
    assert in_sight(page, 0), "the oldest"
    page.keyboard.press("F8")
    expect(page.locator(TOAST).last).to_be_focused()
    assert in_sight(page, 3)
    assert page.evaluate("() => document.documentElement.scrollWidth") <= 640
    page.evaluate("() => toasts.clear()")
    show(page, "info", "short")
    expect(page.locator(".hermes-toasts__list[data-tall]")).to_have_count(0)


def in_sight(page: Page, n: int) -> bool:
    """Whether a toast's heading is inside the page."""
    box = page.locator(f"{TOAST} .hermes-toast__title").nth(n).bounding_box()
    size = page.viewport_size
    assert box
    assert size
    return box["y"] >= 0 and box["y"] + box["height"] <= size["height"]


def test_a_message_that_no_text_can_be_made_of_keeps_nothing_else_from_showing(toolkit: Toolkit) -> None:
    page = toolkit()
    odd = {"toString": 1, "valueOf": 1, "toJSON": 1}
    for data in ("before", {**dict.fromkeys(("title", "text", "link", "icon", "look", "lasts_ms"), odd)}, "after"):
        page.evaluate("(data) => void server.publish({type: 'info', data})", data)
    expect(page.locator(TOAST)).to_have_count(3)
    page.locator(".hermes-bell__button").click()
    expect(page.locator(".hermes-bell__entry")).to_have_count(3)


def test_a_link_without_words_has_some_in_the_list(toolkit: Toolkit) -> None:
    page = toolkit()
    page.evaluate("() => void server.publish({type: 'warning', data: {title: ' ', link: '/a'}})")
    page.locator(".hermes-bell__button").click()
    expect(page.locator(".hermes-bell__list").get_by_role("link", name="Warning")).to_be_visible()

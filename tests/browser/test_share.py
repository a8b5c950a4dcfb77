"""Tabs of one member in a real browser: one socket, every entry in each tab, every toast in one."""

from __future__ import annotations

import contextlib
import logging
import os
import random
import time
from collections import Counter
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext, Error, Page

from tests.browser.tabs import history, open_tab, wait_for_seen, written
from tests.conftest import whole_chromium
from tests.processes import Hermes
from tests.waiting import wait_until

pytestmark = pytest.mark.browser
logger = logging.getLogger(__name__)


@pytest.fixture
def profile(browser: Browser, own_hermes: Hermes) -> Iterator[BrowserContext]:
    """A browser profile in which Alice is signed in."""
    context = browser.new_context()
    context.add_cookies(
        [{"name": n, "value": v, "url": own_hermes.url} for n, v in own_hermes.sign_in("alice").items()]
    )
    yield context
    context.close()
    wait_until(lambda: not own_hermes.live_rows(), what="all sockets are closed")


def wait_for_sockets(hermes: Hermes, count: int) -> None:
    """Wait until the server has so many sockets, and see that it stays so: the registry tells it a moment later."""
    wait_until(lambda: len(hermes.live_rows()) == count, what=f"{count} sockets")
    time.sleep(0.5)
    assert len(hermes.live_rows()) == count


def test_twenty_tabs_hold_one_socket_and_close_in_any_order(profile: BrowserContext, own_hermes: Hermes) -> None:
    seed = int(os.environ.get("SEED") or random.randrange(1_000_000))
    chance = random.Random(seed)
    tabs = {f"{n}": open_tab(profile, own_hermes, f"{n}") for n in range(20)}
    wait_for_sockets(own_hermes, 1)

    for n in range(20):
        own_hermes.send("acme", {"type": "info", "data": f"all {n}"})
    wait_for_seen(tabs.values(), 20)
    page = tabs["0"]
    expected = history(page, 20)
    assert written(page, "seen") == dict.fromkeys(tabs, expected)
    wait_until(lambda: sum(map(len, written(page, "shown").values())) >= 20, what="20 toasts")
    assert sorted(data for shown in written(page, "shown").values() for data, _ in shown) == sorted(expected)
    wait_until(lambda: sum(map(len, written(page, "drawn").values())) >= 20, what="20 are drawn")
    assert sorted(text for texts in written(page, "drawn").values() for text in texts) == sorted(expected)

    order = list(tabs)
    chance.shuffle(order)
    logger.warning("SEED=%s: closed in the order %s", seed, " ".join(order[:-1]))
    page = tabs[order[-1]]
    for n, name in enumerate(order[:-1]):
        own_hermes.send("acme", {"type": "info", "data": f"closing {n}"})
        page.wait_for_timeout(chance.choice([0, 20, 100, 300]))
        tabs[name].close()
    own_hermes.send("acme", {"type": "info", "data": "closing 19"})
    wait_until(lambda: len(written(page, "seen")[order[-1]]) >= 40, 20, "the last tab has all")
    expected = history(page, 40)
    assert len(set(expected)) == 40
    for name, seen in written(page, "seen").items():
        assert seen == expected[: len(seen)], name
    assert written(page, "seen")[order[-1]] == expected
    wait_until(lambda: sum(map(len, written(page, "shown").values())) >= 40, what="40 toasts")
    page.wait_for_timeout(500)  # none must follow
    assert sorted(data for shown in written(page, "shown").values() for data, _ in shown) == sorted(expected)
    # A tab that is closed in the very moment in which it shows one does not draw it any more; none is drawn twice.
    drawn = Counter(text for texts in written(page, "drawn").values() for text in texts)
    assert drawn.keys() <= set(expected)
    assert set(drawn.values()) == {1}
    assert all(events == ["recovered"] * len(events) for events in written(page, "events").values())
    wait_for_sockets(own_hermes, 1)


def leader(tabs: dict[str, Page]) -> str:
    """The name of the tab that has the socket."""
    (name,) = (name for name, page in tabs.items() if page.evaluate("() => hermes.sharing.leads"))
    return name


def check(page: Page, count: int, names: list[str]) -> None:
    """These tabs must have dispatched the last entries, each once and in the history's order: `seq` counts them."""
    expected = history(page, min(count, 200))
    seen, seqs = written(page, "seen"), written(page, "seqs")
    for name in names:
        assert len(seen[name]) == len(set(seen[name])) == count, name
        assert seqs[name] == list(range(seqs[name][0], seqs[name][0] + count)), name
        assert seen[name][-len(expected) :] == expected, name


def test_the_leading_tab_is_closed_in_a_burst_and_the_server_restarts(
    profile: BrowserContext, own_hermes: Hermes
) -> None:
    tabs = {name: open_tab(profile, own_hermes, name) for name in "abc"}
    own_hermes.send_many("acme", [{"type": "info", "data": f"burst {n}"} for n in range(100)])
    tabs["b"].wait_for_function("() => window.written?.('seen').length >= 20")
    tabs.pop(leader(tabs)).close()
    wait_for_seen(tabs.values(), 100)
    own_hermes.stop_server()
    own_hermes.send_many("acme", [{"type": "info", "data": f"while it restarts {n}"} for n in range(10)])
    own_hermes.start_server()
    wait_for_seen(tabs.values(), 110)
    check(next(iter(tabs.values())), 110, list(tabs))
    wait_for_sockets(own_hermes, 1)


def test_a_tab_that_is_reloaded_in_a_burst_misses_and_repeats_nothing(
    profile: BrowserContext, own_hermes: Hermes
) -> None:
    tabs = {name: open_tab(profile, own_hermes, name) for name in "abc"}
    own_hermes.send_many("acme", [{"type": "info", "data": f"burst {n}"} for n in range(500)])
    for name, count in (("a", 20), ("b", 60), ("a", 100)):
        tabs[name].wait_for_function("(count) => window.written?.('seen').length >= count", arg=count)
        tabs[name].reload()
    wait_for_seen(tabs.values(), 500)
    check(tabs["c"], 500, list(tabs))
    wait_for_sockets(own_hermes, 1)
    assert sum(map(len, written(tabs["c"], "shown").values())) == 500


def test_the_leading_tab_crashes(profile: BrowserContext, own_hermes: Hermes) -> None:
    tabs = {name: open_tab(profile, own_hermes, name) for name in "ab"}
    own_hermes.send("acme", {"type": "info", "data": "before"})
    wait_for_seen(tabs.values(), 1)
    crashed = tabs.pop(leader(tabs))
    with crashed.expect_event("crash"), contextlib.suppress(Error):
        crashed.goto("chrome://crash")
    own_hermes.send("acme", {"type": "info", "data": "after"})
    (survivor,) = tabs.values()
    wait_for_seen([survivor], 2)
    check(survivor, 2, list(tabs))


def test_the_leading_tab_is_frozen_and_thawed(profile: BrowserContext, own_hermes: Hermes) -> None:
    tabs = {name: open_tab(profile, own_hermes, name) for name in "abc"}
    own_hermes.send("acme", {"type": "info", "data": "before"})
    wait_for_seen(tabs.values(), 1)
    frozen = leader(tabs)
    # Chromium freezes no page that Playwright drives, because it takes them all for visible; so the page is only told.
    tabs[frozen].evaluate("() => document.dispatchEvent(new Event('freeze'))")
    others = [page for name, page in tabs.items() if name != frozen]
    for n in range(10):
        own_hermes.send("acme", {"type": "info", "data": f"frozen {n}"})
    wait_for_seen(others, 11)
    assert len(written(others[0], "seen")[frozen]) == 1
    tabs[frozen].evaluate("() => document.dispatchEvent(new Event('resume'))")
    wait_for_seen(tabs.values(), 11)
    check(others[0], 11, list(tabs))
    assert leader({name: page for name, page in tabs.items() if name != frozen})
    wait_for_sockets(own_hermes, 1)


def test_toasts_wait_while_no_tab_is_visible_and_then_show_once(profile: BrowserContext, own_hermes: Hermes) -> None:
    tabs = {name: open_tab(profile, own_hermes, name) for name in "abc"}
    for page in tabs.values():
        page.evaluate("() => look(false)")
    for n in range(3):
        own_hermes.send("acme", {"type": "info", "data": f"nobody looks {n}"})
    wait_for_seen(tabs.values(), 3)
    tabs["a"].wait_for_timeout(2500)  # so that they are late
    assert written(tabs["a"], "shown") == {}
    tabs["b"].evaluate("() => look(true)")
    wait_until(lambda: written(tabs["a"], "shown"), what="they show")
    shown = written(tabs["a"], "shown")
    assert shown == {"b": [[data, True] for data in history(tabs["a"], 3)]}
    tabs["c"].evaluate("() => look(true)")
    own_hermes.send("acme", {"type": "info", "data": "somebody looks"})
    wait_until(lambda: len(written(tabs["a"], "shown")) == 2, what="it shows")
    assert written(tabs["a"], "shown") == {**shown, "c": [["somebody looks", False]]}


def test_another_member_who_signs_in_shares_nothing(profile: BrowserContext, own_hermes: Hermes) -> None:
    alice = open_tab(profile, own_hermes, "alice")
    cookies = [{"name": n, "value": v, "url": own_hermes.url} for n, v in own_hermes.sign_in("bob").items()]
    profile.add_cookies(cookies)  # type: ignore[arg-type]
    bob = open_tab(profile, own_hermes, "bob")
    assert alice.evaluate("() => hermes.sharing.name") != bob.evaluate("() => hermes.sharing.name")
    own_hermes.send("acme", {"type": "info", "data": "for Alice"}, to=[user_of(alice)])
    own_hermes.send("acme", {"type": "info", "data": "for Bob"}, to=[user_of(bob)])
    own_hermes.send("acme", {"type": "info", "data": "for both"})
    wait_for_seen([alice, bob], 2)
    seen = written(alice, "seen")
    assert sorted(seen["alice"]) == ["for Alice", "for both"]
    assert sorted(seen["bob"]) == ["for Bob", "for both"]


def user_of(page: Page) -> str:
    """Whose tab it is."""
    name: str = page.evaluate("() => JSON.parse(hermes.sharing.name.replace('hermes:1:', '')).at(-1)")
    return name


def test_without_sharing_each_tab_has_its_socket_and_its_toasts(profile: BrowserContext, own_hermes: Hermes) -> None:
    tabs = {name: open_tab(profile, own_hermes, name, share=False) for name in "ab"}
    own_hermes.send("acme", {"type": "info", "data": "one"})
    wait_for_seen(tabs.values(), 1)
    wait_for_sockets(own_hermes, 2)
    assert written(tabs["a"], "shown") == {"a": [["one", False]], "b": [["one", False]]}


def test_tabs_that_follow_send_and_ask_through_the_one_that_leads(profile: BrowserContext, own_hermes: Hermes) -> None:
    tabs = {name: open_tab(profile, own_hermes, name) for name in "abc"}
    follower = next(page for page in tabs.values() if not page.evaluate("() => hermes.sharing.leads"))
    sent = follower.evaluate(
        "() => new Promise((done) => { hermes.on('hermes.sent', done); hermes.send({type: 'info', data: 'hello'}); })"
    )
    assert sent["id"]
    wait_for_seen(tabs.values(), 1)
    assert history(follower, 1) == ["hello"]
    wait_for_sockets(own_hermes, 1)


def test_a_tab_in_the_back_forward_cache_lets_another_lead_and_catches_up(browser: Browser, own_hermes: Hermes) -> None:
    # Playwright does without that cache unless told.
    caching = browser.browser_type.launch(
        executable_path=whole_chromium(),
        args=["--no-sandbox", "--disable-dev-shm-usage"],
        ignore_default_args=["--disable-back-forward-cache"],
    )
    try:
        context = caching.new_context()
        cookies = [{"name": n, "value": v, "url": own_hermes.url} for n, v in own_hermes.sign_in("alice").items()]
        context.add_cookies(cookies)  # type: ignore[arg-type]
        tabs = {name: open_tab(context, own_hermes, name) for name in "ab"}
        session = context.new_cdp_session(tabs["a"])
        assert leader(tabs) == "a"
        own_hermes.send("acme", {"type": "info", "data": "before"})
        wait_for_seen(tabs.values(), 1)
        tabs["a"].goto(f"{own_hermes.url}/readyz")
        tabs["b"].wait_for_function("() => hermes.sharing.leads && hermes.state === 'open'")
        own_hermes.send("acme", {"type": "info", "data": "cached"})
        wait_for_seen([tabs["b"]], 2)
        session.send("Runtime.evaluate", {"expression": "history.back()"})
        wait_until(lambda: "restored" in written(tabs["b"], "events").get("a", []), what="it comes out of the cache")
        wait_for_seen(tabs.values(), 2)
        check(tabs["b"], 2, list(tabs))
        assert leader(tabs) == "b"
        wait_for_sockets(own_hermes, 1)
        assert sum(map(len, written(tabs["b"], "shown").values())) == 2
    finally:
        caching.close()

"""Tabs of one member in a real browser: one socket, every entry in each tab, every toast in one."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext

from tests.browser.tabs import history, open_tab, written
from tests.processes import Hermes
from tests.waiting import wait_until

pytestmark = pytest.mark.browser


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


def test_twenty_tabs_hold_one_socket_and_close_in_any_order(profile: BrowserContext, own_hermes: Hermes) -> None:
    seed = int(os.environ.get("SEED") or random.randrange(1_000_000))
    print(f"SEED={seed}")
    chance = random.Random(seed)
    tabs = {f"{n}": open_tab(profile, own_hermes, f"{n}") for n in range(20)}
    assert len(own_hermes.live_rows()) == 1

    for n in range(20):
        own_hermes.send("acme", {"type": "info", "data": f"all {n}"})
    for page in tabs.values():
        page.wait_for_function("() => written('seen').length === 20")
    page = tabs["0"]
    expected = history(page, 20)
    assert written(page, "seen") == {name: expected for name in tabs}
    wait_until(lambda: sum(map(len, written(page, "shown").values())) >= 20, what="20 toasts")
    assert sorted(data for shown in written(page, "shown").values() for data, _ in shown) == sorted(expected)

    order = list(tabs)
    chance.shuffle(order)
    print("closed in this order:", *order[:-1])
    for n, name in enumerate(order[:-1]):
        own_hermes.send("acme", {"type": "info", "data": f"closing {n}"})
        page.wait_for_timeout(chance.choice([0, 20, 100, 300])) if n else None
        page = tabs[order[-1]]
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
    assert all(events == ["recovered"] * len(events) for events in written(page, "events").values())
    assert len(own_hermes.live_rows()) == 1

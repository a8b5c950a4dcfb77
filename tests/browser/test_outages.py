"""Pages while a server is away: they say so, come back, and show what they missed once and in order."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import SignIn
from tests.processes import Hermes

pytestmark = pytest.mark.browser


def test_a_page_survives_a_restart_and_a_crash_of_its_server(signed_in: SignIn, own_hermes: Hermes) -> None:
    page = signed_in("alice", at=own_hermes)
    page.evaluate("() => { window.seen = []; hermes.on('info', (data) => seen.push(data)); }")
    own_hermes.send("acme", {"type": "info", "data": "before"})
    page.wait_for_function("() => seen.length === 1")

    own_hermes.stop_server()
    expect(page.locator("#state")).not_to_have_text("Connected")
    own_hermes.send("acme", {"type": "info", "data": "while it restarts"})
    own_hermes.start_server()
    expect(page.locator("#state")).to_have_text("Connected", timeout=30_000)

    own_hermes.kill_server()
    expect(page.locator("#state")).not_to_have_text("Connected")
    own_hermes.send("acme", {"type": "info", "data": "after the crash"})
    own_hermes.start_server()
    expect(page.locator("#state")).to_have_text("Connected", timeout=30_000)
    own_hermes.send("acme", {"type": "info", "data": "last"})
    page.wait_for_function("() => seen.length === 4", timeout=10_000)
    assert page.evaluate("() => seen") == ["before", "while it restarts", "after the crash", "last"]


def test_a_page_is_told_when_the_history_is_lost_and_goes_on(signed_in: SignIn, own_hermes: Hermes) -> None:
    page = signed_in("alice", at=own_hermes)
    page.evaluate(
        """() => {
            window.seen = []; window.lost = [];
            hermes.on("info", (data) => seen.push(data));
            hermes.on("hermes.lost", ({reason}) => lost.push(reason));
        }"""
    )
    own_hermes.send("acme", {"type": "info", "data": "in the first life"})
    page.wait_for_function("() => seen.length === 1")
    with own_hermes.redis() as client:
        client.flushall()
    own_hermes.send("acme", {"type": "info", "data": "in the second life"})
    page.wait_for_function("() => seen.length === 2", timeout=20_000)
    page.wait_for_function("() => lost.length > 0", timeout=20_000)
    assert page.evaluate("() => [seen, [...new Set(lost)]]") == [["in the first life", "in the second life"], ["epoch"]]

"""A flood of entries: the page stays responsive, only so many toasts stand, and every entry is counted."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import SignIn, Toolkit
from tests.processes import Hermes

pytestmark = pytest.mark.browser
TOAST = ".hermes-toast:not([inert])"
# The browser times tasks by the clock on the wall, and so counts what other programs of a busy machine take meanwhile.
# Where it finds some too long on each of so many tries, the CPU time of the page's tasks decides.
TRIES = 3
LONG_MS = 50.0
WATCH = """() => {
    window.long = [];
    window.most = 0;
    new PerformanceObserver((list) => {
        for (const {duration} of list.getEntries()) long.push(duration);
    }).observe({type: "longtask"});
    new MutationObserver(() => {
        most = Math.max(most, document.querySelectorAll(".hermes-toast:not([inert])").length);
    }).observe(document.querySelector(".hermes-toasts"), {childList: true, subtree: true});
}"""
# 500 in a second, as a socket delivers them: 25 at once, each of them a text that is read.
FLOOD = """async (round) => {
    toasts.clear();
    const end = performance.now() + 1000;
    for (let n = 0; n < 500; n += 1) {
        const kind = ["info", "success", "warning", "danger", "custom"][n % 5];
        const content = {title: `Round ${round}, entry ${n}`, text: "a text ".repeat(10), link: "/x"};
        server.publish({type: kind, data: content});
        if (n % 25 === 24) await new Promise((done) => setTimeout(done, (end - performance.now()) / ((500 - n) / 25)));
    }
    await new Promise((done) => requestAnimationFrame(() => setTimeout(done, 200)));
}"""


def responsive(page: Page, flood: Callable[[int], Any]) -> None:
    """Run ``flood`` until no task of the page was long, and fail if on each try one needed the CPU for so long."""
    found: list[tuple[list[float], float]] = []
    for round_ in range(TRIES):
        browser = page.context.browser
        assert browser
        browser.start_tracing(page=page, categories=["toplevel"])
        try:
            page.evaluate("() => { long.length = 0; }")
            flood(round_)
            long = page.evaluate("() => [...long]")
        finally:
            trace = json.loads(browser.stop_tracing())["traceEvents"]
        named = [each for each in trace if each["name"] == "thread_name" and each["args"]["name"] == "CrRendererMain"]
        pages = {(each["pid"], each["tid"]) for each in named}
        took = [each.get("tdur", 0) / 1000 for each in trace if (each["pid"], each["tid"]) in pages]
        assert len(took) > 50, "the page's tasks are in the trace"
        found.append((long, max(took)))
        if not long or max(took) < LONG_MS:
            return
    raise AssertionError(f"(tasks of more than 50 ms, most CPU ms of one task): {found}")


def test_with_500_entries_in_a_second_no_task_takes_50_ms_the_cap_holds_and_the_digest_counts_right(
    toolkit: Toolkit,
) -> None:
    page = toolkit()
    page.evaluate(WATCH)

    def flood(round_: int) -> None:
        page.evaluate("() => toasts.pause()")  # none goes before it is counted: as if somebody read
        page.evaluate(FLOOD, round_)

    responsive(page, flood)
    assert page.evaluate("() => most") == 4
    assert page.evaluate("() => toasts.waiting.length") == 1
    digest = page.evaluate("() => toasts.waiting[0].count")
    single = page.evaluate("() => toasts.shown.length")
    gone = page.evaluate("() => document.querySelectorAll('.hermes-toast').length") - single
    assert digest == 500 - single - gone
    expect(page.locator(".hermes-toasts__more span")).to_have_text(f"{digest} more")
    # The first that goes makes room for the digest, which says the number.
    page.locator(TOAST).first.get_by_role("button", name="Close").click()
    expect(page.locator(TOAST, has_text=f"{digest} more notifications")).to_be_visible()
    page.get_by_role("button", name="Show all").click()
    expect(page.locator(".hermes-bell__entry")).to_have_count(50)
    expect(page.locator(".hermes-bell__badge")).to_have_text("50+")


def test_on_the_demo_page_500_messages_from_sqs_leave_it_responsive(signed_in: SignIn, hermes: Hermes) -> None:
    page = signed_in("bob")
    page.evaluate(WATCH)

    def flood(round_: int) -> None:
        page.evaluate("() => { hermes.toasts.clear(); hermes.toasts.pause(); }")
        before = page.evaluate("() => hermes.position.seq")
        hermes.send_many("acme", [{"type": "info", "data": {"title": f"Round {round_}, {n}"}} for n in range(500)])
        page.wait_for_function("(seq) => hermes.position.seq >= seq", arg=before + 500, timeout=30_000)

    responsive(page, flood)
    assert page.evaluate("() => most") <= 4
    counts = "() => [...hermes.toasts.shown, ...hermes.toasts.waiting].map(({count, times}) => count || times)"
    assert sum(page.evaluate(counts)) == 500

"""The dead-letter workbench in a real browser: from a broken message to the toast that it should have been."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.browser.conftest import SignIn
from tests.browser.test_pictures import FOLDER, IMAGES
from tests.processes import Hermes
from tests.waiting import wait_until

pytestmark = pytest.mark.browser
TOAST = ".hermes-toast"
DEAD = "hermes-messageQueue-dead"
WIDE = {"width": 1280, "height": 860}
BROKEN = """{
  "user_id": 0,
  "room_id": "acme",
  "data": {
    "type": "success",
    "data": {"title": "Invoice 2026-131 is paid", "text": "Initech Ltd. · €3,590.00", "urgent": yes}
  }
}"""
OTHERS = [
    json.dumps({"user_id": 12, "data": {"type": "info", "data": "Nobody said which room"}}),
    json.dumps({"user_id": 42, "room_id": "globex", "data": {"type": "hermes.hello", "data": {}}}),
    '{"user_id": 7, "room_id": "acme", "data": {"total": 1, "total": 2}}',
    json.dumps({"user_id": "orders", "room_id": "initech", "data": {"type": "info"}, "to": []}),
]

OpenAdmin = Callable[..., Page]


@pytest.fixture
def open_admin(browser: Browser, hermes: Hermes) -> Iterator[OpenAdmin]:
    """Return a function that opens the list of dead letters as the administrator; no page may fail in its scripts."""
    contexts: list[BrowserContext] = []
    failures: list[str] = []

    def open_list(**options: Any) -> Page:
        context = browser.new_context(viewport=WIDE, **options)
        contexts.append(context)
        context.add_cookies([{"name": n, "value": v, "url": hermes.url} for n, v in hermes.sign_in("admin").items()])
        page = context.new_page()
        page.on("pageerror", lambda error: failures.append(str(error)))
        page.on("dialog", lambda dialog: failures.append(dialog.message))
        page.goto(f"{hermes.url}/admin/")
        page.get_by_role("link", name="Dead letters").first.click()
        return page

    hermes.dead_letters()
    yield open_list
    for context in contexts:
        context.close()
    hermes.dead_letters()
    assert failures == []


def bury(hermes: Hermes, *bodies: str) -> None:
    """Send what the relay refuses, and wait until it has buried it."""
    before = hermes.queued(DEAD)
    for body in bodies:
        hermes.send_body(body)
    wait_until(lambda: hermes.queued(DEAD) == before + len(bodies), what="the relay has buried them")


def test_a_broken_message_is_mended_sent_again_and_becomes_a_toast(
    open_admin: OpenAdmin, signed_in: SignIn, hermes: Hermes
) -> None:
    alice, charlie = signed_in("alice"), signed_in("charlie")
    bury(hermes, BROKEN)
    page = open_admin()
    expect(page.locator(".dead-letters__count")).to_contain_text("1 of about 1 shown")
    expect(page.locator("tbody tr")).to_contain_text("not_json")
    page.get_by_role("link", name=re.compile("^Open")).click()
    expect(page.locator("mark")).to_have_text("yes")
    expect(page.locator(".dead-letters__note--error")).to_contain_text("Line 6, column 97.")

    page.get_by_label("Mend it and send it again").fill(BROKEN.replace("yes", "truly"))
    page.get_by_role("button", name="Send again").click()
    expect(page.get_by_role("alert")).to_contain_text("Not sent, because the relay would refuse this too")
    expect(page.locator("#body")).to_have_value(BROKEN.replace("yes", "truly"))
    page.get_by_label("Mend it and send it again").fill(BROKEN.replace("yes", "true"))
    page.get_by_role("button", name="Send again").click()

    expect(page.locator("body")).to_contain_text("Sent again: 1")
    expect(page.locator(".dead-letters__count")).to_contain_text("No dead letters")
    expect(alice.locator(TOAST, has_text="Invoice 2026-131 is paid")).to_be_visible()
    assert hermes.queued(DEAD) == 0
    expect(charlie.locator("body")).not_to_contain_text("Invoice 2026-131")
    assert "2026-131" not in hermes.log_text()


def test_letters_are_chosen_and_discarded_after_a_question(open_admin: OpenAdmin, hermes: Hermes) -> None:
    bury(hermes, *OTHERS)
    page = open_admin()
    expect(page.locator("tbody tr")).to_have_count(4)
    page.get_by_role("checkbox", name="All that are shown").check()
    page.get_by_role("button", name="Discard chosen").click()
    expect(page.get_by_role("heading", name="Discard 4 dead letters")).to_be_visible()
    page.get_by_role("link", name="Keep them").click()
    expect(page.locator("tbody tr")).to_have_count(4)
    for box in page.get_by_role("checkbox", name=re.compile("^Choose")).all()[:3]:
        box.check()
    page.get_by_role("button", name="Discard chosen").click()
    page.get_by_role("button", name="Discard").click()
    expect(page.locator("body")).to_contain_text("Discarded: 3")
    expect(page.locator("tbody tr")).to_have_count(1)


HOSTILE = "</pre></textarea><script>alert(1)</script><img src=x onerror=alert(1)>"


def test_a_hostile_letter_runs_nowhere(open_admin: OpenAdmin, hermes: Hermes) -> None:
    bury(hermes, json.dumps({"user_id": HOSTILE, "room_id": HOSTILE, "data": HOSTILE}) + HOSTILE)
    page = open_admin()
    expect(page.locator("tbody tr")).to_contain_text(HOSTILE)
    page.get_by_role("link", name=re.compile("^Open")).click()
    expect(page.locator(".dead-letters__body").first).to_contain_text(HOSTILE)
    page.get_by_role("button", name="Send again").click()
    expect(page.get_by_role("alert")).to_be_visible()
    assert page.locator("#content-main").locator("script, img").count() == 0


@pytest.mark.parametrize("look", ["light", "dark"])
def test_the_dead_letters_as_a_picture(open_admin: OpenAdmin, hermes: Hermes, look: str, tmp_path: Path) -> None:
    given_up = json.dumps({"user_id": 42, "room_id": "globex", "data": {"type": "info", "data": "Redis was away"}})
    hermes.client("sqs").send_message(QueueUrl=hermes.queue_url(DEAD), MessageBody=given_up)
    bury(hermes, BROKEN, *OTHERS)
    page = open_admin(color_scheme=look, device_scale_factor=1.5)
    suffix = "-dark" if look == "dark" else ""
    for name in ("dead-letters", "dead-letter"):
        if name == "dead-letter":
            row = page.locator("tbody tr", has_text="not_json")
            row.get_by_role("link", name=re.compile("^Open")).click()
            expect(page.locator("mark")).to_have_text("yes")
        page.evaluate("() => document.fonts.ready")
        picture = Path(FOLDER or tmp_path) / f"{name}{suffix}.png"
        page.screenshot(path=picture)
        assert picture.stat().st_size > 20_000


def test_every_picture_of_them_is_there_and_small_enough_for_a_page() -> None:
    for name in ("dead-letters", "dead-letters-dark", "dead-letter", "dead-letter-dark"):
        assert 20_000 < (IMAGES / f"{name}.png").stat().st_size < 600_000, name

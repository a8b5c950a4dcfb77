"""The admin in a browser: a dashboard that lives, connections that an operator closes, messages to a room."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect

from notifications.stream import keys
from tests.browser.conftest import SignIn
from tests.processes import Hermes
from tests.waiting import wait_until

pytestmark = pytest.mark.browser
Operator = Callable[..., Page]
FOLDER = os.environ.get("PICTURES")
DESKTOP = {"width": 1440, "height": 900}


@pytest.fixture
def operator(browser: Browser, request: pytest.FixtureRequest) -> Iterator[Operator]:
    """Return a function that opens a page of the admin as its administrator; the pages must make no error."""
    contexts: list[BrowserContext] = []
    failures: list[str] = []

    def open_page(path: str = "/admin/", at: Hermes | None = None, *, clock: bool = False, **options: Any) -> Page:
        hermes = at or request.getfixturevalue("hermes")
        context = browser.new_context(**{"viewport": DESKTOP, **options})
        contexts.append(context)
        context.add_cookies([{"name": n, "value": v, "url": hermes.url} for n, v in hermes.sign_in("admin").items()])
        page = context.new_page()
        page.on("pageerror", lambda error: failures.append(str(error)))
        if clock:
            page.clock.install()
        page.goto(hermes.url + path)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert failures == []


def value(page: Page, key: str) -> Any:
    return page.locator(f'[data-tile="{key}"] [data-value]')


def count(page: Page, key: str) -> int:
    return int(re.sub(r"\D", "", value(page, key).inner_text()) or 0)


def test_the_dashboard_changes_by_itself_when_alice_connects(
    operator: Operator, signed_in: SignIn, hermes: Hermes
) -> None:
    page = operator()
    before = count(page, "connections")
    expect(page.locator("[data-live]")).to_have_attribute("data-is-live", "true")
    assert page.locator('[data-table="servers"] tr').count() >= 1
    alice = signed_in("alice")
    expect(value(page, "connections")).to_have_text(str(before + 1), timeout=20_000)
    alice.context.close()
    expect(value(page, "connections")).to_have_text(str(before), timeout=20_000)


def test_a_dashboard_that_is_not_looked_at_asks_nothing(operator: Operator) -> None:
    page = operator(clock=True)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.evaluate("""() => {
        Object.defineProperty(document, "hidden", {get: () => window.isHidden ?? true});
        document.dispatchEvent(new Event("visibilitychange"));
    }""")
    page.clock.run_for(600_000)
    assert asked == []
    page.evaluate("() => { window.isHidden = false; document.dispatchEvent(new Event('visibilitychange')); }")
    with page.expect_request("**/live/"):
        page.clock.run_for(100)


def test_the_dashboard_says_that_its_figures_are_old_when_the_server_is_away(operator: Operator) -> None:
    page = operator(clock=True)
    page.route("**/live/", lambda route: route.abort())
    page.clock.run_for(3_100)
    expect(page.locator("[data-status]")).to_contain_text("figures are old")
    page.unroute("**/live/")
    page.clock.run_for(6_100)
    expect(page.locator("[data-status]")).to_have_text("Live")


OURS = ("", "notifications/server/relays/", "notifications/deadletter/", "admin/logentry/", "notifications/connection/")


def test_our_pages_are_no_wider_than_a_phone(operator: Operator, hermes: Hermes) -> None:
    page = operator(viewport={"width": 390, "height": 844})
    too_wide = {}
    for name in OURS:
        page.goto(f"{hermes.url}/admin/{name}")
        wide, wanted = page.evaluate("[document.scrollingElement.scrollWidth, innerWidth]")
        if wide > wanted:
            too_wide[name] = wide
    assert too_wide == {}


def reload_until_shown(wanted: Locator) -> None:
    """Rows and mirror are written each at its own pace, so that what one has the other may not have yet."""

    def shown() -> bool:
        wanted.page.reload()
        return wanted.is_visible()

    wait_until(shown, what=f"the page shows {wanted}")


def test_an_operator_disconnects_alice_who_comes_back(operator: Operator, signed_in: SignIn, hermes: Hermes) -> None:
    before = hermes.live_rows()
    alice = signed_in("alice")
    wait_until(lambda: hermes.live_rows() - before)
    (first,) = hermes.live_rows() - before
    page = operator("/admin/notifications/connection/?state=open")
    row = page.locator(f'input[name="_selected_action"][value="{first}"]')
    reload_until_shown(row)
    row.check()
    page.locator("select[name=action]").select_option("disconnect")
    page.get_by_role("button", name="Run").click()
    expect(page.get_by_role("heading", name="Close 1 open connection?")).to_be_visible()
    page.get_by_role("button", name="Disconnect").click()
    expect(page.get_by_text("Connections that are being closed: 1.")).to_be_visible()
    wait_until(lambda: first not in hermes.live_rows())
    expect(alice.locator("#state")).to_have_text("Connected")
    wait_until(lambda: hermes.live_rows() - before)
    page.goto(f"{hermes.url}/admin/notifications/connection/?q={first}")
    reload_until_shown(page.get_by_text("4110 disconnected by an operator"))
    alice.context.close()


def test_a_message_is_checked_and_then_sent_to_a_room(operator: Operator, signed_in: SignIn, hermes: Hermes) -> None:
    alice = signed_in("alice")
    page = operator("/admin/notifications/room/?q=acme")
    page.get_by_role("link", name="acme", exact=True).first.click()
    page.get_by_role("link", name="Send a message").click()
    page.get_by_label("Data").fill('{"type": "hermes.forged"}')
    page.get_by_role("button", name="Check only").click()
    expect(page.get_by_role("alert")).to_contain_text("Nothing was sent.")
    page.get_by_label("Data").fill('{"type": "info", "data": {"title": "From the admin", "text": "to acme"}}')
    page.get_by_role("button", name="Check only").click()
    expect(page.get_by_text("The relay would take this.")).to_be_visible()
    expect(alice.get_by_text("From the admin", exact=True)).to_have_count(0)
    page.get_by_role("button", name="Send", exact=True).click()
    expect(alice.locator(".hermes-toast", has_text="From the admin")).to_be_visible()
    page.get_by_role("link", name="Back to").click()
    page.get_by_role("link", name="Last entries").click()
    expect(page.get_by_role("cell", name="info").first).to_be_visible()
    assert "From the admin" not in page.locator("table").inner_text()


# An hour as a small site has it: members come and go, and entries with them.
BUSY = """
import math, random, uuid
from datetime import timedelta
from django.utils import timezone
from notifications.models import Connection
random.seed(4)
now, rows = timezone.now(), []
for minute in range(70):
    for each in range(round(9 + 5 * math.sin(minute / 9) + 2 * random.random())):
        opened = now - timedelta(minutes=minute, seconds=random.randrange(5, 55))
        closed = opened + timedelta(minutes=random.expovariate(0.9))
        if closed > now - timedelta(seconds=20):
            continue
        frames, weight = random.randrange(4, 90), random.randrange(180, 420)
        code = random.choice([1001, 1001, 1001, 1000, 1006, 4112, 4401, 4108, 4110])
        # Who did not keep up has not taken most of it, and of those who broke off some had not.
        late = frames * weight * 3 // 4 if code == 4108 else random.randrange(3) * weight if code == 1006 else 0
        rows.append(Connection(
            connection_id=uuid.uuid4().hex, stage="development",
            room_id=random.choice(["acme", "acme", "globex", "initech", "umbrella"]),
            user_id=str(random.randrange(1, 60)), server_id="web-1", opened_at=opened,
            closed_at=closed,
            close_code=code, frames_sent=frames, bytes_sent=frames * weight, bytes_waiting=late))
Connection.objects.bulk_create(rows)
# What a server writes after a minute.
for frames, each in enumerate(Connection.objects.filter(closed_at=None).order_by("opened_at"), 22):
    each.frames_sent, each.bytes_sent, each.bytes_waiting = frames, frames * 231, 0
    each.save()
"""


def let_an_hour_pass(hermes: Hermes) -> None:
    """Fill the plots with an hour that nobody has the time to wait for."""
    hermes.manage("shell", "--verbosity", "0", "-c", BUSY)
    with hermes.redis() as client:
        if FOLDER:  # else the minute may end before the picture is taken, and the plot with it
            wait_until(lambda: client.time()[0] % 60 < 35, 40)
        steps = [round(40 + 25 * math.sin(at / 7) + (at * 37 % 11)) for at in range(60)]
        # As if the room's partition had been given so many before.
        activity = next(iter(client.keys("hermes:{development:*}:activity")))
        info = client.xinfo_stream(activity)
        total, last = info["entries-added"], info["last-generated-id"]
        client.execute_command("XSETID", activity, last, "ENTRIESADDED", total + sum(steps), "MAXDELETEDID", "0-0")
        pace, minute = keys.pace_key("development"), client.time()[0] // 60
        client.delete(pace)
        for at, step in enumerate([*steps, 0]):
            client.xadd(pace, {"total": total}, id=f"{minute - 60 + at}-1")
            total += step
        for figure, high, low in (("depth", 40, 0), ("dead", 0, 0), ("lag", 220, 18)):
            name = keys.figure_key("development", figure)
            client.delete(name)
            for at in range(1, 60):
                value = max(low, round(high * math.sin(at / 6) + at * 29 % 17)) if high else 0
                client.xadd(name, {"value": value}, id=f"{minute - 60 + at}-1")


@pytest.mark.skipif(not FOLDER, reason="PICTURES names no folder: what the pictures show is tested above")
def test_dashboard_and_connections_as_pictures(
    operator: Operator, signed_in: SignIn, request: pytest.FixtureRequest
) -> None:
    # Taken for the documents, they need a past; that is nothing for the Hermes that all tests share.
    hermes: Hermes = request.getfixturevalue("own_hermes")
    members = [signed_in(user, hermes) for user in ("alice", "bob", "charlie")]
    hermes.send_many("acme", [{"type": "info", "data": {"title": f"Order {5000 + n} is here"}} for n in range(20)])
    wait_until(lambda: hermes.queued() == 0)
    let_an_hour_pass(hermes)
    for name, path in {"dashboard": "/admin/", "connections": "/admin/notifications/connection/"}.items():
        page = operator(path, hermes, device_scale_factor=1.5)
        for look in ("light", "dark"):
            page.emulate_media(color_scheme=look)
            page.reload()
            if name == "dashboard":
                expect(page.locator("[data-status]")).to_have_text("Live")
            picture = Path(FOLDER or "") / f"admin-{name}{'-dark' * (look == 'dark')}.png"
            page.screenshot(path=picture)
            assert picture.stat().st_size > 20_000
    for member in members:
        member.context.close()

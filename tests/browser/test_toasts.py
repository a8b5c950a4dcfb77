"""The toasts in a real browser: who can read, reach and dismiss them. Drives toast_view.js by the demo page."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import SignIn

pytestmark = pytest.mark.browser
TOAST = ".hermes-toast"
SHOW = "([kind, content]) => hermes.toasts.show(kind, content)"


def show(page: Page, kind: str, title: str, text: str = "", link: str | None = None) -> None:
    page.evaluate(SHOW, [kind, {"title": title, "text": text, **({"link": link} if link else {})}])


def test_dangerous_toasts_are_read_out_at_once_and_others_when_there_is_time(alice: Page) -> None:
    show(alice, "danger", "The restore failed")
    show(alice, "info", "The invoice is ready")
    expect(alice.get_by_role("alert")).to_contain_text("Danger: The restore failed")
    expect(alice.locator(f"{TOAST} [role=status]")).to_contain_text("Information: The invoice is ready")
    expect(alice.get_by_role("region", name="Notifications")).to_be_visible()


def test_the_keyboard_reaches_every_toast_and_goes_on_to_the_next(alice: Page) -> None:
    for name in ("one", "two", "three"):
        show(alice, "info", name)
    buttons = alice.locator(f"{TOAST} button")
    buttons.nth(1).focus()
    alice.keyboard.press("Enter")
    expect(alice.locator(TOAST, has_text="two")).to_have_count(0)
    assert alice.evaluate("() => document.activeElement.closest('.hermes-toast').textContent").count("three") == 1
    alice.keyboard.press("Escape")
    expect(alice.locator(TOAST, has_text="three")).to_have_count(0)
    expect(alice.locator(TOAST, has_text="one")).to_have_count(1)


def test_a_repeat_is_counted(alice: Page) -> None:
    for _ in range(3):
        show(alice, "warning", "Disk 90 % full")
    expect(alice.locator(TOAST)).to_have_count(1)
    expect(alice.locator(".hermes-toast__times")).to_have_text("×3")


def test_a_toast_goes_by_itself_and_its_time_stands_still_under_the_pointer(alice: Page) -> None:
    show(alice, "success", "stays")
    stays = alice.locator(TOAST, has_text="stays")
    stays.hover()
    expect(alice.locator(".hermes-toasts")).to_have_attribute("data-paused", "")
    assert alice.evaluate("() => hermes.toasts.paused")
    alice.mouse.move(5, 5)
    expect(stays).to_have_count(0)


def test_the_page_below_gets_its_clicks(alice: Page) -> None:
    show(alice, "info", "one")
    box = alice.locator(".hermes-toasts").bounding_box()
    assert box
    below = alice.evaluate("([x, y]) => document.elementFromPoint(x, y).className", [box["x"] + 5, box["y"] + 2])
    assert "hermes" not in below


@pytest.mark.parametrize("link", ["/guide/", "https://example.com/x"])
def test_a_harmless_link_can_be_followed(alice: Page, link: str) -> None:
    show(alice, "info", "with a link", link=link)
    expect(alice.locator(f"{TOAST} a")).to_have_attribute(
        "href", alice.evaluate("(l) => new URL(l, location).href", link)
    )


def test_who_wants_no_motion_gets_none(signed_in: SignIn) -> None:
    page = signed_in("alice", reduced_motion="reduce")
    show(page, "info", "still")
    assert page.evaluate("() => document.getAnimations().length") == 0
    page.get_by_role("button", name="Close").click()
    assert page.locator(TOAST).count() == 0


def test_from_right_to_left_the_toasts_stand_on_the_left(alice: Page) -> None:
    alice.evaluate("() => document.documentElement.dir = 'rtl'")
    show(alice, "info", "שלום", "עולם")
    box = alice.locator(TOAST).bounding_box()
    close = alice.get_by_role("button", name="Close").bounding_box()
    assert box
    assert close
    assert box["x"] < 100
    assert close["x"] < box["x"] + box["width"] / 2


def test_a_phone_shows_them_whole(signed_in: SignIn) -> None:
    page = signed_in("alice", viewport={"width": 360, "height": 640})
    show(page, "danger", "x" * 200, "y" * 900)
    box = page.locator(TOAST).bounding_box()
    assert box
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 360
    assert page.evaluate("() => document.documentElement.scrollWidth") <= 360


@pytest.mark.parametrize("look", ["light", "dark", "phone", "rtl"])
def test_how_it_looks(signed_in: SignIn, look: str, tmp_path: Path) -> None:
    size = {"width": 390, "height": 844} if look == "phone" else {"width": 1280, "height": 860}
    page = signed_in("alice", viewport=size, color_scheme="dark" if look == "dark" else "light", device_scale_factor=2)
    if look == "rtl":
        page.evaluate("() => document.documentElement.dir = 'rtl'")
    show(page, "success", "Backup finished", "fileserver-02 · 48.2 GB in 6 min, verified.")
    show(page, "info", "Invoice 2026-118 is ready", "Globex GmbH · 1,240.00 €", link="/guide/")
    show(page, "warning", "Disk 90 % full", "fileserver-02, volume 1. It will be full in about three days.")
    show(page, "danger", "Restore failed", "db-primary: the snapshot of 02:00 is not readable.")
    expect(page.locator(TOAST)).to_have_count(4)
    page.wait_for_function("() => document.getAnimations().every((a) => a.animationName !== 'hermes-enter')")
    folder = Path(os.environ.get("SCREENSHOTS", tmp_path))
    page.screenshot(path=folder / f"demo-{look}.png")
    assert (folder / f"demo-{look}.png").stat().st_size > 20_000

"""The pictures of the documents, taken of the real thing: `make pictures` takes them anew, other runs look that they can be."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import SignIn
from tests.processes import Hermes

pytestmark = pytest.mark.browser
TOAST = ".hermes-toast:not([inert])"
IMAGES = Path(__file__).parents[2] / "docs/images"
# Where to put them; unset, they are taken and thrown away.
FOLDER = os.environ.get("PICTURES")
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
LOOKS: dict[str, dict[str, Any]] = {
    "desktop": {"viewport": DESKTOP},
    "dark": {"viewport": DESKTOP, "color_scheme": "dark"},
    "rtl": {"viewport": DESKTOP},
    "phone": {"viewport": PHONE, "has_touch": True},
    "bell": {"viewport": DESKTOP},
}
SENT = [
    {"type": "info", "data": {"title": "Order 5075 has come in", "text": "Vandelay Industries · 6 laptops, €8,940.00"}},
    {"type": "success", "data": {"title": "Invoice 2026-118 is paid", "text": "Globex GmbH · €1,240.00", "link": "/guide/"}},
    {"type": "warning", "data": {"title": "Only 3 monitors left", "text": "Order 5071 needs 12 of them by Friday."}},
    {"type": "warning", "data": {"title": "Only 3 monitors left", "text": "Order 5071 needs 12 of them by Friday."}},
    {
        "type": "danger",
        "data": {
            "title": "The payment was declined",
            "text": "Umbrella AG · invoice 2026-103, €760.00",
            "actions": [{"label": "Try again", "name": "retry"}, {"label": "Write to them", "link": "/guide/"}],
        },
    },
]


def settle(page: Page) -> None:
    page.wait_for_function("() => document.getAnimations().every((each) => each.animationName === 'hermes-time')")


@pytest.mark.parametrize("look", LOOKS)
def test_the_demo_page_as_a_picture(signed_in: SignIn, hermes: Hermes, look: str, tmp_path: Path) -> None:
    page = signed_in("alice", device_scale_factor=1.5, **LOOKS[look])
    page.evaluate("() => hermes.toasts.clear()")
    if look == "rtl":
        page.evaluate("() => { document.documentElement.dir = 'rtl'; }")
    for message in SENT:
        seq = page.evaluate("() => hermes.position.seq")
        hermes.send("acme", message)
        page.wait_for_function("(seq) => hermes.position.seq > seq", arg=seq)
    expect(page.locator(TOAST)).to_have_count(4)
    if look == "bell":
        page.get_by_role("button", name="Notifications").click()
        expect(page.locator(".hermes-bell__entry").first).to_be_visible()
    settle(page)
    picture = Path(FOLDER or tmp_path) / f"demo-{look}.png"
    page.screenshot(path=picture)
    assert picture.stat().st_size > 20_000


def test_every_picture_is_there_and_small_enough_for_a_page() -> None:
    for name in (*(f"demo-{look}.png" for look in LOOKS), "toasts.webp"):
        assert 20_000 < (IMAGES / name).stat().st_size < 600_000, name

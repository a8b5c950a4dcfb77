"""The documents' pictures, taken of the real thing: `make pictures` takes them anew, other runs only try to."""

from __future__ import annotations

import json
import os
import time
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import SignIn
from tests.processes import Hermes
from tests.waiting import wait_until

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
    {
        "type": "success",
        "data": {"title": "Invoice 2026-118 is paid", "text": "Globex GmbH · €1,240.00", "link": "/guide/"},
    },
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

ARABIC = [
    {"type": "info", "data": {"title": "وصل الطلب 5075", "text": "فاندلاي للصناعات · 6 حواسيب محمولة"}},
    {"type": "success", "data": {"title": "تم دفع الفاتورة 118", "text": "غلوبكس · 1240 يورو", "link": "/guide/"}},
    {"type": "warning", "data": {"title": "بقيت 3 شاشات فقط", "text": "يحتاج الطلب 5071 إلى 12 منها قبل يوم الجمعة."}},
    {"type": "warning", "data": {"title": "بقيت 3 شاشات فقط", "text": "يحتاج الطلب 5071 إلى 12 منها قبل يوم الجمعة."}},
    {
        "type": "danger",
        "data": {
            "title": "رُفض الدفع",
            "text": "أمبريلا · الفاتورة 103",
            "actions": [{"label": "أعد المحاولة", "name": "retry"}],
        },
    },
]
# The toolkit's words for that page, as docs/toolkit.md says: an element of the page.
WORDS = {
    "locale": "ar",
    "region": "الإشعارات",
    "close": "إغلاق",
    "open": "فتح",
    "clear": "مسح الكل",
    "list": "عرض الكل",
}


IN_ARABIC = """(words) => document.addEventListener("readystatechange", () => {
    if (document.readyState !== "interactive") return;
    Object.assign(document.documentElement, {lang: "ar", dir: "rtl"});
    const strings = document.createElement("div");
    Object.assign(strings, {id: "hermes-strings", hidden: true, textContent: JSON.stringify(words)});
    document.body.append(strings);
})"""


def in_arabic(page: Page) -> None:
    """Load the page again as one that is written from right to left and speaks to the toolkit in Arabic."""
    page.add_init_script(f"({IN_ARABIC})({json.dumps(WORDS)})")
    page.reload()
    expect(page.locator("#state")).to_have_text("Connected")


def settle(page: Page) -> None:
    page.wait_for_function("() => document.getAnimations().every((each) => each.animationName === 'hermes-time')")


@pytest.mark.parametrize("look", LOOKS)
def test_the_demo_page_as_a_picture(signed_in: SignIn, hermes: Hermes, look: str, tmp_path: Path) -> None:
    page = signed_in("alice", device_scale_factor=1.5, **LOOKS[look])
    if look == "rtl":
        in_arabic(page)
    page.evaluate("() => hermes.toasts.clear()")
    for message in ARABIC if look == "rtl" else SENT:
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


# What happens in the moving one, by the millisecond: messages, and what somebody or the page does.
_MISSED = [
    {"type": "info", "data": {"title": title}}
    for title in (
        "Order 5076 has come in",
        "Order 5073 has been confirmed",
        "Order 5077 has come in",
        "Invoice 2026-119 is paid",
        "Order 5078 has come in",
        "Order 5071 has been shipped",
        "Bob has joined the team",
    )
]
_CHOOSE = "document.querySelector('.hermes-toast:last-child .hermes-toast__action').click()"
SCENES: dict[int, list[dict[str, Any]] | str] = {
    160: [SENT[0]],
    960: [SENT[1]],
    1760: [SENT[2]],
    2480: [SENT[2]],
    3040: [SENT[2]],
    3600: [SENT[4]],
    5040: _CHOOSE,
    # Nobody is there: what comes is held, and told when somebody is back.
    5200: "window.show = hermes.toasts.showEntries; window.held = [];"
    "hermes.toasts.showEntries = (entries) => held.push(...entries)",
    5280: _MISSED,
    5920: "show(held, {away: true})",
    7200: _CHOOSE,
}
END_MS, FRAME_MS, SLOWER = 8800, 80, 8


@pytest.mark.skipif(not FOLDER, reason="PICTURES names no folder: the moving picture takes a minute and Pillow")
def test_the_toasts_in_motion(signed_in: SignIn, hermes: Hermes) -> None:
    image = pytest.importorskip("PIL.Image")
    page = signed_in("alice", viewport={"width": 1180, "height": 800}, reduced_motion="no-preference")
    page.get_by_role("button", name="Notifications").click()
    if page.get_by_role("button", name="Mark all read").is_visible():
        page.get_by_role("button", name="Mark all read").click()
    page.get_by_role("button", name="Notifications").click()
    # The page's clock goes on by a frame at a time, and what moves does so as much slower as a picture takes.
    page.clock.install()
    page.clock.pause_at(page.evaluate("() => Date.now() + 1000"))
    session = page.context.new_cdp_session(page)
    session.send("Animation.enable")
    session.send("Animation.setPlaybackRate", {"playbackRate": 1 / SLOWER})
    frames = []
    scenes = sorted(SCENES.items())
    start = time.monotonic()
    for at in range(0, END_MS, FRAME_MS):
        while scenes and scenes[0][0] <= at:
            scene = scenes.pop(0)[1]
            if isinstance(scene, str):
                page.evaluate(f"() => {{ {scene}; }}")
                continue
            goal = page.evaluate("() => hermes.position.seq") + len(scene)
            for message in scene:
                hermes.send("acme", message)
            wait_until(lambda goal=goal: page.evaluate("() => hermes.position.seq") >= goal)
        page.clock.run_for(FRAME_MS)
        time.sleep(max(0.0, start + at * SLOWER / 1000 - time.monotonic()))
        frame = image.open(BytesIO(page.screenshot())).convert("RGB")
        frames.append(frame.resize((826, 560), image.Resampling.LANCZOS))
    first, *rest = frames
    how = {"duration": [FRAME_MS] * len(rest) + [1600], "loop": 0, "quality": 62, "method": 6, "minimize_size": True}
    picture = Path(FOLDER or "") / "toasts.webp"
    first.save(picture, save_all=True, append_images=rest, **how)
    assert picture.stat().st_size < 600_000


def test_every_picture_is_there_and_small_enough_for_a_page() -> None:
    ours = [f"admin-{name}.png" for name in ("dashboard", "dashboard-dark", "connections", "connections-dark")]
    for name in (*(f"demo-{look}.png" for look in LOOKS), *ours, "toasts.webp"):
        assert 20_000 < (IMAGES / name).stat().st_size < 600_000, name

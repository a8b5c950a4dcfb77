"""Browsers for the tests: real Chromium, one context a member. Uses the shared Hermes of tests/conftest.py."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from tests.browser.toolkit_page import open_toolkit
from tests.conftest import chromium
from tests.processes import Hermes

# A shared machine may be slow; a test that only passes when it is quick measures that by itself.
expect.set_options(timeout=10_000)

SignIn = Callable[..., Page]


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """The machine's Chromium, without a window."""
    with sync_playwright() as playwright:
        # With hinting the headless shell sets letters unevenly, which is seen in pictures alone.
        even = ["--font-render-hinting=none"] if os.environ.get("PICTURES") else []
        running = playwright.chromium.launch(
            executable_path=chromium(), args=["--no-sandbox", "--disable-dev-shm-usage", *even]
        )
        yield running
        running.close()


@pytest.fixture
def signed_in(browser: Browser, request: pytest.FixtureRequest) -> Iterator[SignIn]:
    """Return a function that opens the demo page for a member, in a browser profile of its own, and connects."""
    contexts: list[BrowserContext] = []
    failures: list[str] = []

    def open_page(user: str, at: Hermes | None = None, **options: Any) -> Page:
        hermes = at or request.getfixturevalue("hermes")
        context = browser.new_context(**options)
        contexts.append(context)
        context.add_cookies([{"name": n, "value": v, "url": hermes.url} for n, v in hermes.sign_in(user).items()])
        page = context.new_page()
        page.on("pageerror", lambda error: failures.append(str(error)))
        page.goto(hermes.url)
        expect(page.locator("#state")).to_have_text("Connected")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert failures == []


@pytest.fixture
def alice(signed_in: SignIn) -> Page:
    """Alice's demo page, connected."""
    return signed_in("alice")


Toolkit = Callable[..., Page]
CONTEXT = (
    "viewport",
    "color_scheme",
    "reduced_motion",
    "forced_colors",
    "has_touch",
    "device_scale_factor",
    "locale",
    "contrast",
)


@pytest.fixture
def toolkit(browser: Browser) -> Iterator[Toolkit]:
    """Return a function that opens a page with the toolkit alone, connected to a server inside the page."""
    contexts: list[BrowserContext] = []
    failures: list[str] = []

    def open_page(*, beside: Page | None = None, **options: Any) -> Page:
        profile = {name: options.pop(name) for name in CONTEXT if name in options}
        context = beside.context if beside else browser.new_context(**profile)
        if not beside:
            contexts.append(context)
        context.on("page", lambda page: page.on("pageerror", lambda error: failures.append(str(error))))
        context.on("console", lambda said: failures.append(said.text) if said.type == "error" else None)
        return open_toolkit(context, **options)

    yield open_page
    for context in contexts:
        context.close()
    assert failures == []

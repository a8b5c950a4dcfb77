"""Authority taken back, seen from the page: who may come back does so unasked, who may not hears nothing more."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import SignIn
from tests.processes import Hermes

pytestmark = pytest.mark.browser
TOAST = ".hermes-toast"
CODES = """
    window.codes = [];
    const Native = WebSocket;
    window.WebSocket = class extends Native {
        constructor(...given) {
            super(...given);
            this.addEventListener("close", ({code}) => codes.push(code));
        }
    };
"""


def ask(hermes: Hermes, code: str) -> None:
    """Do something as a program of the site's own does."""
    hermes.manage("shell", "--verbosity", "0", "-c", code)


def watched(page: Page) -> Page:
    """Load the page again, with its sockets' close codes written down."""
    page.add_init_script(CODES)
    page.reload()
    expect(page.locator("#state")).to_have_text("Connected")
    return page


def test_tokens_that_are_revoked_end_the_connection_and_a_member_comes_back_by_itself(
    signed_in: SignIn, own_hermes: Hermes
) -> None:
    alice, bob = watched(signed_in("alice", own_hermes)), watched(signed_in("bob", own_hermes))
    ask(
        own_hermes,
        "from django.contrib.auth import get_user_model as u; from notifications.access import revocation;"
        "revocation.revoke(str(u().objects.get(username='alice').pk), 'acme')",
    )
    alice.wait_for_function("() => codes.includes(4403)", timeout=10_000)
    own_hermes.send("acme", {"type": "info", "data": {"title": "Meanwhile"}})
    expect(alice.locator("#state")).to_have_text("Connected")
    expect(alice.locator(TOAST, has_text="Meanwhile")).to_be_visible()
    expect(bob.locator(TOAST, has_text="Meanwhile")).to_be_visible()
    assert bob.evaluate("codes") == []


def test_who_is_no_member_any_more_is_gone_and_hears_nothing(signed_in: SignIn, own_hermes: Hermes) -> None:
    alice, bob = watched(signed_in("alice", own_hermes)), watched(signed_in("bob", own_hermes))
    ask(
        own_hermes,
        "from notifications.models import Membership;"
        "Membership.objects.filter(user__username='alice', room__code='acme').delete()",
    )
    alice.wait_for_function("() => hermes.state === 'closed'", timeout=20_000)
    assert 4403 in alice.evaluate("codes")
    own_hermes.send("acme", {"type": "info", "data": {"title": "Members only"}})
    expect(bob.locator(TOAST, has_text="Members only")).to_be_visible()
    expect(alice.locator(TOAST, has_text="Members only")).to_have_count(0)

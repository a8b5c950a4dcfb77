"""The tag `{% hermes %}`: what it puts into a page, and that it never fails one."""

from __future__ import annotations

import json
import re
import time
from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser
from django.contrib.sessions.backends.db import SessionStore
from django.http import HttpRequest
from django.template import Context, Template
from django.test import RequestFactory

from hermes_site.engines import Valkey
from notifications.access import token_store
from notifications.exceptions import StoreUnavailable
from notifications.models import Membership, Room
from tests.conftest import Aws

pytestmark = pytest.mark.django_db


def request_of(user: Any, **extra: Any) -> HttpRequest:
    request = RequestFactory().get("/", headers={"host": "localhost:8000"}, **extra)
    request.user = user
    request.session = SessionStore()
    return request


def render(user: Any, arguments: str = "", **extra: Any) -> str:
    template = Template("{% load hermes %}{% hermes " + arguments + " %}")
    return template.render(Context({"request": request_of(user, **extra)}))


def configuration(html: str) -> dict[str, Any]:
    found = re.search(r'<script id="hermes-config" type="application/json">(.*?)</script>', html)
    assert found, html
    read: dict[str, Any] = json.loads(found[1])
    return read


def test_a_members_page_gets_the_toolkit_and_where_to_connect(alice: Any, valkey: Valkey) -> None:
    html = render(alice)
    assert '<link rel="stylesheet" href="/static/hermes/toasts.css">' in html
    assert html.endswith('<script type="module" src="/static/hermes/page.js"></script>')
    read = configuration(html)
    position = read.pop("position")
    assert read.pop("csrf_token")
    assert read == {
        "url": "ws://localhost:8000/ws/development",
        "token_url": "/notifications/token",
        "csrf_cookie": "csrftoken",
        "stage": "development",
        "room": "acme",
        "user_id": alice.pk,
    }
    # The room has no entry yet, but a page can resume to its very first.
    assert position["epoch"]
    assert (position["seq"], position["id"]) == (0, "")


def test_it_has_no_inline_script(alice: Any, valkey: Valkey) -> None:
    html = render(alice)
    scripts = re.findall(r"<script ([^>]*)>(.*?)</script>", html, re.DOTALL)
    assert [("json" in attributes, bool(body)) for attributes, body in scripts] == [(True, True), (False, False)]


def test_a_page_over_tls_connects_over_tls(alice: Any, valkey: Valkey) -> None:
    html = render(alice, secure=True)
    assert configuration(html)["url"].startswith("wss://")


def test_a_public_url_wins(alice: Any, valkey: Valkey, settings: Any) -> None:
    settings.HERMES_PUBLIC_URL = "wss://push.example.com/"
    assert configuration(render(alice))["url"] == "wss://push.example.com/ws/development"


def test_a_room_and_a_stage_can_be_named(alice: Any, valkey: Valkey) -> None:
    Membership.objects.create(room=Room.objects.create(code="</script><b>"), user=alice)
    html = render(alice, 'room="</script><b>" stage="production"')
    assert "<b>" not in html
    read = configuration(html)
    assert (read["room"], read["stage"]) == ("</script><b>", "production")


def test_who_is_nobody_or_has_no_room_gets_a_comment(alice: Any, valkey: Valkey, django_user_model: Any) -> None:
    assert render(AnonymousUser()) == "<!-- hermes: nobody is signed in -->"
    assert Template("{% load hermes %}{% hermes %}").render(Context()) == "<!-- hermes: nobody is signed in -->"
    assert render(django_user_model.objects.create_user("dora")) == "<!-- hermes: not_a_member -->"
    assert render(alice, 'room="globex"') == "<!-- hermes: not_a_member -->"
    assert render(alice, 'stage="nowhere"') == "<!-- hermes: unknown_stage -->"
    Membership.objects.create(room=Room.objects.create(code="second"), user=alice)
    assert render(alice) == "<!-- hermes: room_required -->"


def test_without_redis_a_page_goes_without_its_position_and_hardly_waits(alice: Any, valkey: Valkey) -> None:
    valkey.suspend()
    try:
        start = time.monotonic()
        read = configuration(render(alice))
        assert time.monotonic() - start < 1.0
    finally:
        valkey.resume()
    assert read["position"] is None


def test_a_token_can_be_put_into_the_page(alice: Any, valkey: Valkey, aws: Aws) -> None:
    read = configuration(render(alice, "inline_token=True"))
    assert read["pass"]["token"].count(".") == 2
    assert (read["pass"]["room_id"], read["pass"]["user_id"]) == ("acme", alice.pk)


def test_without_dynamodb_the_page_goes_without_its_token(
    alice: Any, valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unavailable(*_: Any) -> None:
        raise StoreUnavailable("DynamoDB does not answer")

    monkeypatch.setattr(token_store, "save", unavailable)
    assert "pass" not in configuration(render(alice, "inline_token=True"))


def test_whatever_goes_wrong_the_page_does_not(
    alice: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr("notifications.templatetags.hermes.position_for_page", broken)
    assert render(alice) == "<!-- hermes: unavailable -->"
    assert "a bug" in caplog.text

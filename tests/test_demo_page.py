"""The demo page's views: who gets in, and what the form puts on the queue."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.test import Client

from hermes_site.engines import Valkey
from notifications import hermes
from notifications.exceptions import QueueUnavailable
from notifications.models import Membership, Room
from tests.conftest import Aws

pytestmark = pytest.mark.django_db(transaction=True)
FORM = {"room": "acme", "type": "success", "title": "Backup finished", "text": "48.2 GB"}
JSON = {"Accept": "application/json"}


@pytest.fixture
def page(alice: Any, valkey: Valkey) -> Client:
    client = Client()
    client.force_login(alice)
    return client


def bodies(aws: Aws) -> list[dict[str, Any]]:
    stage = django_settings.HERMES_STAGES["development"]
    url = aws.sqs.get_queue_url(QueueName=stage.queue_name)["QueueUrl"]
    answer = aws.sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10)
    return [json.loads(message["Body"]) for message in answer.get("Messages", [])]


@pytest.mark.parametrize("path", ["/", "/guide/", "/send/"])
def test_who_has_not_signed_in_is_sent_to_sign_in(path: str) -> None:
    response = Client().get(path)
    assert response.status_code == 302
    assert response["Location"].startswith("/sign-in/")


def test_a_member_gets_the_page_with_the_toolkit(page: Client) -> None:
    for path in ("/", "/guide/"):
        response = page.get(path)
        assert response.status_code == 200
        assert b"hermes/page.js" in response.content
        assert "default-src 'self'" in response["Content-Security-Policy"]
        assert "ws://testserver" in response["Content-Security-Policy"]


def test_who_is_in_no_room_is_told_so(page: Client, aws: object) -> None:
    Membership.objects.all().delete()
    response = page.get("/")
    assert b"You are in no room yet" in response.content
    assert b"hermes/page.js" not in response.content


def test_who_is_in_several_rooms_chooses(page: Client, alice: Any) -> None:
    Membership.objects.create(room=Room.objects.create(code="initech", name="Initech"), user=alice)
    assert b"<h1>acme</h1>" in page.get("/").content
    assert b"<h1>Initech</h1>" in page.get("/?room=initech").content
    assert b"<h1>acme</h1>" in page.get("/?room=globex").content


def test_the_form_puts_a_message_on_the_queue(page: Client, alice: Any, aws: Aws) -> None:
    response = page.post("/send/", FORM, headers=JSON)
    assert (response.status_code, response.json()) == (202, {"sent": True})
    [body] = bodies(aws)
    assert body["room_id"] == "acme"
    assert str(body["user_id"]) == str(alice.pk)
    assert body["data"] == {"type": "success", "data": {"title": "Backup finished", "text": "48.2 GB"}}


def test_without_scripts_it_answers_with_the_page(page: Client, aws: Aws) -> None:
    response = page.post("/send/", FORM, follow=True)
    assert response.redirect_chain == [("/?room=acme", 302)]
    assert b"Sent. It comes back as a toast." in response.content
    assert len(bodies(aws)) == 1


def test_a_form_with_mistakes_is_told_of_them(page: Client, aws: Aws) -> None:
    response = page.post("/send/", {**FORM, "title": "", "type": "odd"}, headers=JSON)
    assert response.status_code == 400
    assert "title" in response.json()["error"]
    assert "type" in response.json()["error"]
    assert b"title: This field is required." in page.post("/send/", {**FORM, "title": ""}, follow=True).content
    assert bodies(aws) == []


def test_nobody_sends_to_a_room_of_others(page: Client, aws: Aws) -> None:
    Room.objects.create(code="globex")
    response = page.post("/send/", {**FORM, "room": "globex"}, headers=JSON)
    assert response.status_code == 403
    assert bodies(aws) == []


def test_a_form_from_another_site_is_refused(alice: Any) -> None:
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(alice)
    assert strict.post("/send/", FORM).status_code == 403


def test_when_the_queue_does_not_answer_the_sender_is_told(page: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def unavailable(*_: Any, **__: Any) -> None:
        raise QueueUnavailable("SQS does not answer")

    monkeypatch.setattr(hermes, "notify", unavailable)
    response = page.post("/send/", FORM, headers=JSON)
    assert response.status_code == 503
    assert "try again" in response.json()["error"]


def test_the_sign_in_page_is_strict_too() -> None:
    response = Client().get("/sign-in/")
    assert response.status_code == 200
    assert "frame-ancestors 'none'" in response["Content-Security-Policy"]

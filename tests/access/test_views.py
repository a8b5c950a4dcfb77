"""POST /notifications/token: who gets a token for which room, and everybody else's refusal."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Callable
from typing import Any

import pytest
from django.http import HttpResponse
from django.test import Client, RequestFactory

from hermes_site.engines import Valkey
from notifications.access import token_store, tokens, views
from notifications.access.authorizer import Authorizer, Grant
from notifications.access.standing import ROW_SECONDS, Issued
from notifications.conf import Stage
from notifications.models import Membership, Room
from tests.conftest import Aws

URL = "/notifications/token"
pytestmark = pytest.mark.django_db


def post(client: Client, body: Any = None, **headers: str) -> Any:
    """Ask for a token; a dict is sent as JSON."""
    content = json.dumps(body) if isinstance(body, (dict, list)) else body or ""
    return client.post(URL, content, content_type="application/json", headers=headers)


def refused(response: Any) -> tuple[int, str]:
    """Return a refusal's status and code."""
    return response.status_code, response.json()["error"]["code"]


async def authorized(stage: Stage, token: str) -> Grant:
    """Have a process that has just begun judge a token."""
    authorizer = Authorizer()
    try:
        return await authorizer.authorize(stage, token)
    finally:
        await authorizer.aclose()


@pytest.fixture
def signed_in(aws: Aws, client: Client) -> Callable[[Any], Client]:
    """Return a function that signs a member in."""

    def sign_in(user: Any) -> Client:
        client.force_login(user)
        return client

    return sign_in


def test_alice_gets_a_token_for_her_only_room(signed_in: Any, alice: Any, stage: Stage, settings: Any) -> None:
    response = post(signed_in(alice))
    assert response.status_code == 200
    answer = response.json()
    claims = tokens.verify(answer.pop("token"), stage, now=time.time(), max_ttl=3600)
    assert answer == {
        "expires_in": settings.HERMES_TOKEN_TTL,
        "url": "ws://testserver/ws/development",
        "stage": "development",
        "room_id": "acme",
        "user_id": alice.pk,
    }
    assert (claims.user_id, claims.room_id) == (alice.pk, "acme")
    assert claims.session == tokens.session_tag(signed_in(alice).session.session_key, stage)
    row = token_store.read(stage, str(alice.pk), "acme")
    assert token_store.matches(row.token_hash or "", claims.digests[0])


def test_the_token_opens_the_door(signed_in: Any, alice: Any, stage: Stage, valkey: Valkey) -> None:
    grant = asyncio.run(authorized(stage, post(signed_in(alice)).json()["token"]))
    assert (grant.user_id, grant.room_id) == (alice.pk, "acme")


def test_who_comes_with_a_new_token_costs_no_second_row_and_no_hash(
    signed_in: Any, alice: Any, stage: Stage, valkey: Valkey, count: Any
) -> None:
    token = post(signed_in(alice)).json()["token"]
    reads, hashes = count(token_store, "read_many"), count(token_store, "matches")
    assert asyncio.run(authorized(stage, token)).user == str(alice.pk)
    assert (reads, hashes) == ([], [])


def test_what_is_told_of_a_row_counts_for_as_long_as_a_row_does(
    aws: Aws, stage: Stage, valkey: Valkey, count: Any
) -> None:
    digest = tokens.make_digest(42, stage.passcode, "acme")
    row, now = token_store.save(stage, "42", "acme", digest), int(time.time())
    old = time.monotonic() - ROW_SECONDS
    Issued().share(stage, "42", "acme", row, digest, read_at=old, expires_at=now + 600)
    reads, hashes = count(token_store, "read_many"), count(token_store, "matches")
    assert asyncio.run(authorized(stage, tokens.issue(stage, 42, "acme", now=now, ttl=600))).user == "42"
    assert (len(reads), hashes) == (1, [])


def test_a_redis_that_says_nothing_keeps_one_page_waiting_for_a_moment_and_the_next_not_at_all(
    signed_in: Any, alice: Any, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(views, "issued", Issued())
    with socket.create_server(("127.0.0.1", 0)) as silent:
        settings.REDIS_URL = f"redis://127.0.0.1:{silent.getsockname()[1]}"
        assert [post(signed_in(alice)).status_code for _ in range(2)] == [200, 200]
        silent.setblocking(False)
        silent.accept()[0].close()
        with pytest.raises(BlockingIOError):
            silent.accept()


def test_the_answer_is_stored_nowhere(signed_in: Any, alice: Any) -> None:
    assert "no-store" in post(signed_in(alice))["Cache-Control"]
    assert "no-store" in post(signed_in(alice), {"room": "globex"})["Cache-Control"]


def test_a_second_token_leaves_the_row_as_it_is(signed_in: Any, alice: Any, stage: Stage) -> None:
    client = signed_in(alice)
    post(client)
    row = token_store.read(stage, str(alice.pk), "acme")
    assert post(client).status_code == 200
    assert token_store.read(stage, str(alice.pk), "acme") == row


@pytest.mark.parametrize("method", ["get", "put", "delete", "head", "patch"])
def test_only_post_is_answered(signed_in: Any, alice: Any, method: str) -> None:
    assert getattr(signed_in(alice), method)(URL).status_code == 405


def test_a_page_of_another_site_gets_nothing(aws: Aws, alice: Any) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(alice)
    assert post(client).status_code == 403
    client.cookies["csrftoken"] = "a" * 32
    assert post(client, **{"X-CSRFToken": "b" * 32}).status_code == 403
    assert post(client, **{"X-CSRFToken": "a" * 32}).status_code == 200
    assert post(client, **{"X-CSRFToken": "a" * 32, "Origin": "https://evil.example"}).status_code == 403


def test_nobody_is_told_to_sign_in(client: Client) -> None:
    assert refused(post(client)) == (401, "not_signed_in")


def test_a_user_who_was_deactivated_is_nobody(signed_in: Any, alice: Any) -> None:
    client = signed_in(alice)
    alice.is_active = False
    alice.save()
    assert refused(post(client)) == (401, "not_signed_in")


def test_a_member_of_several_rooms_names_one(signed_in: Any, alice: Any) -> None:
    Membership.objects.create(user=alice, room=Room.objects.create(code="beta"))
    client = signed_in(alice)
    assert refused(post(client)) == (400, "room_required")
    assert post(client, {"room": "beta"}).json()["room_id"] == "beta"
    assert post(client, {"room": "acme", "stage": None}).json()["room_id"] == "acme"


def test_who_is_no_member_gets_no_token_and_no_row(
    signed_in: Any, aws: Aws, charlie: Any, alice: Any, stage: Stage
) -> None:
    assert refused(post(signed_in(charlie), {"room": "acme"})) == (403, "not_a_member")
    assert refused(post(signed_in(charlie), {"room": "no such room"})) == (403, "not_a_member")
    assert aws.items(stage.tokens_table) == []


def test_a_member_of_no_room_gets_no_token(signed_in: Any, alice: Any) -> None:
    Membership.objects.all().delete()
    assert refused(post(signed_in(alice))) == (403, "not_a_member")


@pytest.mark.parametrize("room", ["", "a\x00b", "\ud800", "x" * 10_000])
def test_a_room_that_no_database_can_be_asked_for_has_no_members(signed_in: Any, alice: Any, room: str) -> None:
    assert refused(post(signed_in(alice), {"room": room})) == (403, "not_a_member")


@pytest.mark.parametrize("body", [None, {"room": "#revoked:acme"}])
def test_a_room_called_like_a_revocation_gives_no_token_and_undoes_no_revocation(
    signed_in: Any, stage: Stage, bob: Any, body: Any
) -> None:
    Membership.objects.all().delete()
    Membership.objects.create(user=bob, room=Room.objects.create(code="#revoked:acme"))
    token_store.revoke(stage, str(bob.pk), "acme", 1_800_000_000)
    assert refused(post(signed_in(bob), body)) == (403, "not_a_member")
    assert token_store.read(stage, str(bob.pk), "acme").not_before == 1_800_000_000


def test_another_stage_may_be_asked_for(signed_in: Any, alice: Any, production: Stage) -> None:
    answer = post(signed_in(alice), {"stage": "production"}).json()
    assert answer["url"].endswith("/ws/production")
    assert tokens.verify(answer["token"], production, now=time.time(), max_ttl=3600)


def test_a_stage_that_is_not_there_is_not_found(signed_in: Any, alice: Any) -> None:
    assert refused(post(signed_in(alice), {"stage": "staging"})) == (404, "unknown_stage")


@pytest.mark.parametrize("body", ["x", "{", '{"room":', b"\xff\xfe\xfd", "[" * 100_000, "[]", "1", '"acme"', "null"])
def test_what_is_no_json_object_is_a_bad_request(signed_in: Any, alice: Any, body: Any) -> None:
    assert refused(post(signed_in(alice), body)) == (400, "not_json")


@pytest.mark.parametrize("name", ["room", "stage"])
@pytest.mark.parametrize("value", [1, True, [], {"code": "acme"}])
def test_a_field_of_another_type_is_a_bad_request(signed_in: Any, alice: Any, name: str, value: Any) -> None:
    assert refused(post(signed_in(alice), {name: value})) == (400, "bad_field")


def test_without_dynamodb_it_is_worth_coming_back(
    signed_in: Any, alice: Any, settings: Any, nowhere: str, caplog: pytest.LogCaptureFixture
) -> None:
    settings.AWS_ENDPOINT_URL = nowhere
    response = post(signed_in(alice))
    assert refused(response) == (503, "unavailable")
    assert response["Retry-After"] == "2"
    assert "DynamoDB does not answer" in caplog.text


def test_the_public_url_wins_over_the_host(rf: RequestFactory, stage: Stage, settings: Any) -> None:
    assert views.websocket_url(rf.get("/"), stage) == "ws://testserver/ws/development"
    assert views.websocket_url(rf.get("/", secure=True), stage) == "wss://testserver/ws/development"
    settings.HERMES_PUBLIC_URL = "wss://hermes.example/"
    assert views.websocket_url(rf.get("/"), stage) == "wss://hermes.example/ws/development"


def test_a_user_without_a_session_gets_a_token_of_no_session(
    aws: Aws, rf: RequestFactory, alice: Any, stage: Stage
) -> None:
    from django.contrib.sessions.backends.db import SessionStore

    request = rf.post(URL)
    request.user, request.session = alice, SessionStore()
    answer = views.issue_token(request)
    assert tokens.verify(answer["token"], stage, now=time.time(), max_ttl=3600).session == ""


def test_nobody_has_no_room(rf: RequestFactory) -> None:
    from django.contrib.auth.models import AnonymousUser

    request = rf.post(URL)
    request.user = AnonymousUser()
    with pytest.raises(views.NoRoom) as caught:
        views.issue_token(request)
    assert (caught.value.code, caught.value.status) == ("not_signed_in", 401)


def test_every_refusal_is_json(client: Client) -> None:
    response: HttpResponse = post(client)
    assert response["Content-Type"] == "application/json"

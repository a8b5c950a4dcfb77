"""Authority taken back: the row first, the command to the servers after the commit, in every stage that it concerns."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import replace
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.db import transaction
from django.test import Client

from hermes_site.engines import Valkey
from notifications.access import commands, revocation, token_store, tokens
from notifications.access.commands import Command, Disconnect, Revoke, SignOut
from notifications.conf import Stage
from notifications.exceptions import StageNotConfigured, StoreUnavailable
from notifications.models import Membership, Room
from notifications.stream.history import History
from notifications.stream.keys import CONTROL_ROOM
from tests.conftest import Aws

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("aws", "valkey")]


def told(stage: Stage) -> list[Command]:
    """Return what a stage's servers were told."""

    async def read() -> list[Command]:
        history = History()
        try:
            page = await history.read(stage.name, CONTROL_ROOM)
        finally:
            await history.aclose()
        return [commands.decode(json.loads(entry.frame)["data"]) for entry in page.entries]

    return asyncio.run(read())


def make_member(name: str, *rooms: str) -> Any:
    """Make a user who is a member of rooms."""
    user = get_user_model().objects.create_user(name)
    for code in rooms:
        Membership.objects.create(room=Room.objects.get_or_create(code=code)[0], user=user)
    return user


def test_a_revocation_is_written_and_told_in_every_stage(stage: Stage, production: Stage) -> None:
    before = int(time.time())
    revocation.revoke("42", "acme")
    for each in (stage, production):
        written = token_store.read(each, "42", "acme").not_before
        assert before <= written <= time.time()
        assert told(each) == [Revoke("42", "acme", written)]


def test_a_revocation_in_one_stage_leaves_the_others_alone(stage: Stage, production: Stage) -> None:
    revocation.revoke("42", "acme", ["production"])
    assert token_store.read(stage, "42", "acme").not_before == 0
    assert told(stage) == []
    assert len(told(production)) == 1


def test_removing_alice_from_acme_revokes_there_and_nowhere_else(stage: Stage) -> None:
    alice = make_member("alice", "acme", "globex")
    Membership.objects.filter(user=alice, room__code="acme").delete()
    assert token_store.read(stage, str(alice.pk), "acme").not_before
    assert not token_store.read(stage, str(alice.pk), "globex").not_before


def test_who_is_removed_has_no_row_any_more_and_whose_tokens_are_revoked_keeps_it(stage: Stage) -> None:
    alice, bob = make_member("alice", "acme", "globex"), make_member("bob", "acme")
    for user, code in ((alice, "acme"), (alice, "globex"), (bob, "acme")):
        token_store.save(stage, str(user.pk), code, "0" * 64)
    Membership.objects.filter(user=alice, room__code="acme").delete()
    revocation.revoke(str(bob.pk), "acme")
    assert token_store.read(stage, str(alice.pk), "acme").token_hash is None
    assert token_store.read(stage, str(alice.pk), "globex").token_hash
    assert token_store.read(stage, str(bob.pk), "acme").token_hash


@pytest.mark.parametrize("what", ["user", "room"])
def test_deleting_a_user_or_a_room_revokes_too(stage: Stage, what: str) -> None:
    alice = make_member("alice", "acme")
    key = str(alice.pk)
    (alice if what == "user" else Room.objects.get(code="acme")).delete()
    assert token_store.read(stage, key, "acme").not_before


def test_switching_a_user_off_revokes_every_room_and_saving_another_does_nothing(stage: Stage) -> None:
    alice, bob = make_member("alice", "acme", "globex"), make_member("bob", "acme")
    bob.save()
    alice.is_active = False
    alice.save()
    assert {(command.user_id, command.room_id) for command in told(stage) if isinstance(command, Revoke)} == {
        (str(alice.pk), "acme"),
        (str(alice.pk), "globex"),
    }


def test_signing_out_names_the_session_and_not_its_key(client: Client, stage: Stage) -> None:
    client.force_login(make_member("alice", "acme"))
    key = client.session.session_key or ""
    client.logout()  # the test client sends the signal with the request's session
    assert told(stage) == [SignOut(tokens.session_tag(key, stage))]
    assert key not in str(told(stage))


def test_signing_out_while_a_secret_is_rotated_names_the_session_by_both(stage: Stage, settings: Any) -> None:
    rotating = replace(stage, jwt_secret="the new one " * 6, other_jwt_secrets=(stage.jwt_secret,))
    settings.HERMES_STAGES = {"development": rotating}
    revocation.sign_out("a session's key")
    assert told(stage) == [SignOut(tokens.session_tag("a session's key", each)) for each in (rotating, stage)]


def test_signing_out_without_a_session_tells_nobody(stage: Stage) -> None:
    revocation.on_signed_out(request=None)
    assert told(stage) == []


def test_one_connection_may_be_closed(stage: Stage) -> None:
    revocation.disconnect("development", "connection-1")
    assert told(stage) == [Disconnect("connection-1")]


def test_a_connection_of_a_stage_that_is_not_configured_cannot_be_closed_and_the_stage_is_named(stage: Stage) -> None:
    with pytest.raises(StageNotConfigured, match="HERMES_STAGES does not have the stage 'retired'"):
        revocation.disconnect("retired", "connection-1")
    assert told(stage) == []


def test_where_one_stage_is_not_configured_nothing_is_revoked_in_the_others(stage: Stage) -> None:
    with pytest.raises(StageNotConfigured):
        revocation.revoke("42", "acme", [stage.name, "retired"])
    assert token_store.read(stage, "42", "acme").not_before == 0
    assert told(stage) == []


def test_nobody_is_told_of_what_was_rolled_back(stage: Stage) -> None:
    with transaction.atomic():
        revocation.revoke("42", "acme")
        transaction.set_rollback(True)
    assert told(stage) == []


def test_without_dynamodb_nobody_is_removed(settings: Any, nowhere: str, aws: Aws) -> None:
    alice = make_member("alice", "acme")
    settings.AWS_ENDPOINT_URL = nowhere
    with pytest.raises(StoreUnavailable):
        Membership.objects.filter(user=alice).delete()
    assert Membership.objects.filter(user=alice).exists()


def test_without_redis_the_row_is_written_and_the_log_says_who_was_not_told(
    settings: Any, nowhere: str, stage: Stage, valkey: Valkey, caplog: pytest.LogCaptureFixture
) -> None:
    settings.REDIS_URL = nowhere.replace("http", "redis")
    revocation.revoke("42", "acme")
    assert token_store.read(stage, "42", "acme").not_before
    assert "Open connections are not told now" in caplog.text

"""The guard: authority that ends is noticed in every process, by command, and by looking where no command came."""

from __future__ import annotations

import asyncio
import json
import statistics
import time
import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth import get_user_model
from django.test import Client
from websockets.exceptions import ConnectionClosed

from notifications.access import commands, revocation, token_store, tokens
from notifications.access.commands import Disconnect, Revoke, SignOut
from notifications.access.standing import ROW_SECONDS
from notifications.exceptions import StoreUnavailable
from notifications.models import Membership, Room
from notifications.stream.entry import Entry, frame, frame_head
from notifications.stream.history import History
from notifications.stream.keys import CONTROL_ROOM
from notifications.stream.message import Message
from tests.sockets.scene import Serving, close_of, control, heard, recorder


def make_entry_of(command: str) -> Entry:
    """Make an entry of the control room."""
    return Entry(
        "e1", 1, "c1", "", frame(frame_head(Message("c1", "hermes", CONTROL_ROOM, command)), "e1", 1), None, None, 0
    )


@sync_to_async
def member(serving: Serving, room: str = "acme") -> tuple[Any, str]:
    """Make a user with a membership and a token."""
    user = get_user_model().objects.create_user(f"user-{uuid.uuid4().hex[:8]}")
    Membership.objects.create(room=Room.objects.get_or_create(code=room)[0], user=user)
    return user, serving.token(user.pk, room)


async def test_a_removed_member_is_closed_at_once_and_the_others_stay(serving: Serving) -> None:
    alice, token = await member(serving)
    _, other = await member(serving)
    async with serving.connect(token) as socket, serving.connect(other) as bob:
        await control(socket, "hello")
        await control(bob, "hello")
        begun = time.monotonic()
        await alice.memberships.all().adelete()
        assert await close_of(socket) == (4403, "revoked")
        assert time.monotonic() - begun < 2
        await serving.publish(1)
        assert (await heard(bob))["seq"] == 1
    async with serving.connect(token) as socket:
        assert await close_of(socket) == (4403, "revoked")


async def test_a_clock_that_is_ahead_saves_no_token_of_a_removed_member(serving: Serving) -> None:
    """The token was given by another host, half a minute ahead of the one that revokes."""
    alice, _ = await member(serving)
    token = tokens.issue(serving.stage, alice.pk, "acme", now=time.time() + 30, ttl=600)
    async with serving.connect(token) as socket:
        await control(socket, "hello")
        begun = time.monotonic()
        await alice.memberships.all().adelete()
        assert await close_of(socket) == (4401, "no_row")
        assert time.monotonic() - begun < 3
    async with serving.connect(token) as socket:
        assert (await close_of(socket))[0] == 4401
    await Membership.objects.acreate(room=await Room.objects.aget(code="acme"), user=alice)
    serving.token(alice.pk)  # which writes the row, as the page does that gives a token
    async with serving.connect(tokens.issue(serving.stage, alice.pk, "acme", now=time.time() + 5, ttl=600)) as socket:
        await control(socket, "hello")


async def test_a_deactivated_user_loses_every_room(serving: Serving) -> None:
    alice, token = await member(serving)
    await Membership.objects.acreate(room=await Room.objects.acreate(code="second"), user=alice)
    second = serving.token(alice.pk, "second")
    async with serving.connect(token) as one, serving.connect(second) as other:
        await control(one, "hello")
        await control(other, "hello")
        alice.is_active = False
        await alice.asave()
        assert [(await close_of(each))[0] for each in (one, other)] == [4403, 4403]


async def test_a_deleted_user_loses_every_room(serving: Serving) -> None:
    alice, token = await member(serving)
    async with serving.connect(token) as socket:
        await control(socket, "hello")
        await alice.adelete()
        assert (await close_of(socket))[0] == 4403


async def test_a_membership_that_becomes_another_s_ends_the_old_one(serving: Serving) -> None:
    alice, token = await member(serving)
    bob, _ = await member(serving, "globex")
    async with serving.connect(token) as socket:
        await control(socket, "hello")
        membership = await alice.memberships.aget()
        await membership.asave()
        membership.user = bob
        await membership.asave()
        assert await close_of(socket) == (4403, "revoked")


async def test_a_room_that_gets_another_code_is_another_room(serving: Serving) -> None:
    _, token = await member(serving, "tenant")
    async with serving.connect(token) as socket:
        await control(socket, "hello")
        room = await Room.objects.aget(code="tenant")
        room.name = "Tenant"
        await room.asave()
        room.code = "tenant-2"
        await room.asave()
        assert await close_of(socket) == (4403, "revoked")


async def test_who_is_still_a_member_comes_back_with_a_newer_token(serving: Serving) -> None:
    alice, token = await member(serving)
    async with serving.connect(token) as socket:
        await control(socket, "hello")
        await sync_to_async(revocation.revoke)(str(alice.pk), "acme")
        assert (await close_of(socket))[0] == 4403
    later = int(time.time()) + 1
    while time.time() < later:  # a token of the same second is revoked, too: seconds are all that iat tells
        await asyncio.sleep(0.05)
    async with serving.connect(serving.token(alice.pk)) as socket:
        assert (await control(socket, "hello"))["status"] == "fresh"


async def test_signing_out_closes_that_session_s_connections_only(serving: Serving, settings: Any) -> None:
    settings.ALLOWED_HOSTS = ["testserver"]
    alice, elsewhere = await member(serving)
    client = Client()
    await sync_to_async(client.force_login)(alice)
    answer = await sync_to_async(client.post)("/notifications/token", content_type="application/json")
    async with serving.connect(answer.json()["token"]) as signed_out, serving.connect(elsewhere) as other:
        await control(signed_out, "hello")
        await control(other, "hello")
        await sync_to_async(client.logout)()
        assert await close_of(signed_out) == (4403, "signed out")
        await serving.publish(1)
        assert (await heard(other))["seq"] == 1


async def test_a_join_under_way_does_not_outlive_its_session(serving: Serving) -> None:
    hub = await serving.hubs.running()
    stage = serving.stage
    token = tokens.issue(stage, "alice", "acme", now=time.time(), ttl=600, session=tokens.session_tag("key", stage))
    serving.token()
    grant = await hub.authorizer.authorize(stage, token)
    async with serving.connect(serving.token("bob")) as bob:
        await control(bob, "hello")
        await sync_to_async(revocation.sign_out)("key")
        async with asyncio.timeout(5):
            while not hub._guard._signed_out:
                await asyncio.sleep(0.01)
        connection = serving.connection(grant)
        await hub.join(connection, None)
        assert connection.close_code == 4403
        hub.leave(connection, None)


async def test_an_operator_disconnects_one_connection_and_it_may_come_back(serving: Serving) -> None:
    token = serving.token()
    async with serving.connect(token) as one, serving.connect(token) as other:
        hello = await control(one, "hello")
        await control(other, "hello")
        await sync_to_async(revocation.disconnect)("development", hello["connection_id"])
        assert await close_of(one) == (4110, "disconnected")
        await serving.publish(1)
        assert (await heard(other))["seq"] == 1


async def test_a_command_whose_hint_is_lost_is_obeyed_all_the_same(serving: Serving) -> None:
    async with serving.connect(serving.token()) as alice:
        await control(alice, "hello")
        command = commands.encode(Revoke("alice", "acme", int(time.time())))
        history = History()
        await history.append("development", [Message("c1", "hermes", CONTROL_ROOM, command)])
        await history.aclose()
        assert await close_of(alice) == (4403, "revoked")


async def test_commands_whose_hints_are_lost_take_less_than_a_second(serving: Serving) -> None:
    """Whenever they come between two looks; the median, because a machine may be busy with something else."""
    history, seconds = History(), []
    for n in range(5):
        async with serving.connect(serving.token()) as alice:
            await control(alice, "hello")
            await asyncio.sleep(n * 0.2)  # not a wait: another moment between two looks
            connection_id = next(iter((await serving.hubs.running())._connections)).id
            command = commands.encode(Disconnect(connection_id))
            began = time.monotonic()
            await history.append("development", [Message(f"d{n}", "hermes", CONTROL_ROOM, command)])
            assert (await close_of(alice))[0] == 4110
            seconds.append(time.monotonic() - began)
    await history.aclose()
    assert statistics.median(seconds) < 1, seconds


async def test_a_row_deleted_by_others_closes_its_connection(serving: Serving, aws: Any) -> None:
    async with serving.connect(serving.token()) as alice, serving.connect(serving.token("bob")) as bob:
        await control(alice, "hello")
        await control(bob, "hello")
        key = {"user_id": {"S": "alice"}, "room_id": {"S": "acme"}}
        aws.dynamodb.delete_item(TableName="hermesTokens", Key=key)
        hub = await serving.hubs.running()
        for connection in hub._connections:
            connection.checked_at -= ROW_SECONDS
        hub._guard.sweep_soon()
        assert await close_of(alice) == (4401, "no_row")
        await serving.publish(1)
        assert (await heard(bob))["seq"] == 1


async def test_a_sweep_that_cannot_read_closes_nobody(
    serving: Serving, settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving.connect(serving.token()) as alice:
        await control(alice, "hello")
        working, settings.AWS_ENDPOINT_URL = settings.AWS_ENDPOINT_URL, "http://127.0.0.1:1"
        hub = await serving.hubs.running()
        for _ in range(2):
            hub._guard.begin("development")
            await hub._guard.sweep()
        settings.AWS_ENDPOINT_URL = working
        await serving.publish(1)
        assert (await heard(alice))["seq"] == 1
        assert caplog.text.count("Deleted rows are not noticed now") == 1


async def test_a_revocation_between_the_verdict_and_the_join_is_not_lost(serving: Serving) -> None:
    """The row was read before the revocation, the connection is registered after it."""
    hub = await serving.hubs.running()
    stage = serving.stage
    grant = await hub.authorizer.authorize(stage, serving.token())
    async with serving.connect(serving.token("bob")) as bob:  # so that commands are being followed
        await control(bob, "hello")
        await sync_to_async(revocation.revoke)("alice", "acme")
        async with asyncio.timeout(5):
            while ("development", "alice", "acme") not in hub._guard._revoked:
                await asyncio.sleep(0.01)
        connection = serving.connection(grant)
        await hub.join(connection, None)
        assert connection.close_code == 4403
        hub.leave(connection, None)


@pytest.mark.parametrize("what", ["revoked", "signed out"])
async def test_a_revocation_between_the_verdict_and_a_refresh_is_not_lost(serving: Serving, what: str) -> None:
    """It is not about the grant by which she was connected when it came."""
    hub, stage, now = await serving.hubs.running(), serving.stage, time.time()
    session = tokens.session_tag("key", stage)
    serving.token()
    new = await hub.authorizer.authorize(stage, tokens.issue(stage, "alice", "acme", now=now, ttl=600, session=session))
    connection = serving.connection(replace(new, session="", issued_at=int(now) + 100))
    await hub.join(connection, None)
    if what == "revoked":
        await sync_to_async(revocation.revoke)("alice", "acme")
    else:
        await sync_to_async(revocation.sign_out)("key")
    async with asyncio.timeout(5):
        while not (hub._guard._revoked or hub._guard._signed_out):
            await asyncio.sleep(0.01)
    assert not connection.is_closing
    hub.refresh(connection, new)
    assert recorder(connection).closed == (4403, what)
    assert not recorder(connection).controls("refreshed")
    hub.leave(connection, None)


async def test_a_command_of_another_release_makes_everybody_s_row_be_read(
    serving: Serving, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving.connect(serving.token()) as alice:
        await control(alice, "hello")
        hub = await serving.hubs.running()
        await hub.publisher.publish("development", [Message("c1", "hermes", CONTROL_ROOM, '{"kind":"dance"}')])
        async with asyncio.timeout(5):
            while "not understood" not in caplog.text:
                await asyncio.sleep(0.01)
        await serving.publish(1)
        assert (await heard(alice))["seq"] == 1


async def test_a_revocation_costs_a_look_at_its_member_and_not_at_everybody(
    serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = await serving.hubs.running()
    alice, bob = [
        serving.connection(await hub.authorizer.authorize(serving.stage, serving.token(user)))
        for user in ("alice", "bob")
    ]
    for each in (alice, bob):
        await hub.join(each, None)
    monkeypatch.setattr(hub._guard, "_connections", lambda: pytest.fail("everybody was looked at"))
    for member in ("alice", "nobody"):
        command = commands.encode(Revoke(member, "acme", int(time.time())))
        hub._guard.obey("development", make_entry_of(command))
    hub._guard.obey("development", make_entry_of(commands.encode(Revoke("bob", "empty", int(time.time())))))
    assert (alice.close_code, bob.close_code) == (4403, None)
    monkeypatch.undo()
    for each in (alice, bob):
        hub.leave(each, None)


async def test_lost_commands_make_everybody_s_row_be_read(serving: Serving, valkey: Any) -> None:
    """Redis lost its data, a revocation among it; the row in DynamoDB still says so."""
    async with serving.connect(serving.token()) as alice:
        await control(alice, "hello")
        token_store.revoke(serving.stage, "alice", "acme", int(time.time()))
        valkey.stop()
        valkey.start()
        assert await close_of(alice) == (4403, "revoked")


@pytest.fixture
async def another(serving: Serving) -> AsyncIterator[Serving]:
    """A process that begins later."""
    another = Serving()
    yield another
    await another.stop()


async def test_a_new_process_trusts_what_others_have_read_and_reads_no_row(
    serving: Serving, another: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = serving.token()
    async with serving.connect(token) as alice:
        await control(alice, "hello")
        reads: list[Any] = []
        real = token_store.read_many
        monkeypatch.setattr(token_store, "read_many", lambda *arguments: reads.append(arguments) or real(*arguments))
        await another.start()
        async with another.connect(token) as other:
            await control(other, "hello")
            await (await another.hubs.running())._guard.sweep()
            await serving.publish(1)
            assert (await heard(other))["seq"] == 1
    assert reads == []


async def join_and_be_revoked(serving: Serving, token: str) -> None:
    """Alice is here, sees an entry, and has her tokens revoked."""
    async with serving.connect(token) as alice:
        await control(alice, "hello")
        await serving.publish(1)
        await heard(alice)
        await sync_to_async(revocation.revoke)("alice", "acme")
        assert await close_of(alice) == (4403, "revoked")


async def test_a_new_process_shows_nothing_to_who_was_revoked_before_it_began(
    serving: Serving, another: Serving
) -> None:
    """What others have read of the member is older than the revocation, and still there."""
    token = serving.token()
    await join_and_be_revoked(serving, token)
    await another.start()
    async with another.connect(token) as alice:
        with pytest.raises(ConnectionClosed):
            pytest.fail(f"she was shown {await alice.recv()!r}")
        assert alice.close_code == 4403


async def test_where_not_all_commands_are_retained_a_new_process_reads_the_rows(
    serving: Serving, another: Serving, settings: Any
) -> None:
    settings.HERMES_HISTORY_SECONDS = 60  # less than a command must be remembered
    token = serving.token()
    async with serving.connect(token) as alice:
        await control(alice, "hello")
        await another.start()
        token_store.revoke(serving.stage, "alice", "acme", int(time.time()))  # and its command is lost
        async with another.connect(token) as other:
            assert (await close_of(other))[0] == 4403


async def test_a_revocation_that_the_history_has_trimmed_since_lets_a_new_process_show_nothing(
    serving: Serving, another: Serving, settings: Any
) -> None:
    """As when a room of many members is deleted: what others have read of her is older than what is retained."""
    settings.HERMES_HISTORY_ENTRIES = 10
    token = serving.token()
    await join_and_be_revoked(serving, token)
    hub = await serving.hubs.running()
    others = [Message(f"c{n}", "hermes", CONTROL_ROOM, commands.encode(SignOut(f"tag-{n}"))) for n in range(12)]
    await hub.publisher.publish("development", others)
    await another.start()
    async with another.connect(token) as alice:
        with pytest.raises(ConnectionClosed):
            pytest.fail(f"she was shown {await alice.recv()!r}")
        assert alice.close_code == 4403
    async with another.connect(serving.token("bob")) as bob:
        assert (await control(bob, "hello"))["status"] == "fresh"


async def test_a_new_process_trusts_no_row_where_it_did_not_understand_a_command(serving: Serving) -> None:
    hub = await serving.hubs.running()
    unknown = Message("c1", "hermes", CONTROL_ROOM, '{"kind":"dance"}')
    ((result,), begun) = await hub.publisher.publish("development", [unknown]), time.monotonic()
    hub._guard.learn("development", [result.entry], is_all=True)
    assert hub._guard._obeying_since["development"] >= begun


async def test_who_must_be_looked_at_again_waits_for_the_store(serving: Serving, settings: Any) -> None:
    hub = await serving.hubs.running()
    grant = await hub.authorizer.authorize(serving.stage, serving.token())
    async with serving.connect(serving.token("bob")) as bob:  # so that commands are being followed
        await control(bob, "hello")
    hub._guard.begin("development")
    settings.AWS_ENDPOINT_URL, working = "http://127.0.0.1:1", settings.AWS_ENDPOINT_URL
    connection = serving.connection(grant)
    with pytest.raises(StoreUnavailable):
        await hub.join(connection, None)
    settings.AWS_ENDPOINT_URL = working
    await hub.join(connection, None)
    assert connection in hub._connections
    hub.leave(connection, None)


def test_commands_survive_their_encoding() -> None:
    for command in (Revoke("alice", "acme", 7), SignOut("tag"), Disconnect("id")):
        assert commands.decode(json.loads(commands.encode(command))) == command
    for garbage in (None, 7, {"kind": "revoke"}, {"kind": "dance"}, {"kind": "sign_out", "session": "a", "more": 1}):
        with pytest.raises(ValueError, match="release"):
            commands.decode(garbage)


def test_a_revocation_that_dynamodb_does_not_take_fails_loudly(
    settings: Any, transactional_db: None, alice: Any
) -> None:
    settings.AWS_ENDPOINT_URL = "http://127.0.0.1:1"
    with pytest.raises(StoreUnavailable):
        alice.memberships.all().delete()
    assert alice.memberships.count() == 1, "and the member is still one"


def test_a_session_tag_tells_nothing_of_the_session(stage: Any) -> None:
    assert "abc" not in tokens.session_tag("abc", stage)
    assert tokens.session_tag("abc", stage) != tokens.session_tag("abd", stage)

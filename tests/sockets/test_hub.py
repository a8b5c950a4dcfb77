"""The hub on a real Valkey: entries reach their room's connections, once and in order, also when hints do not."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import redis
from channels.layers import get_channel_layer
from django.conf import settings as settings_module

from hermes_site.engines import Valkey
from notifications.exceptions import Unavailable
from notifications.models import Connection as Row
from notifications.sockets import hub as module
from notifications.sockets.connection import Connection
from notifications.sockets.crowd import TooManyConnections
from notifications.sockets.hub import Hub, HubOfLoop
from notifications.stream import keys
from notifications.stream.history import History
from notifications.stream.message import Message
from notifications.stream.position import Position
from tests.sockets.scene import Connect, make_entry, recorder

pytestmark = pytest.mark.django_db(transaction=True)
Make = Callable[..., Message]


@pytest.fixture
def pings_every_second(settings: Any) -> None:
    """What a hub reads when it is made."""
    settings.HERMES_PING_SECONDS = 1


@pytest.fixture
async def hub(valkey: Valkey, provisioned: Any) -> AsyncIterator[Hub]:
    """A running hub."""
    running = Hub()
    await running.start()
    yield running
    await running.stop()
    await get_channel_layer().flush()


@pytest.fixture
def connect(connect: Connect, provisioned: Any) -> Connect:
    """Makes connections of members who have their row: the guard looks at the rows of everybody who is connected."""

    def make(user: str = "alice", room: str = "acme", **options: Any) -> Connection:
        connection = connect(user, room, **options)
        stage = settings_module.HERMES_STAGES[connection.grant.stage]
        row = {"user_id": {"S": user}, "room_id": {"S": room}, "token": {"S": "what the authorizer has accepted"}}
        provisioned.dynamodb.put_item(TableName=stage.tokens_table, Item=row)
        return connection

    return make


async def until(predicate: Callable[[], Any], seconds: float = 10) -> None:
    """Wait on the loop until something is the case."""
    deadline = time.monotonic() + seconds
    while not predicate():
        assert time.monotonic() < deadline, "it did not come about"
        await asyncio.sleep(0.01)


async def row_of(connection: Connection, **like: Any) -> None:
    """Wait until SQL knows a connection like this."""
    deadline = time.monotonic() + 10
    while not await Row.objects.filter(connection_id=connection.id, **like).aexists():
        assert time.monotonic() < deadline, f"no row like {like}"
        await asyncio.sleep(0.05)


async def publish(hub: Hub, *messages: Message, stage: str = "development") -> None:
    await hub.publisher.publish(stage, messages)


async def test_an_entry_reaches_its_room_and_nobody_else(hub: Hub, connect: Connect, message: Make) -> None:
    alice, bob, charlie = connect("alice"), connect("bob"), connect("charlie", room="globex")
    elsewhere = connect("alice", stage="production")
    for connection in (alice, bob, charlie, elsewhere):
        await hub.join(connection, None)
    await publish(hub, message(1), message(2), message(3))
    await publish(hub, message(9, room="globex"))
    await until(lambda: len(recorder(alice).seqs) == 3 and recorder(charlie).seqs)
    assert recorder(alice).seqs == recorder(bob).seqs == [1, 2, 3]
    assert [entry["id"] for entry in recorder(charlie).entries] == ["m9"]
    assert recorder(elsewhere).seqs == []


async def test_a_hello_says_where_the_member_is(hub: Hub, connect: Connect, message: Make) -> None:
    await publish(hub, message(1))
    alice = connect("alice")
    await hub.join(alice, None)
    (hello,) = recorder(alice).controls("hello")
    assert hello["status"] == "fresh"
    assert (hello["seq"], hello["id"], hello["replayed"]) == (1, "m1", 0)
    assert hello["connection_id"] == alice.id
    assert (hello["user_id"], hello["room_id"]) == ("alice", "acme")
    assert 3590 <= hello["expires_in_s"] <= 3600


async def test_the_article_s_client_gets_entries_only(hub: Hub, connect: Connect, message: Make) -> None:
    old = connect("alice", v1=False)
    await hub.join(old, None)
    await publish(hub, message(1))
    await until(lambda: recorder(old).frames)
    assert [frame["seq"] for frame in recorder(old).frames] == [1]


async def test_an_entry_whose_hint_is_lost_arrives_all_the_same(
    hub: Hub, connect: Connect, history: History, message: Make
) -> None:
    alice = connect("alice")
    await hub.join(alice, None)
    await history.append("development", [message(1), message(2)])
    await until(lambda: recorder(alice).seqs == [1, 2], 5)


async def test_a_hint_after_a_lost_one_has_the_gap_filled_first(
    hub: Hub, connect: Connect, history: History, message: Make
) -> None:
    alice = connect("alice")
    await hub.join(alice, None)
    await history.append("development", [message(1), message(2)])
    await publish(hub, message(3))
    await until(lambda: len(recorder(alice).seqs) == 3)
    assert recorder(alice).seqs == [1, 2, 3]


async def test_repeated_and_reordered_hints_change_nothing(hub: Hub, connect: Connect, message: Make) -> None:
    alice = connect("alice")
    await hub.join(alice, None)
    for numbers in ((1, 2), (2, 1), (1,), (3, 2)):
        await publish(hub, *map(message, numbers))
    await until(lambda: len(recorder(alice).seqs) >= 3)
    assert recorder(alice).seqs == [1, 2, 3]


async def test_a_client_that_comes_back_gets_what_it_missed(hub: Hub, connect: Connect, message: Make) -> None:
    await publish(hub, *map(message, range(1, 6)))
    first = connect("alice")
    await hub.join(first, None)
    epoch = recorder(first).controls("hello")[0]["epoch"]
    alice = connect("alice")
    await hub.join(alice, Position(epoch, 2, "m2"))
    (hello,) = recorder(alice).controls("hello")
    assert (hello["status"], hello["seq"], hello["id"], hello["replayed"]) == ("recovered", 2, "m2", 3)
    assert recorder(alice).seqs == [3, 4, 5]
    await publish(hub, message(6))
    await until(lambda: recorder(alice).seqs == [3, 4, 5, 6])


async def test_many_clients_that_come_back_cost_one_read(
    hub: Hub, connect: Connect, message: Make, valkey: Valkey
) -> None:
    await publish(hub, *map(message, range(1, 6)))
    probe = connect("alice")
    await hub.join(probe, None)
    epoch = recorder(probe).controls("hello")[0]["epoch"]
    with redis.Redis.from_url(valkey.url) as client:
        client.config_resetstat()
        many = [connect(f"user-{number}") for number in range(200)]
        await asyncio.gather(
            *(
                hub.join(each, Position(epoch, number % 6, f"m{number % 6}" if number % 6 else ""))
                for number, each in enumerate(many)
            )
        )
        stats: Any = client.info("commandstats")
        assert stats["cmdstat_xrange"]["calls"] <= 4, "one whole read makes two, and the follower looks every second"
    for number, each in enumerate(many):
        assert recorder(each).seqs == list(range(number % 6 + 1, 6))


async def test_a_member_moves_on_past_what_is_addressed_to_others(hub: Hub, connect: Connect, message: Make) -> None:
    await publish(hub, message(1), message(2, to=("bob",)), message(3, to=("bob",)))
    probe = connect("alice")
    await hub.join(probe, None)
    epoch = recorder(probe).controls("hello")[0]["epoch"]
    alice = connect("alice")
    await hub.join(alice, Position(epoch, 0, ""))
    assert recorder(alice).seqs == [1]
    (ping,) = recorder(alice).controls("ping")
    assert (ping["seq"], ping["id"]) == (3, "m3")


async def test_who_was_away_gets_what_is_visible_to_it_whatever_others_were_sent(
    hub: Hub, connect: Connect, message: Make, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.HERMES_REPLAY_BYTES = 1000
    probe = connect("bob")
    await hub.join(probe, None)
    epoch = recorder(probe).controls("hello")[0]["epoch"]
    await publish(hub, message(1), message(2))
    for number in range(3, 23):
        await publish(hub, message(number, to=("bob",)))
    await until(lambda: len(recorder(probe).seqs) == 22)
    reads: list[Any] = []
    real = hub._history.read
    monkeypatch.setattr(hub._history, "read", lambda *arguments: reads.append(arguments) or real(*arguments))
    many = [connect("alice") for _ in range(10)]
    await asyncio.gather(*(hub.join(each, Position(epoch, 0, "")) for each in many))
    for alice in many:
        (hello,) = recorder(alice).controls("hello")
        assert (hello["status"], recorder(alice).seqs) == ("recovered", [1, 2])
    assert len(reads) <= 2, "one for all, and one that shows how far the room reaches back"
    bob = connect("bob")
    await hub.join(bob, Position(epoch, 0, ""))
    assert recorder(bob).controls("hello")[0]["reason"] == "too_far", "its own are more than a replay carries"
    await publish(hub, message(23))
    await until(lambda: recorder(many[0]).seqs == [1, 2, 23])


async def test_a_malformed_position_is_a_lost_epoch(hub: Hub, connect: Connect, message: Make) -> None:
    await publish(hub, message(1))
    alice = connect("alice")
    await hub.join(alice, None, malformed=True)
    (hello,) = recorder(alice).controls("hello")
    assert (hello["status"], hello["reason"], hello["replayed"]) == ("lost", "epoch", 1)


async def test_a_client_ahead_of_this_process_has_it_ask_the_history(
    hub: Hub, connect: Connect, history: History, message: Make
) -> None:
    """It was connected to another process, which was faster than our hint."""
    alice, bob = connect("alice"), connect("bob")
    await hub.join(alice, None)
    (result, _) = await history.append("development", [message(1), message(2)])
    await hub.join(bob, result.entry.position)  # type: ignore[union-attr]
    assert recorder(bob).controls("hello")[0]["status"] == "recovered"
    assert recorder(bob).seqs == [2]
    await until(lambda: recorder(alice).seqs == [1, 2])


async def test_a_history_that_forked_under_a_client_is_called_lost(hub: Hub, connect: Connect, message: Make) -> None:
    await publish(hub, message(1), message(2))
    alice, bob = connect("alice"), connect("bob")
    await hub.join(alice, None)
    epoch = recorder(alice).controls("hello")[0]["epoch"]
    await hub.join(bob, Position(epoch, 1, "another"))
    (hello,) = recorder(bob).controls("hello")
    assert (hello["status"], hello["reason"]) == ("lost", "fork")
    assert recorder(bob).seqs == [1, 2]


async def test_a_redis_that_lost_its_data_is_told_to_everybody(
    hub: Hub, connect: Connect, message: Make, valkey: Valkey
) -> None:
    await publish(hub, message(1))
    alice = connect("alice")
    await hub.join(alice, None)
    old = recorder(alice).controls("hello")[0]["epoch"]
    with redis.Redis.from_url(valkey.url) as client:
        client.flushall()
    await publish(hub, message(2))
    await until(lambda: recorder(alice).seqs)
    (lost,) = recorder(alice).controls("lost")
    assert lost["reason"] == "epoch"
    assert lost["epoch"] != old
    assert recorder(alice).seqs == [1]


async def test_an_outage_of_redis_is_waited_out(
    hub: Hub, connect: Connect, history: History, message: Make, valkey: Valkey
) -> None:
    alice, bob = connect("alice"), connect("bob", room="another")
    await hub.join(alice, None)
    valkey.suspend()
    try:
        with pytest.raises(Unavailable):
            async with asyncio.timeout(15):
                await hub.join(bob, None)
        assert recorder(bob).frames == []
    finally:
        valkey.resume()
    await until(lambda: valkey.running)
    for _ in range(20):  # connections that broke are noticed one by one
        try:
            await publish(hub, message(1))
            break
        except Unavailable:
            continue
    await until(lambda: recorder(alice).seqs == [1], 15)


async def test_a_member_may_have_so_many_connections(hub: Hub, connect: Connect, settings: Any) -> None:
    settings.HERMES_CONNECTIONS_PER_USER = 2
    first, second, third, bob = connect("alice"), connect("alice", room="globex"), connect("alice"), connect("bob")
    await hub.join(first, None)
    await hub.join(second, None)
    with pytest.raises(TooManyConnections):
        await hub.join(third, None)
    await hub.join(bob, None)
    hub.leave(first, 1000)
    await hub.join(third, None)


async def test_joining_and_leaving_is_told_to_the_registry(hub: Hub, connect: Connect) -> None:
    alice = connect("alice")
    await hub.join(alice, None)
    await row_of(alice, room_id="acme", user_id="alice", closed_at=None)
    hub.leave(alice, 1001)
    hub.leave(alice, 1006)
    await row_of(alice, close_code=1001)


async def test_a_token_that_ends_closes_its_connection(hub: Hub, connect: Connect) -> None:
    alice = connect("alice", ttl=2)
    await hub.join(alice, None)
    await until(lambda: recorder(alice).closed, 5)
    late = time.time() - alice.grant.expires_at
    assert 0 <= late < 2, "within a second after its end, and the test has a second to see it"
    assert recorder(alice).closed == (4401, "expired")
    assert recorder(alice).controls("expiring")
    hub.leave(alice, 1005)
    await row_of(alice, close_code=4401)


@pytest.mark.usefixtures("pings_every_second")
async def test_connections_are_pinged_with_their_rooms_position(hub: Hub, connect: Connect, message: Make) -> None:
    alice, old = connect("alice"), connect("bob", v1=False)
    await hub.join(alice, None)
    await hub.join(old, None)
    await publish(hub, message(1, to=("zoe",)))
    await until(lambda: [p for p in recorder(alice).controls("ping") if p["seq"] == 1] and recorder(old).pings)
    assert recorder(old).frames == []


async def test_a_room_that_everybody_left_is_closed_and_opens_again(hub: Hub, connect: Connect, message: Make) -> None:
    alice = connect("alice")
    await hub.join(alice, None)
    assert {feed.room_id for feed in hub._feeds} == {"acme", keys.CONTROL_ROOM}
    hub.leave(alice, 1000)
    await until(lambda: {feed.room_id for feed in hub._feeds} == {keys.CONTROL_ROOM})
    again = connect("alice")
    await hub.join(again, None)
    await publish(hub, message(1))
    await until(lambda: recorder(again).seqs == [1])


async def test_a_hint_that_is_not_understood_is_ignored(
    hub: Hub, connect: Connect, message: Make, caplog: pytest.LogCaptureFixture
) -> None:
    alice = connect("alice")
    await hub.join(alice, None)
    layer = get_channel_layer()
    for garbage in ({"type": "x"}, {"type": "x", "stage": "development", "room": "acme"}):
        await layer.group_send(keys.group_name("development", "acme"), garbage)
    await publish(hub, message(1))
    await until(lambda: recorder(alice).seqs == [1])
    assert "not understood" in caplog.text


async def test_recent_entries_are_read_from_the_history_once(hub: Hub, connect: Connect, message: Make) -> None:
    await publish(hub, *map(message, range(1, 4)))
    alice = connect("alice")
    await hub.join(alice, None)
    assert len(await hub.recent(alice, 2)) == 2
    assert len(await hub.recent(alice, 50)) == 3


async def test_a_history_that_does_not_answer_is_not_waited_for_by_who_asks_what_is_recent(
    hub: Hub, connect: Connect, valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RECENT_SECONDS", 0.2)
    alice = connect("alice")
    await hub.join(alice, None)
    valkey.suspend()
    try:
        with pytest.raises(Unavailable, match="did not answer in time"):
            await asyncio.wait_for(hub.recent(alice, 2), 3)
    finally:
        valkey.resume()


async def test_a_draining_hub_says_goodbye_with_a_position_and_a_slot(
    hub: Hub, connect: Connect, message: Make
) -> None:
    await publish(hub, message(1))
    alice = connect("alice")
    await hub.join(alice, None)
    hub.drain(alice, 4.0)
    (goodbye,) = recorder(alice).controls("goodbye")
    assert (goodbye["seq"], goodbye["id"]) == (1, "m1")
    assert 0 <= goodbye["retry_after_ms"] <= 4000
    assert hub.is_draining


async def test_who_is_still_joining_is_not_taken_past_what_it_missed_when_the_hub_drains(
    hub: Hub, connect: Connect, message: Make
) -> None:
    bob, alice = connect("bob"), connect("alice")
    await hub.join(bob, None)
    await publish(hub, message(1))
    hub.drain(alice, 4.0)
    assert recorder(alice).controls("goodbye") == []


async def test_a_loop_has_one_hub_and_stops_it(valkey: Valkey, provisioned: Any) -> None:
    hubs = HubOfLoop()
    await hubs.stop()
    one, other = await asyncio.gather(hubs.running(), hubs.running())
    assert one is other
    await hubs.stop()
    assert one.is_draining
    await get_channel_layer().flush()


async def test_a_hub_starts_without_redis_and_finds_it_later(
    settings: Any, valkey: Valkey, provisioned: Any, connect: Connect, message: Make
) -> None:
    valkey.stop()
    hub = Hub()
    await hub.start()
    try:
        with pytest.raises(Unavailable):
            await hub.join(connect("alice"), None)
        valkey.start()
        alice = connect("alice")

        async def joined(attempt: Callable[[], Awaitable[None]]) -> None:
            deadline = time.monotonic() + 15
            while True:
                try:
                    return await attempt()
                except Unavailable:
                    assert time.monotonic() < deadline
                    await asyncio.sleep(0.1)

        await joined(lambda: hub.join(alice, None))
        await publish(hub, message(1))
        await until(lambda: recorder(alice).seqs == [1])
    finally:
        await hub.stop()
        await get_channel_layer().flush()


def test_the_scene_makes_entries_as_the_history_does() -> None:
    assert make_entry(2, "m1").position == Position("e1", 2, "m2")

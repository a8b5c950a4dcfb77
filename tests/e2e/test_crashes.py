"""What is killed or stopped costs nobody a message: relay, server, Redis, DynamoDB. Each test mends what it broke."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator

import pytest

from tests.e2e.client import Client, in_order
from tests.processes import Hermes
from tests.waiting import eventually

# The shortest that settings allow: what a killed relay held comes back after it.
VISIBILITY = 12


@pytest.fixture(scope="module")
def own_hermes(make_hermes: Callable[..., Hermes]) -> Iterator[Hermes]:
    """A Hermes whose parts the tests of this module kill."""
    own = make_hermes(HERMES_VISIBILITY_SECONDS=str(VISIBILITY), HERMES_WAIT_SECONDS="1")
    try:
        yield own.start()
    finally:
        own.stop()


async def test_a_relay_killed_in_the_middle_of_500_messages_loses_and_repeats_none(own_hermes: Hermes) -> None:
    sent = [{"type": "info", "data": number} for number in range(500)]
    async with Client(own_hermes, "alice") as alice:
        await alice.hello()
        await asyncio.to_thread(own_hermes.kill_relay)
        await asyncio.to_thread(own_hermes.send_many, "acme", sent)
        await asyncio.to_thread(own_hermes.start_relay)
        await alice.until(lambda: len(alice.entries) >= 100, 30)
        await asyncio.to_thread(own_hermes.kill_relay)
        seen = len(alice.entries)
        assert seen < 500, "the relay was faster than the kill"
        await asyncio.to_thread(own_hermes.start_relay)
        await alice.until(lambda: len(alice.entries) >= 500, VISIBILITY + 30)
        await eventually(lambda: own_hermes.queued() == 0, VISIBILITY + 20, "the queue is empty")
        assert sorted(entry["data"]["data"] for entry in alice.entries) == list(range(500))
        assert in_order(alice.entries)
        assert not alice.control("lost")
        assert not alice.control("gap")


async def test_while_redis_is_stopped_nothing_leaves_the_queue_and_all_of_it_arrives_afterwards(
    own_hermes: Hermes,
) -> None:
    sent = [f"during the outage {number}" for number in range(50)]
    async with Client(own_hermes, "alice", stay=True) as alice:
        await alice.hello()
        await asyncio.to_thread(own_hermes.send, "acme", "before")
        await alice.until(lambda: alice.received)
        stopped = time.monotonic()
        await asyncio.to_thread(own_hermes.valkey.stop)
        await asyncio.to_thread(own_hermes.send_many, "acme", sent)
        while time.monotonic() < stopped + 10:
            assert own_hermes.queued() == len(sent)
            assert own_hermes.status("/readyz") in (503, 200)
            await asyncio.sleep(0.5)
        assert own_hermes.status("/readyz") == 503
        assert own_hermes.status("/healthz") == 200
        await asyncio.to_thread(own_hermes.valkey.start)
        await alice.until(lambda: len(alice.received) >= 51, VISIBILITY + 40)
        await eventually(lambda: own_hermes.queued() == 0, VISIBILITY + 20, "the queue is empty")
        assert sorted(alice.received) == sorted(["before", *sent])
        assert in_order(alice.entries)
        await eventually(lambda: own_hermes.status("/readyz") == 200, what="ready again")
    assert own_hermes.processes["server"].running
    assert own_hermes.processes["relay"].running
    assert not own_hermes.dead_letters()


async def test_while_dynamodb_is_stopped_connected_sockets_go_on_receiving(own_hermes: Hermes) -> None:
    async with Client(own_hermes, "alice") as alice:
        await alice.hello()
        own_hermes.aws_proxy.stop_service("dynamodb")
        try:
            for number in range(5):
                started = time.monotonic()
                await asyncio.to_thread(own_hermes.send, "acme", f"without DynamoDB {number}")
                await alice.until(lambda number=number: len(alice.received) == number + 1)
                assert time.monotonic() - started < 1.0
            await eventually(lambda: own_hermes.status("/readyz") == 503, what="/readyz shows the outage")
        finally:
            own_hermes.aws_proxy.start_service("dynamodb")
        await eventually(lambda: own_hermes.status("/readyz") == 200, what="ready again")
        assert alice.close_codes == []


async def test_a_connection_made_or_lost_while_dynamodb_is_stopped_is_right_in_the_table_afterwards(
    own_hermes: Hermes,
) -> None:
    async with Client(own_hermes, "alice") as alice:
        async with Client(own_hermes, "bob") as bob:
            await bob.hello()
            connection = (await alice.hello())["connection_id"]
            await eventually(lambda: connection in own_hermes.live_rows(), 20)
            own_hermes.aws_proxy.stop_service("dynamodb")
        await asyncio.sleep(1)
        own_hermes.aws_proxy.start_service("dynamodb")
        await eventually(lambda: own_hermes.live_rows() == {connection}, 60, "only Alice's row is left")


async def test_the_connections_table_holds_exactly_the_live_connections_also_after_the_server_was_killed(
    own_hermes: Hermes,
) -> None:
    async with (
        Client(own_hermes, "alice") as alice,
        Client(own_hermes, "bob") as bob,
        Client(own_hermes, "charlie") as charlie,
    ):
        clients = (alice, bob, charlie)
        live = {(await client.hello())["connection_id"] for client in clients}
        assert len(live) == 3
        await eventually(lambda: own_hermes.live_rows() == live, 20, "three rows")
        await charlie.leave()
        live.discard(charlie.control("hello")[0]["connection_id"])
        await eventually(lambda: own_hermes.live_rows() == live, 20, "two rows")
        await asyncio.to_thread(own_hermes.kill_server)
        await alice.until(lambda: alice.close_codes)
        killed = time.monotonic()
        await asyncio.to_thread(own_hermes.start_server)
        async with Client(own_hermes, "alice", position=alice.position) as back:
            connection = (await back.hello())["connection_id"]
            # The lease is 3 s here; with the shipped 30 s it must be right within 90 s.
            await eventually(lambda: own_hermes.live_rows() == {connection}, 20, "the new connection's row alone")
            assert time.monotonic() - killed < 20
    await eventually(lambda: own_hermes.live_rows() == set(), 20, "no row")


async def test_a_killed_server_costs_a_client_that_comes_back_nothing(own_hermes: Hermes) -> None:
    async with Client(own_hermes, "alice", stay=True) as alice:
        await alice.hello()
        await asyncio.to_thread(own_hermes.send, "acme", "before")
        await alice.until(lambda: alice.received)
        await asyncio.to_thread(own_hermes.kill_server)
        await asyncio.to_thread(own_hermes.send_many, "acme", [f"while it was dead {number}" for number in range(20)])
        await asyncio.to_thread(own_hermes.start_server)
        await alice.until(lambda: len(alice.received) >= 21, 20)
        assert len(alice.received) == 21
        assert in_order(alice.entries)
        assert [hello["status"] for hello in alice.control("hello")] == ["fresh", "recovered"]


async def test_server_and_relay_stop_in_order_on_sigterm(own_hermes: Hermes) -> None:
    async with Client(own_hermes, "alice") as alice:
        live = {(await alice.hello())["connection_id"]}
        # What a killed server has left is buried within its lease; nobody is there for it after the stop.
        await eventually(lambda: own_hermes.live_rows() == live, 20, "Alice's row alone")
        assert await asyncio.to_thread(own_hermes.stop_server) == 0
        await alice.until(lambda: alice.close_codes)
        assert await asyncio.to_thread(own_hermes.stop_relay) == 0
        await eventually(lambda: own_hermes.live_rows() == set(), what="no row is left behind")
    await asyncio.to_thread(own_hermes.start_server)
    await asyncio.to_thread(own_hermes.start_relay)

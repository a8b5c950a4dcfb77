"""Round trips: each caller gets the replies to its own commands, whatever became of the connections before."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import redis
import redis.asyncio

from hermes_site.engines import Valkey
from notifications.stream import redis_client
from notifications.stream.redis_client import POOL, async_client
from notifications.stream.round_trips import KEPT, RoundTrips
from tests.waiting import eventually


@pytest.fixture
async def client(valkey: Valkey) -> AsyncIterator[redis.asyncio.Redis]:
    """A client of ours on an empty Valkey."""
    opened = async_client()
    yield opened
    await opened.aclose()


async def test_each_command_has_its_reply_and_a_refused_one_spoils_no_other(client: redis.asyncio.Redis) -> None:
    made = await RoundTrips(client).make(
        [("SET", "a", "é"), ("GET", b"a"), ("LPUSH", "a", 1), ("NO SUCH COMMAND",), ("MGET", "a", "none")]
    )
    assert made[:2] == [b"OK", "é".encode()]
    assert isinstance(made[2], redis.ResponseError)
    assert isinstance(made[3], redis.ResponseError)
    assert made[4] == ["é".encode(), None]


async def test_many_callers_at_once_get_their_own_replies_and_few_connections_stay(client: redis.asyncio.Redis) -> None:
    trips = RoundTrips(client)
    made = await asyncio.gather(*(trips.make([("ECHO", n), ("ECHO", -n)]) for n in range(100)))
    assert made == [[str(n).encode(), str(-n).encode()] for n in range(100)]
    pool = client.connection_pool
    assert len(pool._in_use_connections) == KEPT
    assert len(pool._in_use_connections) + len(pool._available_connections) <= POOL
    assert await client.ping()  # there is one left for others


async def test_a_connection_is_kept_and_one_that_broke_meanwhile_is_made_anew(client: redis.asyncio.Redis) -> None:
    trips = RoundTrips(client)
    ((first,), (same,)) = [await trips.make([("CLIENT", "ID")]) for _ in range(2)]
    assert first == same
    await client.client_kill_filter(_id=str(first))

    (kept,) = trips._kept
    await eventually(lambda: kept._reader.at_eof(), what="we see its end")
    (another,) = await trips.make([("CLIENT", "ID")])
    assert another != first


async def test_what_a_cancelled_caller_would_have_read_is_read_by_nobody_else(client: redis.asyncio.Redis) -> None:
    trips = RoundTrips(client)
    cancelled = asyncio.create_task(trips.make([("BLPOP", "list", 30)]))

    async def is_waiting() -> bool:
        return (await client.info("clients"))["blocked_clients"] == 1

    await eventually(is_waiting)
    cancelled.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cancelled
    await client.rpush("list", "nobody's")
    assert await trips.make([("ECHO", "mine")]) == [b"mine"]


async def test_no_answer_in_time_is_said_and_the_next_caller_is_answered(
    client: redis.asyncio.Redis, monkeypatch: pytest.MonkeyPatch, settings: object
) -> None:
    monkeypatch.setattr(redis_client, "ANSWER_SECONDS", 0.2)
    monkeypatch.setattr("django.conf.settings.HERMES_DURABILITY_SECONDS", 0)
    hasty = async_client()
    trips = RoundTrips(hasty)
    try:
        with pytest.raises(redis.TimeoutError, match=r"no answer within 0\.2 s"):
            await trips.make([("BLPOP", "list", 30)])
        assert await trips.make([("ECHO", "mine")]) == [b"mine"]
        assert len(hasty.connection_pool._in_use_connections) == 1
    finally:
        await hasty.aclose()


async def test_a_primary_that_has_become_a_replica_is_connected_to_anew(client: redis.asyncio.Redis) -> None:
    trips = RoundTrips(client)
    (first,) = await trips.make([("CLIENT", "ID")])
    await client.replicaof("127.0.0.1", 1)
    try:
        with pytest.raises(redis.ConnectionError, match="become a replica"):
            await trips.make([("SET", "a", 1)])
        (refused,) = await trips.make([("SET", "a", 1)])  # nobody else is the primary
        assert isinstance(refused, redis.exceptions.ReadOnlyError)
    finally:
        await client.replicaof("NO", "ONE")
    assert await trips.make([("SET", "a", 1)]) == [b"OK"]
    assert await trips.make([("CLIENT", "ID")]) != [first]

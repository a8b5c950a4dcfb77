"""The registry whole: joins and leaves reach SQL and DynamoDB, through crashes, suspensions and outages of both."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db import OperationalError, connection, connections

from notifications.models import Connection, Server
from notifications.registry import keeper as keeper_module
from notifications.registry.connections import Registry
from notifications.registry.mirror import Mirror
from notifications.registry.records import Life
from notifications.registry.rows import Rows
from tests.registry.conftest import Join, Tables
from tests.waiting import eventually

pytestmark = pytest.mark.django_db(transaction=True)
LEASE = 1.0
Start = Callable[..., Awaitable[Registry]]


@pytest.fixture(autouse=True)
def brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reconcile every half second, so that a test need not wait a minute."""
    monkeypatch.setattr(keeper_module, "RECONCILE_SECONDS", 0.5)


@pytest.fixture
async def start(dynamodb: Tables) -> AsyncIterator[Start]:
    """Return a function that starts a server's registry; what still runs at the end is stopped."""
    registries: list[Registry] = []

    async def make(server_id: str, **options: Any) -> Registry:
        registries.append(Registry(server_id, **{"lease_seconds": LEASE, **options}))
        await registries[-1].start()
        return registries[-1]

    yield make
    for registry in registries:
        if registry._tasks:
            await registry.stop(5)
    # PostgreSQL drops no database that somebody is connected to.
    await sync_to_async(connections.close_all)()


def abandon(registry: Registry) -> None:
    """Let a registry end as `kill -9` ends it: nothing is written any more, nothing is given back."""
    for task in registry._tasks:
        task.cancel()
    registry._tasks = []
    for keeper in registry._keepers:
        keeper.close()
    registry._presence.give_up()


async def in_sql(**conditions: Any) -> set[str]:
    """Return the ids of the rows that fulfil the conditions."""
    rows = Connection.objects.filter(**conditions).values_list("connection_id", flat=True)
    return await sync_to_async(set)(rows)


async def agree(dynamodb: Tables, *records: Any, deadline: float = 15) -> None:
    """Wait until SQL and DynamoDB both hold exactly these connections as open."""
    wanted = {record.connection_id for record in records}

    async def same() -> bool:
        mirrored = await asyncio.to_thread(lambda: dynamodb.connections.keys())
        return await in_sql(closed_at=None) == wanted == mirrored

    await eventually(same, deadline, f"{wanted} in both")


async def test_joins_and_leaves_reach_sql_and_dynamodb(start: Start, dynamodb: Tables, join: Join) -> None:
    registry, alice, bob = await start("server-a"), join(), join("bob")
    registry.opened(alice)
    registry.opened(bob)
    await agree(dynamodb, alice, bob)
    registry.closed(alice.connection_id, 1001)
    registry.closed(alice.connection_id, 1006)
    registry.closed("never opened", 1000)
    await agree(dynamodb, bob)
    assert await in_sql(close_code=1001) == {alice.connection_id}
    assert dynamodb.audit[alice.connection_id]["code"] == "1001"
    assert registry.live == 1


async def test_stopping_closes_what_is_open_with_1012_and_gives_the_leases_back(
    start: Start, dynamodb: Tables, join: Join
) -> None:
    registry = await start("server-a")
    records = [join() for _ in range(20)]
    for record in records:
        registry.opened(record)
    await registry.stop(10)
    assert await in_sql(close_code=1012) == {record.connection_id for record in records}
    assert dynamodb.connections == {}
    assert {item["code"] for item in dynamodb.audit.values()} == {"1012"}
    assert await Server.objects.acount() == 0
    assert dynamodb.leases == set()
    assert registry.pending == 0


async def test_a_registry_that_never_started_stops(dynamodb: Tables) -> None:
    await Registry("server-a", lease_seconds=LEASE).stop(5)


async def test_a_killed_servers_connections_are_closed_by_another_within_its_lease(
    start: Start, dynamodb: Tables, join: Join
) -> None:
    killed, other = await start("server-b"), await start("server-a")
    alice, bob, charlie = join(), join("bob"), join("charlie", "globex")
    killed.opened(alice)
    killed.opened(bob)
    other.opened(charlie)
    await agree(dynamodb, alice, bob, charlie)
    abandon(killed)
    await agree(dynamodb, charlie)
    assert await in_sql(close_code=1006) == {alice.connection_id, bob.connection_id}
    assert {dynamodb.audit[each.connection_id]["code"] for each in (alice, bob)} == {"1006"}
    assert dynamodb.leases == {"server#server-a"}


async def test_a_server_that_ended_on_this_machine_is_buried_long_before_the_next_beat(
    start: Start, dynamodb: Tables, join: Join
) -> None:
    """Its lease is long; the kernel knows it at once, and both stores are right when they have been asked."""
    killed, other = await start("server-b", lease_seconds=60), await start("server-a", lease_seconds=60)
    alice = join()
    killed.opened(alice)
    await agree(dynamodb, alice)
    for keeper in other._keepers:  # as its next beat would
        await keeper._call(keeper._store.reap, 0.0, 0.0)
    abandon(killed)
    begun = time.monotonic()
    await agree(dynamodb)
    assert time.monotonic() - begun < 4


async def test_a_killed_servers_connections_are_closed_by_its_successor(
    start: Start, dynamodb: Tables, join: Join
) -> None:
    killed, alice = await start("server-b"), join()
    killed.opened(alice)
    await agree(dynamodb, alice)
    abandon(killed)
    await start("server-c")
    await agree(dynamodb)


async def test_a_suspended_server_that_was_reaped_has_its_connections_back(
    start: Start, dynamodb: Tables, join: Join
) -> None:
    alice = join()
    suspended = await start("server-b")
    await start("server-a")
    suspended.opened(alice)
    await agree(dynamodb, alice)
    for task in suspended._tasks:
        task.cancel()
    await agree(dynamodb)
    await suspended.start()
    await agree(dynamodb, alice)
    assert dynamodb.leases == {"server#server-a", "server#server-b"}


async def test_an_outage_of_dynamodb_stalls_nobody_and_the_mirror_converges(
    start: Start, dynamodb: Tables, join: Join
) -> None:
    registry, alice, bob, charlie = await start("server-a"), join(), join("bob"), join("charlie", "globex")
    registry.opened(alice)
    registry.opened(bob)
    await agree(dynamodb, alice, bob)
    dynamodb.engine.suspend()
    try:
        begun = time.monotonic()
        registry.closed(alice.connection_id, 1000)
        registry.opened(charlie)
        assert time.monotonic() - begun < 1
        await eventually(lambda: in_sql(close_code=1000), what="SQL goes on meanwhile")
    finally:
        dynamodb.engine.resume()
    await agree(dynamodb, bob, charlie, deadline=30)
    assert dynamodb.audit[alice.connection_id]["code"] == "1000"


async def test_what_dynamodb_forgot_in_its_outage_is_put_back(start: Start, dynamodb: Tables, join: Join) -> None:
    registry, alice, bob = await start("server-a"), join(), join("bob")
    registry.opened(alice)
    await agree(dynamodb, alice)
    dynamodb.engine.stop()
    registry.opened(bob)
    await asyncio.to_thread(dynamodb.engine.start)
    await asyncio.to_thread(dynamodb.provision)
    await agree(dynamodb, alice, bob, deadline=30)


class Outage(Rows):
    """SQL behind a switch: while it is down, whatever is asked fails as an unreachable database does."""

    down = False

    def write(self, lives: Sequence[Life]) -> Sequence[Life]:
        self._reach()
        return super().write(lives)

    def renew(self) -> bool:
        self._reach()
        return super().renew()

    def _reach(self) -> None:
        if self.down:
            raise OperationalError("the database is away")


async def test_an_outage_of_sql_stalls_nobody_and_the_rows_converge(
    start: Start, dynamodb: Tables, join: Join, caplog: pytest.LogCaptureFixture
) -> None:
    sql = Outage("server-a", LEASE)
    sql.down = True
    registry = await start("server-a", stores=[sql, Mirror("server-a", LEASE)])
    alice, bob = join(), join("bob")
    registry.opened(alice)
    registry.opened(bob)
    registry.closed(bob.connection_id, 1001)
    await eventually(lambda: bob.connection_id in dynamodb.audit, what="DynamoDB goes on meanwhile")
    await eventually(lambda: "sql does not answer" in caplog.text)
    assert await Connection.objects.acount() == 0
    assert registry.pending == 2
    sql.down = False
    await agree(dynamodb, alice)
    assert await in_sql(close_code=1001) == {bob.connection_id}
    assert caplog.text.count("does not answer") == 1


async def test_rows_that_somebody_deleted_or_left_open_are_repaired(start: Start, dynamodb: Tables, join: Join) -> None:
    registry, alice, ghost = await start("server-a"), join(), join()
    registry.opened(alice)
    await agree(dynamodb, alice)
    await Connection.objects.all().adelete()
    await Connection.objects.acreate(
        connection_id=ghost.connection_id, stage="development", room_id="acme", user_id="bob", server_id="server-a"
    )
    await agree(dynamodb, alice)


async def test_a_stop_that_runs_out_of_time_leaves_the_rest_to_the_reaper(
    start: Start, dynamodb: Tables, join: Join, caplog: pytest.LogCaptureFixture
) -> None:
    sql = Outage("server-a", LEASE)
    registry, alice = await start("server-a", stores=[sql]), join()
    registry.opened(alice)
    await eventually(lambda: in_sql(closed_at=None))
    sql.down = True
    begun = time.monotonic()
    await registry.stop(0.5)
    assert time.monotonic() - begun < 5
    assert "1 connections unwritten" in caplog.text
    await start("server-c", stores=[Rows("server-c", LEASE)])
    await eventually(lambda: in_sql(close_code=1006))


async def test_five_thousand_joins_cost_the_event_loop_next_to_nothing(
    start: Start, dynamodb: Tables, join: Join
) -> None:
    registry = await start("server-a", stores=[Rows("server-a", LEASE)])
    records = [join() for _ in range(5_000)]
    begun = time.monotonic()
    for record in records:
        registry.opened(record)
    assert time.monotonic() - begun < 2
    await eventually(lambda: _count(5_000), 30)


async def _count(wanted: int) -> bool:
    return await Connection.objects.filter(closed_at=None).acount() == wanted


def test_the_run_has_the_database_it_says() -> None:
    assert connection.vendor in {"sqlite", "postgresql"}

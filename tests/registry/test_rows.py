"""The registry in SQL: rows, leases and the reaper, on whatever database the run has."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from django.conf import settings
from django.db import Error, connection
from django.db.models.functions import Now
from django.utils import timezone

from notifications.models import Connection, Server
from notifications.registry.records import ConnectionRecord, Life, Source, Traffic
from notifications.registry.rows import Rows
from tests.registry.conftest import Join

# A lease short enough to be waited for; `ANSWERING` says that there was no outage.
LEASE, ANSWERING = 0.2, 60.0

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def rows() -> Iterator[Rows]:
    store = Rows("server-a", lease_seconds=30)
    store.renew()
    yield store
    store.close()


def silence(seconds: float) -> None:
    """Let time pass in which nobody beats."""
    threading.Event().wait(seconds)


def closed(join: Join, code: int | None = 1000, ago: timedelta = timedelta(0)) -> Life:
    return Life(join(), datetime.now(UTC) - ago, code)


def test_an_open_connection_is_a_row_and_a_closed_one_keeps_time_and_code(rows: Rows, join: Join) -> None:
    alice, bob = join(), join("bob")
    assert rows.write([Life(alice), Life(bob)]) == ()
    end = datetime.now(UTC)
    rows.write([Life(alice, end, 4401)])
    row = Connection.objects.get(connection_id=alice.connection_id)
    assert (row.room_id, row.user_id, row.stage, row.server_id) == ("acme", "alice", "development", "server-a")
    assert (row.opened_at, row.closed_at, row.close_code) == (alice.opened_at, end, 4401)
    assert Connection.objects.get(connection_id=bob.connection_id).closed_at is None


def test_writing_the_same_life_twice_changes_nothing(rows: Rows, join: Join) -> None:
    life = closed(join)
    rows.write([life])
    rows.write([life])
    assert Connection.objects.count() == 1


def test_more_lives_than_one_statement_holds_are_all_written(rows: Rows, join: Join) -> None:
    rows.write([Life(join()) for _ in range(1_250)])
    assert Connection.objects.filter(closed_at=None).count() == 1_250


def test_the_lease_runs_by_the_databases_clock(rows: Rows) -> None:
    assert rows.renew() is True
    left = Server.objects.annotate(now=Now()).get(server_id="server-a")
    assert timedelta(seconds=28) < left.lease_until - left.now <= timedelta(seconds=30)


def test_a_server_taken_for_dead_learns_it_and_has_a_lease_again(rows: Rows) -> None:
    Server.objects.all().delete()
    assert rows.renew() is False
    assert rows.renew() is True


def test_the_reaper_closes_what_a_dead_server_left_open(rows: Rows, join: Join) -> None:
    dead, reaper = Rows("server-b", LEASE), Rows("server-a", LEASE)
    dead.renew()
    alice, bob = join(), join("bob")
    dead.write([Life(alice), Life(bob, datetime.now(UTC), 1000)])
    reaper.write([Life(join("charlie", "globex"))])
    assert reaper.reap(time.monotonic(), ANSWERING) == 0
    silence(LEASE / 2)
    assert reaper.reap(time.monotonic(), ANSWERING) == 1
    row = Connection.objects.get(connection_id=alice.connection_id)
    assert row.close_code == 1006
    assert row.closed_at is not None
    assert abs(row.closed_at - timezone.now()) < timedelta(minutes=1)
    assert Connection.objects.get(connection_id=bob.connection_id).close_code == 1000
    assert Connection.objects.get(user_id="charlie").closed_at is None
    assert list(Server.objects.values_list("server_id", flat=True)) == ["server-a"]


def test_a_living_server_is_not_reaped_and_nobody_reaps_itself(rows: Rows) -> None:
    living, reaper = Rows("server-b", LEASE), Rows("server-a", LEASE)
    living.renew()
    for _ in range(3):
        assert reaper.reap(time.monotonic(), ANSWERING) == 0
        silence(LEASE / 2)
        living.renew()
    assert Server.objects.count() == 2


@pytest.mark.parametrize("step", [timedelta(hours=1), timedelta(hours=-1)])
def test_a_clock_that_is_put_right_by_an_hour_buries_nobody_and_keeps_nobody_alive(
    rows: Rows, join: Join, step: timedelta
) -> None:
    other, reaper = Rows("server-b", LEASE), Rows("server-a", LEASE)
    other.renew()
    other.write([Life(join())])
    assert reaper.reap(time.monotonic(), ANSWERING) == 0
    silence(LEASE / 2)
    Server.objects.update(lease_until=Now() + step)  # as its next heartbeat by another clock
    assert reaper.reap(time.monotonic(), ANSWERING) == 0
    silence(LEASE / 2)
    assert reaper.reap(time.monotonic(), ANSWERING) == 1
    assert Connection.objects.get().close_code == 1006


def test_after_an_outage_every_server_has_time_to_come_back(rows: Rows, join: Join) -> None:
    slow, reaper = Rows("server-b", LEASE), Rows("server-a", LEASE)
    slow.renew()
    slow.write([Life(join())])
    reaper.reap(time.monotonic(), ANSWERING)
    silence(LEASE / 2)
    assert reaper.reap(time.monotonic(), LEASE / 4) == 0
    assert slow.renew() is True
    assert reaper.reap(time.monotonic(), ANSWERING) == 0
    assert Connection.objects.filter(closed_at=None).count() == 1


def test_of_many_reapers_one_buries_a_dead_server(rows: Rows, join: Join) -> None:
    dead = Rows("server-dead", 30)
    dead.renew()
    dead.write([Life(join()) for _ in range(50)])
    Server.objects.filter(server_id="server-a").delete()
    barrier, buried = threading.Barrier(4), []

    def reap(number: int) -> None:
        reaper = Rows(f"reaper-{number}", 0.0)
        barrier.wait(10)
        buried.append(reaper.reap(time.monotonic(), ANSWERING))
        reaper.close()

    threads = [threading.Thread(target=reap, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(buried) == [0, 0, 0, 1]
    assert Connection.objects.filter(close_code=1006).count() == 50


def test_rows_of_a_server_without_a_lease_are_closed(rows: Rows, join: Join) -> None:
    Rows("server-b", 30).write([Life(join())])
    assert rows.reap(time.monotonic(), ANSWERING) == 0
    assert Connection.objects.get().close_code == 1006


def test_reconciling_closes_surplus_rows_and_names_missing_ones(rows: Rows, join: Join) -> None:
    alice, bob, charlie, leaving = join(), join("bob"), join("charlie", "globex"), join()
    rows.write([Life(alice), Life(bob), Life(leaving)])
    live = {record.connection_id: record for record in (alice, charlie)}
    missing = rows.reconcile(live, {leaving.connection_id})
    assert set(missing) == {charlie.connection_id}
    assert Connection.objects.get(user_id="bob").close_code == 1006
    assert Connection.objects.filter(closed_at=None).count() == 2


def test_a_row_closed_by_a_reaper_is_open_again_when_its_server_says_so(rows: Rows, join: Join) -> None:
    alice = join()
    rows.write([Life(alice)])
    Connection.objects.update(closed_at=timezone.now(), close_code=1006)
    assert set(rows.reconcile({alice.connection_id: alice}, ())) == {alice.connection_id}
    rows.write([Life(alice)])
    row = Connection.objects.get()
    assert (row.closed_at, row.close_code) == (None, None)


def test_old_closed_rows_are_pruned_in_slices_and_others_stay(rows: Rows, join: Join) -> None:
    old = timedelta(days=settings.HERMES_CLOSED_ROWS_DAYS, hours=1)
    rows.write([closed(join, ago=old) for _ in range(600)])
    rows.write([closed(join), Life(join())])
    assert rows.prune() is True
    assert rows.prune() is False
    assert Connection.objects.count() == 2


def test_a_lease_that_is_given_back_leaves_nothing_to_reap(rows: Rows) -> None:
    rows.release()
    assert Server.objects.count() == 0


def test_a_failure_leaves_a_connection_that_works(rows: Rows, join: Join) -> None:
    with pytest.raises(Exception, match="connection_id"):
        rows.write([Life(join()), Life(None)])  # type: ignore[arg-type]
    rows.write([Life(join())])
    assert Connection.objects.count() == 1
    assert connection.vendor in {"sqlite", "postgresql"}


def in_thread(work: Callable[[], object]) -> None:
    """Do something as a keeper's thread does, whose connection is its own."""
    with ThreadPoolExecutor(max_workers=1) as thread:
        thread.submit(work).result(30)


def test_calls_share_one_connection_until_one_fails(join: Join) -> None:
    def work() -> None:
        store = Rows("server-a", 30)
        store.renew()
        kept = connection.connection
        assert kept is not None
        store.write([Life(join())])
        store.reap(time.monotonic(), ANSWERING)
        assert connection.connection is kept
        with pytest.raises(Exception, match="connection_id"):
            store.write([Life(None)])  # type: ignore[arg-type]
        assert connection.connection is None
        store.renew()
        assert connection.connection not in (None, kept)
        store.close()
        assert connection.connection is None

    in_thread(work)


def test_a_connection_lives_no_longer_than_the_settings_say(monkeypatch: pytest.MonkeyPatch) -> None:
    def work() -> None:
        store = Rows("server-a", 30)
        monkeypatch.setitem(connection.settings_dict, "CONN_MAX_AGE", 0.01)
        store.renew()
        kept = connection.connection
        silence(0.02)
        store.renew()
        assert connection.connection not in (None, kept)
        store.close()

    in_thread(work)


def test_a_connection_that_the_database_has_ended_costs_one_call() -> None:
    def work() -> None:
        store = Rows("server-a", 30)
        store.renew()
        assert connection.connection is not None
        connection.connection.close()  # as a database that restarts does
        with pytest.raises(Error):
            store.renew()
        assert store.renew() is True
        store.close()

    in_thread(work)


class Sent:
    """A connection that was sent something."""

    def __init__(self) -> None:
        self.frames = 0

    def traffic(self) -> Traffic:
        return Traffic(self.frames, 100 * self.frames, 7)


def counts(record: ConnectionRecord) -> tuple[int | None, int | None, int | None]:
    row = Connection.objects.get(connection_id=record.connection_id)
    return row.frames_sent, row.bytes_sent, row.bytes_waiting


def test_what_a_connection_was_sent_is_written_at_its_end_and_now_and_then_before(join: Join) -> None:
    alice, bob, source = join(), join("bob"), Sent()
    store = Rows("server-a", 30, {alice.connection_id: source})
    store.renew()
    store.write([Life(alice), Life(bob)])
    source.frames = 3
    store.reconcile({alice.connection_id: alice, bob.connection_id: bob}, ())
    assert counts(alice) == (3, 300, 7)
    assert counts(bob) == (None, None, None), "nobody counted"
    source.frames = 5
    store.write([Life(alice, datetime.now(UTC), 4108, source.traffic())])
    assert counts(alice) == (5, 500, 7)
    store.close()


def test_a_connection_that_is_closed_is_not_opened_again_by_its_counts(join: Join) -> None:
    alice, source = join(), Sent()
    store = Rows("server-a", 30, {alice.connection_id: source})
    store.renew()
    store.write([Life(alice, datetime.now(UTC), 1000)])
    assert store.reconcile({alice.connection_id: alice}, ()) == {alice.connection_id}
    assert Connection.objects.get().closed_at is not None
    store.close()


def test_a_server_says_with_its_lease_how_many_connections_it_has(join: Join) -> None:
    sources: dict[str, Source] = {}
    store = Rows("server-a", 30, sources)
    for most in (0, 2, 1):
        sources.clear()
        sources.update({f"c-{number}": Sent() for number in range(most)})
        store.renew()
        server = Server.objects.get()
        assert server.open_connections == most
        assert server.load is not None
    store.close()

"""Neighbours: a server that ended on this machine is known to be dead, and nobody else is."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator

import pytest

from notifications.exceptions import StoreUnavailable
from notifications.models import Connection, Server
from notifications.registry import neighbours as neighbours_module
from notifications.registry.mirror import IN_FLIGHT_SECONDS, Mirror
from notifications.registry.neighbours import Neighbours, Presence, look_seconds
from notifications.registry.records import Life
from notifications.registry.rows import Rows
from tests.registry.conftest import Join, Tables
from tests.waiting import wait_until

PROGRAM = """
import sys
from notifications.registry.neighbours import Presence
presence = Presence(sys.argv[1])
presence.hold()
print("here", flush=True)
sys.stdin.read()
"""
LEASE = 60.0
ANSWERING = 1e9
Live = Callable[[str], "subprocess.Popen[str]"]


@pytest.fixture
def live() -> Iterator[Live]:
    """Return a function that starts a process which lives as a server."""
    processes = []

    def start(server_id: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", PROGRAM, server_id]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        processes.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "here\n"
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def assert_none_ends(neighbours: Neighbours, name: str) -> None:
    """Look on for a while."""
    pause = threading.Event()
    for _ in range(10):
        assert neighbours.ended([name]) == set()
        pause.wait(0.05)


def server_id() -> str:
    """Return a name that no other test, and no other run, gives to anybody."""
    return uuid.uuid4().hex


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_who_was_here_and_is_no_more_has_ended(live: Live, end: signal.Signals) -> None:
    process, neighbours = live(name := server_id()), Neighbours()
    assert neighbours.ended([name]) == set()
    process.send_signal(end)
    process.wait()
    assert neighbours.ended([name]) == {name}
    assert neighbours.ended([name]) == {name}, "for as long as anything is asked of it"
    assert neighbours.ended([]) == set()
    assert neighbours.ended([name]) == set()


def test_who_has_ended_is_missed_until_somebody_has_looked(live: Live) -> None:
    process, neighbours = live(name := server_id()), Neighbours()
    assert not neighbours.misses_one()
    neighbours.ended([name])
    assert not neighbours.misses_one()
    process.kill()
    process.wait()
    assert neighbours.misses_one()
    neighbours.ended([name])
    assert not neighbours.misses_one()


def test_who_cannot_ask_misses_nobody(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    live(name := server_id())
    neighbours = Neighbours()
    neighbours.ended([name])

    def fail(*_: object) -> None:
        raise OSError("too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(neighbours_module.socket, "socket", fail)
        assert not neighbours.misses_one()


@pytest.mark.parametrize(("lease", "seconds"), [(1, 0.05), (3, 0.1), (30, 1.0), (300, 1.0)])
def test_the_kernel_is_asked_thirty_times_in_a_lease_within_reason(lease: float, seconds: float) -> None:
    assert look_seconds(lease) == seconds


def test_nothing_is_known_of_who_was_never_seen_here() -> None:
    neighbours, name = Neighbours(), server_id()
    assert_none_ends(neighbours, name)


def test_who_is_suspended_lives(live: Live) -> None:
    process, neighbours = live(name := server_id()), Neighbours()
    neighbours.ended([name])
    process.send_signal(signal.SIGSTOP)
    assert_none_ends(neighbours, name)


def test_who_comes_back_under_its_name_lives() -> None:
    presence, neighbours = Presence(name := server_id()), Neighbours()
    presence.hold()
    neighbours.ended([name])
    presence.give_up()
    assert neighbours.ended([name]) == {name}
    presence.hold()
    assert_none_ends(neighbours, name)
    presence.give_up()


def test_a_name_that_is_taken_is_told_and_its_holder_lives_on(caplog: pytest.LogCaptureFixture) -> None:
    first, second = Presence(name := server_id()), Presence(name)
    first.hold()
    first.hold()
    assert caplog.text == ""
    second.hold()
    assert "not told that this one lives" in caplog.text
    second.give_up()
    neighbours = Neighbours()
    assert_none_ends(neighbours, name)
    first.give_up()


@pytest.mark.django_db(transaction=True)
def test_the_rows_of_a_server_that_ended_here_are_closed_long_before_its_silence_says_so(
    live: Live, join: Join
) -> None:
    process = live(name := server_id())
    dead, reaper = Rows(name, LEASE), Rows(server_id(), LEASE)
    dead.renew()
    dead.write([Life(alice := join())])
    elsewhere = Rows(server_id(), LEASE)
    elsewhere.renew()
    elsewhere.write([Life(bob := join("bob"))])
    assert reaper.reap(time.monotonic(), ANSWERING) == 0
    process.kill()
    process.wait()
    assert reaper.reap(time.monotonic(), ANSWERING) == 1
    assert Connection.objects.get(connection_id=alice.connection_id).close_code == 1006
    assert Connection.objects.get(connection_id=bob.connection_id).closed_at is None, "of whom nothing is known"
    assert Server.objects.count() == 1


def test_the_items_of_a_server_that_ended_here_are_removed_and_looked_for_twice_more(
    live: Live, dynamodb: Tables, join: Join
) -> None:
    dynamodb.provision()
    process, lease = live(name := server_id()), 3.0
    dead, reaper = Mirror(name, lease), Mirror(server_id(), lease)
    dead.renew()
    dead.write([Life(join())])
    assert reaper.reap(time.monotonic(), 0) == 0
    process.kill()
    process.wait()
    assert reaper.reap(time.monotonic(), 0) == 1  # 0: its silence proves nothing yet
    buried_at = time.monotonic()
    assert (dynamodb.connections, dynamodb.leases) == ({}, set())
    for _ in range(2):
        dead.write([Life(late := join("bob"))])  # what was under way arrives now
        assert dynamodb.connections.keys() == {late.connection_id}
        wait_until(lambda: reaper.reap(time.monotonic(), 0) == 0 and not dynamodb.connections)
        assert dynamodb.audit[late.connection_id]["code"] == "1006"
        assert time.monotonic() - buried_at >= IN_FLIGHT_SECONDS
    assert time.monotonic() - buried_at >= lease
    for mirror in (dead, reaper):
        mirror.close()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("store", [Rows, Mirror])
def test_who_is_silent_and_whose_process_lives_is_given_longer(
    live: Live, dynamodb: Tables, store: type[Rows | Mirror]
) -> None:
    """A machine that is busy makes its servers late together; one that is suspended is still buried in its lease."""
    live(name := server_id())
    late, elsewhere, reaper = (store(each, 10.0) for each in (name, server_id(), server_id()))
    late.renew()
    elsewhere.renew()
    assert [reaper.reap(now, ANSWERING) for now in (0.0, 3.9, 4.1, 6.9, 7.1)] == [0, 0, 1, 0, 1]
    for each in (late, elsewhere, reaper):
        each.close()


def test_of_many_reapers_of_a_machine_one_buries_a_server_that_ended(live: Live, dynamodb: Tables, join: Join) -> None:
    """Each knows it from the kernel, and none waits for the silence that a claim begins anew."""
    process = live(name := server_id())
    dead, reapers = Mirror(name, LEASE), [Mirror(server_id(), LEASE) for _ in range(4)]
    dead.renew()
    dead.write([Life(join())])
    for reaper in reapers:
        assert reaper.reap(0.0, ANSWERING) == 0
    process.kill()
    process.wait()
    barrier, buried, bury = threading.Barrier(len(reapers)), list[int](), Mirror._bury_all

    def slowly(self: Mirror, audit_table: str, dead_id: str) -> None:
        threading.Event().wait(0.5)
        bury(self, audit_table, dead_id)

    def reap(reaper: Mirror, times: int) -> None:
        barrier.wait(10)
        for _ in range(times):
            buried.append(reaper.reap(0.0, ANSWERING))
            threading.Event().wait(0.05)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Mirror, "_bury_all", slowly)
        threads = [threading.Thread(target=reap, args=(reaper, 30)) for reaper in reapers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert sum(buried) == 1
    assert (dynamodb.connections, dynamodb.leases) == ({}, set())
    for mirror in (dead, *reapers):
        mirror.close()


def test_who_failed_to_bury_a_server_that_ended_goes_on_with_its_own_claim(
    live: Live, dynamodb: Tables, join: Join, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = live(name := server_id())
    dead, reaper = Mirror(name, LEASE), Mirror(server_id(), LEASE)
    dead.renew()
    dead.write([Life(join())])
    assert reaper.reap(0.0, ANSWERING) == 0
    process.kill()
    process.wait()

    def fail(*_: object) -> None:
        raise StoreUnavailable("throttled")

    with monkeypatch.context() as patch:
        patch.setattr(Mirror, "_bury_all", fail)
        with pytest.raises(StoreUnavailable):
            reaper.reap(0.0, ANSWERING)
    assert reaper.reap(0.0, ANSWERING) == 1
    assert (dynamodb.connections, dynamodb.leases) == ({}, set())
    for mirror in (dead, reaper):
        mirror.close()

"""The keeper turn by turn, on a store that does what the test says."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from notifications.registry import keeper as keeper_module
from notifications.registry.keeper import DROPPED, FAILURES, OLDEST, REAPED, Keeper
from notifications.registry.records import ConnectionRecord, Life, Pending
from tests.registry.conftest import Join
from tests.waiting import eventually


@dataclass
class Scripted:
    """A store in memory. What is in ``failing`` raises; ``refused`` lives are given back unwritten."""

    name: str = "scripted"
    written: list[Life] = field(default_factory=list)
    failing: set[str] = field(default_factory=set)
    refused: int = 0
    missing: Collection[str] = ()
    during_reconcile: Callable[[], object] = lambda: None
    kept: bool = True
    heard: list[tuple[float, float]] = field(default_factory=list)
    bereaved: bool = False
    prunes: list[bool] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)

    def _call(self, name: str) -> None:
        self.calls.append(name)
        if name in self.failing:
            raise ConnectionError(f"{name}: away")

    def write(self, lives: Sequence[Life]) -> Sequence[Life]:
        self._call("write")
        self.written += lives[self.refused :]
        return lives[: self.refused]

    def renew(self) -> bool:
        self._call("renew")
        return self.kept

    def reconcile(self, live: Mapping[str, ConnectionRecord], closing: Collection[str]) -> Collection[str]:
        self._call("reconcile")
        self.during_reconcile()
        return self.missing

    def reap(self, now: float, unbroken: float) -> int:
        self._call("reap")
        self.heard.append((now, unbroken))
        return 1

    def is_bereaved(self) -> bool:
        return self.bereaved

    def prune(self) -> bool:
        self._call("prune")
        return self.prunes.pop(0)

    def release(self) -> None:
        self._call("release")

    def close(self) -> None:
        self._call("close")


Make = Callable[..., Keeper]


@pytest.fixture
async def keep() -> AsyncIterator[Make]:
    """Return a function that makes a keeper for a store and the live connections."""
    keepers: list[Keeper] = []

    def make(store: Scripted, live: Mapping[str, ConnectionRecord] | None = None, lease: float = 30) -> Keeper:
        keepers.append(Keeper(store, live or {}, lease))
        return keepers[-1]

    yield make
    for each in keepers:
        each.close()


async def test_a_turn_says_whether_there_is_more(keep: Make, join: Join) -> None:
    store = Scripted()
    keeper = keep(store)
    for _ in range(1_200):
        keeper.add(Life(join()))
    assert [await keeper.turn() for _ in range(3)] == [True, True, False]
    assert len(store.written) == 1_200
    assert store.calls[:3] == ["renew", "reap", "write"]


async def test_the_lease_is_renewed_ten_times_in_its_length_and_not_at_every_turn(keep: Make) -> None:
    store = Scripted()
    keeper = keep(store, lease=0.3)
    begun, turns = time.monotonic(), 0
    while store.calls.count("renew") < 11:
        await keeper.turn()
        turns += 1
    assert time.monotonic() - begun >= 0.3
    assert turns > 4
    assert store.calls.count("reconcile") == 1


async def test_who_learns_of_a_death_reaps_at_once_and_not_at_its_next_beat(keep: Make) -> None:
    store = Scripted()
    keeper = keep(store, lease=600)
    task = asyncio.create_task(keeper.run())
    await eventually(lambda: store.calls.count("reconcile") == 1)
    keeper.look_around()
    await asyncio.sleep(0.1)
    assert store.calls.count("reap") == 1
    store.bereaved = True
    keeper.look_around()
    store.bereaved = False
    await eventually(lambda: store.calls.count("reap") == 2, 0.15)
    await asyncio.sleep(0.3)
    assert store.calls.count("reap") == 2
    task.cancel()


async def test_who_learns_of_a_death_while_it_is_busy_reaps_again(keep: Make) -> None:
    store = Scripted()
    keeper = keep(store, lease=600)
    store.bereaved = True
    store.during_reconcile = keeper.look_around
    assert await keeper.turn()
    assert not await keeper.turn()
    assert store.calls.count("reap") == 2


async def test_a_death_cuts_the_wait_for_joins_that_come_together_short(
    keep: Make, join: Join, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper_module, "FLUSH_SECONDS", 60.0)
    store = Scripted()
    keeper = keep(store, lease=600)
    task = asyncio.create_task(keeper.run())
    await eventually(lambda: store.calls.count("reconcile") == 1)
    keeper.add(Life(join()))
    await asyncio.sleep(0.05)
    store.bereaved = True
    keeper.look_around()
    await eventually(lambda: store.calls.count("reap") == 2)
    task.cancel()


async def test_the_time_that_calls_take_is_not_added_to_the_beats(keep: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    store = Scripted()
    keeper = keep(store, lease=10)  # a beat each second
    beats: list[float] = []

    def renew() -> bool:
        nonlocal now
        beats.append(now)
        now += 0.4
        return True

    store.renew = renew  # type: ignore[method-assign]
    monkeypatch.setattr(keeper_module, "time", SimpleNamespace(monotonic=lambda: now))
    while len(beats) < 6:
        await keeper.turn()
        now += 0.05
    assert beats[-1] - beats[0] == pytest.approx(5, abs=0.1)
    now += 7.3  # a pause: what was missed is not caught up
    while len(beats) < 8:
        await keeper.turn()
        now += 0.05
    assert 0.9 <= beats[-1] - beats[-2] <= 1.1


async def test_old_rows_are_pruned_slice_by_slice_and_then_not_for_an_hour(keep: Make) -> None:
    store = Scripted(prunes=[True, True, False])
    keeper = keep(store)
    keeper._prune_at = 0.0
    assert [await keeper.turn() for _ in range(4)] == [True, True, False, False]
    assert store.prunes == []


async def test_what_a_throttled_store_refuses_is_written_at_a_later_turn(keep: Make, join: Join) -> None:
    store = Scripted(refused=3)
    keeper = keep(store)
    for _ in range(10):
        keeper.add(Life(join()))
    failures = FAILURES.labels("scripted")._value.get()
    task = asyncio.create_task(keeper.run())
    await eventually(lambda: FAILURES.labels("scripted")._value.get() > failures)
    assert len(store.written) == 7
    store.refused = 0
    await eventually(lambda: len(store.written) == 10)
    assert len({life.record.connection_id for life in store.written}) == 10
    task.cancel()


async def test_a_turn_that_is_cancelled_forgets_nothing(keep: Make, join: Join) -> None:
    store = Scripted()
    keeper = keep(store)
    store.write = lambda lives: time.sleep(0.2) or ()  # type: ignore[method-assign,func-returns-value]
    keeper.add(Life(join()))
    task = asyncio.create_task(keeper.turn())
    await eventually(lambda: keeper.pending == 0)
    task.cancel()
    await asyncio.wait([task])
    assert keeper.pending == 1


async def test_a_connection_that_closes_while_its_store_is_reconciled_is_not_opened_again(
    keep: Make, join: Join
) -> None:
    alice, bob = join(), join("bob")
    live = {record.connection_id: record for record in (alice, bob)}
    store = Scripted(missing=tuple(live), during_reconcile=lambda: live.pop(alice.connection_id))
    keeper = keep(store, live)
    await keeper.turn()
    await keeper.turn()
    assert [life.record for life in store.written] == [bob]


async def test_the_store_counts_as_answering_from_the_end_of_an_outage(keep: Make) -> None:
    store = Scripted()
    keeper = keep(store, lease=0.2)
    task = asyncio.create_task(keeper.run())
    await eventually(lambda: store.heard and store.heard[-1][1] >= 0.2)
    store.failing = {"renew"}
    reaps = len(store.heard)
    await asyncio.sleep(0.2)
    assert len(store.heard) - reaps <= 1
    store.failing = set()
    await eventually(lambda: len(store.heard) >= reaps + 2)
    assert min(unbroken for _, unbroken in store.heard[reaps:]) < 0.1
    task.cancel()


async def test_a_late_look_counts_whole_unless_the_store_was_in_the_way(keep: Make) -> None:
    store = Scripted()
    keeper = keep(store, lease=1)
    await keeper.turn()
    await asyncio.sleep(0.35)
    await keeper.turn()
    assert store.heard[-1][0] >= 0.35
    before = store.heard[-1][0]
    store.renew = lambda: time.sleep(0.4) or True  # type: ignore[method-assign,func-returns-value]
    keeper._renew_at = 0.0
    await keeper.turn()
    assert store.heard[-1][0] - before <= 0.25, "a beat, and what this test's own machine added"


async def test_who_was_taken_for_dead_looks_again_until_its_burial_is_over(keep: Make) -> None:
    """Its connections may be taken out of the store after it has looked, by who has not finished burying it."""

    async def turns(seconds: float) -> int:
        store.calls.clear()
        begun = time.monotonic()
        while time.monotonic() - begun < seconds:
            await keeper.turn()
            await asyncio.sleep(0.005)
        return store.calls.count("reconcile")

    store = Scripted(kept=False)
    keeper = keep(store, lease=0.5)
    await keeper.turn()  # it is new: there was no lease
    store.kept = True
    assert await turns(0.2) == 0  # as all join it, it has better things to do
    store.kept = False
    store.calls.clear()
    while store.calls.count("renew") < 1:
        await keeper.turn()
        await asyncio.sleep(0.005)
    store.kept = True
    assert await turns(0.4) >= 3
    await turns(0.3)
    assert await turns(0.2) == 0
    assert store.calls.count("renew") >= 2


async def test_a_lease_that_cannot_be_given_back_is_left_to_run_out(
    keep: Make, join: Join, caplog: pytest.LogCaptureFixture
) -> None:
    store = Scripted(failing={"release"})
    keeper = keep(store)
    keeper.add(Life(join(), datetime.now(UTC), 1012))
    await keeper.finish()
    assert len(store.written) == 1
    assert "scripted does not answer (ConnectionError)" in caplog.text


async def test_finishing_tries_on_until_everything_is_written(keep: Make, join: Join) -> None:
    store = Scripted(failing={"write"})
    keeper = keep(store)
    keeper.add(Life(join(), datetime.now(UTC), 1012))
    task = asyncio.create_task(keeper.finish())
    await eventually(lambda: store.calls.count("write") >= 2)
    store.failing = set()
    await task
    assert keeper.pending == 0
    assert store.calls[-1] == "release"


async def test_what_an_endless_outage_drops_is_counted(keep: Make, join: Join) -> None:
    store = Scripted(failing={"write"})
    keeper = keep(store)
    keeper._pending = Pending(closed_cap=2)
    for _ in range(5):
        keeper.add(Life(join(), datetime.now(UTC), 1000))
    before = DROPPED.labels("scripted")._value.get()
    task = asyncio.create_task(keeper.run())
    await eventually(lambda: DROPPED.labels("scripted")._value.get() == before + 3)
    task.cancel()


async def test_a_dead_server_whose_connections_were_closed_is_counted(keep: Make) -> None:
    keeper = keep(Scripted())
    before = REAPED.labels("scripted")._value.get()
    await keeper.turn()
    assert REAPED.labels("scripted")._value.get() == before + 1


def oldest() -> float:
    (sample,) = [each for each in OLDEST.collect()[0].samples if each.labels["store"] == "scripted"]
    return sample.value


async def test_who_leaves_in_an_outage_waits_from_that_moment_on_though_no_turn_comes_to_it(
    keep: Make, join: Join
) -> None:
    """The heartbeat fails first, and what waits is not looked at."""
    keeper = keep(Scripted(failing={"renew"}))
    keeper.add(Life(join(), closed_at=datetime.now(UTC)))
    with pytest.raises(ConnectionError):
        await keeper.turn()
    assert oldest() > 0


async def test_for_how_long_one_has_waited_grows_in_an_outage_and_is_nothing_after_it(keep: Make, join: Join) -> None:
    store = Scripted(failing={"write"})
    keeper = keep(store)
    assert oldest() == 0
    keeper.add(Life(join()))
    for _ in range(3):
        with pytest.raises(ConnectionError):
            await keeper.turn()
        keeper.add(Life(join()))
    first = oldest()
    assert first > 0
    await asyncio.sleep(0)
    assert oldest() > first
    store.failing.clear()
    await keeper.turn()
    assert oldest() == 0

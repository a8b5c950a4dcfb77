"""What the authorizer remembers is bounded, and what many wait for is done once."""

from __future__ import annotations

import asyncio

import pytest

from notifications.access.recall import Flights, Recent
from notifications.exceptions import Unavailable


def test_the_oldest_is_forgotten_first() -> None:
    recent: Recent[int] = Recent(2)
    recent.put("a", 1)
    recent.put("b", 2)
    recent.put("a", 3)
    recent.put("c", 4)
    assert [recent.get(key) for key in "abc"] == [3, None, 4]
    recent.drop("a")
    recent.drop("never there")
    assert recent.get("a") is None


class Work:
    """Work that waits to be let go."""

    def __init__(self) -> None:
        self.begun = 0
        self.go = asyncio.Event()

    async def __call__(self) -> int:
        self.begun += 1
        number = self.begun
        await self.go.wait()
        return number


async def tick() -> None:
    """Let every task go as far as it can."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_who_asks_for_the_same_meanwhile_gets_the_same_answer() -> None:
    flights: Flights[int] = Flights()
    work = Work()
    waiters = [asyncio.create_task(flights.join("key", work)) for _ in range(3)]
    await tick()
    work.go.set()
    assert await asyncio.gather(*waiters) == [1, 1, 1]
    assert await flights.join("key", work) == 2


async def test_who_asks_after_a_drop_begins_anew() -> None:
    flights: Flights[int] = Flights()
    work = Work()
    before = asyncio.create_task(flights.join("key", work))
    await tick()
    flights.drop("key")
    after = asyncio.create_task(flights.join("key", work))
    await tick()
    later = asyncio.create_task(flights.join("key", work))
    await tick()
    work.go.set()
    assert await asyncio.gather(before, after, later) == [1, 2, 2]


async def test_a_waiter_that_leaves_stops_nothing() -> None:
    flights: Flights[int] = Flights()
    work = Work()
    impatient = asyncio.create_task(flights.join("key", work))
    patient = asyncio.create_task(flights.join("key", work))
    await tick()
    impatient.cancel()
    with pytest.raises(asyncio.CancelledError):
        await impatient
    work.go.set()
    assert await patient == 1


async def test_an_error_reaches_everybody_and_is_not_remembered() -> None:
    flights: Flights[int] = Flights()
    go = asyncio.Event()

    async def fail() -> int:
        await go.wait()
        raise ValueError("no")

    waiters = [asyncio.create_task(flights.join("key", fail)) for _ in range(2)]
    await tick()
    go.set()
    assert [str(error) for error in await asyncio.gather(*waiters, return_exceptions=True)] == ["no", "no"]
    work = Work()
    work.go.set()
    assert await flights.join("key", work) == 1


async def test_what_is_given_up_is_unavailable() -> None:
    flights: Flights[int] = Flights()
    waiter = asyncio.create_task(flights.join("key", Work()))
    await tick()
    flights.cancel()
    with pytest.raises(Unavailable):
        await waiter


async def test_everything_under_way_may_be_begun_anew() -> None:
    flights: Flights[int] = Flights()
    work = Work()
    before = asyncio.create_task(flights.join("key", work))
    await tick()
    flights.drop_all()
    after = asyncio.create_task(flights.join("key", work))
    await tick()
    work.go.set()
    assert await asyncio.gather(before, after) == [1, 2]

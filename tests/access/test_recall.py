"""What the authorizer remembers is bounded, and what many wait for is done once."""

from __future__ import annotations

import asyncio
import gc

import pytest

from notifications.access.recall import Batches, Flights, Recent
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


async def test_an_error_that_nobody_waits_for_any_more_is_not_complained_of(caplog: pytest.LogCaptureFixture) -> None:
    flights: Flights[int] = Flights()
    go = asyncio.Event()

    async def fail() -> int:
        await go.wait()
        raise ValueError("no")

    impatient = asyncio.create_task(flights.join("key", fail))
    await tick()
    impatient.cancel()
    await asyncio.gather(impatient, return_exceptions=True)
    go.set()
    await tick()
    gc.collect()
    assert "never retrieved" not in caplog.text


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


class Asked:
    """Answers with the square of each key, when told to go; notes the questions."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.questions: list[list[int]] = []

    async def __call__(self, keys: list[int]) -> dict[int, int]:
        self.questions.append(keys)
        await self.go.wait()
        if 13 in keys:
            raise ValueError("thirteen")
        return {key: key * key for key in keys}


async def test_who_comes_while_a_question_is_under_way_shares_the_next_one() -> None:
    asked = Asked()
    batches: Batches[int, int] = Batches(asked, size=3, askers=1, waiting=10)
    first = batches.ask(1)
    await tick()
    others = [batches.ask(key) for key in (2, 3, 4, 5)]
    asked.go.set()
    assert await asyncio.gather(first, *others) == [1, 4, 9, 16, 25]
    assert asked.questions == [[1], [2, 3, 4], [5]]
    assert await batches.ask(6) == 36


async def test_a_question_that_fails_fails_for_those_who_shared_it() -> None:
    asked = Asked()
    asked.go.set()
    batches: Batches[int, int] = Batches(asked, size=2, askers=1, waiting=10)
    answers = await asyncio.gather(*(batches.ask(key) for key in (1, 13, 3)), return_exceptions=True)
    assert [str(answer) for answer in answers] == ["thirteen", "thirteen", "9"]


async def test_who_leaves_stops_nobody_and_more_than_may_wait_are_refused() -> None:
    asked = Asked()
    batches: Batches[int, int] = Batches(asked, size=5, askers=1, waiting=2)
    first = batches.ask(1)
    await tick()
    left, second = batches.ask(2), batches.ask(3)
    with pytest.raises(Unavailable):
        batches.ask(4)
    left.cancel()
    asked.go.set()
    assert await asyncio.gather(first, second) == [1, 9]


async def test_what_waits_for_an_answer_is_given_up_with_the_rest() -> None:
    batches: Batches[int, int] = Batches(Asked(), size=1, askers=1, waiting=10)
    waiting = [batches.ask(key) for key in (1, 2)]
    await tick()
    batches.cancel()
    await tick()
    assert [each.cancelled() for each in waiting] == [True, True]


async def test_who_asks_again_at_once_is_answered_as_well() -> None:
    asked: list[list[str]] = []

    async def answer(keys: list[str]) -> dict[str, str]:
        asked.append(keys)
        return {key: key.upper() for key in keys}

    batches: Batches[str, str] = Batches(answer, size=10, askers=1, waiting=10)
    async with asyncio.timeout(5):
        assert [await batches.ask(key) for key in "abc"] == ["A", "B", "C"]
    assert asked == [["a"], ["b"], ["c"]]

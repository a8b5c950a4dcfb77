"""Inbox: each client's frames in order and one at a time, each client in its turn, and an end to what waits."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable

import pytest

from notifications.sockets.inbox import FRAMES, Inbox
from tests.waiting import eventually


class Client:
    """A `Speaker` whose frames take until they are let go; what happens is written down."""

    def __init__(self, name: str, happened: list[str]) -> None:
        self.said: deque[str | None] = deque()
        self.go = asyncio.Event()
        self.times_heard = 0
        self._name = name
        self._happened = happened

    async def obey(self, text: str | None) -> None:
        self._happened.append(f"{self._name}{text} begins")
        await self.go.wait()
        await asyncio.sleep(0)  # others have their chance to come in between
        self._happened.append(f"{self._name}{text} ends")

    def heard(self) -> None:
        assert not self.said
        self.times_heard += 1


Work = Callable[[Inbox, int], None]


@pytest.fixture
async def workers() -> AsyncIterator[list[asyncio.Task[None]]]:
    """Those who work for ever, and end with the test."""
    workers: list[asyncio.Task[None]] = []
    yield workers
    for worker in workers:
        assert not worker.done(), "they work for ever"
        worker.cancel()
    await asyncio.gather(*workers, return_exceptions=True)


@pytest.fixture
def work(workers: list[asyncio.Task[None]]) -> Work:
    """Return a function that has so many workers work on an inbox."""
    return lambda inbox, count: workers.extend(asyncio.create_task(inbox.work()) for _ in range(count))


@pytest.fixture
def hurry(workers: list[asyncio.Task[None]]) -> Work:
    """Return a function that has so many obey what is urgent."""
    return lambda inbox, count: workers.extend(asyncio.create_task(inbox.hurry()) for _ in range(count))


async def test_one_clients_frames_are_obeyed_in_order_and_one_at_a_time_whoever_is_idle(work: Work) -> None:
    inbox, happened = Inbox(), list[str]()
    alice = Client("alice ", happened)
    alice.go.set()
    work(inbox, 4)
    for number in range(5):
        inbox.put(alice, str(number))
        await asyncio.sleep(0)  # some come while others are obeyed
    await eventually(lambda: alice.times_heard)
    assert happened == [f"alice {number} {what}" for number in range(5) for what in ("begins", "ends")]
    assert alice.times_heard == 1


async def test_nobody_has_two_turns_while_another_waits_for_one(work: Work) -> None:
    inbox, happened = Inbox(), list[str]()
    clients = {name: Client(name, happened) for name in "abc"}
    for name in "aaaabbc":
        clients[name].go.set()
        inbox.put(clients[name], "")
    work(inbox, 1)
    await eventually(lambda: all(each.times_heard for each in clients.values()))
    assert [each[0] for each in happened if each.endswith("ends")] == list("abcabaa")


async def test_a_client_whose_frame_takes_its_time_keeps_only_one_worker(work: Work) -> None:
    inbox, happened = Inbox(), list[str]()
    alice, bob = Client("alice", happened), Client("bob", happened)
    bob.go.set()
    work(inbox, 2)
    for _ in range(3):
        inbox.put(alice, "")
    inbox.put(bob, "")
    await eventually(lambda: bob.times_heard)
    assert happened.count("alice begins") == 1
    assert not alice.times_heard
    alice.go.set()
    await eventually(lambda: alice.times_heard)
    assert happened.count("alice ends") == 3


async def test_who_says_more_than_is_obeyed_waits_from_the_eighth_frame_on_until_it_is_heard(work: Work) -> None:
    inbox, happened = Inbox(), list[str]()
    alice, bob = Client("alice", happened), Client("bob", happened)
    assert [inbox.put(alice, "") for _ in range(FRAMES + 2)] == [True] * 7 + [False] * 3
    assert inbox.put(bob, ""), "what waits of one is nothing to another"
    work(inbox, 1)
    await eventually(lambda: happened)
    assert not inbox.put(alice, ""), "the one that is being obeyed still counts"
    alice.go.set()
    bob.go.set()
    await eventually(lambda: alice.times_heard and bob.times_heard)
    assert happened.count("alice ends") == FRAMES + 3
    assert (alice.times_heard, bob.times_heard) == (1, 1)
    assert inbox.put(alice, "")
    await eventually(lambda: alice.times_heard == 2)


async def test_what_is_urgent_waits_for_nobody_and_a_client_has_one_of_it(work: Work, hurry: Work) -> None:
    inbox, happened = Inbox(), list[str]()
    alice, bob = Client("alice ", happened), Client("bob ", happened)
    work(inbox, 1)
    hurry(inbox, 2)
    inbox.put(bob, "1")
    for number in range(3):
        assert inbox.put(alice, str(number))
    assert inbox.put(alice, "3", is_urgent=True)
    assert inbox.put(alice, "4", is_urgent=True)
    await eventually(lambda: len(happened) == 2)
    assert set(happened) == {"bob 1 begins", "alice 3 begins"}
    assert list(alice.said) == ["0", "1", "2", "4"], "the second has its turn behind the others"
    alice.go.set()
    await eventually(lambda: "alice 3 ends" in happened)
    inbox.put(alice, "5", is_urgent=True)
    await eventually(lambda: "alice 5 ends" in happened)
    bob.go.set()
    await eventually(lambda: alice.times_heard)
    assert [each for each in happened if each.startswith("alice") and each.endswith("ends")] == [
        f"alice {number} ends" for number in (3, 5, 0, 1, 2, 4)
    ]


@pytest.mark.parametrize("is_urgent", [False, True])
async def test_a_client_whose_frame_fails_says_the_next(is_urgent: bool) -> None:
    inbox, happened = Inbox(), list[str]()

    class Failing(Client):
        async def obey(self, text: str | None) -> None:
            happened.append(str(text))
            if text == "1":
                raise RuntimeError("a bug")

    alice = Failing("alice", happened)
    for number in range(2):
        inbox.put(alice, str(number + 1), is_urgent=is_urgent)
        with pytest.raises((RuntimeError, TimeoutError)):
            await asyncio.wait_for(inbox.hurry() if is_urgent else inbox.work(), 0.1)
    assert happened == ["1", "2"]
    assert not alice.said


def test_what_could_not_be_obeyed_is_complained_of_once_a_minute() -> None:
    inbox = Inbox()
    assert [inbox.may_complain() for _ in range(3)] == [True, False, False]
    inbox._complained_at -= 60
    assert inbox.may_complain()


async def test_what_is_no_text_has_its_turn_as_well(work: Work) -> None:
    inbox, happened = Inbox(), list[str]()
    alice = Client("alice ", happened)
    alice.go.set()
    inbox.put(alice, None)
    work(inbox, 1)
    await eventually(lambda: alice.times_heard)
    assert happened == ["alice None begins", "alice None ends"]

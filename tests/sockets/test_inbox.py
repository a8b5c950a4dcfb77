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


@pytest.fixture
async def work() -> AsyncIterator[Callable[[Inbox, int], None]]:
    """Return a function that has so many workers work on an inbox."""
    workers: list[asyncio.Task[None]] = []

    def start(inbox: Inbox, count: int) -> None:
        workers.extend(asyncio.create_task(inbox.work()) for _ in range(count))

    yield start
    for worker in workers:
        assert not worker.done(), "they work for ever"
        worker.cancel()
    await asyncio.gather(*workers, return_exceptions=True)


Work = Callable[[Inbox, int], None]


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


async def test_what_is_no_text_has_its_turn_as_well(work: Work) -> None:
    inbox, happened = Inbox(), list[str]()
    alice = Client("alice ", happened)
    alice.go.set()
    inbox.put(alice, None)
    work(inbox, 1)
    await eventually(lambda: alice.times_heard)
    assert happened == ["alice None begins", "alice None ends"]

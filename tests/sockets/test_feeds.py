"""Feeds and follower where answers come late or not at all: nothing stays undelivered, and no loss is made up.

The history here is a made-up one whose answers can be held back, because a real one does not let itself be caught in
the moment between its answer and our reading it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from notifications.exceptions import HistoryUnavailable
from notifications.sockets.feeds import WRITES_A_ROOM, WRITES_A_TURN, Feeds
from notifications.sockets.follower import Follower
from notifications.sockets.outbound import BYTES_A_WRITE, BYTES_AT_ONCE, Batch
from notifications.stream import keys
from notifications.stream.entry import Entry
from notifications.stream.position import Position, Resume
from notifications.stream.replies import Activity, Page
from tests.sockets.scene import Connect, Recorder, chain, make_entry

ROOM = ("development", "acme")


class Layer:
    """A channel layer that takes everything and sends nothing."""

    async def group_add(self, group: str, channel: str) -> None:
        pass

    async def group_discard(self, group: str, channel: str) -> None:
        pass


class HeldHistory:
    """The history of every room, with answers that can fail or be held back."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.failures: list[Exception] = []
        self.hold: asyncio.Event | None = None
        self.hold_open: asyncio.Event | None = None

    @property
    def head(self) -> Position:
        return self.entries[-1].position if self.entries else Position("e1", 0, "")

    def add(self) -> Entry:
        self.entries += chain(len(self.entries) + 1, len(self.entries) + 1)
        return self.entries[-1]

    async def open(self, stage: str, room_id: str) -> Position:
        position = self.head
        if self.hold_open is not None:
            await self.hold_open.wait()
        return position

    async def heads(self, stage: str, room_ids: Sequence[str]) -> list[Position]:
        return [self.head for _ in room_ids]

    async def read(self, stage: str, room_id: str, after: int = 0) -> Page:
        if self.failures:
            raise self.failures.pop()
        page = Page(self.head, [entry for entry in self.entries if entry.seq > after], 1)
        if self.hold is not None:
            await self.hold.wait()
        return page

    async def activity(self, stage: str, cursors: dict[int, bytes | None]) -> dict[int, Activity]:
        end = str(len(self.entries)).encode()
        return {
            partition: Activity(end, {} if cursor in {None, end} else {"acme": self.head}, overrun=False)
            for partition, cursor in cursors.items()
        }


class Scene:
    """Feeds and a follower on a history that can be held."""

    def __init__(self) -> None:
        self.history = HeldHistory()
        history: Any = self.history
        self.feeds = Feeds(history, Layer())
        self.follower = Follower(self.feeds, history)

    async def look(self, times: int = 1) -> None:
        for _ in range(times):
            await self.follower.look()
            await self.settle()

    async def settle(self) -> None:
        for _ in range(20):
            await asyncio.sleep(0)


@pytest.fixture
async def scene() -> Any:
    made = Scene()
    await made.feeds.listen_on("channel")
    yield made
    await made.feeds.stop()


@pytest.mark.parametrize("failure", [HistoryUnavailable("a blip"), ZeroDivisionError("a defect")])
async def test_a_read_that_failed_is_tried_again_at_the_next_look(scene: Scene, failure: Exception) -> None:
    feed = await scene.feeds.reach(ROOM, None)
    await scene.look(2)
    scene.history.add()
    scene.history.failures = [failure]
    await scene.look(2)
    assert not scene.history.failures
    assert feed.head.seq == 1


async def test_who_asks_while_a_read_is_under_way_gets_a_newer_one(scene: Scene) -> None:
    feed = await scene.feeds.reach(ROOM, None)
    await scene.look(2)
    scene.history.add()
    scene.history.hold = asyncio.Event()
    scene.feeds.fill(feed)
    await scene.settle()
    late = scene.history.add()  # after Redis answered, before the answer was read
    assert not feed.take([late], 2)
    scene.feeds.fill(feed)
    release, scene.history.hold = scene.history.hold, None
    release.set()
    await scene.settle()
    assert feed.head.seq == 2


async def test_a_client_ahead_of_a_read_under_way_is_told_of_no_loss(scene: Scene) -> None:
    scene.history.add()
    feed = await scene.feeds.reach(ROOM, None)
    scene.history.hold = asyncio.Event()
    scene.feeds.fill(feed)
    await scene.settle()
    seen = scene.history.add().position
    joining = asyncio.create_task(scene.feeds.reach(ROOM, seen))
    await scene.settle()
    release, scene.history.hold = scene.history.hold, None
    release.set()
    assert (await joining).resume(seen) == Resume(after=2)


async def test_a_client_that_saw_a_fork_before_we_did_is_told_of_no_loss(scene: Scene) -> None:
    """It was connected to a process that had noticed it already."""
    scene.history.add()
    scene.history.add()
    feed = await scene.feeds.reach(ROOM, Position("e1", 0, ""))
    scene.history.entries = [*chain(1, 1), make_entry(2, "m1", id="n2")]
    seen = scene.history.entries[-1].position
    assert (await scene.feeds.reach(ROOM, seen)).resume(seen) == Resume(after=2)
    assert feed.head == seen


async def test_an_entry_appended_while_its_room_is_opened_is_found_at_the_next_look(scene: Scene) -> None:
    same = keys.partition("acme")
    neighbour = next(room for room in map(str, range(10_000)) if keys.partition(room) == same)
    await scene.feeds.reach(("development", neighbour), None)
    await scene.look(2)
    scene.history.hold_open = asyncio.Event()
    opening = asyncio.create_task(scene.feeds.reach(ROOM, None))
    await scene.settle()
    scene.history.add()
    assert scene.feeds.get(ROOM) is None, "its hint finds no feed"
    await scene.look()
    scene.history.hold_open.set()
    feed = await opening
    assert feed.head.seq == 0
    await scene.look()
    assert feed.head.seq == 1


async def test_a_room_that_was_closed_is_not_asked_for_again(scene: Scene) -> None:
    feed = await scene.feeds.reach(ROOM, None)
    scene.history.failures = [HistoryUnavailable("a blip")]
    with pytest.raises(HistoryUnavailable):
        await scene.feeds.fill_now(feed)
    await scene.settle()
    await scene.feeds.close_empty()
    asked: list[Any] = []
    read: Callable[..., Any] = scene.history.read
    scene.history.read = lambda *a: asked.append(a) or read(*a)  # type: ignore[method-assign]
    await scene.look()
    assert asked == []


class Turns:
    """What is written to whom in each turn of the loop.

    Args:
        loop: which.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.turns: list[list[tuple[str, int]]] = [[]]
        self._loop = loop
        self._handle = loop.call_soon(self._next)

    def _next(self) -> None:
        self.turns.append([])
        self._handle = self._loop.call_soon(self._next)

    def stop(self) -> None:
        """Count no further turns."""
        self._handle.cancel()

    def of(self, room: str) -> list[int]:
        """Return in which turns a room was written to."""
        return [number for number, turn in enumerate(self.turns) if any(name == room for name, _ in turn)]


class Timed(Recorder):
    """An `Outbound` that notes in which turn it is written to."""

    def __init__(self, turns: Turns, room: str) -> None:
        super().__init__()
        self._turns, self._room = turns, room

    def write(self, batch: Batch) -> None:
        self._turns.turns[-1].append((self._room, len(batch.wire)))


@pytest.mark.parametrize(
    ("size", "entries"), [(240, 1), (32 * 1024, 1), (64 * 1024, 1), (64 * 1024, 16)], ids=["240", "32K", "64K", "1M"]
)
async def test_a_room_of_two_has_its_turn_beside_one_of_ten_thousand_whatever_the_size_of_a_frame(
    scene: Scene, connect: Connect, size: int, entries: int
) -> None:
    """Counted, not timed: a turn of the loop has so many writes and so many bytes that the kernel takes at once."""
    large, small = [await scene.feeds.reach(("development", room), None) for room in ("large", "small")]
    turns = Turns(asyncio.get_running_loop())
    for feed, members in ((large, 10_000), (small, 2)):
        for number in range(members):
            connection = connect(f"member-{number}", feed.room_id)
            connection.outbound = Timed(turns, feed.room_id)
            feed.add(connection)
    assert large.take([each._replace(frame=b"x" * size) for each in chain(1, entries)], entries)
    scene.feeds.mark(large)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert turns.of("large"), "it is being written to"
    begun = len(turns.turns)
    assert small.take(chain(1, 1), 1)
    scene.feeds.write([small])
    async with asyncio.timeout(60):
        while large.is_busy or small.is_busy:
            await asyncio.sleep(0)
    turns.stop()
    (at,) = turns.of("small")
    assert at - begun <= 1, "in the next turn"
    order = [room for room, _ in turns.turns[at]]
    assert order.index("small") <= WRITES_A_ROOM, "behind one part of the large room"
    for turn in turns.turns:
        assert len(turn) <= WRITES_A_TURN
        assert sum(min(length, BYTES_AT_ONCE) for _, length in turn) <= WRITES_A_TURN * BYTES_A_WRITE
    assert sum(map(len, turns.turns)) == 10_000 + 2

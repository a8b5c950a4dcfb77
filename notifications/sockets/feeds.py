"""Feeds: this process's rooms, opened, brought up to date and closed. Owned by hub, asks stream.history, fills feeds.

Whatever a hint says, what is delivered comes from here: single-flight reads of the histories, a bounded number at once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable, Iterator
from typing import Any, TypeVar

from notifications.exceptions import HistoryUnavailable
from notifications.sockets.feed import Feed
from notifications.sockets.vitals import TALLY
from notifications.stream import keys
from notifications.stream.history import History
from notifications.stream.position import Position
from notifications.stream.replies import Page

logger = logging.getLogger(__name__)

READERS = 8  # histories read at once; the others wait their turn
# Writes in one turn of the loop, and of one room before another has its own, as `outbound.Batch.cost` counts them:
# one is 10 us, and 20 at most, whatever is written. While a large room is written to, the hint of a small one comes
# in one turn, is read in the next, and is written in the third behind one part of the large one: 2 * 128 + 32 writes,
# which are 3 to 6 ms. A room of two must not wait 20 ms for one of ten thousand, also on a machine that is slower or
# laden. Larger turns save nothing that can be measured: from 512 to 128 a delivery costs the same.
WRITES_A_TURN, WRITES_A_ROOM = 128, 32

Key = tuple[str, str]  # stage and room
_K = TypeVar("_K")
_R = TypeVar("_R")


class Feeds:
    """The feeds of one process.

    Args:
        history: where the truth is.
        layer: Channels' channel layer.
        make: makes a room's feed from stage, room and position.
    """

    def __init__(self, history: History, layer: Any, make: Callable[[str, str, Position], Feed] = Feed) -> None:
        self._history = history
        self._make = make
        self._layer = layer
        self._channel = ""
        self._feeds: dict[Key, Feed] = {}
        self._opening: dict[Key, asyncio.Task[Feed]] = {}
        self._filling: dict[Feed, asyncio.Task[bool]] = {}
        self._extending: dict[Feed, asyncio.Task[None]] = {}
        self._reading: dict[Feed, asyncio.Task[Page]] = {}
        self._lacking: set[Feed] = set()
        self._new: set[Feed] = set()
        self._held: dict[Key, int] = {}
        self._busy: dict[Feed, None] = {}  # in the order of their turns
        self._is_writing = False
        self._readers = asyncio.Semaphore(READERS)

    def __len__(self) -> int:
        """Return how many rooms are open here."""
        return len(self._feeds)

    def __iter__(self) -> Iterator[Feed]:
        """Iterate over a copy: feeds come and go while a caller waits."""
        return iter(list(self._feeds.values()))

    def get(self, key: Key) -> Feed | None:
        """Return a room's feed if this process has one."""
        return self._feeds.get(key)

    async def listen_on(self, channel: str) -> None:
        """Have the layer send every room's hints to a channel of this process.

        Args:
            channel: a new one; what came to an earlier one is lost, and the follower must compare heads.
        """
        self._channel = channel
        for key in list(self._feeds):
            await self._layer.group_add(keys.group_name(*key), channel)

    async def reach(self, key: Key, position: Position | None, *, is_whole: bool = False) -> Feed:
        """Return a room's feed, open and able to answer a client that comes back.

        The caller must not wait between this and adding its connection: a room that nobody is in may be closed.

        Args:
            key: stage and room.
            position: where the client left off.
            is_whole: whether the ring must reach back to the oldest entry retained.

        Raises:
            HistoryUnavailable: Redis or the channel layer does not answer.
        """
        self._held[key] = self._held.get(key, 0) + 1  # nobody is in it yet, and it must not be closed
        try:
            feed = await self._open(key)
            if is_whole and not feed.is_whole:
                await self.extend_back(feed)
            if position is None:
                return feed
            if position.epoch != feed.head.epoch or position.seq > feed.head.seq or feed.contradicts(position):
                # The client has seen what we have not: another process was faster, or the history is another one.
                await self.fill_now(feed)
            if feed.needs_history(position):
                await self.extend_back(feed)
            return feed
        finally:
            self._held[key] -= 1
            if not self._held[key]:
                del self._held[key]

    async def extend_back(self, feed: Feed) -> None:
        """Make the ring reach back to the oldest entry retained.

        Raises:
            HistoryUnavailable: Redis does not answer.
        """
        await _once(self._extending, feed, lambda: self._extend_back(feed), "hermes-extend")

    async def read_whole(self, feed: Feed) -> Page:
        """Return all that a room's history retains; one read, however many ask at once, and nothing of it is kept.

        Raises:
            HistoryUnavailable: Redis does not answer.
        """
        return await _once(self._reading, feed, lambda: self._read_whole(feed), "hermes-read")

    def fill(self, feed: Feed) -> asyncio.Task[bool]:
        """Ask the history for what a feed lacks; one read at a time, however many ask.

        A read that is under way may have been answered before what this caller knows of came about: it is followed
        by another one, and what fails is tried again at the follower's next look.

        Returns:
            A task whose result is whether the history answered a read that began after this call.
        """
        self._lacking.add(feed)
        task = self._filling.get(feed)
        if task is None:
            task = self._filling[feed] = asyncio.create_task(self._fill(feed), name="hermes-fill")
            task.add_done_callback(lambda _: self._filling.pop(feed, None))
        return task

    def fill_again(self) -> None:
        """Ask once more for what could not be read; called at each look of the follower."""
        for feed in self._lacking - self._filling.keys():
            self.fill(feed)

    def take_new(self) -> set[Feed]:
        """Return the feeds opened since the last call, whose heads must be compared once.

        What is appended while a room is being opened may be hinted before its feed is there to take it.
        """
        new, self._new = self._new, set()
        return new

    async def fill_now(self, feed: Feed) -> None:
        """Wait until a feed is where its history is.

        Raises:
            HistoryUnavailable: Redis does not answer.
        """
        if not await asyncio.shield(self.fill(feed)):
            raise HistoryUnavailable(f"room {feed.room_id!r}: its history does not answer")

    def mark(self, feed: Feed) -> None:
        """Have a feed written at the end of this turn of the loop, so that entries that wait go out together."""
        if feed.is_busy:
            self._busy[feed] = None
            self._write_soon()

    def write(self, feeds: Iterable[Feed]) -> None:
        """Have feeds written now, unless others wait for the end of this turn: then with them."""
        self._busy.update((feed, None) for feed in feeds if feed.is_busy)
        if self._busy and not self._is_writing:
            self._write()

    async def close_empty(self) -> None:
        """Leave the rooms that nobody is in."""
        for key, feed in list(self._feeds.items()):
            if feed.connections or feed.is_kept or key in self._held or feed in self._filling:
                continue
            del self._feeds[key]
            self._lacking.discard(feed)
            self._new.discard(feed)
            try:
                # Who opens the room again meanwhile is served after us: the layer does one thing at a time.
                await self._layer.group_discard(keys.group_name(*key), self._channel)
            except Exception as error:  # hints of a room without a feed are dropped anyway
                logger.debug("A group was not left: %s", type(error).__name__)

    async def stop(self) -> None:
        """Cancel what is being read."""
        tasks: list[asyncio.Task[Any]] = [
            *self._opening.values(),
            *self._extending.values(),
            *self._reading.values(),
            *self._filling.values(),
        ]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _open(self, key: Key) -> Feed:
        feed = self._feeds.get(key)
        if feed is not None:
            return feed
        return await _once(self._opening, key, lambda: self._begin(key), "hermes-open")

    async def _begin(self, key: Key) -> Feed:
        stage, room_id = key
        if not self._channel:
            raise HistoryUnavailable("the channel layer has not answered yet")
        # In this order: what is appended after the read is hinted to us, what was before is in what we read. What
        # comes in the moment before the feed is there to take its hint, `take_new` is for.
        try:
            await self._layer.group_add(keys.group_name(stage, room_id), self._channel)
        except Exception as error:  # the layer's library names no exceptions of its own
            raise HistoryUnavailable(f"the channel layer does not answer: {type(error).__name__}: {error}") from error
        head = await self._history.open(stage, room_id)
        feed = self._feeds[key] = self._make(stage, room_id, head)
        self._new.add(feed)
        return feed

    async def _read_whole(self, feed: Feed) -> Page:
        async with self._readers:
            return await self._history.read(feed.stage, feed.room_id)

    async def _extend_back(self, feed: Feed) -> None:
        page = await self._read_whole(feed)
        if not feed.extend_back(page):
            await self.fill_now(feed)

    async def _fill(self, feed: Feed) -> bool:
        try:
            while feed in self._lacking:
                async with self._readers:
                    self._lacking.discard(feed)  # whoever asks from now on has it read again
                    await self._read(feed)
                self.mark(feed)
        except HistoryUnavailable as error:
            self._lacking.add(feed)
            logger.warning("Room %r: %s", feed.room_id, error, extra={"stage": feed.stage, "room_id": feed.room_id})
            return False
        except Exception:
            self._lacking.add(feed)
            logger.exception("Room %r: what its history said could not be taken.", feed.room_id)
            return False
        return True

    async def _read(self, feed: Feed) -> None:
        asked_at = feed.head
        TALLY.fills += 1
        page = await self._history.read(feed.stage, feed.room_id, asked_at.seq)
        if not feed.adopt(page, asked_at):
            await self._history.open(feed.stage, feed.room_id)
            feed.restart(await self._history.read(feed.stage, feed.room_id))
            logger.warning("Room %r: its history is another one than before; clients were told.", feed.room_id)

    def _write_soon(self) -> None:
        if self._busy and not self._is_writing:
            self._is_writing = True
            asyncio.get_running_loop().call_soon(self._write)

    def _write(self) -> None:
        """Write to some connections of each room in turn, and leave the rest to the loop's next turns."""
        self._is_writing = False
        count = 0
        try:
            while self._busy and count < WRITES_A_TURN:
                feed = next(iter(self._busy))
                del self._busy[feed]
                try:
                    count += feed.write(min(WRITES_A_ROOM, WRITES_A_TURN - count))
                finally:
                    if feed.is_busy:
                        self._busy[feed] = None
        finally:
            self._write_soon()


async def _once(
    tasks: dict[_K, asyncio.Task[_R]], key: _K, work: Callable[[], Coroutine[Any, Any, _R]], name: str
) -> _R:
    """Wait for work that is done once, however many clients come back at once; who stops waiting does not stop it."""
    task = tasks.get(key)
    if task is None:
        task = tasks[key] = asyncio.create_task(work(), name=name)
        task.add_done_callback(lambda _: tasks.pop(key, None))
        task.add_done_callback(_notice)
    return await asyncio.shield(task)


def _notice(task: asyncio.Task[Any]) -> None:
    """Take note of a task's error: all who waited for it may have gone, and asyncio would log it as forgotten."""
    if not task.cancelled():
        task.exception()

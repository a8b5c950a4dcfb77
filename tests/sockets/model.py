"""A model for the state machine: a history that forks and forgets on demand, and clients that judge what they get."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from django.conf import settings

from notifications.exceptions import HistoryUnavailable
from notifications.sockets.connection import Connection
from notifications.sockets.protocol import PING_FRAME
from notifications.stream import keys
from notifications.stream.entry import Entry, frame, frame_head
from notifications.stream.message import Message
from notifications.stream.position import Position
from notifications.stream.replies import Activity, Appended, Page

ACTIVITY_LENGTH = 5


class Clock:
    """The time that the feeds see; the machine sets it."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now


class Room:
    """One room's history as append.lua keeps it, and everything that ever was in it."""

    def __init__(self) -> None:
        self.lives = 0
        self.head: Position | None = None
        self.log: list[Entry] = []
        self.once: dict[str, tuple[str, int]] = {}
        self.activity: list[tuple[bytes, Position]] = []
        self.ever: dict[Position, Entry] = {}

    def open(self) -> Position:
        if self.head is None:
            self.lives += 1
            self.head, self.log = Position(f"e{self.lives}", 0, ""), []
        return self.head

    def oldest(self, cutoff: float) -> int:
        assert self.head
        return next((entry.seq for entry in self.log if entry.at >= cutoff), self.head.seq + 1)


class World:
    """The histories of every room, in the place of Redis.

    Args:
        clock: what its time is.
    """

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.rooms: dict[str, Room] = {}
        self.is_down = False
        self.is_slow = False
        # What was asked and is not answered: how to find the answer, and who waits for it.
        self.asked: list[tuple[Callable[[], Any], asyncio.Future[Any]]] = []
        self.items = 0

    def room(self, name: str) -> Room:
        return self.rooms.setdefault(name, Room())

    # ── What happens to it ───────────────────────────────────────────────────────────────────────────────────────────
    def append(self, name: str, message: Message) -> Appended:
        room = self.room(name)
        head = room.open()
        if room.once.get(message.id, ("", 0))[0] == head.epoch:
            return Appended(room.once[message.id][1], None)
        entry = Entry(
            head.epoch,
            head.seq + 1,
            message.id,
            head.id,
            frame(frame_head(message), head.epoch, head.seq + 1),
            None if message.to is None else frozenset(message.to),
            message.expires_at,
            int(self.clock.now * 1000),
        )
        room.log = [*room.log, entry][-settings.HERMES_HISTORY_ENTRIES :]
        room.head = entry.position
        room.once[entry.id] = (entry.epoch, entry.seq)
        room.ever[entry.position] = entry
        self.items += 1
        room.activity = [*room.activity, (f"{self.items}-0".encode(), entry.position)][-ACTIVITY_LENGTH:]
        return Appended(entry.seq, entry)

    def fork(self, name: str, count: int) -> None:
        """Lose the last entries, as a Redis does that comes back from an older copy; their activity is lost too."""
        room = self.room(name)
        lost = room.log[-count:]
        if not lost:
            return
        room.log = room.log[: -len(lost)]
        room.head = Position(lost[0].epoch, lost[0].seq - 1, lost[0].prev)
        for entry in lost:
            room.once.pop(entry.id, None)
        places = {entry.position for entry in lost}
        room.activity = [item for item in room.activity if item[1] not in places]

    def trim(self, name: str, count: int) -> None:
        room = self.room(name)
        room.log = room.log[count:]

    def forget(self, name: str) -> None:
        """Lose the room altogether, as a Redis does that was restarted without its data."""
        room = self.room(name)
        room.head, room.log, room.once, room.activity = None, [], {}, []

    # ── What hubs ask of it: the methods of History ──────────────────────────────────────────────────────────────────
    async def open(self, stage: str, room_id: str) -> Position:
        return await self._answer(lambda: self.room(room_id).open())

    async def read(self, stage: str, room_id: str, after: int = 0) -> Page:
        return await self._answer(lambda: self._page(self.room(room_id), after))

    async def heads(self, stage: str, room_ids: Sequence[str]) -> list[Position | None]:
        return await self._answer(lambda: [self.room(room_id).head for room_id in room_ids])

    async def activity(self, stage: str, cursors: Mapping[int, bytes | None]) -> dict[int, Activity]:
        return await self._answer(lambda: self._activity(dict(cursors)))

    async def _answer(self, find: Callable[[], Any]) -> Any:
        if self.is_slow:
            waiter: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
            self.asked.append((find, waiter))
            return await waiter
        if self.is_down:
            raise HistoryUnavailable("down")
        return find()

    def find(self, index: int) -> None:
        """Let Redis work one question out; the answer is still on its way."""
        find, waiter = self.asked[index]
        found = find()
        self.asked[index] = (lambda: found, waiter)

    def reply(self, index: int) -> None:
        """Let one answer arrive."""
        find, waiter = self.asked.pop(index)
        if waiter.done():  # who asked has gone
            return
        if self.is_down:
            waiter.set_exception(HistoryUnavailable("down"))
        else:
            waiter.set_result(find())

    def _page(self, room: Room, after: int) -> Page:
        if room.head is None:
            return Page(None, [], 1)
        cutoff = (self.clock.now - settings.HERMES_HISTORY_SECONDS) * 1000
        live = [entry for entry in room.log if entry.seq > after and entry.at >= cutoff]
        return Page(room.head, live, room.oldest(cutoff))

    def _activity(self, cursors: dict[int, bytes | None]) -> dict[int, Activity]:
        found = {}
        for partition, cursor in cursors.items():
            mine = sorted(
                (int(item[0].split(b"-")[0]), item[0], name, item[1])
                for name, room in self.rooms.items()
                if keys.partition(name) == partition
                for item in room.activity
            )
            last = mine[-1][1] if mine else b""
            if cursor is None:
                found[partition] = Activity(last, {}, overrun=False)
                continue
            ids = [item[1] for item in mine]
            overrun = (bool(cursor) and cursor not in ids) or (not cursor and len(ids) >= ACTIVITY_LENGTH)
            fresh = mine[ids.index(cursor) + 1 :] if cursor and not overrun else mine
            found[partition] = Activity(last, {name: head for _, _, name, head in fresh}, overrun)
        return found


class Pipe:
    """The raw side of a socket and the network behind it: what was written and not read yet waits in it."""

    def __init__(self) -> None:
        self.waiting = b""
        self.is_cut = False
        self.closed: tuple[int, str] | None = None

    def write(self, data: bytes) -> int:
        assert self.closed is None, "nothing is written after a close"
        if not self.is_cut:
            self.waiting += data
        return len(self.waiting)

    def buffered(self) -> int:
        return len(self.waiting)

    def close(self, code: int, reason: str) -> None:
        self.closed = (code, reason)

    def abort(self) -> None:
        self.is_cut, self.waiting = True, b""

    def read(self) -> list[dict[str, Any]]:
        """Take every frame out of it."""
        frames, at = [], 0
        while at < len(self.waiting):
            if self.waiting.startswith(PING_FRAME, at):
                at += len(PING_FRAME)
                continue
            assert self.waiting[at] == 0x81, "a text frame, whole"
            size, start = self.waiting[at + 1], at + 2
            if size == 126:
                size, start = int.from_bytes(self.waiting[at + 2 : at + 4], "big"), at + 4
            assert size != 127
            at = start + size
            frames.append(json.loads(self.waiting[start:at]))
        self.waiting = b""
        return frames


class Client:
    """A client of the toolkit's kind; it judges every frame against everything that ever was in its room.

    Args:
        user: who.
        room_id: where.
        world: the truth.
        speaks_v1: whether it gets control frames; without them only privacy is promised.
    """

    def __init__(self, user: str, room_id: str, world: World, *, speaks_v1: bool = True) -> None:
        self.user, self.room_id, self.world, self.speaks_v1 = user, room_id, world, speaks_v1
        self.position: Position | None = None
        self.connection: Connection | None = None
        self.joining: asyncio.Task[None] | None = None
        self.pipe = Pipe()
        self.is_stalled = False  # it takes nothing from the network
        self.issued_at = 0
        self.process = 0
        self.shown: set[str] = set()
        self.may_repeat: set[str] = set()  # what a lost or a gap allows to come a second time

    @property
    def room(self) -> Room:
        return self.world.room(self.room_id)

    @property
    def is_connected(self) -> bool:
        return self.connection is not None and self.joining is None

    def listen(self) -> None:
        """Judge what has come since the last time."""
        if self.connection is None or self.is_stalled:
            return
        for each in self.pipe.read():
            if "seq" in each:
                self._entry(each)
            else:
                self._control(each["data"]["type"].removeprefix("hermes."), each["data"]["data"])

    def _entry(self, got: dict[str, Any]) -> None:
        place = Position(got["epoch"], got["seq"], got["id"])
        assert got["room_id"] == self.room_id, f"{self.user} got an entry of another room"
        entry = self.room.ever[place]
        assert entry.visible_to(self.user, self.world.clock.now), f"{self.user} must not see {place}"
        if not self.speaks_v1:
            return
        self._require_nothing_between(place, is_for_me=True)
        assert place.id not in self.shown or place.id in self.may_repeat, f"{self.user} got {place} twice"
        self.may_repeat.discard(place.id)
        self.shown.add(place.id)
        self.position = place

    def _control(self, kind: str, data: dict[str, Any]) -> None:
        assert self.speaks_v1, "the article's clients get entries only"
        place = Position(data["epoch"], data["seq"], data["id"])
        if kind == "hello":
            assert (data["status"] == "fresh") == (self.position is None)
            if data["status"] == "recovered":
                assert place == self.position, "a recovery begins where the client left off"
            if data["status"] == "lost":
                self.may_repeat = set(self.shown)
            self.position = place
        elif kind in {"lost", "gap"}:
            self.may_repeat = set(self.shown)
            self.position = place
        elif kind == "ping":
            self._require_nothing_between(place, is_for_me=False)
            self.position = place
        else:
            raise AssertionError(f"{self.user} got an unexpected {kind}")

    def _require_nothing_between(self, place: Position, *, is_for_me: bool) -> None:
        """Walk the chain back to where this client stands: everything on the way must be none of its business."""
        assert self.position is not None, "something came before hello"
        step, at = place, self.position
        while step != at:
            assert step.epoch == at.epoch, f"{self.user} went from {at} to {place} and was not told"
            assert step.seq > at.seq, f"{self.user} stands at {at} and was given {place}"
            entry = self.room.ever[step]
            if step != place or not is_for_me:
                seen = entry.visible_to(self.user, self.world.clock.now)
                assert not seen, f"{self.user} stands at {at} and was given {place} without {step}"
            step = Position(step.epoch, step.seq - 1, entry.prev)


def make_message(number: int, room: str, to: Sequence[str] | None = None, expires_at: int | None = None) -> Message:
    """Message m<number>, by Alice."""
    return Message(f"m{number}", "alice", room, json.dumps(number), None if to is None else tuple(to), expires_at)

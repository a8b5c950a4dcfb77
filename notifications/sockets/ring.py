"""Ring: the last entries of a room in this process, from which clients that come back are answered. Owned by feed.

No I/O. It always ends at the feed's position, and its entries are chained: each names the id of the one before it.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterable

from django.conf import settings

from notifications.stream.entry import Entry
from notifications.stream.position import Position


class Ring:
    """A chained run of entries that ends at a position.

    Args:
        head: the position it ends at; it begins empty.
        max_entries: how many it keeps.
        max_bytes: how many bytes of frames it keeps.
        max_age_ms: entries older than this are forgotten.
    """

    __slots__ = ("_before", "_bytes", "_entries", "_max_age_ms", "_max_bytes", "_max_entries", "head", "is_cut")

    def __init__(self, head: Position, *, max_entries: int, max_bytes: int, max_age_ms: int) -> None:
        self.head = head
        self._before = Position(head.epoch, head.seq, head.id)
        self._entries: deque[Entry] = deque()
        self._bytes = 0
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._max_age_ms = max_age_ms
        # Whether the history may hold older entries that its size does not allow here.
        self.is_cut = False

    @property
    def before(self) -> Position:
        """The position before its oldest entry: whoever stands there or later can be answered from it."""
        return self._before

    def append(self, entry: Entry) -> None:
        """Add the entry that follows the head; the caller has checked the chain."""
        self._entries.append(entry)
        self._bytes += len(entry.frame)
        self.head = entry.position
        while len(self._entries) > self._max_entries or self._bytes > self._max_bytes:
            self.is_cut = self.is_cut or self._bytes > self._max_bytes
            self._forget_oldest()

    def extend_back(self, entries: Iterable[Entry]) -> bool:
        """Add older entries, as a read of the history found them.

        Args:
            entries: in order; those that are not older than the oldest here are ignored.

        Returns:
            Whether they chain with what is here; if not, nothing is added, and the history has forked.
        """
        for entry in reversed([entry for entry in entries if entry.seq <= self._before.seq]):
            if entry.position != self._before:
                return False
            if len(self._entries) >= self._max_entries or self._bytes + len(entry.frame) > self._max_bytes:
                self.is_cut = True
                break
            self._entries.appendleft(entry)
            self._bytes += len(entry.frame)
            self._before = Position(entry.epoch, entry.seq - 1, entry.prev)
        return True

    def is_full_of_others(self, position: Position | None, user: str) -> bool:
        """Whether a client may lack what the history still has, because others' entries take the place of its own."""
        if position is None or not self.is_cut or position.epoch != self.head.epoch or position.seq >= self._before.seq:
            return False
        return any(entry.to is not None and user not in entry.to for entry in self._entries)

    def with_older(self, entries: Iterable[Entry]) -> Ring:
        """Return a ring that goes on before this one without a limit of bytes; this one stays as it is.

        Args:
            entries: as `extend_back` takes them; where they do not chain the two rings are alike.
        """
        limits = {"max_entries": sys.maxsize, "max_bytes": sys.maxsize, "max_age_ms": self._max_age_ms}
        longer = Ring(self._before, **limits)
        longer.is_cut = not longer.extend_back(entries) and self.is_cut
        for entry in self._entries:
            longer.append(entry)
        return longer

    def id_at(self, seq: int) -> str | None:
        """Return the id at a seq; ``None`` where the ring does not know it."""
        if seq == self._before.seq:
            return self._before.id
        index = seq - self._before.seq - 1
        return self._entries[index].id if 0 <= index < len(self._entries) else None

    def after(self, seq: int) -> list[Entry]:
        """Return the entries after a seq, oldest first."""
        return [entry for entry in self._entries if entry.seq > seq] if seq < self.head.seq else []

    def forget_old(self, now: float) -> None:
        """Forget what is past the retention's age.

        Args:
            now: unix seconds.
        """
        while self._entries and self._entries[0].at < now * 1000 - self._max_age_ms:
            self._forget_oldest()

    def _forget_oldest(self) -> None:
        entry = self._entries.popleft()
        self._bytes -= len(entry.frame)
        self._before = entry.position


def new_ring(head: Position) -> Ring:
    """Return an empty ring with the limits that the settings give."""
    return Ring(
        head,
        max_entries=settings.HERMES_HISTORY_ENTRIES,
        max_bytes=settings.HERMES_REPLAY_BYTES,
        max_age_ms=settings.HERMES_HISTORY_SECONDS * 1000,
    )

"""Backlog: what a room's connections are to be written, in parts, that other rooms have their turn. Owned by feed."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence

from notifications.sockets.connection import Connection
from notifications.sockets.outbound import Batch
from notifications.sockets.protocol import Close
from notifications.sockets.vitals import TALLY
from notifications.stream.entry import Entry


class Backlog:
    """Batches for many connections, in order."""

    __slots__ = ("_lined_up", "_reached")

    def __init__(self) -> None:
        # What is to be written, to whom; in front, to how many of them it has been.
        self._lined_up: deque[tuple[list[Connection], Batch]] = deque()
        self._reached = 0

    def __len__(self) -> int:
        """How many batches wait."""
        return len(self._lined_up)

    def add(self, connections: Iterable[Connection], texts: Sequence[bytes]) -> None:
        """Have texts written to connections, behind what waits already."""
        if texts and (some := list(connections)):
            self._lined_up.append((some, Batch(texts)))

    def add_entries(self, connections: Iterable[Connection], entries: Sequence[Entry], since: float) -> None:
        """Have entries written to connections, behind what waits already.

        Args:
            since: when the first of them came, in monotonic seconds.
        """
        if entries and (some := list(connections)):
            self._lined_up.append((some, Batch([entry.frame for entry in entries], entries, since)))

    def tell(self, connections: Sequence[Connection], text: bytes) -> None:
        """Write a text to a few connections: now, or behind what waits already."""
        if self._lined_up:
            self.add(connections, [text])
            return
        batch = Batch([text])
        for connection in connections:
            connection.outbound.write(batch)
        TALLY.written(0, batch.size, len(connections))

    def write(self, most: int) -> int:
        """Write the first batch to some of its connections, to one at least.

        Args:
            most: writes, as `outbound.Batch.cost` counts them.

        Returns:
            How many it was.
        """
        connections, batch = self._lined_up[0]
        some = connections[self._reached : self._reached + max(1, most // batch.cost)]
        open_ones = [connection for connection in some if connection.close_code is None]
        try:
            for connection in open_ones:
                connection.outbound.write(batch)
        except Exception:
            # Who was before it must not be written to again. It has missed something, and comes back for it.
            self._reached += some.index(connection) + 1
            connection.close(Close.UNAVAILABLE, "unavailable")
            raise
        TALLY.written(len(batch.entries), batch.size, len(open_ones))
        self._reached += len(some)
        if self._reached >= len(connections):
            self._lined_up.popleft()
            self._reached = 0
            if batch.entries:
                TALLY.delivered(batch.since, batch.entries)
        return len(some) * batch.cost


def who_sees_what(
    entries: Sequence[Entry], connections: set[Connection], by_user: Mapping[str, set[Connection]]
) -> Iterator[tuple[Iterable[Connection], Sequence[Entry]]]:
    """Yield connections of a room and what they see of entries; whoever sees the same is together, for one batch.

    What nobody but its members sees costs its members, however large the room is.

    Args:
        entries: in order, none of them expired.
        connections: all of the room; by_user: the same by their members.
    """
    addressed = {user for entry in entries if entry.to is not None for user in entry.to} & by_user.keys()
    seen: dict[str, list[int]] = {user: [] for user in addressed}
    public: list[Entry] = []
    for index, entry in enumerate(entries):
        if entry.to is None:
            public.append(entry)
        for user in addressed if entry.to is None else addressed & entry.to:
            seen[user].append(index)
    alike: dict[tuple[int, ...], list[Connection]] = {}
    for user, indices in seen.items():
        alike.setdefault(tuple(indices), []).extend(by_user[user])
    for key, theirs in alike.items():
        yield theirs, [entries[index] for index in key]
    if public:
        yield connections.difference(*alike.values()) if alike else connections, public

"""Records: what is known of a connection, and what is still to be written of it. Pure; used by keeper, rows, mirror."""

from __future__ import annotations

import random
from collections.abc import Collection, Hashable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Generic, Protocol, TypeVar

# A server beats and looks at the others every tenth of a lease, and calls dead who has been silent for four tenths: the
# last beat is seen a tenth later, silence is proven four tenths after that, and dealt with at the next look. That is
# 6/10; what is left is for the calls, and for a look that comes late. A server that lives may be late by three beats.
BEATS = 10
SILENCE = 4 / 10
# Where its process is known to live, it is suspended, or slow with its whole machine and no more dead than we are: what
# is waited for then is all that leaves the lease two tenths.
SILENCE_HERE = 7 / 10
WAKING_BEATS = 2  # who slept with us has so many to be heard

# RFC 6455: no closing frame was seen, which is all that a reaper can say of a dead server's connections.
ABNORMAL = 1006
# RFC 6455: the server goes away and comes back.
RESTARTING = 1012


K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class ConnectionRecord:
    """One accepted WebSocket.

    Args:
        connection_id: unique among all servers, at most 64 characters.
        stage: the stage's name.
        room_id: the room's code.
        user_id: the member, as text.
        opened_at: when it joined, aware and in UTC, by this host's clock.
    """

    connection_id: str
    stage: str
    room_id: str
    user_id: str
    opened_at: datetime


@dataclass(frozen=True, slots=True)
class Traffic:
    """What a connection was sent.

    Args:
        frames: texts written to it, pings of hermes.v1 among them.
        size: their bytes.
        waiting: bytes of them that its reader has not taken; 0 where it has everything up to its room's position.
    """

    frames: int
    size: int
    waiting: int


class Source(Protocol):
    """What knows a live connection's traffic. Asked from the keepers' threads too, so it only reads numbers."""

    def traffic(self) -> Traffic:
        """Return what it was sent until now."""


@dataclass(frozen=True, slots=True)
class Life:
    """The newest that is known of a connection: open, or closed at a time with a code (``None``: not known)."""

    record: ConnectionRecord
    closed_at: datetime | None = None
    code: int | None = None
    traffic: Traffic | None = None


class Pending:
    """What is still to be written, one life for each connection, the newest: an outage costs no more than that.

    Open ones are bounded by the sockets of the process; of the closed ones the oldest are dropped beyond a cap.

    Args:
        closed_cap: how many closed connections may wait; about 700 bytes each.
    """

    def __init__(self, closed_cap: int) -> None:
        self._closed_cap = closed_cap
        self._open: dict[str, Life] = {}
        self._closed: dict[str, Life] = {}
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._open) + len(self._closed)

    @property
    def closed_ids(self) -> Collection[str]:
        """The connections whose end is still to be written."""
        return self._closed.keys()

    def add(self, life: Life) -> None:
        """Remember the newest life of a connection; what was known of it before is replaced."""
        connection_id = life.record.connection_id
        self._open.pop(connection_id, None)
        if life.closed_at is None:
            self._closed.pop(connection_id, None)
            self._open[connection_id] = life
            return
        self._closed[connection_id] = life
        if len(self._closed) > self._closed_cap:
            del self._closed[next(iter(self._closed))]
            self.dropped += 1

    def put_back(self, lives: Iterable[Life]) -> None:
        """Take back lives that could not be written, except where something newer is known by now."""
        for life in lives:
            if life.record.connection_id not in self._open and life.record.connection_id not in self._closed:
                self.add(life)

    def take(self, limit: int) -> list[Life]:
        """Remove and return at most ``limit`` lives, half of them open and half closed while there are both.

        Halves, so that neither a flood of joins nor one of leaves keeps the other from being seen.
        """
        closed = min(len(self._closed), max(limit // 2, limit - len(self._open)))
        taken = [*islice(self._open.values(), limit - closed), *islice(self._closed.values(), closed)]
        for life in taken:
            (self._open if life.closed_at is None else self._closed).pop(life.record.connection_id)
        return taken


class Watch(Generic[K, V]):
    """How long each server's beat has stayed the same, by a clock of this process's.

    So no two hosts' clocks are ever compared, nor is a clock that is put right mistaken for a death.
    """

    def __init__(self) -> None:
        self._since: dict[K, tuple[V, float]] = {}

    def look(self, beats: Iterable[tuple[K, V]], now: float) -> Iterator[tuple[K, V, float]]:
        """Yield each server with its beat and for how many seconds it has been the same.

        Args:
            beats: what is there now; whoever is not among them is forgotten.
            now: seconds, of `Listening`.
        """
        since, self._since = self._since, {}
        for key, beat in beats:
            seen, at = since.get(key, (beat, now))
            self._since[key] = (beat, at if seen == beat else now)
            yield key, beat, now - self._since[key][1]

    def replace(self, key: K, beat: V) -> None:
        """Count a beat that this process has changed itself as the same: its server has not spoken."""
        self._since[key] = (beat, self._since[key][1])


class Listening:
    """A clock for the silence of others: it runs while they could be heard.

    A lease is state in a store: who looks late, as on a busy host, or after having been suspended, still sees the
    newest beat of each server, so all of the time since its last look counts. It does not where the store was in the
    way: of a call that it answered late only a beat counts, since others' beats were held up as long; of the time
    around a failed call no more than one beat, and after such a break that is as long as the silence of the dead, all
    silence counts anew. Whoever slept as long may have slept with others, whose host was suspended: they have two beats
    to be heard.

    Args:
        lease_seconds: of the servers, in seconds.
    """

    def __init__(self, lease_seconds: float) -> None:
        self._beat, self._silence = lease_seconds / BEATS, lease_seconds * SILENCE
        self._looked_at = float("-inf")
        self._unbroken_since = 0.0
        self._has_failed = False
        self.seconds = 0.0

    @property
    def unbroken(self) -> float:
        """For how many of its seconds there has been no break."""
        return self.seconds - self._unbroken_since

    def failed(self) -> None:
        """Note that a call failed since the last look."""
        self._has_failed = True

    def look(self, now: float, waited: float = 0.0) -> None:
        """Count the time since the last look.

        Args:
            now: monotonic seconds.
            waited: for how many of them the store kept us waiting beyond the usual.
        """
        passed, self._looked_at = now - self._looked_at, now
        has_failed, self._has_failed = self._has_failed, False
        if passed == float("inf") or (passed if has_failed else waited) > self._silence:
            self._unbroken_since = self.seconds
            return
        self.seconds += min(passed, self._beat) if has_failed else max(0.0, passed - waited)
        if passed > self._silence:
            self._unbroken_since = max(self._unbroken_since, self.seconds - self._silence + WAKING_BEATS * self._beat)


def full_jitter(attempt: int, *, base: float, cap: float) -> float:
    """Return how long to wait before the next attempt, in seconds.

    Args:
        attempt: 1 after the first failure.
        base: the longest first wait, in seconds; it doubles with every attempt.
        cap: the longest wait of all, in seconds.

    Returns:
        A random share of the longest wait, so that many processes do not come back in step.
    """
    return random.uniform(0, min(cap, base * 2 ** min(attempt - 1, 20)))  # noqa: S311  not for secrets

"""Wheel: the time of all connections in one task: pings, tokens that end, readers that stall. Owned by hub, who pings.

A connection has a slot, which comes by once in a ping's interval; between two visits nobody looks at it but where there
is something to look for: its token ends soon, or its reader has not taken everything. So ten thousand that are idle
cost their pings, and no timer of their own.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Iterable

from django.conf import settings

from notifications.sockets.connection import END_JITTER, EXPIRING_SECONDS, Connection
from notifications.sockets.outbound import Outbound

TURN_SECONDS = 1.0  # in which everything that must be looked at is looked at once
STEP_SECONDS = 0.5  # by which the wall clock has moved against the monotonic one when somebody has set it
SPOKES = 20  # parts of a turn, which keep its parts short; also how finely the ends of tokens are kept


class Wheel:
    """The time of one process's connections.

    Args:
        ping: tells connections the position of their room; called for each of them every `HERMES_PING_SECONDS`.
    """

    def __init__(self, ping: Callable[[Iterable[Connection]], None]) -> None:
        self._ping = ping
        self._interval: int = settings.HERMES_PING_SECONDS  # in turns
        self._count = self._interval * SPOKES
        self._slots: defaultdict[int, set[Connection]] = defaultdict(set)
        self._ending: list[set[Connection]] = [set() for _ in range(SPOKES)]
        self._laggards: list[set[Outbound]] = [set() for _ in range(SPOKES)]
        self._wall_ahead: float | None = None  # of the monotonic clock, in seconds
        self._unnoted = 0  # spokes that were not gone through since the wall clock was set

    def add(self, connection: Connection) -> None:
        """Look at a connection from now on; again when its token is another one."""
        self._slot_of(connection).add(connection)
        self._note_ending([connection], hash(connection) % SPOKES, time.time())

    def remove(self, connection: Connection) -> None:
        """Look at it no more."""
        self._slot_of(connection).discard(connection)
        self._ending[hash(connection) % SPOKES].discard(connection)
        self.laggards(connection).discard(connection.outbound)

    def laggards(self, connection: Connection) -> set[Outbound]:
        """Return where a connection's outbound puts itself when something waits for its reader."""
        return self._laggards[hash(connection) % SPOKES]

    async def run(self) -> None:
        """Turn, for ever; it waits for nobody."""
        last: set[Connection] = set()
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            for number in range(self._count):
                # By the clock and not from look to look: what each is late would add up to more than a turn in a long
                # interval, and a slot would come by after the end of a token. Who was stopped catches up on one round.
                due = max(due + TURN_SECONDS / SPOKES, loop.time() - self._interval * TURN_SECONDS)
                await asyncio.sleep(max(0.0, due - loop.time()))
                last = self._look(number, last)

    def _look(self, number: int, last: set[Connection]) -> set[Connection]:
        """Look at a spoke, and at all whose tokens end before their spoke's next turn; return the latter."""
        now, loop_now = time.time(), asyncio.get_running_loop().time()
        spoke, slot = number % SPOKES, self._slots.get(number, ())
        laggards = self._laggards[spoke]
        laggards.difference_update([each for each in list(laggards) if not each.check_progress(loop_now)])
        self._note_step(now - loop_now)
        if self._unnoted:
            self._unnoted -= 1
            for each in range(spoke, self._count, SPOKES):
                self._note_ending(self._slots.get(each, ()), spoke, now)
        else:
            self._note_ending(slot, spoke, now)
        soon = now + 2 * TURN_SECONDS  # a turn takes longer where others keep the loop
        if ending := self._ending[spoke]:
            last.update([each for each in ending if each.ends_at < soon])
            for connection in ending:
                connection.keep_time(now)
            horizon = self._horizon(now)
            ending.difference_update([each for each in ending if each.is_closing or each.ends_at >= horizon])
        for connection in last:
            connection.keep_time(now)
        if slot:
            self._ping(list(slot))
        return {each for each in last if now < each.ends_at < soon}

    def _note_step(self, wall_ahead: float) -> None:
        """Go through all once more when the wall clock was set: who has far to go by a wrong one may be at the end."""
        if self._wall_ahead is not None and abs(wall_ahead - self._wall_ahead) > STEP_SECONDS:
            self._unnoted = SPOKES
        self._wall_ahead = wall_ahead

    def _slot_of(self, connection: Connection) -> set[Connection]:
        return self._slots[hash(connection) % self._count]

    def _note_ending(self, connections: Iterable[Connection], spoke: int, now: float) -> None:
        """Look every turn at those who must be told something of their token before their slot comes by again."""
        horizon = self._horizon(now)
        self._ending[spoke].update([each for each in connections if each.ends_at < horizon])

    def _horizon(self, now: float) -> float:
        return now + EXPIRING_SECONDS + END_JITTER + (self._interval + 2) * TURN_SECONDS

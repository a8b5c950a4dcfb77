"""Wheel: looks at each connection once a second, a twentieth of them at a time. Owned by hub, which pings.

There is one for all connections, and no timer for any of them; the twentieths keep its turns short when there are
thousands.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable

from django.conf import settings

from notifications.sockets.connection import END_JITTER, EXPIRING_SECONDS, Connection

TURN_SECONDS = 1.0  # in which every connection is looked at
SPOKES = 20  # parts of a turn; also how finely the ends of tokens are kept


class Wheel:
    """The time of one process's connections: pings in their turn, tokens that end, readers that stall.

    Args:
        ping: tells connections the position of their room.
    """

    def __init__(self, ping: Callable[[Iterable[Connection]], None]) -> None:
        self._ping = ping
        self._spokes: list[set[Connection]] = [set() for _ in range(SPOKES)]

    def add(self, connection: Connection) -> None:
        """Look at a connection from now on."""
        self._spokes[hash(connection) % SPOKES].add(connection)

    def remove(self, connection: Connection) -> None:
        """Look at it no more."""
        self._spokes[hash(connection) % SPOKES].discard(connection)

    async def run(self) -> None:
        """Turn, for ever; it waits for nobody."""
        ending: set[Connection] = set()
        second = 0
        while True:
            second += 1
            for spoke in self._spokes:
                await asyncio.sleep(TURN_SECONDS / SPOKES)
                ending = self._look(spoke, ending, second)

    def _look(self, spoke: set[Connection], ending: set[Connection], second: int) -> set[Connection]:
        """Look at a spoke's connections, and at all whose tokens end before their next turn; return the latter."""
        now, loop_now = time.time(), asyncio.get_running_loop().time()
        connections = list(spoke)
        for connection in connections:
            connection.outbound.check_progress(loop_now)
        # What follows is for few of them: a call for each would cost more than all that is done for the others.
        ends_soon = now + EXPIRING_SECONDS + END_JITTER + 2 * TURN_SECONDS
        ending.update([each for each in connections if each.ends_at < ends_soon])
        for connection in ending:
            connection.keep_time(now)
        interval = settings.HERMES_PING_SECONDS
        self._ping([each for each in connections if hash(each) // SPOKES % interval == second % interval])
        soon = now + 2 * TURN_SECONDS  # a turn takes longer where others keep the loop
        return {each for each in ending if now < each.ends_at < soon}

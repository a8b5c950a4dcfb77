"""Outage: whether Redis is away, found by one poller and known to all. Kept by relay, asks through it.

Each receive brings a message nearer to its dead-letter queue, so whoever knows that Redis is away must not receive. In
one outage a relay learns it once, by the messages that it has in hand, and then none of its pollers receives before
Redis answers. So a message is received at most once by each relay in an outage, and once more after it.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

from django.conf import settings

# Until what a long poll still brought may come again: longer than any other long poll that was under way (20 s) takes,
# and not straight to another relay that has not noticed yet.
AWAY_SECONDS = 30


class Outage:
    """What one relay's pollers know of Redis.

    Args:
        ask: asks whether Redis takes an entry.
        pause: waits so many seconds, but not once the relay is being stopped.
        stopping: set when it is.
        lasts: called each time that Redis was asked by those who wait, and did not answer.
    """

    def __init__(
        self,
        ask: Callable[[], Awaitable[bool]],
        pause: Callable[[float], Awaitable[None]],
        stopping: asyncio.Event,
        lasts: Callable[[], None],
    ) -> None:
        self._ask, self._pause, self._stopping, self._lasts = ask, pause, stopping, lasts
        self._asking = asyncio.Lock()
        self.is_on = False

    def seconds_away(self, seconds: int) -> int:
        """Return after how many seconds what is given back may come again.

        Args:
            seconds: wanted; no longer than a visibility, and at once where the relay is being stopped.
        """
        return 0 if self._stopping.is_set() else min(seconds, settings.HERMES_VISIBILITY_SECONDS)

    def end(self) -> None:
        """Take note that Redis has taken something."""
        self.is_on = False

    async def has_ended(self) -> bool:
        """Ask Redis, and let every poller know; returns whether it answers."""
        self.is_on = not await self._ask()
        return not self.is_on

    async def wait_out(self) -> None:
        """Wait until Redis answers, or the relay is being stopped. Of those who wait one asks."""
        async with self._asking:
            while self.is_on and not self._stopping.is_set() and not await self.has_ended():
                self._lasts()
                await self._pause(random.uniform(0.5, 2.0))  # noqa: S311  jitter, not a secret

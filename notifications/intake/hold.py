"""Hold: what a relay has in hand, kept from coming again until it is done with. Owned by relay, asks queue.

Without it a batch that takes long (a slow Redis, a dead-letter queue that is throttled) would come to another relay as
well, and cost a receive on its way to the dead-letter queue.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from django.conf import settings

from notifications.exceptions import QueueUnavailable
from notifications.intake.queue import BATCH, Queue
from notifications.intake.received import Received

logger = logging.getLogger(__name__)

COMPLAIN_SECONDS = 60.0
BEATS = 3  # in one visibility: two may fail before anything comes again
SHORTEST_BEAT = 0.2  # seconds


class Complaints:
    """Logs each lasting trouble once a minute."""

    def __init__(self) -> None:
        self._made: dict[str, float] = {}

    def __contains__(self, what: object) -> bool:
        return what in self._made

    def make(self, what: str, text: str, *arguments: object) -> None:
        """Log a trouble, unless it was logged in the last minute.

        Args:
            what: which trouble.
            text, arguments: as the logger takes them.
        """
        now = time.monotonic()
        if now - self._made.get(what, -COMPLAIN_SECONDS) >= COMPLAIN_SECONDS:
            self._made[what] = now
            logger.warning(text, *arguments)


class Hold:
    """The messages in flight of one relay.

    Args:
        queue: whose they are.
        in_thread: runs a function of the queue in one of the relay's threads.
        complaints: where troubles are told.

    Attributes:
        emptied: when SQS last had no message for as long as it was asked to wait, by the monotonic clock.
    """

    def __init__(self, queue: Queue, in_thread: Callable[..., Awaitable[Any]], complaints: Complaints) -> None:
        self._queue = queue
        self._in_thread = in_thread
        self._complaints = complaints
        self._messages: dict[str, Received] = {}
        self._owed: dict[str, Received] = {}
        self.emptied: float | None = None

    def __len__(self) -> int:
        return len(self._messages)

    @property
    def oldest(self) -> int | None:
        """When SQS had the oldest message that is held or owed, in unix milliseconds."""
        some = [*self._messages.values(), *self._owed.values()]
        return min((message.sent_at for message in some if message.sent_at), default=None)

    def owe(self, messages: Iterable[Received]) -> None:
        """Remember messages that were given back because nothing can be done with any: they still wait."""
        self._owed.update((message.receipt, message) for message in messages)

    def settle(self, messages: Iterable[Received]) -> None:
        """Forget messages that were owed: whoever receives them can carry them."""
        for message in messages:
            self._owed.pop(message.receipt, None)

    def take(self, messages: Iterable[Received]) -> None:
        """Keep messages that were received just now."""
        self._messages.update((message.receipt, message) for message in messages)

    def drop(self, messages: Iterable[Received]) -> None:
        """Keep messages no longer: they are done with, or may come again when their visibility ends."""
        for message in messages:
            self._messages.pop(message.receipt, None)

    async def keep(self) -> None:
        """Begin the visibility of what is held anew, three times in each visibility, for ever."""
        while True:
            await asyncio.sleep(max(settings.HERMES_VISIBILITY_SECONDS / BEATS, SHORTEST_BEAT))
            await self.beat()

    async def beat(self) -> None:
        """Begin the visibility of what is held anew."""
        messages = list(self._messages.values())
        if not messages:
            return
        failed = await self._ask(
            messages,
            settings.HERMES_VISIBILITY_SECONDS,
            ("hold", "%s; what is in hand may come again, and is recognised then."),
        )
        # Some were done with while SQS was asked; those are no trouble.
        if lapsed := sum(message.receipt in self._messages for message in failed):
            self._complaints.make("lapsed", "%d messages in hand may come again, and are recognised then.", lapsed)

    async def give_back(self, messages: Iterable[Received] | None = None, *, after_seconds: int = 0) -> None:
        """Let messages come again, at once or all together a little later.

        Args:
            messages: by default everything that is held.
            after_seconds: when.
        """
        some = list(self._messages.values() if messages is None else messages)
        self.drop(some)
        failed = await self._ask(some, after_seconds, ("release", "%s; they come back when their visibility ends."))
        if failed:
            self._complaints.make(
                "release", "%d messages could not be released; they come back when their visibility ends.", len(failed)
            )

    async def _ask(self, messages: list[Received], seconds: int, trouble: tuple[str, str]) -> list[Received]:
        """Have messages come again after so many seconds, ten by ten: a call that fails keeps no other from being made.

        Args:
            messages: any number.
            seconds: from now.
            trouble: which, and its text, where a call fails.

        Returns:
            Those for which SQS refused, of the calls that it answered.
        """
        refused: list[Received] = []
        for start in range(0, len(messages), BATCH):
            try:
                refused += await self._in_thread(self._queue.hold, messages[start : start + BATCH], seconds)
            except QueueUnavailable as error:
                self._complaints.make(*trouble, error)
        return refused

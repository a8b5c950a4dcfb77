"""Latency: entries that carry the time at which they were published, and what their readers make of it. Used by tests.

Publisher and readers are one process, so that one clock times both ends.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from notifications.stream.message import Message
from notifications.stream.publish import Publisher

_MARK = b'"at":'
_DIGITS = 19  # of a monotonic time in nanoseconds, with zeros before it
_PADDING = "x" * 260  # a frame has some 440 bytes, as a notification of a few sentences


class Latencies:
    """Collects what readers hear; make a new one for each measurement, or `restart`."""

    def __init__(self) -> None:
        self._seconds: list[float] = []

    def hear(self, payload: bytes) -> None:
        """Take an entry."""
        at = payload.index(_MARK) + len(_MARK) + 1
        self._seconds.append(time.monotonic() - int(payload[at : at + _DIGITS]) / 1e9)

    def restart(self) -> list[float]:
        """Forget what was heard; return it, in seconds."""
        seconds, self._seconds = self._seconds, []
        return seconds


def percentile(seconds: list[float], share: float) -> float:
    """Return a percentile in milliseconds."""
    return round(sorted(seconds)[min(len(seconds) - 1, int(len(seconds) * share))] * 1000, 1)


class Talker:
    """Publishes timed messages to a room, so many a second, whatever becomes of them.

    Args:
        publisher, stage, room: where.
        rate: messages a second.
    """

    def __init__(self, publisher: Publisher, stage: str, room: str, rate: float) -> None:
        self._publisher, self._stage, self._room, self._rate = publisher, stage, room, rate
        self.sent = 0
        self.on_message: Callable[[], None] = lambda: None  # called for each, before it is on its way

    async def talk(self, seconds: float) -> None:
        """Talk for a while."""
        loop = asyncio.get_running_loop()
        begun, due = loop.time(), 0
        while (now := loop.time() - begun) < seconds:
            count = int(now * self._rate) + 1 - due  # more than one where this process was kept from running
            if count > 0:
                due += count
                for result in await self._publisher.publish(self._stage, [self._message() for _ in range(count)]):
                    if isinstance(result, Exception):
                        raise result
            await asyncio.sleep(max(0.0, due / self._rate - (loop.time() - begun)))

    def _message(self) -> Message:
        self.sent += 1
        self.on_message()
        stamp = f'"{time.monotonic_ns():0{_DIGITS}}"'
        data = f'{{"type":"info","at":{stamp},"data":"{_PADDING}"}}'
        return Message(id=f"{self._room}-{self.sent}", user_id=0, room_id=self._room, data=data)

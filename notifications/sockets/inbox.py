"""Inbox: what clients say, obeyed by a few workers for all of them. Filled by consumer, worked on by hub's tasks.

Each client's frames are obeyed in order and one at a time, and no client has two turns while another waits for one. Who
says more than is obeyed is not read meanwhile, so that what waits is bounded. What cannot wait, because a connection
ends without it, has workers of its own: the others may all be waiting for a store that does not answer.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import Protocol

WORKERS = 16  # frames obeyed at once; most of the time each waits for Redis
FRAMES = 8  # of one client that may wait before it is not read
COMPLAIN_SECONDS = 60.0


class Speaker(Protocol):
    """A client, as the inbox sees it."""

    said: deque[str | None]

    async def obey(self, text: str | None) -> None:
        """Do what one frame asks for; raises nothing."""
        ...

    def heard(self) -> None:
        """Nothing of it waits any more."""
        ...


class Inbox:
    """The clients of one process of whom something waits to be obeyed."""

    def __init__(self) -> None:
        self._speakers: asyncio.Queue[Speaker] = asyncio.Queue()  # each at most once
        self._urgent: asyncio.Queue[tuple[Speaker, str | None]] = asyncio.Queue()
        self._hurried: set[Speaker] = set()  # of whom an urgent frame waits or is obeyed: one of each
        self._complained_at = float("-inf")

    def put(self, speaker: Speaker, text: str | None, *, is_urgent: bool = False) -> bool:
        """Have a frame obeyed.

        Args:
            is_urgent: whether it may overtake others, unless its client has one that does.

        Returns:
            Whether its client may say more at once; else it is told by `Speaker.heard` when it may.
        """
        if is_urgent and speaker not in self._hurried:
            self._hurried.add(speaker)
            self._urgent.put_nowait((speaker, text))
            return len(speaker.said) < FRAMES
        speaker.said.append(text)
        if len(speaker.said) == 1:
            self._speakers.put_nowait(speaker)
        return len(speaker.said) < FRAMES

    async def work(self) -> None:
        """Obey, for ever."""
        while True:
            speaker = await self._speakers.get()
            try:
                await speaker.obey(speaker.said[0])
            finally:
                speaker.said.popleft()  # only now: while it is obeyed, what comes is not put a second time
                if speaker.said:
                    self._speakers.put_nowait(speaker)
                else:
                    speaker.heard()

    async def hurry(self) -> None:
        """Obey what is urgent, for ever."""
        while True:
            speaker, text = await self._urgent.get()
            try:
                await speaker.obey(text)
            finally:
                self._hurried.discard(speaker)

    def may_complain(self) -> bool:
        """Whether to log what could not be obeyed: once a minute, and not for each frame of an outage."""
        if time.monotonic() - self._complained_at < COMPLAIN_SECONDS:
            return False
        self._complained_at = time.monotonic()
        return True

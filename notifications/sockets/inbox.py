"""Inbox: what clients say, obeyed by a few workers for all of them. Filled by consumer, worked on by hub's tasks.

Each client's frames are obeyed in order and one at a time, and no client has two turns while another waits for one. Who
says more than is obeyed is not read meanwhile, so that what waits is bounded.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Protocol

WORKERS = 16  # frames obeyed at once; most of the time each waits for Redis
FRAMES = 8  # of one client that may wait before it is not read


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

    def put(self, speaker: Speaker, text: str | None) -> bool:
        """Have a frame obeyed.

        Returns:
            Whether its client may say more at once; else it is told by `Speaker.heard` when it may.
        """
        speaker.said.append(text)
        if len(speaker.said) == 1:
            self._speakers.put_nowait(speaker)
        return len(speaker.said) < FRAMES

    async def work(self) -> None:
        """Obey, for ever."""
        while True:
            speaker = await self._speakers.get()
            await speaker.obey(speaker.said[0])
            speaker.said.popleft()  # only now: while it is obeyed, what comes is not put a second time
            if speaker.said:
                self._speakers.put_nowait(speaker)
            else:
                speaker.heard()

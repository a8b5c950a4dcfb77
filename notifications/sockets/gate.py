"""Gate: so many handshakes are judged at once, the others wait in line or are told to come back. Used by server alone.

When ten thousand clients come back at once, judging them all at once serves nobody: each gets a ten-thousandth of the
process, all of them give up together, and what was done for them was done in vain. No I/O, and nothing of WebSocket.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

INSIDE = 256  # handshakes judged at once: enough to read their rows together, and less than a second of work
PATIENCE = 8.0  # s in line, then 4113; a client waits 15 s in all, and judging and joining take some of it
# In one turn of the loop: a long one keeps everybody waiting, and those who come most of all.
ADMITTED, SENT_AWAY = 4, 4


class Guest(Protocol):
    """Who waits at the gate."""

    def admit(self) -> None:
        """It is your turn; `Gate.leave` ends it."""

    def send_away(self) -> None:
        """It took too long."""


class Gate:
    """The line of one process.

    Args:
        inside: how many are judged at once.
        patience: seconds that one may wait in line.
    """

    def __init__(self, inside: int = INSIDE, patience: float = PATIENCE) -> None:
        self._places = inside
        self._patience = patience
        self._inside: set[Guest] = set()
        self._line: dict[Guest, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        """How many wait in line."""
        return len(self._line)

    def enter(self, guest: Guest) -> None:
        """Come to the gate: be admitted at once, or later, or sent away."""
        if len(self._inside) < self._places and not self._line:
            self._inside.add(guest)
            asyncio.get_running_loop().call_soon(guest.admit)
            return
        loop = asyncio.get_running_loop()
        self._line[guest] = loop.time() + self._patience
        if self._timer is None:
            self._timer = loop.call_later(self._patience, self._send_away)

    def leave(self, guest: Guest) -> None:
        """Be judged, or gone; a second time does nothing."""
        self._line.pop(guest, None)
        if guest in self._inside:
            self._inside.discard(guest)
            if self._line:
                asyncio.get_running_loop().call_soon(self._admit)

    def _admit(self) -> None:
        for _ in range(ADMITTED):
            if not self._line or len(self._inside) >= self._places:
                return
            # The newest first: who came long ago is about to give up, and would be served in vain.
            guest, _ = self._line.popitem()
            self._inside.add(guest)
            guest.admit()
        asyncio.get_running_loop().call_soon(self._admit)

    def _send_away(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = None
        for _ in range(SENT_AWAY):
            guest = next(iter(self._line), None)
            if guest is None:
                return
            if self._line[guest] > loop.time():
                self._timer = loop.call_at(self._line[guest], self._send_away)
                return
            del self._line[guest]
            guest.send_away()
        self._timer = loop.call_later(0, self._send_away)  # after the others of this turn

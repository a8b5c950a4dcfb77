"""Holder: a member whose tokens end soon, or are revoked, and who asks for new ones. Made by run; else a member."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Callable
from typing import Any

import websockets

from tests.faults.member import Member, Token

# Stage, room and user of the member whose tokens are revoked now and then.
REVOKED = ("development", "acme", "erin")
CALM_SECONDS = 180.0  # a token of that length outlives any calm


class Holder(Member):
    """A member who asks for tokens.

    Args:
        issue: makes a token of so many seconds; blocks.
        life: returns how long the next one shall live, in seconds.
        others: see `Member`.
    """

    def __init__(self, *others: Any, issue: Callable[[float], Token], life: Callable[[], float], **named: Any) -> None:
        super().__init__(*others, token=Token("", 0, 0), **named)
        self._issue, self._life = issue, life
        self._plan: asyncio.Task[None] | None = None
        self._offered: Token | None = None
        self._last_code: int | None = None
        self.is_calm = False

    async def calm(self) -> None:
        """Have authority for a while, whatever was planned."""
        self.is_calm = True
        if self.is_open:
            await self._refresh(CALM_SECONDS)

    def resume(self) -> None:
        """Live by tokens that end soon again."""
        if self.is_calm:
            self.is_calm = False
            self.token = Token("", 0, 0)
            self.drop()

    async def _prepare(self) -> None:
        """Ask for a token where there is none that is good."""
        if self._last_code == 4403:
            # A token of the second in which it was revoked would be revoked, too.
            await asyncio.sleep(1.1)
        if self._last_code in (4401, 4403) or time.time() > self.token.exp:
            self.token = await asyncio.to_thread(self._issue, CALM_SECONDS if self.is_calm else self._life())

    def _on_closed(self, code: int | None) -> None:
        self._last_code = code
        if self._plan is not None:
            self._plan.cancel()

    def _on_control(self, kind: str, data: dict[str, Any]) -> None:
        if kind == "expiring" and not self.is_calm:
            self._plan = asyncio.create_task(self._do_something(), name=f"plan-{self.name}")
        elif kind == "refreshed" and self._offered is not None:
            self.token, self._offered = self._offered, None
            about = {"iat": self.token.iat, "exp": self.token.exp}
            self._recorder.write("refreshed", client=self.name, unix=round(time.time(), 2), **about)

    async def _do_something(self) -> None:
        """The token ends soon: refresh it in place, come back with another one, or let it end."""
        choice = self._rng.random()
        await asyncio.sleep(self._rng.uniform(0, max(0.0, self.token.exp - time.time() - 4)))
        if choice < 0.4:
            await self._refresh(self._life())
        elif choice < 0.6:
            self.token = Token("", 0, 0)
            self.drop()

    async def _refresh(self, seconds: float) -> None:
        self._offered = await asyncio.to_thread(self._issue, seconds)
        with contextlib.suppress(websockets.WebSocketException, OSError, TimeoutError):
            async with asyncio.timeout(1.0):
                if self._socket is not None:
                    await self._socket.send(json.dumps({"action": "refresh", "token": self._offered.text}))

"""Ear: does what is sent over the channel layer reach this process's hub. Owned by hub; asked by health for `/readyz`.

A subscription can fall silent without an error on either side. Members then get every entry all the same, found by the
follower and up to a second late; so a deaf process goes on serving and says that it is not ready.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from typing import Any

import redis

from notifications.exceptions import HistoryUnavailable

HEAR_SECONDS = 1.2  # within `/readyz`'s own deadline
RESEND_SECONDS = 0.25  # Redis may learn of a new subscription after the first pulse
DEAF_SECONDS = 5.0  # since it heard last; one pulse may be late where a storm keeps the event loop
_LOOP_SECONDS = 0.2  # for the event loop to take the question and to give the answer

# One for each hub that runs in this process; threads look at a copy.
_EARS: list[Ear] = []


class Ear:
    """A hub's ear: sends its own channel a pulse and waits until the hub has received it.

    Args:
        layer: Channels' channel layer.
    """

    def __init__(self, layer: Any) -> None:
        self._layer = layer
        self._channel = ""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pulses: dict[str, asyncio.Future[None]] = {}
        self._heard_at = float("-inf")

    def open(self) -> None:
        """Let `probe` ask it, from now on; on the hub's event loop."""
        self._loop = asyncio.get_running_loop()
        _EARS.append(self)

    def close(self) -> None:
        """Let nobody ask it any more."""
        if self in _EARS:
            _EARS.remove(self)

    def listen_on(self, channel: str) -> None:
        """Learn the hub's channel."""
        self._channel = channel

    def heard(self, pulse: str) -> None:
        """Take a pulse that the hub has received."""
        self._heard_at = time.monotonic()
        heard = self._pulses.get(pulse)
        if heard is not None and not heard.done():  # they are sent again until one is heard
            heard.set_result(None)

    async def hear(self, seconds: float = HEAR_SECONDS) -> None:
        """Send pulses until the hub has received one.

        Args:
            seconds: how long that may take.

        Raises:
            HistoryUnavailable: it has received none, nor another a moment ago; or the channel layer does not answer.
        """
        if not self._channel:
            raise HistoryUnavailable("the channel layer has not answered yet")
        pulse = secrets.token_hex(8)
        heard = self._pulses[pulse] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(seconds):
                while not heard.done():
                    await self._layer.send(self._channel, {"type": "hermes.pulse", "pulse": pulse})
                    await asyncio.wait([heard], timeout=RESEND_SECONDS)
        except TimeoutError as error:
            if time.monotonic() - self._heard_at < DEAF_SECONDS:
                return
            raise HistoryUnavailable("the subscription is deaf: what was sent to it did not arrive") from error
        except (redis.RedisError, OSError) as error:
            raise HistoryUnavailable(f"the channel layer does not answer: {type(error).__name__}") from error
        finally:
            del self._pulses[pulse]

    def ask(self) -> None:
        """Wait in another thread than the hub's until it has heard.

        Raises:
            HistoryUnavailable: it did not.
        """
        if self._loop is None or self._loop.is_closed():
            return
        answer = asyncio.run_coroutine_threadsafe(self.hear(), self._loop)
        try:
            answer.result(HEAR_SECONDS + _LOOP_SECONDS)
        except TimeoutError as error:
            answer.cancel()
            raise HistoryUnavailable("the event loop does not answer") from error


def probe() -> None:
    """Ask every hub of this process whether it hears; a process without one has nobody to be deaf to.

    Raises:
        HistoryUnavailable: one does not.
    """
    for ear in tuple(_EARS):
        ear.ask()

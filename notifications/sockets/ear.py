"""Ear: does what is sent over the channel layer reach this process's hub. Owned by hub; asked by health for `/readyz`.

A subscription can fall silent without an error on either side. Members then get every entry all the same, found by the
follower and up to a second late; so a deaf process goes on serving and says that it is not ready. It asks itself, too,
and has the layer connect anew: the library sends PINGs over a subscription, and looks at no answer.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable
from typing import Any

import redis

from notifications.exceptions import HistoryUnavailable

logger = logging.getLogger(__name__)

PROBE_SECONDS = 10.0  # between two questions of the hub's own
DEAF_PROBES = 2  # in a row, then the subscription is made anew: one pulse may be lost with an old connection
HEAR_SECONDS = 1.2  # within `/readyz`'s own deadline
RESEND_SECONDS = 0.25  # Redis may learn of a new subscription after the first pulse
DEAF_SECONDS = 5.0  # since it heard last; one pulse may be late where a storm keeps the event loop
_LOOP_SECONDS = 0.2  # for the event loop to take the question and to give the answer

# One for each hub that runs in this process; threads look at a copy.
_EARS: list[Ear] = []


class _Deaf(HistoryUnavailable):
    """The channel layer has taken what was sent, and the hub has not received it."""


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
        pulse, is_sent = secrets.token_hex(8), False
        heard = self._pulses[pulse] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(seconds):
                while not heard.done():
                    await self._layer.send(self._channel, {"type": "hermes.pulse", "pulse": pulse})
                    is_sent = True
                    await asyncio.wait([heard], timeout=RESEND_SECONDS)
        except TimeoutError as error:
            if time.monotonic() - self._heard_at < DEAF_SECONDS:
                return
            if not is_sent:
                raise HistoryUnavailable("the channel layer does not answer in time") from error
            raise _Deaf("the subscription is deaf: what was sent to it did not arrive") from error
        except (redis.RedisError, OSError) as error:
            raise HistoryUnavailable(f"the channel layer does not answer: {type(error).__name__}") from error
        finally:
            del self._pulses[pulse]

    async def mend(self, on_mended: Callable[[], None]) -> None:
        """Ask itself from time to time, for ever, and have the layer connect anew while it is deaf.

        Args:
            on_mended: called then: what was sent meanwhile may be lost.
        """
        deaf = 0
        while True:
            await asyncio.sleep(PROBE_SECONDS)
            try:
                await self.hear(HEAR_SECONDS)
                deaf = 0
            except _Deaf:
                deaf += 1
            except HistoryUnavailable:
                deaf = 0  # Redis is away, and its subscription is made anew by itself
            if deaf >= DEAF_PROBES and hasattr(self._layer, "renew"):
                deaf = 0
                logger.warning("The channel layer's subscription is deaf; it is made anew.")
                await self._layer.renew()
                on_mended()

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

"""Verdicts: whether a digest matches a bcrypt hash, computed once and remembered. Owned by authorizer, uses recall.

A verdict is a fact about a digest and a hash; a changed row has another hash and so another verdict.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from prometheus_client import Counter, Gauge

from notifications.access import token_store
from notifications.access.recall import Flights, Recent
from notifications.exceptions import Unavailable

CACHED = 50_000  # verdicts a process remembers; some 10 MB
WAITING = 1_000  # joins that may wait for a thread; more are told to come back
BCRYPT_NICE = 5  # a third of the loop's share of a core that both want: who is connected must not feel who comes

BCRYPT = Counter("hermes_bcrypt", "Digests held against a bcrypt hash.")
BCRYPT_WAITING = Gauge("hermes_bcrypt_waiting", "Joins that wait for bcrypt, or have its thread.")


class Verdicts:
    """The verdicts of one process and event loop."""

    def __init__(self) -> None:
        # Until when the others know it (unix seconds); -1: it does not match.
        self._known: Recent[int] = Recent(CACHED)
        # A member's many tabs come back at once: one computes the verdict.
        self._checking: Flights[bool] = Flights()
        self._waiting = 0
        BCRYPT_WAITING.set_function(lambda: self._waiting)
        # Two: bcrypt releases the GIL, and the loop's own core must not be what waits for it.
        self._bcrypt = ThreadPoolExecutor(max_workers=2, thread_name_prefix="hermes-bcrypt", initializer=_give_way)

    def close(self) -> None:
        """Let go of threads."""
        self._checking.cancel()
        self._bcrypt.shutdown(wait=False, cancel_futures=True)

    def is_known(self, digests: Iterable[str], token_hash: str | None) -> bool:
        """Return whether one of some digests was held against a hash before, or there is no hash."""
        return token_hash is None or any(self._known.get((digest, token_hash)) is not None for digest in digests)

    def note(self, digest: str, token_hash: str) -> None:
        """Remember that a digest matches a hash, which another process has found and tells, nobody knows until when."""
        if self._known.get((digest, token_hash)) is None:
            self._known.put((digest, token_hash), 0)

    async def holds(self, digest: str, token_hash: str, expires_at: int) -> tuple[bool, bool]:
        """Return whether a digest matches a hash, and whether the other processes must be told so.

        Args:
            digest, token_hash: as `token_store.matches` takes them.
            expires_at: unix seconds at which the token ends, and with it the use of the answer.

        Raises:
            Unavailable: too many want to know.
        """
        fact = (digest, token_hash)
        known = self._known.get(fact)
        if known is None:
            holds = await self._checking.join(fact, lambda: self._compute(digest, token_hash))
            known = 0 if holds else -1
        is_news = 0 <= known < expires_at
        self._known.put(fact, expires_at if is_news else known)
        return known >= 0, is_news

    async def _compute(self, digest: str, token_hash: str) -> bool:
        if self._waiting >= WAITING:
            raise Unavailable("too many joins wait for a thread")
        self._waiting += 1
        try:
            try:
                answer = asyncio.get_running_loop().run_in_executor(
                    self._bcrypt, token_store.matches, token_hash, digest
                )
            except RuntimeError as error:  # the pool takes nothing more
                raise Unavailable("the authorizer is closed") from error
            BCRYPT.inc()
            return await answer
        finally:
            self._waiting -= 1


def _give_way() -> None:
    """Let the event loop go before this thread where both want one core, if the system tells threads apart."""
    if sys.platform == "linux":
        os.nice(BCRYPT_NICE)  # this thread's alone, on Linux

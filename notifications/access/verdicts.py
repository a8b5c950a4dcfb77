"""Verdicts: whether a digest matches a bcrypt hash, computed once and remembered. Owned by authorizer, uses recall.

A verdict is a fact about a digest and a hash: it is kept until the token expires, here and in Redis for the other
processes, and a changed row has another hash and so another verdict.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import logging
import os
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import redis
import redis.asyncio
from prometheus_client import Counter

from notifications.access import token_store
from notifications.access.recall import Batches, Flights, Recent
from notifications.conf import Stage
from notifications.exceptions import Unavailable
from notifications.stream.redis_client import async_client

logger = logging.getLogger(__name__)

CACHED = 50_000  # verdicts a process remembers; some 10 MB
WAITING = 1_000  # joins that may wait for a thread; more are told to come back
CACHE_SECONDS = 0.5  # the shared cache saves work of milliseconds; it is not worth waiting longer for
ASKED_TOGETHER = 100  # facts in one request to the shared cache
BCRYPT_NICE = 5  # a third of the loop's share of a core that both want: who is connected must not feel who comes

BCRYPT = Counter("hermes_bcrypt", "Digests held against a bcrypt hash.")

_Fact = tuple[str, int]  # its key in Redis, and the unix second until which it is worth keeping


class Verdicts:
    """The verdicts of one process and event loop.

    Args:
        cache: a Redis client; by default our own.
    """

    def __init__(self, cache: redis.asyncio.Redis | None = None) -> None:
        self.cache = cache or async_client()
        self._known: Recent[bool] = Recent(CACHED)
        # A member's many tabs come back at once: one computes the verdict.
        self._checking: Flights[bool] = Flights()
        self._shared: Batches[str, bool] = Batches(self._ask, size=ASKED_TOGETHER, askers=1, waiting=WAITING)
        self._sharing: Batches[_Fact, None] = Batches(self._tell, size=ASKED_TOGETHER, askers=1, waiting=WAITING)
        self._waiting = 0
        # Two: bcrypt releases the GIL, and the loop's own core must not be what waits for it.
        self._bcrypt = ThreadPoolExecutor(max_workers=2, thread_name_prefix="hermes-bcrypt", initializer=_give_way)

    async def aclose(self) -> None:
        """Let go of threads and connections."""
        self._checking.cancel()
        self._shared.cancel()
        self._sharing.cancel()
        self._bcrypt.shutdown(wait=False, cancel_futures=True)
        await self.cache.aclose()

    async def holds(self, stage: Stage, digest: str, token_hash: str, expires_at: int) -> bool:
        """Return whether a digest matches a hash.

        Args:
            stage: whose member it is.
            digest, token_hash: as `token_store.matches` takes them.
            expires_at: unix seconds at which the token ends, and with it the use of the answer.

        Raises:
            Unavailable: too many want to know.
        """
        fact = hmac.new(stage.jwt_secret.encode(), f"{digest} {token_hash}".encode(), hashlib.sha256).hexdigest()
        known = self._known.get(fact)
        if known is not None:
            return known
        key = f"hermes:{{{stage.name}:access}}:verdict:{fact}"
        holds = await self._checking.join(fact, lambda: self._check(key, digest, token_hash, expires_at))
        self._known.put(fact, holds)
        return holds

    async def _check(self, key: str, digest: str, token_hash: str, expires_at: int) -> bool:
        try:
            async with asyncio.timeout(CACHE_SECONDS):
                if await self._shared.ask(key):
                    return True
        except (redis.RedisError, OSError, TimeoutError):
            pass  # Redis only saves work here; joining needs it too, and says so
        holds = await self._compute(digest, token_hash)
        if holds:
            with contextlib.suppress(Unavailable):  # nobody waits for the others to know it, too
                self._sharing.ask((key, expires_at)).add_done_callback(_note)
        return holds

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

    async def _ask(self, keys: list[str]) -> Mapping[str, bool]:
        async with self.cache.pipeline(transaction=False) as pipeline:  # of several stages, so no single MGET
            for key in keys:
                pipeline.get(key)
            answers = await pipeline.execute()
        return {key: answer == b"1" for key, answer in zip(keys, answers, strict=True)}

    async def _tell(self, facts: list[_Fact]) -> Mapping[_Fact, None]:
        now = int(time.time())
        async with self.cache.pipeline(transaction=False) as pipeline:
            for key, expires_at in facts:
                pipeline.set(key, b"1", ex=max(1, expires_at - now))
            await pipeline.execute()
        return dict.fromkeys(facts)


def _note(sharing: asyncio.Future[None]) -> None:
    if not sharing.cancelled() and (error := sharing.exception()) is not None:
        logger.debug("A verdict was not shared: %s", type(error).__name__)


def _give_way() -> None:
    """Let the event loop go before this thread where both want one core, if the system tells threads apart."""
    if sys.platform == "linux":
        os.nice(BCRYPT_NICE)  # this thread's alone, on Linux

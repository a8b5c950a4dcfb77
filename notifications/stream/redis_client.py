"""Redis clients with our own deadlines and no silent retries. Used by history, rendering, examine and access.

redis-py 8 retries a command up to ten times on its own, and an append that ran and lost its answer would run again;
the append's idempotency key makes that harmless, but a caller must know what failed, so retrying is ours to do.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import redis
import redis.asyncio
from django.conf import settings
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.connection import HiredisRespSerializer
from redis.retry import Retry

CONNECT_SECONDS = 2.0
ANSWER_SECONDS = 5.0  # longer than any WAIT of ours by default; see HERMES_DURABILITY_SECONDS
POOL = 16  # connections per process; pipelines share them, and a waiter waits at most CONNECT_SECONDS for one


def async_client() -> redis.asyncio.Redis:
    """Return a client for the running event loop; the caller closes it with ``aclose()``."""
    pool = redis.asyncio.BlockingConnectionPool.from_url(
        settings.REDIS_URL,
        max_connections=POOL,
        timeout=CONNECT_SECONDS,
        socket_connect_timeout=CONNECT_SECONDS,
        socket_timeout=ANSWER_SECONDS + settings.HERMES_DURABILITY_SECONDS,
        retry=AsyncRetry(NoBackoff(), 0),
    )
    pool.connection_class = _kind_of_ours(pool.connection_class)
    return redis.asyncio.Redis.from_pool(pool)  # closes the pool with itself


def _kind_of_ours(connection_class: type[AbstractConnection]) -> type[AbstractConnection]:
    """Return a kind of connection that says of a write to a broken one what every other failure says, and packs in C.

    uvloop raises a RuntimeError where asyncio writes into the void, and a connection that another task has closed in
    the same moment has no writer any more; nobody who waits for Redis expects either.
    """

    packer = HiredisRespSerializer()

    class Connection(connection_class):  # type: ignore[misc, valid-type]
        def pack_command(self, *arguments: Any) -> list[bytes]:
            # In C, as redis-py's synchronous connections do: an append has 17 arguments.
            packed: list[bytes] = packer.pack(*arguments)
            return packed

        def pack_commands(self, commands: Iterable[Iterable[Any]]) -> list[bytes]:
            return [b"".join(piece for command in commands for piece in packer.pack(*command))]

        async def send_packed_command(self, *arguments: Any, **options: Any) -> None:
            try:
                await super().send_packed_command(*arguments, **options)
            except RuntimeError as error:
                raise redis.ConnectionError(f"The connection broke before it was written to: {error}") from error
            except AttributeError as error:
                if self._writer is not None:
                    raise
                raise redis.ConnectionError("The connection was closed before it was written to.") from error

    return Connection


def sync_client(seconds: float, **options: Any) -> redis.Redis:
    """Return a thread-safe client whose connect and answer take at most ``seconds`` each."""
    return redis.Redis.from_url(
        settings.REDIS_URL,
        socket_connect_timeout=seconds,
        socket_timeout=seconds,
        retry=Retry(NoBackoff(), 0),
        **options,
    )

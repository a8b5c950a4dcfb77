"""Redis clients with our own deadlines and no silent retries. Used by history, hint_layer, rendering, examine, access.

redis-py 8 retries a command up to ten times on its own, and an append that ran and lost its answer would run again;
the append's idempotency key makes that harmless, but a caller must know what failed, so retrying is ours to do. Where
REDIS_URL names sentinels, each connection asks them for the primary as it is made: the next one is the new primary's.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import redis
import redis.asyncio
import redis.asyncio.sentinel
import redis.sentinel
from django.conf import settings
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.connection import HiredisRespSerializer
from redis.retry import Retry

from notifications.conf import RedisPlace, redis_place

CONNECT_SECONDS = 2.0
ANSWER_SECONDS = 5.0  # longer than any WAIT of ours by default; see HERMES_DURABILITY_SECONDS
SENTINEL_SECONDS = 1.0  # for a sentinel to connect, and to answer; then the next is asked
USER_TIMEOUT_MS = 20_000  # without an acknowledgement, then the kernel ends the connection, where it can
POOL = 16  # connections per process; pipelines share them, and a waiter waits at most CONNECT_SECONDS for one


def async_client() -> redis.asyncio.Redis:
    """Return a client for the running event loop; the caller closes it with ``aclose()``."""
    answer = ANSWER_SECONDS + settings.HERMES_DURABILITY_SECONDS
    return _client(settings.REDIS_URL, socket_connect_timeout=CONNECT_SECONDS, socket_timeout=answer)


def layer_client(address: str, **options: Any) -> redis.asyncio.Redis:
    """Return a client for the channel layer, as `async_client` makes them.

    Args:
        address: as in REDIS_URL.
        options: the layer's own deadlines, as redis-py calls them.
    """
    return _client(address, **options)


def _client(url: str, **options: Any) -> redis.asyncio.Redis:
    place = redis_place(url)
    common = {"max_connections": POOL, "timeout": CONNECT_SECONDS, "retry": AsyncRetry(NoBackoff(), 0), **_tls(place)}
    pool: redis.asyncio.BlockingConnectionPool
    if place.sentinels:
        sentinel = redis.asyncio.sentinel.Sentinel(  # type: ignore[no-untyped-call]
            place.sentinels, sentinel_kwargs={"retry": AsyncRetry(NoBackoff(), 0), **_of_sentinels(place)}
        )
        for asked in sentinel.sentinels:
            asked.connection_pool.connection_class = _kind_of_ours(asked.connection_pool.connection_class)
        of_primary = _of_primary(place)
        pool = _PrimaryPool(place.service, sentinel, **of_primary, **common, **options)  # type: ignore[no-untyped-call]
    else:
        pool = redis.asyncio.BlockingConnectionPool.from_url(url, **common, **options)
    pool.connection_class = _kind_of_ours(pool.connection_class)
    return redis.asyncio.Redis.from_pool(pool)  # closes the pool with itself


class _PrimaryPool(redis.asyncio.sentinel.SentinelConnectionPool, redis.asyncio.BlockingConnectionPool):
    """Connections to the primary that sentinels name; each asks them when it connects."""

    async def get_master_address(self) -> tuple[str, int]:
        try:
            address: tuple[str, int] = await super().get_master_address()  # type: ignore[no-untyped-call]
        except redis.asyncio.sentinel.MasterNotFoundError:
            # Its own text is a page long, with all that is known of every sentinel.
            raise redis.ConnectionError(f"No sentinel names a primary of {self.service_name!r} that is up.") from None
        return address

    async def aclose(self) -> None:
        await super().aclose()
        await self.sentinel_manager.aclose()


def _of_sentinels(place: RedisPlace) -> dict[str, Any]:
    return {
        "username": settings.REDIS_SENTINEL_USER or None,
        "password": settings.REDIS_SENTINEL_PASSWORD or None,
        "socket_connect_timeout": SENTINEL_SECONDS,
        "socket_timeout": SENTINEL_SECONDS,
        "ssl": place.is_tls,
        **_tls(place),
    }


def _of_primary(place: RedisPlace) -> dict[str, Any]:
    return {"username": place.username, "password": place.password, "db": place.database, "ssl": place.is_tls}


def _tls(place: RedisPlace) -> dict[str, Any]:
    """Return what makes redis-py verify a certificate, and the host that it is for."""
    if not place.is_tls:
        return {}
    own = {"ssl_ca_data": settings.REDIS_CA} if settings.REDIS_CA else {}
    return {"ssl_cert_reqs": "required", "ssl_check_hostname": True, **own}


_verifiers: dict[str, ssl.SSLContext] = {}  # by what they were asked to verify; one process has one or two


def _kind_of_ours(connection_class: type[AbstractConnection]) -> type[AbstractConnection]:
    """Return a kind of connection that says of a write to a broken one what every other failure says, and packs in C.

    uvloop raises a RuntimeError where asyncio writes into the void, and a connection that another task has closed in
    the same moment has no writer any more; nobody who waits for Redis expects either.
    """

    packer = HiredisRespSerializer()

    class Connection(connection_class):  # type: ignore[misc, valid-type]
        def __init__(self, **options: Any) -> None:
            super().__init__(**options)
            # redis-py has the kernel look after connections on which nothing is under way; of the others the kernel
            # would see for a quarter of an hour only that nobody acknowledges anything.
            of_tcp: Any = getattr(self, "socket_keepalive_options", None)  # a Unix socket has none
            if of_tcp is not None and hasattr(socket, "TCP_USER_TIMEOUT"):
                self.socket_keepalive_options = {**of_tcp, socket.TCP_USER_TIMEOUT: USER_TIMEOUT_MS}
            if hasattr(self, "ssl_context"):
                # Reading the system's authorities takes 30 ms, in which the event loop stands still: once is enough.
                wanted = self.ssl_context
                asked = repr([getattr(wanted, name) for name in wanted.__slots__])
                if asked not in _verifiers:
                    _verifiers[asked] = wanted.get()
                wanted.context = _verifiers[asked]

        def pack_command(self, *arguments: Any) -> list[bytes]:
            # In C, as redis-py's synchronous connections do: an append has 17 arguments.
            packed: list[bytes] = packer.pack(*arguments)
            return packed

        def pack_commands(self, commands: Iterable[Iterable[Any]]) -> list[bytes]:
            return [b"".join(piece for command in commands for piece in packer.pack(*command))]

        async def send_packed_command(self, *arguments: Any, **options: Any) -> None:
            with self._in_words():
                await super().send_packed_command(*arguments, **options)

        async def write(self, packed: bytes) -> None:
            """Write commands within the caller's deadline; the library's own way makes a task for each, to time it.

            Args:
                packed: as Redis reads them.

            Raises:
                redis.ConnectionError, OSError: the connection has ended.
            """
            with self._in_words():
                self._writer.write(packed)
                await self._writer.drain()

        @contextmanager
        def _in_words(self) -> Iterator[None]:
            try:
                yield
            except RuntimeError as error:
                raise redis.ConnectionError(f"The connection broke before it was written to: {error}") from error
            except AttributeError as error:
                if self._writer is not None:
                    raise
                raise redis.ConnectionError("The connection was closed before it was written to.") from error

        async def on_connect_check_health(self, check_health: bool = True) -> None:
            await super().on_connect_check_health(check_health)
            if getattr(getattr(self, "connection_pool", None), "is_master", False):
                await self._require_primary()

        async def _require_primary(self) -> None:
            """See that whom the sentinels named is the primary, as Redis asks of every client.

            In a failover they name the old one for some moments more, and it may be back, as a replica, by then: it
            answers, takes nothing, and no sentinel ends its connections, which would be used for ever.
            """
            await self.send_command("INFO", "replication", check_health=False)
            try:
                answer = await self.read_response()
            except redis.exceptions.NoPermissionError:
                return  # then nobody can tell
            text = answer.decode() if isinstance(answer, bytes) else str(answer)
            if "role:master" not in text:
                raise redis.ConnectionError(f"{self.host}:{self.port} is a replica, though sentinels name it primary.")

    return Connection


def sync_client(seconds: float, **options: Any) -> redis.Redis:
    """Return a thread-safe client whose connect and answer take at most ``seconds`` each."""
    place = redis_place(settings.REDIS_URL)
    options = {
        "socket_connect_timeout": seconds,
        "socket_timeout": seconds,
        "retry": Retry(NoBackoff(), 0),
        **_tls(place),
        **options,
    }
    if not place.sentinels:
        return redis.Redis.from_url(settings.REDIS_URL, **options)
    asking = {**_of_sentinels(place), "socket_connect_timeout": seconds, "socket_timeout": seconds}
    asking["retry"] = Retry(NoBackoff(), 0)
    sentinel = redis.sentinel.Sentinel(place.sentinels, sentinel_kwargs=asking)  # type: ignore[no-untyped-call]
    options = {**_of_primary(place), **options}
    client: redis.Redis = sentinel.master_for(place.service, **options)  # type: ignore[no-untyped-call]
    return client


def primary_of(client: redis.Redis) -> str:
    """Return whom a client speaks to, as host and port, if sentinels told it; empty where REDIS_URL says it."""
    address = getattr(client.connection_pool, "master_address", None)
    return f"{address[0]}:{address[1]}" if address else ""

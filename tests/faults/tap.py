"""Tap: reads the histories past every proxy, and writes down each entry in each of its places. Used by world, run."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import Sequence
from typing import Any

import redis
import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from notifications.stream import keys
from tests.faults.recorder import Recorder

POLL_SECONDS = 0.05
_MARK = re.compile(r'"n": ?"([^"]+)"')


class Tap:
    """Follows some rooms' histories.

    Args:
        url: Redis itself.
        rooms: pairs of stage and room.
        recorder: where to.
    """

    def __init__(self, url: str, rooms: Sequence[tuple[str, str]], recorder: Recorder) -> None:
        self._redis = _client(url)
        self._rooms, self._recorder = list(rooms), recorder
        self._read: dict[tuple[str, str], tuple[str, int]] = {}
        self._known: set[tuple[str, str, str, int, str, str]] = set()
        self._lock = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self._is_stopping = False
        self.heads: dict[str, tuple[str, int, str]] = {}
        self.appended = 0

    def start(self) -> None:
        """Follow until `stop`; an outage of Redis is waited out."""
        self._task = asyncio.create_task(self._follow(), name="tap")

    async def stop(self) -> None:
        """Follow no more."""
        # Not cancelled: redis-py writes within `asyncio.wait_for`, which in Python 3.11 may swallow a cancellation.
        self._is_stopping = True
        if self._task is not None:
            await self._task
        await self._redis.aclose()

    async def look(self) -> None:
        """Read what is new.

        Raises:
            redis.RedisError: Redis does not answer.
        """
        async with self._lock:
            for key in self._rooms:
                await self._look_at(key)

    async def move(self, url: str) -> None:
        """Read another Redis from now on."""
        async with self._lock:
            await self._redis.aclose()
            self._redis = _client(url)

    async def new_life(self, how: str, *, is_durable: bool = False) -> None:
        """Redis is back from a restart: write down where its histories end now, and read them from their beginning.

        Args:
            how: ``same`` data as before, ``older`` or ``none``; ``promoted`` where it was a replica.
            is_durable: whatever was confirmed must still be there.
        """
        async with self._lock:
            heads = {}
            await self._redis.connection_pool.disconnect()  # its connections ended with the life before
            for stage, room in self._rooms:
                epoch, seq, _ = await self._head((stage, room))
                heads[f"{stage}/{room}"] = (epoch, seq)
            self._recorder.write("life", how=how, durable=is_durable, heads=heads)
            self._read.clear()

    async def _follow(self) -> None:
        while not self._is_stopping:
            with contextlib.suppress(redis.RedisError, OSError, TimeoutError):
                await self.look()
            await asyncio.sleep(POLL_SECONDS)

    async def _head(self, key: tuple[str, str]) -> tuple[str, int, str]:
        epoch, seq, id_ = await self._redis.hmget(keys.head_key(*key), "epoch", "seq", "id")
        return (epoch or b"").decode(), int(seq or 0), (id_ or b"").decode()

    async def _look_at(self, key: tuple[str, str]) -> None:
        before = self._read.get(key, ("", 0))
        head, items = await self._items(key, before[1])
        if head[0] != before[0] and before[1]:
            head, items = await self._items(key, 0)
        for item_id, fields in items:
            self._note(key, head[0], int(item_id.split(b"-")[0]), fields)
        self._read[key] = head[:2]
        self.heads["/".join(key)] = head

    async def _items(self, key: tuple[str, str], after: int) -> tuple[tuple[str, int, str], list[Any]]:
        async with self._redis.pipeline(transaction=True) as pipeline:
            pipeline.hmget(keys.head_key(*key), "epoch", "seq", "id")
            pipeline.xrange(keys.log_key(*key), f"{after + 1}-0", "+")
            (epoch, seq, id_), items = await pipeline.execute()
        return ((epoch or b"").decode(), int(seq or 0), (id_ or b"").decode()), items

    def _note(self, key: tuple[str, str], epoch: str, seq: int, fields: dict[bytes, bytes]) -> None:
        id_, prev = fields[b"id"].decode(), fields[b"prev"].decode()
        if (*key, epoch, seq, id_, prev) in self._known:
            return
        self._known.add((*key, epoch, seq, id_, prev))
        mark = _MARK.search(fields[b"frame"].decode())
        self.appended += 1
        self._recorder.write(
            "appended",
            stage=key[0],
            room=key[1],
            epoch=epoch,
            seq=seq,
            id=id_,
            prev=prev,
            to=json.loads(fields[b"to"]) if fields[b"to"] else None,
            expires=int(fields[b"expires"]) if fields[b"expires"] else None,
            at=int(fields[b"at"]) / 1000,
            n=mark[1] if mark else "unknown",
            size=len(fields[b"frame"]),
        )


def _client(url: str) -> redis.asyncio.Redis:
    return redis.asyncio.Redis.from_url(url, socket_timeout=2, socket_connect_timeout=1, retry=Retry(NoBackoff(), 0))

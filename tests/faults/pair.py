"""Pair: a Valkey and its replica, restarted and exchanged in mid-stream. Owned by world, told by break_redis."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Any

import redis
import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from hermes_site.engines import HOST, Valkey
from tests.faults.chaos import ChaosProxy
from tests.faults.tap import Tap
from tests.waiting import eventually

REPLICA_SECONDS = 20.0
# Synced at every write, so that a kill loses nothing that was confirmed; never rewritten by itself, so that it can be
# copied at any moment; a replica that comes is served at once.
OPTIONS = (
    *("--appendfsync", "always", "--auto-aof-rewrite-percentage", "0"),
    *("--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1"),
)


class Pair:
    """The Redis of a world: whoever is the primary is reached by all through proxies.

    Args:
        directory: for the data of both.
    """

    def __init__(self, directory: Path) -> None:
        self.primary, self.replica = (
            Valkey(directory / name, persistent=True, arguments=OPTIONS) for name in ("valkey-a", "valkey-b")
        )
        self.is_durable = False  # every process waits for the replica before it calls anything appended
        self.tap: Tap
        self._doors: Collection[ChaosProxy] = ()
        self._replication = ChaosProxy(0)

    async def start(self) -> None:
        """Start both, and wait until the replica is one."""
        await asyncio.to_thread(self.primary.start)
        await self._replication.start()
        await self._follow_primary()

    async def stop(self) -> None:
        """Stop both."""
        await self._replication.stop()
        await asyncio.gather(*(asyncio.to_thread(each.stop) for each in (self.primary, self.replica)))

    def resume(self) -> None:
        """Let go on whoever was suspended."""
        self.primary.resume()

    def serve(self, doors: Collection[ChaosProxy], tap: Tap) -> None:
        """Learn who reaches the primary through what, and who reads along."""
        self._doors, self.tap = doors, tap

    async def restart(self, how: str) -> None:
        """Kill the primary and start it with the ``same`` data, with ``none``, or with ``older`` data.

        Where data is lost, nobody can reach it any more and the tap has read all of it before.
        """
        data, copy = self.primary.directory / "appendonlydir", self.primary.directory / "older"
        if how == "older":
            shutil.rmtree(copy, ignore_errors=True)
            await eventually(self._is_at_rest, REPLICA_SECONDS, "Valkey rewrites its file no more")
            await asyncio.to_thread(shutil.copytree, data, copy)
            await self._more_entries(5)
        try:
            if how != "same":
                await self._close()
            await asyncio.to_thread(self.primary.kill)
            if how != "same":
                shutil.rmtree(data)
            if how == "older":
                copy.rename(data)
            await asyncio.to_thread(self.primary.start)
            await self.tap.new_life(how)
        finally:
            self._open()

    async def promote(self, *, lag: float, is_old_kept: bool) -> None:
        """Put the replica into the primary's place, which comes back as its replica.

        Args:
            lag: seconds for which the replica hears nothing before.
            is_old_kept: the old one comes back with its data; else with none.
        """
        await eventually(self._is_followed, REPLICA_SECONDS, "the replica follows")
        if lag:
            self._replication.hold("down")
            await asyncio.sleep(lag)
        try:
            await self._close()
            await asyncio.to_thread(self.primary.kill)
            self._replication.cut(reset=True)
            self._replication.heal()
            async with self._client(self.replica) as client:
                await client.execute_command("REPLICAOF", "NO", "ONE")
            self.primary, self.replica = self.replica, self.primary
            for door in self._doors:
                door.target_port = self.primary.port
            await self.tap.move(self.primary.url)
            await self.tap.new_life("promoted", is_durable=self.is_durable)
        finally:
            self._replication.heal()
            self._open()
        if not is_old_kept:
            shutil.rmtree(self.replica.directory / "appendonlydir", ignore_errors=True)
        await self._follow_primary()

    async def _follow_primary(self) -> None:
        self._replication.target_port = self.primary.port
        if not self.replica.running:
            await asyncio.to_thread(self.replica.start)
        async with self._client(self.replica) as client:
            await client.execute_command("REPLICAOF", HOST, str(self._replication.port))
        await eventually(self._is_followed, REPLICA_SECONDS, "the replica follows")

    async def _is_followed(self) -> bool:
        return (await self._info(self.replica, "replication")).get("master_link_status") == "up"

    async def _is_at_rest(self) -> bool:
        return not (await self._info(self.primary, "persistence")).get("aof_rewrite_in_progress")

    async def _info(self, valkey: Valkey, section: str) -> dict[str, Any]:
        with contextlib.suppress(redis.RedisError, OSError):
            async with self._client(valkey) as client:
                found: dict[str, Any] = await client.info(section)
                return found
        return {}

    def _client(self, valkey: Valkey) -> redis.asyncio.Redis:
        return redis.asyncio.Redis.from_url(
            valkey.url, socket_timeout=2, socket_connect_timeout=1, retry=Retry(NoBackoff(), 0)
        )

    async def _more_entries(self, count: int) -> None:
        behind = self.tap.appended + count
        with contextlib.suppress(AssertionError):  # the relay may be stopped just now; then less is lost
            await eventually(lambda: self.tap.appended >= behind, 5, "entries that will be lost")

    async def _close(self) -> None:
        for door in self._doors:
            door.is_closed = True
            door.cut()
        await asyncio.sleep(0.1)  # what was sent before the cut is still read and done
        await self.tap.look()

    def _open(self) -> None:
        for door in self._doors:
            door.is_closed = False

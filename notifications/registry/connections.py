"""Connections: who is connected to this process, told to SQL and its mirror. Owned by sockets.hub, hands to keeper."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from datetime import UTC, datetime

from django.conf import settings

from notifications.registry import tables
from notifications.registry.keeper import Keeper, Store
from notifications.registry.mirror import Mirror
from notifications.registry.neighbours import Presence, look_seconds
from notifications.registry.records import RESTARTING, ConnectionRecord, Life, Source
from notifications.registry.rows import Rows

__all__ = ["ConnectionRecord", "Registry"]

logger = logging.getLogger(__name__)


class Registry:
    """The live connections of one server process. Belongs to the event loop that starts it.

    Args:
        server_id: this process; at most 64 characters, never used before.
        stores: where to write; SQL and the mirror unless a test says otherwise.
        lease_seconds: how long a server counts as alive after its last heartbeat; else ``HERMES_LEASE_SECONDS``.
    """

    def __init__(
        self, server_id: str, *, stores: Sequence[Store] | None = None, lease_seconds: float | None = None
    ) -> None:
        lease: float = settings.HERMES_LEASE_SECONDS if lease_seconds is None else lease_seconds
        self._live: dict[str, ConnectionRecord] = {}
        self._sources: dict[str, Source] = {}
        if stores is None:
            stores = (Rows(server_id, lease, self._sources), Mirror(server_id, lease))
        self._keepers = [Keeper(store, self._live, lease) for store in stores]
        self._presence = Presence(server_id)
        self._look_seconds = look_seconds(lease)
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def live(self) -> int:
        """How many connections are live in this process."""
        return len(self._live)

    @property
    def pending(self) -> int:
        """How many connections wait to be written, in the store that is furthest behind."""
        return max((keeper.pending for keeper in self._keepers), default=0)

    async def start(self) -> None:
        """Begin to write; succeeds whether or not SQL and DynamoDB answer."""
        self._presence.hold()
        await asyncio.to_thread(tables.prepare)
        self._tasks = [asyncio.create_task(keeper.run(), name="hermes-registry") for keeper in self._keepers]
        self._tasks.append(asyncio.create_task(self._look_around(), name="hermes-neighbours"))

    def opened(self, record: ConnectionRecord, source: Source | None = None) -> None:
        """Note that a connection joined. Never blocks, never raises.

        Args:
            record: what is kept of it.
            source: what knows its traffic.
        """
        self._live[record.connection_id] = record
        if source is not None:
            self._sources[record.connection_id] = source
        for keeper in self._keepers:
            keeper.add(Life(record))

    def closed(self, connection_id: str, code: int | None) -> None:
        """Note that a connection is gone. Never blocks, never raises; a second time does nothing.

        Args:
            connection_id: of a record that was `opened`.
            code: the WebSocket close code, ``None`` where there was none.
        """
        record = self._live.pop(connection_id, None)
        if record is None:
            return
        source = self._sources.pop(connection_id, None)
        life = Life(record, datetime.now(UTC), code, source.traffic() if source else None)
        for keeper in self._keepers:
            keeper.add(life)

    async def stop(self, deadline: float) -> None:
        """Close what is still open with 1012, write everything and give the leases back.

        Args:
            deadline: seconds this may take; what is not written by then is closed by another server's reaper.
        """
        for task in self._tasks:
            task.cancel()
        for connection_id in list(self._live):
            self.closed(connection_id, RESTARTING)
        try:
            async with asyncio.timeout(deadline):
                if self._tasks:
                    await asyncio.wait(self._tasks)
                await asyncio.gather(*(keeper.finish() for keeper in self._keepers))
        except TimeoutError:
            logger.warning("the registry stopped with %d connections unwritten; their lease will run out", self.pending)
        finally:
            self._tasks = []
            for keeper in self._keepers:
                keeper.close()
            self._presence.give_up()

    async def _look_around(self) -> None:
        """Ask again and again whether a server of this machine has ended, until cancelled."""
        while True:
            await asyncio.sleep(self._look_seconds)
            for keeper in self._keepers:
                keeper.look_around()

"""Settling: a calm in which everything must come right; what does not is written down. Called by run after rounds."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator, Sequence

from tests.faults.member import Member
from tests.faults.producer import Producer
from tests.faults.recorder import Recorder
from tests.faults.world import World
from tests.waiting import eventually

BUSY_SECONDS = 40.0  # what laden cores may add to anything; reached by a run that fails


class Settling:
    """Waits for a calm to be one.

    Args:
        world: the processes.
        members: the clients.
        producer: who is silent meanwhile.
        recorder: where it writes what does not come right in time.
    """

    def __init__(self, world: World, members: Sequence[Member], producer: Producer, recorder: Recorder) -> None:
        self._world, self._members, self._producer, self._recorder = world, members, producer, recorder

    async def settle(self) -> None:
        """Wait until the queues are empty and every member has seen all that there is."""

        heads: dict[str, tuple[str, int, str]] = {}

        async def all_there() -> bool:
            # Each time anew: what a member has sent may have been on its way for as long as a link was slow.
            await self._world.tap.look()
            heads.update(self._world.tap.heads)
            return all(member.position and member.position[:2] == heads[member.key][:2] for member in self._members)

        times = self._world.times
        # What a killed relay held comes back, once more if a fault met that; a client gives up after two pings.
        queue_seconds, head_seconds = 2 * times.visibility + BUSY_SECONDS, 2 * times.ping + BUSY_SECONDS
        await self._producer.pause()
        self._world.write_deaths()
        with self.or_unsettled():
            await eventually(self._queues_are_empty, queue_seconds, "the queues are empty")
            await eventually(lambda: all(m.is_open for m in self._members), head_seconds, "all are connected")
            await eventually(all_there, head_seconds, "all members are at their rooms' heads")
            clients, unix = [member.name for member in self._members], round(time.time(), 2)
            self._recorder.write("settled", heads=heads, clients=clients, unix=unix)

    async def _queues_are_empty(self) -> bool:
        return await asyncio.to_thread(self._world.unfinished) == 0

    @contextlib.contextmanager
    def or_unsettled(self) -> Iterator[None]:
        """Write down an error as what did not come right."""
        try:
            yield
        except Exception as error:
            self._recorder.write("unsettled", what=f"{type(error).__name__}: {error}"[:2000])

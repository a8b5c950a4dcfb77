"""Talk: the process that publishes, paced by the clock and not by the answers. Told what to do by run; uses senders.

python -m bench.talk <control socket>
"""

from __future__ import annotations

import asyncio
import gc
import sys
import time
from typing import Any

import uvloop

from bench import marks
from bench.helper import Commands, obey
from bench.senders import SENDERS, Sender, SqsSender

BATCH = 10  # as many as one receive of SQS gives a relay


class Talker:
    """Publishes to one contestant."""

    def __init__(self) -> None:
        self._sender: Sender | None = None

    async def open(self, command: dict[str, Any]) -> dict[str, Any]:
        """Connect to a contestant."""
        self._sender = SENDERS[command["kind"]](command["settings"])
        await self._sender.open()
        return {}

    async def burst(self, command: dict[str, Any]) -> dict[str, Any]:
        """Publish to each room the messages from ``first`` on, round by round, at ``rate`` messages a second in all.

        What has fallen due goes as one batch of at most ten; who answers slowly is not spared.
        """
        assert self._sender is not None  # noqa: S101  opened
        rooms, first, rate, size = command["rooms"], command["first"], command["rate"], command["size"]
        total = len(rooms) * command["count"]
        sent, batches = 0, 0
        gc.freeze()
        began = time.monotonic_ns()
        while sent < total:
            due = min(total, int((time.monotonic_ns() - began) / 1e9 * rate) + 1)
            while sent < due:
                end = min(due, sent + BATCH)
                batch = []
                for at in range(sent, end):
                    number = first + at // len(rooms)
                    batch.append((rooms[at % len(rooms)], marks.write(number, time.monotonic_ns(), size)))
                await self._sender.send(batch)
                sent, batches = end, batches + 1
            await asyncio.sleep(max(0.0, sent / rate - (time.monotonic_ns() - began) / 1e9))
        ended = time.monotonic_ns()
        return {"first_ns": began, "last_ns": ended, "sent": sent, "batches": batches}

    async def scatter(self, command: dict[str, Any]) -> dict[str, Any]:
        """Call SendMessage ``rate`` times a second, whatever becomes of earlier calls; rooms in turn, numbers unique.

        Returns:
            For each number the times at which its call began and returned.
        """
        assert isinstance(self._sender, SqsSender)  # noqa: S101
        sender, rooms, rate = self._sender, command["rooms"], command["rate"]
        calls: list[tuple[int, int, int]] = []

        async def one(number: int) -> None:
            room = rooms[number % len(rooms)]
            began = time.monotonic_ns()
            await sender.send([(room, marks.write(number, began, command["size"]))])
            calls.append((number, began, time.monotonic_ns()))

        began = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for at in range(command["count"]):
                await asyncio.sleep(max(0.0, at / rate - (time.monotonic() - began)))
                group.create_task(one(command["first"] + at))
        return {"calls": calls}

    async def fill(self, command: dict[str, Any]) -> dict[str, Any]:
        """Put messages on the queue as fast as it takes them; rooms in turn, numbers unique."""
        assert isinstance(self._sender, SqsSender)  # noqa: S101
        rooms, now = command["rooms"], time.monotonic_ns()
        numbers = range(1, command["count"] + 1)
        await self._sender.fill([(rooms[at % len(rooms)], marks.write(at, now, command["size"])) for at in numbers])
        return {}

    async def close(self, command: dict[str, Any]) -> dict[str, Any]:
        """Disconnect."""
        if self._sender is not None:
            await self._sender.aclose()
            self._sender = None
        return {}


def main() -> None:
    """Obey until the conductor goes."""
    talker = Talker()
    commands: Commands = {
        "open": talker.open,
        "burst": talker.burst,
        "scatter": talker.scatter,
        "fill": talker.fill,
        "close": talker.close,
    }
    uvloop.run(obey(sys.argv[1], commands))


if __name__ == "__main__":
    main()

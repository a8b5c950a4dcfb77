"""Crowd: the members of a large room, in a process that gives way to what is measured. Run by test_fairness.

`python -m tests.load.crowd PORT STAGE TOKEN COUNT` writes a line when all are connected, one for each entry that all
have heard, and one that says how connections ended, when its input ends.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from contextlib import aclosing

import uvloop

from tests.load.swarm import Client, Swarm, raise_open_files
from tests.waiting import eventually

OPEN_SECONDS = 100.0
OPEN, HEARD = "open", "heard"


async def main(port: int, stage: str, token: str, count: int) -> None:
    """Be a crowd until the input ends."""
    heard = 0

    def hear(_: bytes) -> None:
        nonlocal heard
        heard += 1
        if heard % count == 0:
            say(HEARD)

    async with aclosing(Swarm(port, stage)) as swarm:
        clients = [Client(swarm, "", "", token, on_entry=hear) for _ in range(count)]
        for client in clients:
            client.start()
        await eventually(lambda: all(client.is_open for client in clients), OPEN_SECONDS, "all are connected")
        came = dict(swarm.ends)  # while so many come at once, some are sent away
        say(OPEN)
        await asyncio.to_thread(sys.stdin.read)
        say(json.dumps({str(code): number - came.get(code, 0) for code, number in swarm.ends.items()}))


def say(line: str) -> None:
    """Write a line that is read now."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    os.nice(19)
    raise_open_files()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(int(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])))

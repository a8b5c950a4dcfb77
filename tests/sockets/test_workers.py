"""Who watches the workers hears of a death at once, also of one that comes in the middle of a question."""

from __future__ import annotations

import os
import time
from socket import socket

import uvicorn

from notifications.management.commands.serve import WORKER_SECONDS
from notifications.sockets.workers import Worker


class Dying(Worker):
    """Dies when it is asked."""

    def target(self, sockets: list[socket] | None = None) -> None:
        self.child_conn.recv()
        os._exit(1)


def test_a_worker_that_dies_while_it_is_asked_is_not_waited_for() -> None:
    worker = Dying(uvicorn.Config("nothing:at_all"), [])
    worker.start()
    begun = time.monotonic()
    assert not worker.is_alive(WORKER_SECONDS)
    assert time.monotonic() - begun < WORKER_SECONDS / 2
    worker.join()
    assert worker.exitcode == 1
    worker.kill()

"""Who watches the workers hears of a death at once, amid a question too, and waits for no worker without end."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from socket import socket

import pytest
import uvicorn
from uvicorn.supervisors.multiprocess import SIGNALS

from notifications.management.commands.serve import WORKER_SECONDS
from notifications.sockets import workers
from notifications.sockets.tcp import listening_socket
from notifications.sockets.workers import Supervisor, Worker


class Dying(Worker):
    """Dies when it is asked."""

    def target(self, sockets: list[socket] | None = None) -> None:
        self.child_conn.recv()
        os._exit(1)


class Deaf(Worker):
    """Does not end when it is told to."""

    def target(self, sockets: list[socket] | None = None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        self.child_conn.recv()
        self.child_conn.send(True)
        time.sleep(30)


@pytest.fixture
def supervisor() -> Iterator[Supervisor]:
    """A supervisor that has started nothing yet."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    made = Supervisor(uvicorn.Config("nothing:at_all", timeout_graceful_shutdown=0), listening_socket("127.0.0.1", 0))
    yield made
    for listener in made.sockets:
        listener.close()
    for number, handler in before.items():
        signal.signal(number, handler)


def test_a_worker_that_hangs_does_not_hold_a_rolling_restart_up(
    supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "LATE_SECONDS", 0)
    worker = Deaf(supervisor.config, [])
    worker.start()
    assert worker.is_ready(WORKER_SECONDS)
    supervisor._see_off(worker)
    assert worker.exitcode == -signal.SIGKILL


def test_a_worker_that_dies_while_it_is_asked_is_not_waited_for() -> None:
    worker = Dying(uvicorn.Config("nothing:at_all"), [])
    worker.start()
    begun = time.monotonic()
    assert not worker.is_alive(WORKER_SECONDS)
    assert time.monotonic() - begun < WORKER_SECONDS / 2
    worker.join()
    assert worker.exitcode == 1
    worker.kill()

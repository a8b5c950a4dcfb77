"""Who watches the workers hears of a death at once, amid a question too, and waits for no worker without end."""

from __future__ import annotations

import math
import os
import signal
import threading
import time
from collections.abc import Iterator
from socket import create_connection, socket
from typing import Any

import pytest
import uvicorn
from uvicorn.supervisors.multiprocess import SIGNALS

from notifications.management.commands.serve import WORKER_SECONDS
from notifications.sockets import workers
from notifications.sockets.tcp import listening_socket
from notifications.sockets.workers import Supervisor, Worker
from tests.waiting import wait_until


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


class Stuck(Worker):
    """Its event loop hangs from the beginning."""

    def target(self, sockets: list[socket] | None = None) -> None:
        self._turn_at = -math.inf
        self.server.started = True
        self.always_pong()


async def slow(scope: Any, receive: Any, send: Any) -> None:
    """An application that blocks its event loop for longer than one may."""
    time.sleep(workers.HANGS_SECONDS + 3)  # noqa: ASYNC251  that is what is tested


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


def test_a_worker_that_hangs_does_not_hold_a_stop_up(supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "LATE_SECONDS", 0)
    supervisor.processes = [Deaf(supervisor.config, []) for _ in range(2)]
    for worker in supervisor.processes:
        worker.start()
        assert worker.is_ready(WORKER_SECONDS)
    supervisor.terminate_all()
    supervisor.join_all()
    assert [worker.exitcode for worker in supervisor.processes] == [-signal.SIGKILL] * 2


def test_a_stop_does_not_wait_for_who_is_being_replaced(supervisor: Supervisor) -> None:
    """All of them get their time to end at once; else the last ones would be killed with their connections."""
    worker = Deaf(supervisor.config, [])
    worker.start()
    assert worker.is_ready(WORKER_SECONDS)
    supervisor.should_exit.set()
    begun = time.monotonic()
    supervisor._see_off(worker)
    assert time.monotonic() - begun < workers.LATE_SECONDS / 2
    assert supervisor.processes == [worker]
    worker.kill()
    worker.join()


def test_a_stop_does_not_wait_for_who_is_asked_and_does_not_answer(supervisor: Supervisor) -> None:
    worker = Stuck(supervisor.config, [])
    worker.start()
    signals = supervisor.signal_queue
    threading.Timer(0.5, signals.append, [signal.SIGTERM]).start()
    begun = time.monotonic()
    supervisor.processes = [worker]
    supervisor.keep_subprocess_alive()
    assert time.monotonic() - begun < supervisor.config.timeout_worker_healthcheck / 2
    worker.kill()
    worker.join()


def test_a_worker_whose_event_loop_hangs_does_not_answer_before_it_turns_again() -> None:
    config = uvicorn.Config("tests.sockets.test_workers:slow", lifespan="off", log_config=None, timeout_keep_alive=1)
    listener = listening_socket("127.0.0.1", 0)
    worker = Worker(config, [listener])
    worker.start()
    try:
        wait_until(lambda: worker.is_ready(1), WORKER_SECONDS, "it is up")
        with create_connection(listener.getsockname()) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            wait_until(lambda: worker._healthcheck(1) is None, 20, "it hangs")
            wait_until(lambda: worker.hear(1), 20, "it turns again, and answers")
    finally:
        worker.kill()
        worker.join()
        listener.close()


def test_who_hangs_is_killed_and_replaced(supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch) -> None:
    supervisor.config.timeout_worker_healthcheck = 1
    stuck, successor = Stuck(supervisor.config, []), Deaf(supervisor.config, [])
    monkeypatch.setattr(supervisor, "_started", lambda sockets: successor)
    stuck.start()
    supervisor.processes = [stuck]
    supervisor.keep_subprocess_alive()
    assert supervisor.processes == [successor]
    assert stuck.exitcode == -signal.SIGKILL


def test_a_worker_that_dies_while_it_is_asked_is_not_waited_for() -> None:
    worker = Dying(uvicorn.Config("nothing:at_all"), [])
    worker.start()
    begun = time.monotonic()
    assert not worker.is_alive(WORKER_SECONDS)
    assert time.monotonic() - begun < WORKER_SECONDS / 2
    worker.join()
    assert worker.exitcode == 1
    worker.kill()

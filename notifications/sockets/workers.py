"""Workers: the processes of `manage.py serve --workers`, started, watched and replaced by uvicorn. Run by serve."""

from __future__ import annotations

import pickle
import signal
import socket
import threading
from collections.abc import Collection
from multiprocessing.connection import wait

import uvicorn
from uvicorn.supervisors import multiprocess


class Worker(multiprocess.Process):
    """A worker whose death ends a question to it.

    uvicorn waits for the answer of one that has died while it was asked as long as for one that hangs, and nobody takes
    its place meanwhile.
    """

    def _healthcheck(self, timeout: float) -> bool | None:
        try:
            self.parent_conn.send(b"ping")
            wait([self.parent_conn, self.process.sentinel], timeout)
            started: bool | None = self.parent_conn.recv() if self.parent_conn.poll() else None
        except (OSError, EOFError, pickle.UnpicklingError):
            return None
        return started


class Ending(threading.Event):
    """That the server is to end: set as soon as somebody has asked for it.

    uvicorn looks at a signal when it has done with the one before, and a rolling restart may take a minute: whoever
    stops the server meanwhile would lose patience and kill it. Between two steps of a restart it asks this.

    Args:
        signals: those that have come and were not looked at yet.
    """

    def __init__(self, signals: Collection[int]) -> None:
        super().__init__()
        self._signals = signals

    def is_set(self) -> bool:
        """Return whether it is to end."""
        return super().is_set() or signal.SIGTERM in self._signals or signal.SIGINT in self._signals


def supervise(config: uvicorn.Config, listeners: list[socket.socket]) -> None:
    """Run the workers until a signal.

    Args:
        config: with how many there are.
        listeners: bound, shared by all of them.
    """
    # Its supervisor knows no other way.
    multiprocess.Process = Worker  # type: ignore[misc]
    supervisor = multiprocess.Multiprocess(config, sockets=listeners)
    supervisor.should_exit = Ending(supervisor.signal_queue)
    supervisor.run()

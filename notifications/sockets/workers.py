"""Workers: the processes of `manage.py serve --workers`, started, watched and replaced by uvicorn. Run by serve."""

from __future__ import annotations

import pickle
import socket
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


def supervise(config: uvicorn.Config, listeners: list[socket.socket]) -> None:
    """Run the workers until a signal.

    Args:
        config: with how many there are.
        listeners: bound, shared by all of them.
    """
    # Its supervisor knows no other way.
    multiprocess.Process = Worker  # type: ignore[misc]
    multiprocess.Multiprocess(config, sockets=listeners).run()

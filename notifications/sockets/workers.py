"""Workers: the processes of `manage.py serve --workers`, each with a listening socket of tcp. Run by serve.

The kernel shares connections out to the sockets that listen on a port, and not to processes: what waits in a socket's
queue is accepted by whoever has that socket, and is reset if nobody has it any more. So the first process keeps all of
them, and a worker that is replaced leaves its socket to its successor.
"""

from __future__ import annotations

import logging
import pickle
import signal
import socket
import threading
import time
from collections.abc import Collection
from multiprocessing.connection import wait

import uvicorn
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import multiprocess

from notifications.sockets import tcp

LOOK_SECONDS = 0.5  # between two looks at who has ended, also amid a rolling restart
LATE_SECONDS = 20  # beyond the connections' time: the registry has 8 s then to write, the metrics 5

logger = logging.getLogger("uvicorn.error")


class Worker(multiprocess.Process):
    """A worker whose death ends a question to it.

    uvicorn waits for the answer of one that has died while it was asked as long as for one that hangs, and nobody takes
    its place meanwhile.

    Args:
        config: of the server.
        sockets: on which it listens; its successor does, too.
    """

    def __init__(self, config: uvicorn.Config, sockets: list[socket.socket]) -> None:
        self.sockets = sockets
        super().__init__(config, sockets)

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


class Supervisor(multiprocess.Multiprocess):
    """The first process: starts the workers, watches and replaces them, each on the socket of the one before.

    uvicorn's own gives all workers one socket, waits without end for one that is to go and hangs, and looks at nobody
    else during a rolling restart.

    Args:
        config: with how many workers there are.
        listener: on which the first worker listens; the others listen beside it.
    """

    processes: list[Worker]  # type: ignore[assignment]

    def __init__(self, config: uvicorn.Config, listener: socket.socket) -> None:
        tcp.open_to_others(listener)
        super().__init__(config, sockets=tcp.accepting(listener))
        self._listener = listener
        self.should_exit = Ending(self.signal_queue)

    def init_processes(self) -> None:
        """Start as many as there are to be."""
        # All sockets before the first worker accepts: with each that is added, the kernel shares out anew.
        places = [self.sockets, *(self._one_more() for _ in range(self.processes_num - 1))]
        self.processes += [self._started(sockets) for sockets in places]

    def _one_more(self) -> list[socket.socket]:
        return tcp.accepting(tcp.listening_beside(self._listener))

    def _started(self, sockets: list[socket.socket]) -> Worker:
        worker = Worker(self.config, sockets)
        worker.start()
        return worker

    def terminate_all(self) -> None:
        """Have all of them end; who connects from now on is refused, and does not wait for what does not come."""
        for worker in self.processes:
            _close(worker.sockets)
        super().terminate_all()

    def keep_subprocess_alive(self) -> None:
        """Replace who has ended, and who does not answer."""
        self._replace_ended()
        for worker in list(self.processes):
            if self.should_exit.is_set():
                return
            if worker.process.is_alive() and not worker.ping(self.config.timeout_worker_healthcheck):
                worker.kill()
                worker.join()
                self._replace_ended()

    def _replace_ended(self, but: Worker | None = None) -> None:
        for at, worker in enumerate(self.processes):
            if self.should_exit.is_set():
                return
            if worker is but or worker.process.is_alive():
                continue
            worker.kill()  # lets go of what is left of it
            worker.join()
            if worker.exitcode == STARTUP_FAILURE:  # so would its successors
                logger.error("Worker %s could not start; the server stops.", worker.pid)
                self.should_exit.set()
                return
            logger.warning(
                "Worker %s has died (exit code %s); another one takes its place.", worker.pid, worker.exitcode
            )
            self.processes[at] = self._started(worker.sockets)

    # ── Signals ──────────────────────────────────────────────────────────────────────────────────────────────────────
    def restart_all(self) -> None:
        """SIGHUP: one worker after the other gets a successor, and goes when that accepts connections."""
        for at, old in enumerate(self.processes):
            if self.should_exit.is_set():
                return
            new = self._started(old.sockets)
            if not self._is_up(new, old):
                new.kill()
                new.join()
                if not self.should_exit.is_set():
                    logger.error("Worker %s was not ready in time; the rolling restart ends here.", new.pid)
                return
            self.processes[at] = new
            self._see_off(old)

    def _is_up(self, new: Worker, old: Worker) -> bool:
        deadline = time.monotonic() + self.config.timeout_worker_healthcheck
        while not new.wait_until_ready(LOOK_SECONDS, self.should_exit):
            if self.should_exit.is_set() or not new.process.is_alive() or time.monotonic() > deadline:
                return False
            self._replace_ended(old)
        return True

    def _see_off(self, worker: Worker) -> None:
        worker.terminate()
        deadline = time.monotonic() + (self.config.timeout_graceful_shutdown or 0) + LATE_SECONDS
        while worker.process.is_alive():
            wait([worker.process.sentinel], LOOK_SECONDS)
            self._replace_ended()
            if time.monotonic() > deadline:
                logger.error("Worker %s did not end in time, and is killed.", worker.pid)
                worker.process.kill()
        worker.join()

    def handle_ttin(self) -> None:
        """SIGTTIN: one worker more, on a socket of its own."""
        try:
            sockets = self._one_more()
        except OSError as error:
            logger.error("There is no socket for one more worker: %s.", error.strerror)
            return
        self.processes_num += 1
        self.processes.append(self._started(sockets))

    def handle_ttou(self) -> None:
        """SIGTTOU: one less, unless it is the last. What waits in its socket's queue at that moment is reset."""
        if len(self.processes) > 1:
            self.processes_num -= 1
            worker = self.processes.pop()
            _close(worker.sockets)  # the worker accepts until it closes its own
            self._see_off(worker)


def _close(sockets: list[socket.socket]) -> None:
    for listener in sockets:
        listener.close()

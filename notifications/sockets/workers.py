"""Workers: the processes of `manage.py serve --workers`, each with a listening socket of tcp. Run by serve.

The kernel shares connections out to the sockets that listen on a port, and not to processes: what waits in a socket's
queue is accepted by whoever has that socket, and is reset if nobody has it any more. So the first process keeps all of
them, and a worker that is replaced leaves its socket to its successor.
"""

from __future__ import annotations

import contextlib
import logging
import math
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

LOOK_SECONDS = 0.5  # between two looks at who has ended, also while one is asked, starts or goes
HANGS_SECONDS = 5  # without a turn of its event loop, which has one a second: then a worker does not answer
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

    def target(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve; in the worker's own process."""
        self._turn_at = time.monotonic()
        self._server = uvicorn.Server(self.config)  # before a thread of uvicorn's asks for it, and makes another one
        # Called once a second. uvicorn compares wall clocks for it, and one that was set back would silence it.
        self.config.callback_notify, self.config.timeout_notify = self._turn, -math.inf  # type: ignore[assignment]
        super().target(sockets)

    async def _turn(self) -> None:
        self._turn_at = time.monotonic()

    def pong(self) -> None:
        """Answer a question, which a thread of its own waits for: not while the event loop hangs."""
        self.child_conn.recv()
        server = self.server
        while server.started and not server.should_exit and time.monotonic() - self._turn_at > HANGS_SECONDS:
            time.sleep(LOOK_SECONDS)
        self.child_conn.send(server.started)

    def ask(self) -> None:
        """Ask whether it has started."""
        with contextlib.suppress(OSError):  # it has ended: `hear` says nothing then
            self.parent_conn.send(b"ping")

    def hear(self, seconds: float) -> bool | None:
        """Wait for what it answers, no longer than it lives.

        Returns:
            Whether it has started; ``None`` where it has not answered yet, or has ended.
        """
        try:
            wait([self.parent_conn, self.process.sentinel], seconds)
            started: bool | None = self.parent_conn.recv() if self.parent_conn.poll() else None
        except (OSError, EOFError, pickle.UnpicklingError):
            return None
        return started

    def _healthcheck(self, timeout: float) -> bool | None:
        self.ask()
        return self.hear(timeout)


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
    else while it waits for one.

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
        self.has_failed = False  # a worker could not start

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

    def join_all(self) -> None:
        """Wait for all of them, and for none without end."""
        deadline = self._lateness()
        for worker in self.processes:
            worker.process.join(max(0.0, deadline - time.monotonic()))
            self._kill_late(worker)

    def _lateness(self) -> float:
        return time.monotonic() + (self.config.timeout_graceful_shutdown or 0) + LATE_SECONDS

    def _kill_late(self, worker: Worker) -> None:
        if worker.process.is_alive():
            logger.error("Worker %s did not end in time, and is killed.", worker.pid)
            worker.process.kill()
        worker.join()

    def keep_subprocess_alive(self) -> None:
        """Replace who has ended, and who does not answer."""
        self._replace_ended()
        for worker in list(self.processes):
            if self.should_exit.is_set():
                return
            if worker.process.is_alive() and not self._answers(worker):
                logger.error("Worker %s hangs, and is killed.", worker.pid)
                worker.kill()
                worker.join()
                self._replace_ended()

    def _answers(self, worker: Worker) -> bool:
        """Ask a worker; who ends meanwhile, or this server with all of them, is not waited for."""
        worker.ask()
        deadline = time.monotonic() + self.config.timeout_worker_healthcheck
        while worker.hear(LOOK_SECONDS) is None:
            if self.should_exit.is_set() or not worker.process.is_alive():
                return True
            if time.monotonic() > deadline:
                return False
            self._replace_ended()
        return True

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
                self.has_failed = True
                self.should_exit.set()
                return
            logger.warning(
                "Worker %s has died (exit code %s); another one takes its place.", worker.pid, worker.exitcode
            )
            try:
                self.processes[at] = self._started(worker.sockets)
            except OSError as error:  # tried again at the next look
                logger.error("Worker %s has no successor yet: %s.", worker.pid, error.strerror)

    # ── Signals ──────────────────────────────────────────────────────────────────────────────────────────────────────
    def restart_all(self) -> None:
        """SIGHUP: one worker after the other gets a successor, and goes when that accepts connections."""
        for at in range(len(self.processes)):
            old = self.processes[at]  # now: it may have taken the place of one that has died since
            if self.should_exit.is_set():
                return
            try:
                new = self._started(old.sockets)
            except OSError as error:
                logger.error("Worker %s gets no successor: %s; the rolling restart ends here.", old.pid, error.strerror)
                return
            if not self._is_up(new, old):
                if self.should_exit.is_set():
                    self.processes.append(new)  # it may have members by now, and ends as the others do
                    return
                new.kill()
                new.join()
                logger.error("Worker %s was not ready in time; the rolling restart ends here.", new.pid)
                return
            self.processes[at] = new
            self._see_off(old)

    def _is_up(self, new: Worker, old: Worker) -> bool:
        deadline = time.monotonic() + self.config.timeout_worker_healthcheck
        new.ask()
        while not (has_started := new.hear(LOOK_SECONDS)):
            if self.should_exit.is_set() or not new.process.is_alive() or time.monotonic() > deadline:
                return False
            self._replace_ended(old)
            if has_started is False:
                wait([new.process.sentinel], LOOK_SECONDS / 5)
                new.ask()
        return True

    def _see_off(self, worker: Worker) -> None:
        worker.terminate()
        deadline = self._lateness()
        while worker.process.is_alive() and time.monotonic() < deadline:
            wait([worker.process.sentinel], LOOK_SECONDS)
            if self.should_exit.is_set():
                self.processes.append(worker)  # it ends as the others do
                return
            self._replace_ended()
        self._kill_late(worker)

    def handle_ttin(self) -> None:
        """SIGTTIN: one worker more, on a socket of its own."""
        try:
            self.processes.append(self._started(self._one_more()))
        except OSError as error:
            logger.error("There is no place for one more worker: %s.", error.strerror)
            return
        self.processes_num += 1

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

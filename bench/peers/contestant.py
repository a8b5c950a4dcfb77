"""Contestant: what the scenes ask of a server. The other modules of this folder are one each; they stand on ground."""

from __future__ import annotations

import socket
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.dialects import Member
from bench.ground import HOST, Ground
from bench.machine import on_server_core
from hermes_site.children import ChildError, ChildProcess
from hermes_site.engines import free_port

if TYPE_CHECKING:
    from bench.plans import Plan
    from bench.scenes.crew import Crew

START_SECONDS = 30.0
STOP_SECONDS = 15.0
CALM_SECONDS = 0.5
FRAME_BYTES = 240
FOLDER = Path(__file__).resolve().parent


class Contestant(ABC):
    """One server, started anew for each run.

    Args:
        ground: what it stands on.
    """

    name: str  # on the command line
    title: str  # in tables
    what: str  # a sentence for the report: what it is here, and what it does not do
    dialect: str
    entrance: str  # the sender's name
    frame_overhead = 0  # bytes of a frame that are not the payload
    is_slow = False  # it would need a quarter of an hour for what the others do in seconds, and is offered less
    resumes = False  # a client that comes back gets what it has missed

    def __init__(self, ground: Ground) -> None:
        self.ground = ground
        self.port = free_port()
        self.processes: list[ChildProcess] = []

    def obstacle(self) -> str:
        """Return why it cannot run here; empty where it can."""
        return ""

    @abstractmethod
    def version(self) -> str:
        """Return what it is, with versions."""

    @abstractmethod
    def commands(self) -> dict[str, Sequence[str]]:
        """Return the processes that serve, by name, each a command line."""

    def environment(self) -> dict[str, str]:
        """Return the environment of its processes."""
        return self.ground.environment()

    @property
    def sender(self) -> dict[str, Any]:
        """What the sender must know."""
        return {"redis": self.ground.valkey.url, "port": self.port}

    @property
    def size(self) -> int:
        """How large a payload is, so that a frame of the usual room has `FRAME_BYTES`."""
        return FRAME_BYTES - self.frame_overhead

    def prepare(self) -> None:
        """Do what need be done once before its first start; for most that is nothing."""
        return

    def start(self, **extra: Sequence[str]) -> None:
        """Start it on the server's core, and wait until it answers.

        Args:
            extra: further processes that are part of it, by name, each a command line.
        """
        for name, command in {**self.commands(), **extra}.items():
            self.start_process(name, command)
        self.processes[0].wait_until_ready(self.answers, START_SECONDS)

    def start_process(self, name: str, command: Sequence[str]) -> ChildProcess:
        """Start one process on the server's core."""
        log = self.ground.log(f"{self.name}-{name}")
        process = ChildProcess(name, on_server_core(command), environment=self.environment(), log=log)
        self.processes.append(process.start())
        return process

    def answers(self) -> bool:
        """Return whether it accepts connections."""
        try:
            with socket.create_connection((HOST, self.port), timeout=1.0):
                return True
        except OSError:
            return False

    def stop(self) -> None:
        """Stop it, and look whether it had stayed alive until then."""
        died = [process for process in self.processes if not process.running]
        for process in reversed(self.processes):
            process.stop(STOP_SECONDS)
        self.processes.clear()
        if died:
            raise ChildError(f"{died[0].name} had ended. Its log ends:\n{died[0].log_tail()}")

    def restart(self) -> None:
        """Replace it by a new process; what it keeps outside of itself stays."""
        self.stop()
        self.start()

    @property
    def pids(self) -> list[int]:
        """What is measured; what they start is, too."""
        return [process.pid for process in self.processes if process.running]

    def members(self, seats: Sequence[tuple[str, str]]) -> list[Member]:
        """Return members with what they need to be let in.

        Args:
            seats: pairs of user and room.
        """
        return [Member(user, room, "-") for user, room in seats]

    def calm(self) -> None:
        """Wait until nothing is left to do of what has happened so far."""
        time.sleep(CALM_SECONDS)


class Consumer(Contestant):
    """One that takes messages from SQS itself."""

    shape: str  # of the messages; senders knows them

    @property
    @abstractmethod
    def queue(self) -> str:
        """The queue's URL."""

    @property
    def sqs(self) -> dict[str, Any]:
        """What the sender must know."""
        return {"endpoint": self.ground.aws.url, "queue": self.queue, "shape": self.shape}

    @abstractmethod
    def start_relay(self) -> None:
        """Start only the process that takes messages; do not wait."""

    @abstractmethod
    def start_consuming(self) -> None:
        """Start everything that is needed from the queue to the sockets."""

    @abstractmethod
    def kept(self, crew: Crew, plan: Plan) -> tuple[int, int]:
        """Return how many of a plan's messages are in the histories, and how many different ones."""

"""Crew: who works in a run beside the server: load and talk, a file of members, a meter. Used by every scene."""

from __future__ import annotations

import tempfile
import time
from types import TracebackType
from typing import Any, Self

from bench.ground import Ground
from bench.helper import ROOT, Helper
from bench.machine import OTHER_CORE, SERVER_CORE, core_seconds, cpu_seconds
from bench.peers.contestant import Contestant
from bench.plans import Plan
from bench.results import Result

OPEN_SECONDS = 240.0
AT_ONCE = 100
FULL = 0.95  # of a core
STRANGE = 0.1  # of a core; a tenth of it is the kernel's own, for the network


class Crew:
    """The helpers of one run, started when it is entered.

    Args:
        ground: the engines.
        contestant: whose run it is; it is started by the scene, and stopped here.
    """

    def __init__(self, ground: Ground, contestant: Contestant) -> None:
        self.ground, self.contestant = ground, contestant
        environment = {**contestant.environment(), "PYTHONPATH": str(ROOT)}
        self.load = Helper("bench.load", environment, ground.log("load"))
        self.talk = Helper("bench.talk", environment, ground.log("talk"))

    def __enter__(self) -> Self:
        self.ground.flush()
        try:
            helpers = (self.load.start(), self.talk.start())
            for helper in helpers:
                helper.join()
        except BaseException:
            self.load.stop()
            self.talk.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.contestant.stop()
        finally:
            self.load.stop()
            self.talk.stop()

    def gather(self, plan: Plan, books: str = "ledger", sockets: int = 0) -> None:
        """Give load its members, spread evenly over the rooms, and let it open no socket yet."""
        members = self.contestant.members(seats(plan, sockets))
        with tempfile.NamedTemporaryFile("w", prefix="hermes-bench-", suffix=".members") as file:
            file.writelines(f"{member.user}\t{member.room}\t{member.token}\n" for member in members)
            file.flush()
            self.load.ask(
                "gather",
                30.0,
                members=file.name,
                dialect=self.contestant.dialect,
                port=self.contestant.port,
                books=books,
            )

    def open(self, plan: Plan, **arguments: Any) -> dict[str, Any]:
        """Open all sockets, some at a time unless it is said otherwise."""
        return self.load.ask("open", OPEN_SECONDS, **{"at_once": AT_ONCE, **arguments})

    def open_talk(self, kind: str = "", settings: dict[str, Any] | None = None) -> None:
        """Connect the publisher."""
        contestant = self.contestant
        self.talk.ask("open", 20.0, kind=kind or contestant.entrance, settings=settings or contestant.sender)

    def publish(self, plan: Plan, first: int, count: int, rate: float, deadline: float) -> dict[str, Any]:
        """Publish to every room of the plan, ``count`` messages each."""
        return self.talk.ask("burst", deadline, rooms=rooms(plan), first=first, count=count, rate=rate, size=self.size)

    @property
    def size(self) -> int:
        """Of a payload, so that a frame has its 240 bytes."""
        return self.contestant.size


def room_name(number: int) -> str:
    """Return the name of a room; all have the same length."""
    return f"room-{number:04d}"


def seats(plan: Plan, sockets: int = 0) -> list[tuple[str, str]]:
    """Return who sits where: user and room, spread evenly; as many as the plan has unless it is said otherwise."""
    return [(f"user-{at}", room_name(at % plan.rooms)) for at in range(sockets or plan.sockets)]


def rooms(plan: Plan) -> list[str]:
    """Return all rooms of a plan."""
    return [room_name(number) for number in range(plan.rooms)]


class Meter:
    """What a stretch of a run cost.

    Args:
        contestant: whose processes are measured.
        crew: whose load process is watched.
    """

    def __init__(self, contestant: Contestant, crew: Crew) -> None:
        self._contestant, self._crew = contestant, crew
        self._began = self._now()

    def _now(self) -> tuple[float, ...]:
        return (
            time.monotonic(),
            cpu_seconds(self._contestant.pids),
            cpu_seconds([self._crew.load.child.pid]),
            cpu_seconds([self._crew.ground.valkey.child.pid]),
            cpu_seconds([self._crew.ground.aws.child.pid]),
            *core_seconds(SERVER_CORE),
            *core_seconds(OTHER_CORE),
        )

    @property
    def cpu(self) -> float:
        """CPU seconds of the server since the beginning."""
        return cpu_seconds(self._contestant.pids) - self._began[1]

    def read(self, result: Result, prefix: str = "") -> float:
        """Note what the cores did; return the server's CPU seconds."""
        spent = (now - then for now, then in zip(self._now(), self._began, strict=True))
        wall, cpu, load, redis, aws, first, stolen, second, stolen_too = spent
        numbers = {
            "cpu_s": cpu,
            "wall_s": wall,
            "server_core": cpu / wall,
            "load_core": load / wall,
            "redis_s": redis,
            "aws_s": aws,
            "other_core": second / wall,
            "strangers": max(0.0, first - cpu) / wall,
            "stolen": (stolen + stolen_too) / wall,
        }
        result.numbers |= {prefix + name: value for name, value in numbers.items()}
        if second / wall > FULL:
            result.notes.append("load")  # the core that everything but the server shares was full
        if (first - cpu) / wall > STRANGE:
            result.notes.append("strangers")  # more than the server worked on its core
        if (stolen + stolen_too) / wall > STRANGE:
            result.notes.append("stolen")  # the host did not let this machine work
        result.notes = list(dict.fromkeys(result.notes))
        return cpu

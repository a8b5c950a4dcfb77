"""Results: what one run of one contestant gave, and the file that keeps all of them. Made by scenes, read by report.

Pure but for reading and writing that file.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from bench.figures import Spread, spread

MORE_IS_BETTER = frozenset({"per_s", "per_core_s"})  # of all other numbers less is
ENOUGH = 3  # runs; with fewer nothing is judged


def nothing(number: str) -> float:
    """Return what a wrong run counts as: the worst that this number can be."""
    return 0.0 if number in MORE_IS_BETTER else math.inf


@dataclass(slots=True)
class Result:
    """One run.

    Args:
        scenario, contestant, round: which.
        numbers: by name; the scenes' own modules say what they mean.
        spectrum: pairs of share and latency in milliseconds.
        points: pairs of sockets and bytes a socket.
        wrong: why the run counts as nothing; empty where it counts.
        notes: what a reader must know beside its numbers.
    """

    scenario: str
    contestant: str
    round: int = 0
    numbers: dict[str, float] = field(default_factory=dict)
    spectrum: list[tuple[float, float]] = field(default_factory=list)
    points: list[tuple[float, float]] = field(default_factory=list)
    wrong: str = ""
    notes: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Report:
    """All of a benchmark.

    Args:
        started: UTC, as text.
        seconds: that it took.
        command: that made it.
        machine: what it ran on.
        versions: of each contestant, and of the engines.
        titles, whats: of each contestant, for tables and text.
        settings: of each scenario.
        missing: why a contestant did not run, by its name.
        commands: that made each scenario's runs, where several files were read; else it is `command`.
        left_out: what there was no time for.
        results: all runs.
    """

    started: str
    command: str
    seconds: float = 0.0
    machine: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    titles: dict[str, str] = field(default_factory=dict)
    whats: dict[str, str] = field(default_factory=dict)
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    commands: dict[str, str] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    results: list[Result] = field(default_factory=list)

    def of(self, scenario: str, contestant: str) -> list[Result]:
        """Return a contestant's runs of a scenario."""
        return [result for result in self.results if (result.scenario, result.contestant) == (scenario, contestant)]

    def good(self, scenario: str, contestant: str) -> list[Result]:
        """Return those of its runs that count."""
        return [run for run in self.of(scenario, contestant) if not run.wrong]

    def spread(self, scenario: str, contestant: str, number: str) -> Spread | None:
        """Return median and spread of a number; None where no run gave it.

        A fast wrong answer counts as zero: in the median a wrong run has the worst value that there is, 0 where more
        is better and infinity where less is. Lowest, highest and the number of rounds are those of the good runs.
        """
        values = [run.numbers[number] for run in self.good(scenario, contestant) if number in run.numbers]
        if not values:
            return None
        wrong = [nothing(number) for run in self.of(scenario, contestant) if run.wrong]
        return replace(spread(values), median=spread([*values, *wrong]).median)

    def median(self, scenario: str, contestant: str, number: str) -> float | None:
        """Return the median of a number, wrong runs as in `spread`; None where no run gave it."""
        found = self.spread(scenario, contestant, number)
        return None if found is None else found.median

    def rounds(self) -> tuple[int, int]:
        """Return how many good runs the scenarios' contestants have: the fewest and the most of any two."""
        pairs = {(run.scenario, run.contestant) for run in self.results}
        counts = [len(self.good(*pair)) for pair in pairs]
        return min(counts, default=0), max(counts, default=0)

    def ran(self, scenarios: Iterable[str]) -> list[str]:
        """Return who took part in any of these scenarios, in the order of `titles`."""
        names = set(scenarios)
        return [
            name
            for name in self.titles
            if any(result.contestant == name and result.scenario in names for result in self.results)
        ]

    def write(self, path: Path) -> None:
        """Write all of it, whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_suffix(".part")
        draft.write_text(json.dumps(asdict(self), indent=1) + "\n")
        draft.replace(path)


def read(path: Path) -> Report:
    """Read a file that `Report.write` has written."""
    stored = json.loads(path.read_text())
    results = [Result(**result) for result in stored.pop("results")]
    return Report(**stored, results=results)


def read_all(paths: Sequence[Path]) -> Report:
    """Read files of one machine, each with scenarios of its own: who is compared was measured in one run.

    Raises:
        ValueError: a scenario is in two of them, or they were not measured on one machine.
    """
    whole, *others = (read(path) for path in paths)
    for each in (whole, *others):
        each.commands = dict.fromkeys(each.settings, each.command)
        # Who takes part in none of a file's scenarios is not missed there.
        part = {name for plan in each.settings.values() for name in plan["contestants"]}
        each.missing = {name: why for name, why in each.missing.items() if name in part}
    for other in others:
        if twice := whole.settings.keys() & other.settings.keys():
            raise ValueError(f"{min(twice)} is in two files: runs that were not interleaved are not compared.")
        if whole.machine != other.machine:
            raise ValueError("These files come from two machines.")
        whole.command += f"` and `{other.command}"
        whole.seconds += other.seconds
        whole.settings |= other.settings
        whole.titles |= other.titles
        whole.whats |= other.whats
        whole.versions = _both(whole.versions, other.versions)
        whole.commands |= other.commands
        whole.missing |= other.missing
        whole.left_out += other.left_out
        whole.results += other.results
    return whole


def _both(some: dict[str, str], others: dict[str, str]) -> dict[str, str]:
    """Return versions by name, all of them where two files have different ones."""
    joined = dict(some)
    for name, version in others.items():
        known = joined.get(name, version)
        joined[name] = known if version in known.split(" and ") else f"{known} and {version}"
    return joined

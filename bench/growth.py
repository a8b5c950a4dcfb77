"""Growth: whether anything costs more than its share when there is more of it. Used by goals and report. Pure.

A *sweep* is some plans that are alike but for one thing: sockets, rooms, or messages a second. They are found by their
names, which differ in a number at the end, and by their settings, so that a sweep that a plan adds is judged as well.

Of a sweep of sockets, with the same number of messages a second at every size, an entry costs ``a + n · b(n)``: what a
message costs by itself, and n deliveries. Were deliveries to grow dearer, then by so much for each tenfold:
``b(n) = b + c · log10(n / smallest)``. All three are fitted by least squares, each run weighted so that it counts by
its share of what its size costs.
"""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from bench.figures import Fit, fit
from bench.results import Report

THINGS = ("sockets", "rooms", "messages")
_NUMBERED = re.compile(r"(.+)-\d+")


@dataclass(frozen=True, slots=True)
class Sweep:
    """Plans that are alike but for one thing.

    Args:
        name: the plans', without the number.
        thing: of `THINGS`; of rooms that all have so many sockets it is the rooms.
        scenarios: by how much of it there is, ascending.
        obstacle: why nothing can be said of it; empty where something can.
    """

    name: str
    thing: str
    scenarios: tuple[tuple[float, str], ...]
    obstacle: str = ""

    @property
    def sizes(self) -> list[float]:
        """How much of it there is, ascending."""
        return [size for size, _ in self.scenarios]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with its interval of 95 % confidence.

    Args:
        value: the number.
        margin: half of the interval.
    """

    value: float
    margin: float

    @property
    def low(self) -> float:
        """The lower end."""
        return self.value - self.margin

    @property
    def high(self) -> float:
        """The upper end."""
        return self.value + self.margin


@dataclass(frozen=True, slots=True)
class Costs:
    """What an entry costs by the number of sockets.

    Args:
        message: a, what it costs by itself, µs.
        delivery: b, what each socket adds, µs, where it is the same at every size.
        first: a delivery at the smallest size, µs, where it may change.
        curve: c, by how much it changes for each tenfold, µs.
        change: from the smallest to the largest size, as a share of `first`.
        end: a delivery at the largest size, over one at a tenth of it, less 1: measured, a taken off; None where there
            is no such size.
        runs: how many it is from.
        strangest: by how much the fit misses the median of the size that it fits worst, as a share.
    """

    message: Estimate
    delivery: Estimate
    first: Estimate
    curve: Estimate
    change: Estimate
    end: float | None
    runs: int
    strangest: float


def sweeps(report: Report) -> list[Sweep]:
    """Return the report's sweeps, of three sizes at least, in the order of its settings."""
    names: dict[str, list[str]] = {}
    for scenario, settings in report.settings.items():
        found = _NUMBERED.fullmatch(scenario)
        if found and settings["scene"] == "fanout":
            names.setdefault(found[1], []).append(scenario)
    return [_sweep(report, name, scenarios) for name, scenarios in names.items() if len(scenarios) > 2]


def _sweep(report: Report, name: str, scenarios: Sequence[str]) -> Sweep:
    settings = [report.settings[scenario] for scenario in scenarios]
    sockets, rooms, rates = ([float(one[key]) for one in settings] for key in ("sockets", "rooms", "rate"))
    if len(set(rooms)) > 1:
        thing, sizes = "rooms", rooms
    elif len(set(sockets)) > 1:
        thing, sizes = "sockets", sockets
    else:
        thing, sizes = "messages", rates
    mixed = thing != "messages" and max(rates) > min(rates) * 1.001
    obstacle = f"messages a second were changed with {thing}" if mixed else ""
    return Sweep(name, thing, tuple(sorted(zip(sizes, scenarios, strict=True))), obstacle)


def entry_costs(report: Report, sweep: Sweep, contestant: str) -> list[tuple[float, float]]:
    """Return the size and the CPU of one entry, µs, of each run that counts."""
    return [
        (size, run.numbers["cpu_us"] * run.numbers["deliveries"] / run.numbers["messages"])
        for size, scenario in sweep.scenarios
        for run in report.good(scenario, contestant)
    ]


def _load(report: Report, sweep: Sweep, contestant: str) -> list[tuple[float, float]]:
    """Return the size and what a second of the plan's messages costs, as a share of a core, of each good run."""
    rates = {size: float(report.settings[scenario]["rate"]) for size, scenario in sweep.scenarios}
    return [(size, cost * rates[size] / 1e6) for size, cost in entry_costs(report, sweep, contestant)]


def costs(report: Report, sweep: Sweep, contestant: str) -> Costs | None:
    """Return what message and delivery cost, from a sweep of sockets; None where it is none, or has too few runs."""
    points = entry_costs(report, sweep, contestant)
    sizes = sorted({size for size, _ in points})
    if sweep.thing != "sockets" or sweep.obstacle or len(sizes) < 3 or len(points) < 6:
        return None
    by_size = {size: [cost for at, cost in points if at == size] for size in sizes}
    middle = {size: statistics.median(found) for size, found in by_size.items()}
    weights = [1 / middle[size] ** 2 for size, _ in points]
    smallest, largest = sizes[0], sizes[-1]
    ys = [cost for _, cost in points]
    straight = fit([(1.0, size) for size, _ in points], ys, weights)
    bent = fit([(1.0, size, size * math.log10(size / smallest)) for size, _ in points], ys, weights)
    message, delivery = (_of(straight, at) for at in range(2))
    first, curve = _of(bent, 1), _of(bent, 2)
    a, b, c = bent.values
    missed = (abs(middle[size] / (a + size * (b + c * math.log10(size / smallest))) - 1) for size in sizes)
    change = _change(bent, math.log10(largest / smallest))
    return Costs(message, delivery, first, curve, change, _end(middle, a), len(points), max(missed))


def _of(found: Fit, at: int) -> Estimate:
    return Estimate(found.values[at], found.margin(at))


def _change(bent: Fit, tenfolds: float) -> Estimate:
    """Return the change of a delivery's cost over so many tenfolds, as a share of what it is at the smallest size."""
    first, curve = bent.values[1], bent.values[2]
    if first <= 0:  # what a delivery costs at the smallest size is lost in what a message costs
        return Estimate(math.nan, math.inf)
    slopes = (0.0, -curve * tenfolds / first**2, tenfolds / first)  # by each of the three that were fitted
    return Estimate(curve * tenfolds / first, bent.margin_of(slopes))


def _end(middle: dict[float, float], message: float) -> float | None:
    largest = max(middle)
    tenth = next((size for size in middle if math.isclose(size * 10, largest)), None)
    if tenth is None:
        return None
    before, after = ((middle[size] - message) / size for size in (tenth, largest))
    return after / before - 1 if before > 0 else None


def exponents(report: Report, sweep: Sweep, contestant: str) -> tuple[Estimate, Estimate] | None:
    """Return with which power of its thing the server's CPU grows: over all of a sweep, and over its last step.

    1 is in proportion, less is less than that. The last step is looked at by itself because a bend at the end is lost
    in a line through all. None where there are too few runs.
    """
    points = [] if sweep.obstacle else _load(report, sweep, contestant)
    whole = _power(points)
    top = _power([(size, load) for size, load in points if size >= sweep.sizes[-2]])
    return None if whole is None or top is None else (whole, top)


def _power(points: Sequence[tuple[float, float]]) -> Estimate | None:
    if len(points) < 4 or len({size for size, _ in points}) < 2:
        return None
    found = fit(
        [(1.0, math.log(size)) for size, _ in points], [math.log(load) for _, load in points], [1.0] * len(points)
    )
    return _of(found, 1)

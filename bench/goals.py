"""Goals: what Hermes shall reach, and whether it did. Used by report. Pure.

Each goal is judged by the medians of the runs that counted. Where a number or a peer is missing, it is not judged.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from bench.figures import Line, line
from bench.plans import SIZES
from bench.results import Report
from bench.table import significant

_US = "hermes"
_DECADES = 2  # from 100 to 10,000 sockets
GROWTH_LIMIT = 0.15


@dataclass(frozen=True, slots=True)
class Against:
    """A goal against a peer: at least (or at most) so many times its number.

    Args:
        title: what is compared, with its unit.
        scenario, number: of the results.
        peer: a contestant.
        factor: of the peer's number.
        is_floor: more is better; else less is.
    """

    title: str
    scenario: str
    number: str
    peer: str
    factor: float
    is_floor: bool


@dataclass(frozen=True, slots=True)
class Bound:
    """A goal of its own: at least (or at most) this.

    Args:
        title, scenario, number, is_floor: as above.
        bound: in the results' own unit.
    """

    title: str
    scenario: str
    number: str
    bound: float
    is_floor: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a goal was judged.

    Args:
        title: what was judged.
        goal: what was asked for.
        found: what was measured.
        outcome: ``met``, ``missed by …`` or ``not judged: …``.
    """

    title: str
    goal: str
    found: str
    outcome: str


_PEERS = ("socketio", "nchan", "centrifugo")
GOALS: tuple[Against | Bound, ...] = (
    Against("saturated fan-out, deliveries/s", "fanout-saturated", "per_s", "socketio", 5, True),
    Against("saturated fan-out, deliveries/s", "fanout-saturated", "per_s", "nchan", 3, True),
    Against("saturated fan-out, deliveries/s", "fanout-saturated", "per_s", "channels-daphne", 60, True),
    Against("saturated fan-out, deliveries/s", "fanout-saturated", "per_s", "centrifugo", 2, True),
    Against("gentle fan-out, CPU per delivery, µs", "fanout-gentle", "cpu_us", "nchan", 1.1, False),
    Against("gentle fan-out, CPU per delivery, µs", "fanout-gentle", "cpu_us", "socketio", 0.75, False),
    Against("gentle fan-out, CPU per delivery, µs", "fanout-gentle", "cpu_us", "centrifugo", 1, False),
    *(Against("gentle fan-out, p99, ms", "fanout-gentle", "p99_ms", peer, 1, False) for peer in _PEERS),
    Against("many rooms, deliveries/s per core", "rooms", "per_core_s", "socketio", 1, True),
    Bound("storm, new process, CPU per socket, µs", "storm", "new_us", 600),
    Against("storm, new process, CPU per socket, µs", "storm", "new_us", "socketio", 2, False),
    Against("beyond: storm, new process, CPU per socket, µs", "storm", "new_us", "socketio", 1, False),
    Bound("storm, refused for good", "storm", "new_refused", 0),
    Bound("idle socket, resident memory, kB", "idle", "socket_kb", 20),
    Against("beyond: idle socket, resident memory, kB", "idle", "socket_kb", "socketio", 1, False),
    Bound("idle sockets, share of a core", "idle", "cpu_share", 0.03),
    Bound("relay, messages/s", "relay", "per_s", 3_000, is_floor=True),
    Bound("relay, CPU per message, µs", "relay", "cpu_us", 250),
    Against("relay, messages/s", "relay", "per_s", "centrifugo", 1, True),
    Bound("end to end, p50, ms", "end-to-end", "p50_ms", 10),
    Bound("end to end, p99, ms", "end-to-end", "p99_ms", 40),
    Against("end to end, p50, ms", "end-to-end", "p50_ms", "centrifugo", 1, False),
    Against("end to end, p99, ms", "end-to-end", "p99_ms", "centrifugo", 1, False),
)


def judge(report: Report) -> list[Verdict]:
    """Return a verdict on each goal, growth last."""
    return [*(_judge(report, goal) for goal in GOALS), judge_growth(report)]


def _judge(report: Report, goal: Against | Bound) -> Verdict:
    sign = "≥" if goal.is_floor else "≤"
    bound: float | None
    if isinstance(goal, Against):
        title = report.titles.get(goal.peer, goal.peer)
        asked = f"{sign} {title}" if goal.factor == 1 else f"{sign} {goal.factor:g} × {title}"
        theirs = report.median(goal.scenario, goal.peer, goal.number)
        bound = None if theirs is None else goal.factor * theirs
        missing = f"no number of {title}'s"
    else:
        asked, bound, missing = f"{sign} {goal.bound:,g}", goal.bound, ""
    ours = report.median(goal.scenario, _US, goal.number)
    if ours is None:
        wrong = any(run.wrong for run in report.of(goal.scenario, _US))
        return Verdict(goal.title, asked, "–", "missed: every run was wrong" if wrong else "not judged: it was not run")
    if bound is None:
        return Verdict(goal.title, asked, significant(ours), f"not judged: {missing}")
    found = significant(ours)
    if isinstance(goal, Against):
        found += f", {significant(ours / bound * goal.factor)} ×" if bound else ""
    return Verdict(goal.title, asked, found, outcome(ours, bound, is_floor=goal.is_floor))


def outcome(ours: float, bound: float, *, is_floor: bool) -> str:
    """Return whether a bound was kept, and if not, by how much it was missed."""
    if ours >= bound if is_floor else ours <= bound:
        return "met"
    if not bound:
        return f"missed by {significant(abs(ours - bound))}"
    return f"missed by {abs(ours - bound) / bound * 100:.0f} %"


def growth_points(report: Report, contestant: str) -> list[tuple[int, float]]:
    """Return sockets and cost per delivery of each run that counted."""
    return [
        (size, run.numbers["cpu_us"])
        for size in SIZES
        for run in report.of(f"growth-{size}", contestant)
        if not run.wrong
    ]


def growth_line(points: list[tuple[int, float]]) -> Line | None:
    """Return cost over decades of sockets as a straight line; None where there are too few points."""
    if len(points) < 3 or len({size for size, _ in points}) < 2:
        return None
    return line([math.log10(size) for size, _ in points], [cost for _, cost in points])


def judge_growth(report: Report) -> Verdict:
    """Judge whether cost per delivery grows from 100 to 10,000 sockets: by the upper end of the slope's interval."""
    title = "growth, cost per delivery from 100 to 10,000 sockets"
    asked = f"< {GROWTH_LIMIT:.0%} over the range"
    points = growth_points(report, _US)
    fit = growth_line(points)
    if fit is None or {size for size, _ in points} != set(SIZES):
        return Verdict(title, asked, "–", "not judged: it was not run whole")
    start = fit.at_zero + fit.slope * 2  # at 100 sockets
    change, margin = fit.slope * _DECADES / start, fit.margin * _DECADES / abs(start)
    found = f"{change:+.0%} ± {margin:.0%}"
    if change + margin < GROWTH_LIMIT:
        return Verdict(title, asked, found, "met")
    if change < GROWTH_LIMIT:
        return Verdict(title, asked, found, "not shown: the interval reaches beyond")
    return Verdict(title, asked, found, f"missed by {(change - GROWTH_LIMIT) * 100:.0f} points")

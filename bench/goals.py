"""Goals: what Hermes shall reach, and whether it did. Used by report. Pure.

Each goal is judged by the medians of all runs, in which a wrong run counts as the worst number that there is. Where
either side has fewer than `results.ENOUGH` good runs, or a number is missing, it is not judged; where every run of ours
was wrong it is missed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

from bench import growth
from bench.growth import Estimate, Sweep
from bench.results import ENOUGH, Report, nothing
from bench.table import bounded_by, saturated, significant

_US = "hermes"
FLAT = 0.15  # by so much may a delivery grow dearer from the smallest to the largest size of a sweep of sockets
SHARP = 0.15  # an exponent's interval that is wider to either side shows nothing


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
    *(
        goal
        for title, prefix in (("end to end", ""), ("end to end, the call itself included", "before_"))
        for goal in (
            Bound(f"{title}, p50, ms", "end-to-end", f"{prefix}p50_ms", 10),
            Bound(f"{title}, p99, ms", "end-to-end", f"{prefix}p99_ms", 40),
            Against(f"{title}, p50, ms", "end-to-end", f"{prefix}p50_ms", "centrifugo", 1, False),
            Against(f"{title}, p99, ms", "end-to-end", f"{prefix}p99_ms", "centrifugo", 1, False),
        )
    ),
)
GROWTH = "growth, cost of a delivery by sockets"


def goals(report: Report) -> list[Against | Bound]:
    """Return the goals; those of *saturated fan-out* once more for each plan that offers more than the first."""
    beyond = [scenario for scenario in saturated(report) if scenario != "fanout-saturated"]
    more = [
        replace(goal, title=f"{goal.title}, of {offer(report, scenario):,.0f} offered", scenario=scenario)
        for scenario in beyond
        for goal in GOALS
        if isinstance(goal, Against)
        and goal.scenario == "fanout-saturated"
        and goal.peer in report.settings[scenario]["contestants"]
    ]
    return [*GOALS[:_SATURATED], *more, *GOALS[_SATURATED:]]


_SATURATED = sum(goal.scenario == "fanout-saturated" for goal in GOALS)  # they are the first


def judge(report: Report) -> list[Verdict]:
    """Return a verdict on each goal, growth last."""
    return [*(_judge(report, goal) for goal in goals(report)), *judge_growth(report)]


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
    runs, good = report.of(goal.scenario, _US), len(report.good(goal.scenario, _US))
    wrong = len(runs) - good
    if ours is None and not wrong:
        return Verdict(goal.title, asked, "–", "not judged: it was not run" if not runs else "not judged: no number")
    if ours is None or (wrong and ours == nothing(goal.number)):
        said = "every run was wrong" if not good else f"{wrong} of {len(runs)} runs were wrong"
        return Verdict(goal.title, asked, "–", f"missed: {said}")
    found = significant(ours)
    if bound is None:
        return Verdict(goal.title, asked, found, f"not judged: {missing}")
    if isinstance(goal, Against) and bound and math.isfinite(bound):
        found += f", {significant(ours / bound * goal.factor)} ×"
    if few := _too_few(report, goal):
        return Verdict(goal.title, asked, found, f"not judged ({few})")
    if isinstance(goal, Against) and bound == goal.factor * nothing(goal.number):
        return Verdict(goal.title, asked, found, f"not judged: most runs of {title} were wrong")
    said = outcome(ours, bound, is_floor=goal.is_floor)
    return Verdict(goal.title, asked, found, "; ".join([said, *_remarks(report, goal, said, wrong, len(runs))]))


def _too_few(report: Report, goal: Against | Bound) -> str:
    """Say of whom there are too few good runs, and how many; empty where there are enough."""
    sides = [_US, goal.peer] if isinstance(goal, Against) else [_US]
    few = []
    for name in sides:
        good, all_of = len(report.good(goal.scenario, name)), len(report.of(goal.scenario, name))
        if good < ENOUGH:
            whose = f" of {report.titles.get(name, name)}'s" if len(sides) > 1 else ""
            bad = f", {all_of - good} more wrong" if all_of > good else ""
            few.append(f"{good} run{'s' * (good != 1)}{whose}{bad}")
    return " and ".join(few)


def _remarks(report: Report, goal: Against | Bound, said: str, wrong: int, runs: int) -> Iterable[str]:
    """Say what a reader must know of a verdict, in words."""
    if wrong:
        yield f"{wrong} of {runs} runs wrong"
    if goal.number != "per_s":
        return
    if said != "met" and bounded_by(report, goal.scenario, _US) == "offer":
        yield "all that was offered was delivered"
    if said == "met" and isinstance(goal, Against) and (what := bounded_by(report, goal.scenario, goal.peer)):
        title = report.titles.get(goal.peer, goal.peer)
        yield f"{title} was held back by the {'offer' if what == 'offer' else 'load client'}, and could do more"


def outcome(ours: float, bound: float, *, is_floor: bool) -> str:
    """Return whether a bound was kept, and if not, by how much it was missed."""
    if ours >= bound if is_floor else ours <= bound:
        return "met"
    if not bound:
        return f"missed by {significant(abs(ours - bound))}"
    return f"missed by {abs(ours - bound) / bound * 100:.0f} %"


def offer(report: Report, scenario: str) -> float:
    """Return the deliveries a second that a plan asks for."""
    settings = report.settings[scenario]
    return float(settings["rate"]) * float(settings["sockets"]) / float(settings["rooms"])


def judge_growth(report: Report) -> list[Verdict]:
    """Judge every sweep: that a delivery costs the same however many sockets, and that nothing is superlinear."""
    found = growth.sweeps(report)
    flat = [_judge_flat(report, sweep) for sweep in found if sweep.thing == "sockets"]
    if not flat:
        flat = [Verdict(GROWTH, f"< {FLAT:.0%} over the range", "–", "not judged: it was not run whole")]
    absent = [thing for thing in growth.THINGS if thing not in {sweep.thing for sweep in found}]
    return [
        *flat,
        *(_judge_power(report, sweep) for sweep in found),
        *(Verdict(f"growth by {thing}", _PROPORTION, "–", "not judged: it was not run whole") for thing in absent),
    ]


_PROPORTION = "not more than in proportion"
# Of rooms the rate of messages is the same at every size, so that what a message costs must not depend on them: one
# that had all rooms looked at would have an exponent that goes to 1. Each has sockets, whose pings are in the cost.
_ROOMS, _ROOMS_ASKED = 0.25, "exponent ≤ 0.25 at one rate of messages"


def _judge_flat(report: Report, sweep: Sweep) -> Verdict:
    """Judge by the upper end of the interval of the change, what a message costs by itself taken off."""
    title = f"{GROWTH}, {sweep.sizes[0]:,.0f} to {sweep.sizes[-1]:,.0f}"
    asked = f"< {FLAT:.0%} over the range"
    if obstacle := _obstacle(report, sweep):
        return Verdict(title, asked, "–", obstacle)
    costs = growth.costs(report, sweep, _US)
    if costs is None:
        return Verdict(title, asked, "–", "not judged: it was not run whole")
    change = costs.change
    if not math.isfinite(change.value):
        return Verdict(title, asked, "–", "not shown: a delivery is lost in what a message costs")
    found = f"{change.value:+.0%} ± {change.margin:.0%}"
    if change.high < FLAT:
        return Verdict(title, asked, found, "met")
    if change.low < FLAT:
        by = f", its middle by {(change.value - FLAT) * 100:.0f} points" if change.value >= FLAT else ""
        return Verdict(title, asked, found, f"not shown: the interval reaches beyond{by}")
    return Verdict(title, asked, found, f"missed by {(change.value - FLAT) * 100:.0f} points")


def _judge_power(report: Report, sweep: Sweep) -> Verdict:
    """Judge the whole of a sweep and its last step: by exponents that are 1 where cost is in proportion."""
    unit = "messages a second" if sweep.thing == "messages" else sweep.thing
    title = f"growth by {sweep.thing}, {sweep.sizes[0]:,.0f} to {sweep.sizes[-1]:,.0f} {unit}, exponent of the CPU"
    most, asked = (_ROOMS, _ROOMS_ASKED) if sweep.thing == "rooms" else (1, _PROPORTION)
    if obstacle := _obstacle(report, sweep):
        return Verdict(title, asked, "–", obstacle)
    powers = growth.exponents(report, sweep, _US)
    if powers is None:
        return Verdict(title, asked, "–", "not judged: it was not run whole")
    whole, top = powers
    found = f"{_written(whole)}; from {sweep.sizes[-2]:,.0f} on {_written(top)}"
    worst = max(powers, key=lambda power: power.low)
    if worst.low > most:
        where = "" if worst is whole else f" from {sweep.sizes[-2]:,.0f} on"
        return Verdict(title, asked, found, f"missed: {_written(worst)}{where}")
    if any(power.margin > SHARP and power.high > most for power in powers):
        return Verdict(title, asked, found, "not shown: the interval is too wide")
    return Verdict(title, asked, found, "met")


def _written(power: Estimate) -> str:
    return f"{power.value:.2f} ± {power.margin:.2f}"


def _obstacle(report: Report, sweep: Sweep) -> str:
    """Return a sweep's outcome where it cannot be judged; empty where it can."""
    if sweep.obstacle:
        return f"not judged: {sweep.obstacle}"
    runs = {scenario: report.of(scenario, _US) for _, scenario in sweep.scenarios}
    if not all(runs.values()):
        return "not judged: it was not run whole"
    if wrong := [scenario for scenario, found in runs.items() if all(run.wrong for run in found)]:
        return f"missed: every run of {wrong[0]} was wrong"
    fewest = min(len(report.good(scenario, _US)) for scenario in runs)
    bad = sum(bool(run.wrong) for found in runs.values() for run in found)
    if fewest < ENOUGH:
        more = f", {bad} wrong" if bad else ""
        return f"not judged ({fewest} run{'s' * (fewest != 1)} of a size{more})"
    return ""

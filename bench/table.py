"""Table: the numbers of a report as text, one line each. Used by __main__, goals and report. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from bench.absent import gaps
from bench.growth import sweeps
from bench.results import ENOUGH, Report, nothing


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table.

    Args:
        scenario, number: of the results.
        title: what it is, with its unit.
        factor: from the number to the unit.
        digits: significant ones.
        is_limited_by_load: a full load core, or all of the offer delivered, makes the number a bound.
    """

    scenario: str
    number: str
    title: str
    factor: float = 1.0
    digits: int = 3
    is_limited_by_load: bool = False


_OFFERED = 0.97  # of what a plan asks for: who delivered as much was bounded by it
_SATURATED_ROWS = (
    Row("", "per_s", "deliveries/s", is_limited_by_load=True),
    Row("", "cpu_us", "… CPU per delivery, µs"),
    Row("", "p99_ms", "… p99, ms"),
)
_ROWS = (
    Row("fanout-gentle", "cpu_us", "gentle fan-out, CPU per delivery, µs"),
    Row("fanout-gentle", "p50_ms", "… p50, ms"),
    Row("fanout-gentle", "p99_ms", "… p99, ms"),
    Row("fanout-gentle", "p999_ms", "… p99.9, ms"),
    Row("rooms", "per_core_s", "many rooms, deliveries/s per core"),
    Row("rooms", "p99_ms", "… p99, ms"),
    Row("rooms", "redis_us", "… CPU of Redis per message, µs"),
    Row("storm", "first_us", "storm, first-ever tokens, CPU per socket, µs"),
    Row("storm", "new_us", "… new process, warm shared cache, µs"),
    Row("storm", "again_us", "… the same process again, µs"),
    Row("storm", "new_settled_us", "… new process, until all is written, µs"),
    Row("storm", "new_seconds", "… new process, until all are in, s"),
    Row("idle", "socket_kb", "idle socket, resident memory, kB"),
    Row("idle", "cpu_share", "all idle sockets, % of a core", factor=100),
    Row("relay", "per_s", "relay, messages/s", is_limited_by_load=True),
    Row("relay", "cpu_us", "… CPU per message, µs"),
    Row("relay", "redis_us", "… CPU of Redis per message, µs"),
    Row("relay", "sqs_us", "… CPU of the SQS endpoint per message, µs"),
    Row("end-to-end", "p50_ms", "end to end, p50, ms"),
    Row("end-to-end", "p99_ms", "… p99, ms"),
    Row("end-to-end", "before_p50_ms", "… p50, the call itself included, ms"),
    Row("end-to-end", "before_p99_ms", "… p99, the call itself included, ms"),
    Row("end-to-end", "cpu_us", "… CPU of server and relay per message, µs"),
)


def saturated(report: Report) -> list[str]:
    """Return the scenarios of *saturated fan-out*: its own, and each that offers more, the smallest offer first."""
    least = report.settings.get("fanout-saturated", {"rate": 0.0})["rate"]
    found = [
        (plan["rate"], name)
        for name, plan in report.settings.items()
        if name.startswith("fanout-") and plan["rate"] >= least and name != "fanout-gentle"
    ]
    return [name for _, name in sorted(found)]


def rows(report: Report) -> list[Row]:
    """Return the table's rows: those that are always the same, and one for each plan of which there may be several."""
    found: list[Row] = []
    for scenario in saturated(report):
        plan = report.settings[scenario]
        title = f"saturated fan-out of {plan['rate'] * plan['sockets'] / plan['rooms']:,.0f} offered"
        for row in _SATURATED_ROWS:
            shown = f"{title}, {row.title}" if row.number == "per_s" else row.title
            found.append(replace(row, scenario=scenario, title=shown))
    found += _ROWS
    for sweep in sweeps(report):
        unit = "messages a second" if sweep.thing == "messages" else sweep.thing
        for size, scenario in sweep.scenarios:
            found.append(Row(scenario, "cpu_us", f"growth, {size:,.0f} {unit}, CPU per delivery, µs"))
    return found


def bounded_by(report: Report, scenario: str, contestant: str) -> str:
    """Return what kept a contestant's deliveries a second down that is not the contestant.

    Returns:
        ``offer``: it delivered what the plan asks for. ``load``: it did not, and in most runs the core of everything
        but the server was full. Empty: neither.
    """
    plan = report.settings.get(scenario, {})
    median = report.median(scenario, contestant, "per_s")
    is_paced = median is not None and plan.get("scene") == "fanout"
    if is_paced and median >= _OFFERED * plan["rate"] * plan["sockets"] / plan["rooms"]:
        return "offer"
    good = report.good(scenario, contestant)
    return "load" if sum("load" in run.notes for run in good) * 2 > len(good) else ""


def significant(value: float, digits: int = 3) -> str:
    """Return a number with so many significant digits, thousands separated."""
    if value == 0:
        return "0"
    whole = len(str(int(abs(value)))) if abs(value) >= 1 else 0
    if whole >= digits:
        return f"{round(value, digits - whole):,.0f}"
    if whole:
        return f"{value:,.{digits - whole}f}"
    return f"{value:.{digits}g}" if abs(value) >= 1e-3 else f"{value:.1e}"


def cell(report: Report, row: Row, contestant: str) -> str:
    """Return median and spread, and how many runs where they are few; empty where no run was made."""
    runs = report.of(row.scenario, contestant)
    if not runs:
        return ""
    spread = report.spread(row.scenario, contestant, row.number)
    if spread is None:
        return "wrong" if any(run.wrong for run in runs) else ""
    good, bad = report.good(row.scenario, contestant), sum(bool(run.wrong) for run in runs)
    if bad and spread.median == nothing(row.number):
        return f"wrong, {bad} of {len(runs)}"
    text = significant(spread.median * row.factor, row.digits)
    bound = bounded_by(report, row.scenario, contestant) if row.is_limited_by_load else ""
    if bound:
        text = f"≥ {text}"
    remarks = []
    if spread.rounds > 1:
        low, high = significant(spread.low * row.factor, row.digits), significant(spread.high * row.factor, row.digits)
        remarks.append(f"{low}–{high}")
    if len(good) < ENOUGH:
        remarks.append(f"{len(good)} run{'s' * (len(good) != 1)}")
    if bound == "offer":
        remarks.append("all of the offer")
    if remarks:
        text += f" ({'; '.join(remarks)})"
    return f"{text}, {bad} of {len(runs)} wrong" if bad else text


def grid(report: Report) -> list[list[str]]:
    """Return the table, its head first: a line for each number that somebody gave."""
    shown = rows(report)
    names = report.ran({row.scenario for row in shown})
    lines = [["", *(report.titles[name] for name in names)]]
    for row in shown:
        cells = [cell(report, row, name) for name in names]
        if any(cells):
            lines.append([row.title, *(text or "–" for text in cells)])
    return lines


def render(report: Report) -> str:
    """Return the table for a terminal, and below it who is missing, and why."""
    lines = aligned(grid(report))
    lines += [f"{report.titles.get(name, name)} did not run: {why}" for name, why in report.missing.items()]
    wrong = (one for one in report.results if one.wrong)
    lines += [f"{one.scenario}, {one.contestant}, round {one.round}, counts as nothing: {one.wrong}" for one in wrong]
    lines += [f"Left out: {what}" for what in report.left_out]
    lines += [f"– {gap}" for gap in gaps(report, [(row.scenario, row.number) for row in rows(report)])]
    return "\n".join(lines)


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return rows of cells as lines, the first column to the left and the others to the right."""
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    sides: list[Callable[[str, int], str]] = [str.ljust, *([str.rjust] * (len(widths) - 1))]
    return ["  ".join(side(text, width) for side, text, width in zip(sides, row, widths, strict=True)) for row in rows]


def markdown(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return rows of cells as a Markdown table, numbers to the right."""
    head, *body = rows
    return [f"| {' | '.join(head)} |", "|---|" + "---:|" * (len(head) - 1), *(f"| {' | '.join(row)} |" for row in body)]

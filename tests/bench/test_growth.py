"""Growth: what a message costs by itself is told from what a delivery costs, and what grows is not hidden by it."""

from __future__ import annotations

import math
from typing import Any

import pytest

from bench import growth
from bench.figures import fit
from bench.goals import judge_growth
from bench.report import page
from bench.results import Report, Result

SIZES = (100, 300, 1_000, 3_000, 10_000)
NOISE = (0.99, 1.0, 1.01)  # of three rounds


def swept(
    thing: str, entry_us: Any, sizes: tuple[int, ...] = SIZES, rates: Any = lambda size: 5.0, rounds: int = 3
) -> Report:
    """A report of a sweep in which an entry costs what a function of the size says."""
    report = Report("", "", titles={"hermes": "Hermes"})
    for size in sizes:
        plan = {"scene": "fanout", "contestants": ["hermes"], "sockets": 2_000, "rooms": 1, "rate": rates(size)}
        plan |= {"what": "", "seconds": 10.0, "slow_seconds": 0.0, {"messages": "rate"}.get(thing, thing): size}
        report.settings[f"growth-{thing}-{size}"] = plan
        heard = plan["sockets"] / plan["rooms"]
        for number in range(rounds):
            numbers = {"messages": 50.0, "deliveries": 50.0 * heard, "cpu_us": entry_us(size) * NOISE[number] / heard}
            report.results.append(Result(f"growth-{thing}-{size}", "hermes", number + 1, numbers))
    return report


def said(report: Report, beginning: str) -> str:
    return next(verdict.outcome for verdict in judge_growth(report) if verdict.title.startswith(beginning))


FLAT = "growth, cost of a delivery by sockets"


def test_a_fit_has_the_slope_and_the_interval_of_the_textbook() -> None:
    # By hand: the slope is 0.6, the residuals' squares add to 2.4, t with 3 degrees is 3.182.
    found = fit([(1, x) for x in (1, 2, 3, 4, 5)], [2, 4, 5, 4, 5], [1] * 5)
    assert found.values == pytest.approx([2.2, 0.6])
    assert found.margin(1) == pytest.approx(3.182 * math.sqrt(2.4 / 3 / 10), rel=1e-3)
    # The same points twice as heavy say the same; a point that counts as two is two points.
    assert fit([(1, x) for x in (1, 2, 3, 4, 5)], [2, 4, 5, 4, 5], [2] * 5).margin(1) == pytest.approx(found.margin(1))
    heavy = fit([(1, x) for x in (1, 2, 3)], [1, 2, 4], [2, 1, 1]).values
    assert heavy == pytest.approx(fit([(1, x) for x in (1, 1, 2, 3)], [1, 1, 2, 4], [1] * 4).values)
    with pytest.raises(ValueError, match="tell the columns apart"):
        fit([(1, 2), (1, 2), (1, 2)], [1, 2, 3], [1] * 3)


def test_what_a_message_costs_by_itself_is_told_from_what_a_delivery_costs() -> None:
    report = swept("sockets", lambda n: 400 + 6.0 * n)
    costs = growth.costs(report, growth.sweeps(report)[0], "hermes")
    assert costs is not None
    assert costs.message.value == pytest.approx(400, rel=0.02)
    assert costs.delivery.value == pytest.approx(6, rel=0.02)
    assert costs.delivery.low < 6 < costs.delivery.high
    assert costs.end == pytest.approx(0, abs=0.03)
    assert said(report, FLAT) == "met"


def test_a_delivery_that_grows_dearer_is_found_under_a_message_that_is_dear() -> None:
    """Cost per delivery falls from 100 sockets to 1,000 and rises after: a line through that U would say it falls."""
    report = swept("sockets", lambda n: 700 + n * (6 + 1.2 * math.log10(n / 100)))
    costs = growth.costs(report, growth.sweeps(report)[0], "hermes")
    assert costs is not None
    assert costs.change.value == pytest.approx(0.4, abs=0.05)
    assert costs.curve.value == pytest.approx(1.2, abs=0.15)
    assert costs.end == pytest.approx(8.4 / 7.2 - 1, abs=0.03)
    assert said(report, FLAT).startswith("missed by 2")
    assert "from 1,000 to 10,000 it changes by +17%" in " ".join(page(report, "").split())


def test_a_change_whose_interval_reaches_beyond_is_not_shown_to_be_small() -> None:
    noisy = iter([0.8, 1.2, 1.0] * 5)
    report = swept("sockets", lambda n: 400 + 6.0 * n)
    for run in report.results:
        run.numbers["cpu_us"] *= next(noisy)
    assert said(report, FLAT).startswith("not shown: the interval reaches beyond")


def test_a_sweep_that_changed_the_rate_with_the_sockets_says_nothing() -> None:
    report = swept("sockets", lambda n: 400 + 6.0 * n, rates=lambda n: min(20.0, 20_000 / n))
    assert said(report, FLAT) == "not judged: messages a second were changed with sockets"
    assert "nothing can be said" in page(report, "")


def test_two_runs_of_a_size_and_wrong_ones_are_not_judged() -> None:
    assert said(swept("sockets", lambda n: 400 + 6.0 * n, rounds=2), FLAT) == "not judged (2 runs of a size)"
    report = swept("sockets", lambda n: 400 + 6.0 * n)
    report.results[0].wrong = "lost"
    assert said(report, FLAT) == "not judged (2 runs of a size, 1 wrong)"
    for run in report.results[:3]:
        run.wrong = "lost"
    assert said(report, FLAT) == "missed: every run of growth-sockets-100 was wrong"


def power(thing: str, exponent: float) -> Report:
    # Of messages it is the CPU of a second, and not of an entry, that grows in proportion.
    return swept(thing, lambda size: size ** (exponent - (thing == "messages")))


@pytest.mark.parametrize("thing", ["sockets", "messages"])
def test_what_comes_with_each_of_a_thing_is_judged_by_its_exponent(thing: str) -> None:
    assert said(power(thing, 0.9), f"growth by {thing}") == "met"
    assert said(power(thing, 1.0), f"growth by {thing}") == "met"
    assert said(power(thing, 1.2), f"growth by {thing}") == "missed: 1.20 ± 0.00"


def test_a_message_that_had_all_rooms_looked_at_is_a_miss() -> None:
    assert said(power("rooms", 0.1), "growth by rooms") == "met"
    assert said(power("rooms", 0.9), "growth by rooms") == "missed: 0.90 ± 0.00"


def test_a_bend_at_the_end_of_a_sweep_is_not_hidden_by_its_beginning() -> None:
    report = swept("sockets", lambda n: 5_000 + 6.0 * n * (1 if n < 10_000 else 2))
    whole, top = growth.exponents(report, growth.sweeps(report)[0], "hermes") or pytest.fail("too few runs")
    assert whole.value < 1 < top.low
    assert said(report, "growth by sockets").startswith("missed:")
    assert said(report, "growth by sockets").endswith("from 3,000 on")


def test_things_that_were_not_swept_are_not_judged() -> None:
    report = swept("sockets", lambda n: 400 + 6.0 * n)
    assert said(report, "growth by rooms") == "not judged: it was not run whole"
    assert said(report, "growth by messages") == "not judged: it was not run whole"

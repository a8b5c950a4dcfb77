"""Pictures: a report's latencies, costs and memory as SVG. Used by report; plots draws."""

from __future__ import annotations

import math
from collections.abc import Sequence

from bench.figures import SHARES
from bench.growth import sweeps
from bench.plots import Axis, Series, decades, draw, from_zero
from bench.results import Report


def pictures(report: Report) -> dict[str, str]:
    """Return the pictures for which there are numbers, by file name."""
    found = {
        "bench-latency.svg": _latency(report),
        "bench-cost.svg": _cost(report),
        "bench-memory.svg": _memory(report),
    }
    return {name: picture for name, picture in found.items() if picture}


def _latency(report: Report) -> str:
    scenario = "fanout-gentle"
    lines = []
    for name in report.ran([scenario]):
        spectra = [dict(run.spectrum) for run in report.of(scenario, name) if not run.wrong and run.spectrum]
        if spectra:
            middle = [(share, sorted(one[share] for one in spectra)[len(spectra) // 2]) for share in SHARES]
            lines.append(
                Series(
                    name, report.titles[name], [(_nines(share), ms) for share, ms in middle if 0.25 <= share <= 0.9999]
                )
            )
    if not lines:
        return ""
    shares = (0.25, 0.5, 0.75, 0.9, 0.99, 0.999, 0.9999)
    x = Axis("percentile", [_nines(share) for share in shares], [f"{share * 100:g}" for share in shares])
    y = decades([ms for one in lines for _, ms in one.points], "ms")
    return draw("Gentle fan-out: latency by percentile", x, y, lines)


def _nines(share: float) -> float:
    """Return a share's place on an axis on which 90, 99 and 99.9 % are equally far apart."""
    return -math.log10(1 - share)


def _cost(report: Report) -> str:
    sweep = next((one for one in sweeps(report) if one.thing == "sockets"), None)
    lines = []
    for name in report.titles:
        if sweep is None:
            break
        found = ((size, report.median(scenario, name, "cpu_us")) for size, scenario in sweep.scenarios)
        points = [(size, cost) for size, cost in found if cost is not None and math.isfinite(cost)]
        if len(points) > 1:
            lines.append(Series(name, report.titles[name], points))
    if not lines:
        return ""
    return draw("CPU of the server per delivery", _sockets(lines), from_zero(_heights(lines), "µs"), lines)


def _memory(report: Report) -> str:
    lines = []
    for name in report.ran(["idle"]):
        runs = [run for run in report.of("idle", name) if not run.wrong]
        by_size: dict[float, list[float]] = {}
        for run in runs:
            for size, size_bytes in run.points:
                by_size.setdefault(size, []).append(size_bytes / 1000)
        points = [(size, sorted(found)[len(found) // 2]) for size, found in sorted(by_size.items())]
        if len(points) > 1:
            lines.append(Series(name, report.titles[name], points))
    if not lines:
        return ""
    return draw("Resident memory per idle socket", _sockets(lines), from_zero(_heights(lines), "kB"), lines)


def _heights(lines: Sequence[Series]) -> list[float]:
    return [y for series in lines for _, y in series.points]


def _sockets(lines: Sequence[Series]) -> Axis:
    ticks = sorted({x for series in lines for x, _ in series.points})
    return Axis("sockets", ticks, [f"{tick:,.0f}" for tick in ticks], is_log=True)

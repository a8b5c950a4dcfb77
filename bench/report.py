"""Report: docs/benchmarks.md and its pictures, made from a file of results. Uses table, goals and plots.

    python -m bench.report var/bench/<time>.json [var/bench/<time>.json …]

Nothing else writes those files, so that what they say is what was measured.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

from bench import results
from bench.causes import CAUSES
from bench.figures import SHARES
from bench.goals import Verdict, growth_line, growth_points, judge
from bench.plans import SIZES
from bench.plots import Axis, Series, decades, draw, from_zero
from bench.results import Report
from bench.table import grid, markdown, significant

ROOT = Path(__file__).resolve().parent.parent
PAGE = Path("docs/benchmarks.md")
IMAGES = Path("docs/images")

_HEAD = """\
# Benchmarks

Hermes beside servers that people use for the same, on the same work, in the same run, on the same machine. This page is
written by a program from what was measured, and by nothing else; the numbers of a machine of your own come from

```sh
make bench         # everything, three rounds
make bench-quick   # one short round, within three minutes
python -m bench --scenario fanout-gentle --only hermes,nchan --rounds 3      # parts
python -m bench.report var/bench/<time>.json                                 # this page
```

`make bench` needs Linux, two cores and what `make test` needs. Peers that are not installed are named, with the reason.
"""
_METHOD = """\
## How it is measured

- **One core for the server.** It is pinned to core 0 with all it starts. Everything else shares core 1: Redis
  (Valkey), SQS and DynamoDB (the embedded engines), the publisher and the load client. Each run has an empty Redis and
  a new server; gentle and saturated fan-out are one run, in this order.
- **The whole product.** Hermes runs as `manage.py serve` with authentication, history, registry, mirror and
  back-pressure on. In the fan-outs its messages enter by the door that the relay uses, in batches of up to ten, as they
  fall due; in *relay* and *end to end* they come through SQS, and the relay shares the server's core.
- **Everything that arrives is checked.** Each room's messages are numbered from 1, and each socket must get each once
  and in order; what comes through SQS, whose standard queues promise no order, must come once. A run in which one
  message of one socket is lost, doubled or out of order counts as nothing, and is named. In *saturated fan-out* one
  socket in twenty is checked frame by frame; of the others every frame is counted, and a number is read for each piece
  that TCP delivers: what that cannot see is two messages of one piece that have changed places.
- **CPU** is the server's user and system time, of its whole process tree, from the first publish to the last delivery.
  What the kernel does for its sockets in interrupts while the server itself sleeps is not in it, for nobody.
- **Latency** is from the publisher's stamp in the message to the client's callback, by one clock, over all deliveries
  (of one socket in twenty in *saturated fan-out*). It includes the time that one load process needs to read all those
  sockets, which is the same for everybody.
- **Rounds are interleaved**: each contestant in its turn, another one first in each round. A number is the median of
  the rounds, with the lowest and the highest in brackets.
- **≥** stands where the load client's core was full in most rounds: the server could have done more.
- A frame has some 240 bytes, whatever envelope a contestant puts around the payload.
"""


def page(report: Report, source: str) -> str:
    """Return the page.

    Args:
        report: what was measured.
        source: the files' names.
    """
    parts = [_HEAD, *_machine(report, source), "## All numbers", "", *markdown(grid(report)), ""]
    parts += [*_notes(report), "## The goals", "", *_goals(judge(report)), "", *_growth(report), *_pictures(report)]
    parts += [_METHOD, "## What is run", "", *_scenarios(report), "", "## Who takes part", "", *_contestants(report)]
    return "\n".join(parts).rstrip() + "\n"


def pictures(report: Report) -> dict[str, str]:
    """Return the pictures for which there are numbers, by file name."""
    found = {
        "bench-latency.svg": _latency(report),
        "bench-cost.svg": _cost(report),
        "bench-memory.svg": _memory(report),
    }
    return {name: picture for name, picture in found.items() if picture}


def _machine(report: Report, source: str) -> list[str]:
    machine = report.machine
    last = {run.scenario: run.round for run in sorted(report.results, key=lambda run: run.round)}
    fewest, most = min(last.values(), default=0), max(last.values(), default=0)
    rounds = f"{most} round{'s' * (most != 1)}" if fewest == most else f"{fewest} to {most} rounds"
    return [
        f"Measured {report.started} on {machine.get('cores', '?')} cores of {machine.get('cpu', '?')}, "
        f"{machine.get('memory', '?')}, {machine.get('system', '?')}, Python {machine.get('python', '?')}, TCP "
        f"congestion control {machine.get('congestion', '?')}; {rounds}, "
        f"{report.seconds / 60:.0f} minutes, by `{report.command}` ({source}).",
        "",
    ]


def _notes(report: Report) -> list[str]:
    lines = []
    for kind, what in (
        ("strangers", "more than a tenth of the server's core went to others than the server"),
        ("offer", "the messages went in more slowly than planned, because the way in was full"),
        ("stolen", "the machine's host took more than a tenth of a core away"),
    ):
        where = sorted({f"{run.scenario} ({run.contestant})" for run in report.results if kind in run.notes})
        runs = sum(kind in run.notes for run in report.results)
        if runs:
            lines.append(f"- In {runs} of {len(report.results)} runs {what}: {', '.join(where)}.")
    wrong = (run for run in report.results if run.wrong)
    lines += [
        f"- Counts as nothing: {run.scenario}, {run.contestant}, round {run.round}: {run.wrong}." for run in wrong
    ]
    lines += [f"- {report.titles.get(name, name)} did not run: {why}." for name, why in report.missing.items()]
    lines += [f"- Left out: {what}." for what in report.left_out]
    return ["What belongs to these numbers:", "", *lines, ""] if lines else []


def _goals(verdicts: Sequence[Verdict]) -> list[str]:
    met = sum(verdict.outcome == "met" for verdict in verdicts)
    judged = sum(not verdict.outcome.startswith("not judged") for verdict in verdicts)
    rows = [["what", "goal", "Hermes", ""]]
    rows += [[verdict.title, verdict.goal, verdict.found, verdict.outcome] for verdict in verdicts]
    missed = [verdict for verdict in verdicts if verdict.outcome.startswith("missed")]
    causes = [
        f"- *{verdict.title}, {verdict.goal}* ({verdict.outcome}). {CAUSES[verdict.title, verdict.goal]}"
        for verdict in missed
        if (verdict.title, verdict.goal) in CAUSES
    ]
    lines = [f"{met} of {judged} goals that could be judged are met.", "", *markdown(rows)]
    return [*lines, "", "### What is missed, and why", "", *causes, ""] if causes else lines


def _growth(report: Report) -> list[str]:
    lines = []
    for name in report.titles:
        points = growth_points(report, name)
        fit = growth_line(points)
        if fit is not None:
            lines.append(
                f"- {report.titles[name]}: {significant(fit.at_zero + 2 * fit.slope)} µs at 100 sockets, "
                f"{fit.slope:+.2f} ± {fit.margin:.2f} µs for each tenfold (95 % confidence, {len(points)} runs)."
            )
    if not lines:
        return []
    return [
        "### Growth",
        "",
        "CPU per delivery against the logarithm of the number of sockets, as a straight line. What a message costs by "
        "itself is shared by all of its deliveries, and is most of the cost where there are few; so the line may fall.",
        "",
        *lines,
        "",
    ]


def _pictures(report: Report) -> list[str]:
    alternatives = {
        "bench-latency.svg": "Latency of gentle fan-out by percentile, a line for each contestant.",
        "bench-cost.svg": "CPU per delivery against the number of sockets, a line for each contestant.",
        "bench-memory.svg": "Resident memory per idle socket against the number of sockets, a line each.",
    }
    lines = [f"![{alternatives[name]}](images/{name})\n" for name in pictures(report)]
    return ["## Pictures", "", *lines] if lines else []


def _scenarios(report: Report) -> list[str]:
    lines, sizes = [], []
    for name, settings in report.settings.items():
        if name.startswith("growth-"):
            sizes.append(f"{settings['sockets']:,} at {settings['rate']:g}/s")
        else:
            lines.append(f"- *{name}*: {settings['what']}.{_extent(settings)}")
    if sizes:
        lines.append(f"- *growth*: gentle fan-out to one room of {'; '.join(sizes)}.")
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


# ── Pictures ─────────────────────────────────────────────────────────────────────────────────────────────────────────
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
    lines = []
    for name in report.titles:
        found = ((size, report.median(f"growth-{size}", name, "cpu_us")) for size in SIZES)
        points = [(float(size), cost) for size, cost in found if cost is not None]
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


def write(report: Report, source: str, root: Path) -> list[Path]:
    """Write the page and its pictures; return what was written."""
    texts = {PAGE: page(report, source)} | {IMAGES / name: text for name, text in pictures(report).items()}
    for path, text in texts.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    return list(texts)


def main() -> None:
    """Read the arguments, and write."""
    parser = argparse.ArgumentParser(prog="python -m bench.report", description="Write docs/benchmarks.md.")
    parser.add_argument("results", type=Path, nargs="+", help="files that the benchmark wrote, of other scenarios each")
    paths: list[Path] = parser.parse_args().results
    for path in write(results.read_all(paths), ", ".join(path.name for path in paths), ROOT):
        print(path)


if __name__ == "__main__":
    main()

"""The alerts as data, and what real processes answered at `/metrics`, played to them. Called by the tests of both.

Prometheus looks for minutes before it says anything, and a test has seconds. So what was scraped is stretched: gauges
stay, counters rise by as much and more slowly, and what stood still goes on standing still. Nothing is made up.
"""

from __future__ import annotations

import json
import re
import subprocess
import time
import urllib.request
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from tests.deploy.conftest import need
from tests.documents import ROOT, read

FOLDER = ROOT / "deploy/prometheus"
RULES = "deploy/prometheus/hermes.rules.yml"
ALERTS = re.findall(r"- alert: (\w+)", read(RULES))
EXPRESSIONS = re.findall(r"expr: (.*?)\n        \w+:", read(RULES), flags=re.DOTALL)
# What the tests ask besides.
ASKED = ("hermes_relay_in_hand",)
METRICS = {name for rule in EXPRESSIONS for name in re.findall(r"\b(?:up|(?:hermes|process)_\w+)(?=[ {\[)]|$)", rule)}

STEP = 15  # seconds between two scrapes, as deploy/prometheus/prometheus.yml has it
HOUR = 3600 // STEP
# The longest window of a rule, and the longest `for:`, and a little.
MINUTES = 24.0
# Gauges that tell since when something has lasted: that moment is what stays, and not their value.
MOMENTS, AGES = ("hermes_relay_answered_timestamp_seconds",), ("hermes_registry_oldest_seconds",)
SAME_SECONDS = 0.5  # between two looks at one moment, by two clocks
SCRAPE_SECONDS = 5.0

Values = list[float | None]


def promtool(*arguments: str, folder: Path = FOLDER) -> subprocess.CompletedProcess[str]:
    """Run Prometheus's own tool."""
    need("promtool")
    return subprocess.run(["promtool", *arguments], cwd=folder, capture_output=True, text=True)


@dataclass(frozen=True)
class Series:
    """One series, as Prometheus would store it.

    Args:
        name: of the metric.
        labels: with ``instance`` and ``job``, as a text.
        is_counted: whether it only rises.
    """

    name: str
    labels: str
    is_counted: bool

    def __str__(self) -> str:
        return f"{self.name}{{{self.labels}}}"


@dataclass(frozen=True)
class Scrape:
    """What all targets answered at one time, of what the rules look at.

    Args:
        at: unix seconds.
        values: of each series.
    """

    at: float
    values: Mapping[Series, float]

    def sum(self, name: str, **labels: str) -> float:
        """Return the sum of a metric over the series that have these labels."""
        wanted = [f'{key}="{value}"' for key, value in labels.items()]
        return sum(
            value
            for series, value in self.values.items()
            if series.name == name and all(label in series.labels for label in wanted)
        )


def scrape(targets: Mapping[str, str]) -> Scrape:
    """Ask every target as Prometheus does.

    Args:
        targets: the job of each ``host:port``.
    """
    values: dict[Series, float] = {}
    for target, job in targets.items():
        mine = {"instance": target, "job": job}
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(f"http://{target}/metrics", timeout=SCRAPE_SECONDS) as response:
                text = response.read().decode()
        except OSError:
            values[_series("up", mine, is_counted=False)] = 0.0
            continue
        values[_series("up", mine, is_counted=False)] = 1.0
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.name in METRICS or sample.name in ASKED:
                    series = _series(sample.name, {**sample.labels, **mine}, is_counted=family.type != "gauge")
                    values[series] = float(sample.value)
    return Scrape(time.time(), values)


def _series(name: str, labels: Mapping[str, str], *, is_counted: bool) -> Series:
    return Series(name, ",".join(f'{key}="{value}"' for key, value in sorted(labels.items())), is_counted)


# ── Stretching ───────────────────────────────────────────────────────────────────────────────────────────────────────
def an_hour_of(scrapes: Sequence[Scrape]) -> dict[Series, Values]:
    """Return an hour as these seconds were: counters rise at their pace, gauges have their values in turn."""
    first, last = scrapes[0], scrapes[-1]
    found = {}
    for series in _all(scrapes):
        begin, end = first.values.get(series), last.values.get(series)
        if series.is_counted and begin is not None and end is not None:
            pace = (end - begin) / (last.at - first.at)
            found[series] = [begin + pace * STEP * step for step in range(HOUR + 1)]
        else:
            turns = [scrapes[step % len(scrapes)] for step in range(HOUR + 1)]
            found[series] = [_aged(series, turn, step) for step, turn in enumerate(turns)]
    return found


def _aged(series: Series, scrape: Scrape, step: int) -> float | None:
    """Return a value as it is at a step: a moment is as long ago as it was."""
    value = scrape.values.get(series)
    return value - scrape.at + step * STEP if value is not None and series.name in MOMENTS else value


def a_fault_after_an_hour(before: Scrape, during: Sequence[Scrape], minutes: float) -> dict[Series, Values]:
    """Return an hour as it was before a fault, and then the fault.

    Args:
        before: the last scrape without it.
        during: those with it; each has the same share of the time.
        minutes: how long the fault lasts.
    """
    steps = round(minutes * 60 / STEP / len(during))
    found = {}
    for series in _all([before, *during]):
        values = [_aged(series, before, step) for step in range(HOUR)]
        since = _since(series, before, len(values) - 1)
        was = before
        for scrape in during:
            begin, end = was.values.get(series), scrape.values.get(series)
            at = len(values) - 1
            stands = since is not None and _stands_still(series, was, scrape)
            for step in range(1, steps + 1):
                if end is None or begin is None or not series.is_counted or end < begin:
                    values.append(_lasting(series, scrape, at + step, since if stands else None))
                else:
                    values.append(begin + (end - begin) * step / steps)
            if not stands:
                since = _since(series, scrape, at + steps)
            was = scrape
        found[series] = values
    return found


def _since(series: Series, scrape: Scrape, step: int) -> float | None:
    """Return since which played second something has lasted."""
    value = scrape.values.get(series)
    if value is None or series.name not in (*MOMENTS, *AGES):
        return None
    age = scrape.at - value if series.name in MOMENTS else value
    return step * STEP - age


def _stands_still(series: Series, was: Scrape, now: Scrape) -> bool:
    """Whether two scrapes tell of the same moment."""
    before, after = _since(series, was, 0), _since(series, now, 0)
    if before is None or after is None or (series.name in AGES and not now.values[series]):
        return False
    return abs((now.at + after) - (was.at + before)) < SAME_SECONDS


def _lasting(series: Series, scrape: Scrape, step: int, since: float | None) -> float | None:
    if since is None:
        return _aged(series, scrape, step)
    return since if series.name in MOMENTS else step * STEP - since


def _all(scrapes: Iterable[Scrape]) -> list[Series]:
    return sorted({series for scrape in scrapes for series in scrape.values}, key=str)


# ── Playing ──────────────────────────────────────────────────────────────────────────────────────────────────────────
def notation(values: Values) -> str:
    """Return values as promtool reads them; a series that is gone ends at once, as it does at a failed scrape."""
    words = []
    was: float | None = None
    for value, run in groupby(values):
        count = len(list(run))
        if value is None and was is not None:
            words.append("stale")
            count -= 1
        if count:
            words.append(f"_x{count}" if value is None else f"{value:.6f}" + (f"x{count - 1}" if count > 1 else ""))
        was = value
    return " ".join(words)


def judge(played: Mapping[Series, Values], expected: Mapping[str, Sequence[str]], folder: Path) -> str:
    """Have promtool say what the rules make of it.

    Args:
        played: from the first second on.
        expected: for a time as promtool writes it, which alerts must fire then; with none, not one may have been
            pending within the hour before.
        folder: for the files.

    Returns:
        What it has against it; empty if it was as expected.
    """
    looks: list[dict[str, Any]] = []
    for at, alerts in expected.items():
        if not alerts:
            looks.append({"expr": "count by (alertname) (count_over_time(ALERTS[1h]))", "eval_time": at})
        for alert in alerts:
            expr = f'group by (alertname) (ALERTS{{alertname="{alert}",alertstate="firing"}})'
            sample = {"labels": f'{{alertname="{alert}"}}', "value": 1}
            looks.append({"expr": expr, "eval_time": at, "exp_samples": [sample]})
    series = [{"series": str(series), "values": notation(values)} for series, values in played.items()]
    test = {"name": "what was scraped", "interval": f"{STEP}s", "input_series": series, "promql_expr_test": looks}
    file = {"rule_files": [str(ROOT / RULES)], "evaluation_interval": f"{STEP}s", "tests": [test]}
    path = folder / "scraped.test.yml"
    path.write_text(json.dumps(file, indent=1), encoding="utf-8")
    done = promtool("test", "rules", str(path))
    return "" if done.returncode == 0 else done.stdout + done.stderr

"""The whole program, each scene once with Hermes alone: load client, publisher, server and engines as they are."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from bench import results
from bench.plans import SMOKE
from bench.results import Report

ROOT = Path(__file__).parents[2]
NUMBERS = {
    "fanout-gentle": ("per_s", "cpu_us", "message_us", "load_us", "p50_ms", "p99_ms"),
    "fanout-saturated": ("per_s", "cpu_us", "redis_us", "p50_ms", "p99_ms"),
    "rooms": ("per_s", "per_core_s", "p99_ms"),
    "storm": ("first_us", "new_us", "again_us", "new_settled_us"),
    "idle": ("cpu_share", "before_mb"),  # what 20 sockets weigh is lost in what a process gives back
    "relay": ("per_s", "cpu_us", "redis_us", "sqs_us"),
    "end-to-end": ("p50_ms", "p99_ms", "before_p50_ms", "cpu_us"),
}


@dataclass
class Done:
    """What came of it."""

    report: Report
    status: int
    said: str


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Done:
    folder = tmp_path_factory.mktemp("bench")
    command = [sys.executable, "-m", "bench", "--smoke", "--only", "hermes", "--into", str(folder)]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=240)
    said = ran.stdout + ran.stderr
    (path,) = (path for path in folder.glob("*.json") if path.name != "hashes.json")
    return Done(results.read(path), ran.returncode, said)


@pytest.mark.parametrize("scenario", [plan.name for plan in SMOKE])
def test_a_scene_is_played_and_gives_its_numbers(done: Done, scenario: str) -> None:
    (run,) = done.report.of(scenario, "hermes")
    assert not run.wrong, done.said
    assert all(run.numbers[name] > 0 for name in NUMBERS[scenario]), run.numbers


def test_it_ends_well_and_says_how_long_it_took(done: Done) -> None:
    assert done.status == 0, done.said
    assert "It took " in done.said
    assert not done.report.missing
    assert not done.report.left_out

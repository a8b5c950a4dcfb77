"""False clocks: they move the wall clock of a process, and nothing that it waits for."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.recorder import Recorder
from tests.faults.world import PARTS, World, false_clocks

# A thread that will not give the interpreter's lock away, and one that wants it: it asks every 5 ms.
CONTENDING = """
import resource, threading, time
end = time.perf_counter() + 1
def hold():
    while time.perf_counter() < end:
        pass
threads = [threading.Thread(target=hold) for _ in range(2)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw)
"""
Told = Callable[[str], str]


@pytest.fixture(params=["+0", "+1h", "-1h"])
def offset(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def told(offset: str, tmp_path: Path) -> Told:
    """Return a function that runs a program under a part's false clock and returns what it prints."""
    if false_clocks() is None:
        pytest.skip("there is no libfaketime here: apt-get install faketime")
    recorder = Recorder(tmp_path / "history.jsonl")
    world = World(tmp_path, recorder, random.Random(0), clocks=false_clocks())
    world.env = {}
    world.set_clock(PARTS[0], offset)
    environment = world.child(PARTS[0], "serve").environment
    recorder.close()

    def run(program: str) -> str:
        command = [sys.executable, "-c", program]
        return subprocess.run(
            command, env=environment, check=True, capture_output=True, text=True, timeout=30
        ).stdout.strip()

    return run


def test_a_false_clock_is_off_by_what_it_was_set_to(told: Told, offset: str) -> None:
    wrong = float(told("import time; print(time.time())")) - time.time()
    assert abs(wrong - {"+0": 0, "+1h": 3600, "-1h": -3600}[offset]) < 30


@pytest.mark.parametrize(
    "wait",
    ["time.sleep({})", "threading.Event().wait({})", "select.select([], [], [], {})", "lock.acquire(timeout={})"],
)
def test_waiting_lasts_as_long_under_a_false_clock(told: Told, wait: str) -> None:
    lines = [
        "import select, threading, time",
        "lock = threading.Lock()",
        "lock.acquire()",
        "began = time.perf_counter()",
        wait.format(0.1),
        "print(time.perf_counter() - began)",
    ]
    assert 0.1 <= float(told("\n".join(lines))) < 2


def test_who_waits_for_the_interpreter_does_not_spin_under_a_false_clock(told: Told) -> None:
    """Two threads hand it over every 5 ms: 200 times in a second, some waits each; the defect made 40,000 of it."""
    assert int(told(CONTENDING)) < 2000

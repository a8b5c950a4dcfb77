"""The short form of the fault suite: `pytest -m faults`."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import pytest

from tests.faults.run import Run

SECONDS = 90.0
# Beyond the usual limit of a test: the rounds, and a calm after each.
LIMIT_SECONDS = 600


@pytest.mark.faults
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_whatever_breaks_nothing_is_lost_untold_shown_twice_or_seen_by_others(tmp_path: Path) -> None:
    signal.alarm(LIMIT_SECONDS)
    result = asyncio.run(Run(tmp_path, "short", SECONDS).run())
    assert sum(result.faults.values()) > 20
    assert result.judged.counts["received"] > 100
    assert result.judged.violations == []

"""Lanes: which fault comes next, and when, so that a run of any length reaches its counts. Called by run; pure."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Mapping

from tests.faults.scene import Kind

HALF_HOUR = 1800.0  # seconds; `Kind.want` is for a run of this length
LONGEST_PAUSE = 40.0
BREAKING = 0.65  # of a run, at least; the rest is calm
MARGIN = 1.15  # faults that disturbed nobody are not counted


def choose(lane: str, kinds: Mapping[str, Kind], used: Counter[str], rng: random.Random) -> str:
    """Return the kind of this lane that was used least against how often it is wanted; ties go by chance."""
    mine = [name for name, kind in kinds.items() if lane in kind.lanes]
    return min(mine, key=lambda name: (used[name] + rng.random()) / kinds[name].want)


def quota(lane: str, kinds: Iterable[Kind], seconds: float) -> float:
    """Return how many faults a lane owes in a run of so many seconds, and in any run each of its kinds once.

    A kind of many lanes is shared among them.
    """
    mine = [kind for kind in kinds if lane in kind.lanes]
    return MARGIN * sum(max(1.0, kind.want * seconds / HALF_HOUR) / len(kind.lanes) for kind in mine)


def pause(owed: float, seconds: float, spent: float, rng: random.Random) -> float:
    """Return how long a lane waits before its next fault.

    Args:
        owed: faults it still has to come up with.
        seconds: left for breaking.
        spent: seconds that one of its faults takes, on the average.
        rng: the lane's.
    """
    each = seconds / max(owed, 1.0)
    return rng.uniform(0, min(LONGEST_PAUSE, max(0.05, 2 * (each - spent))))

"""Which fault comes next: evenly, as often as it is wanted, and each at least once in a run however short."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from tests.faults import lanes
from tests.faults.kinds import KINDS, OWED
from tests.faults.kinds import lanes as all_lanes
from tests.faults.scene import Kind, Scene


async def nothing(_: Scene) -> None:
    pass


TWO = {"often": Kind(nothing, ("a",), 30), "seldom": Kind(nothing, ("a", "b"), 10), "other": Kind(nothing, ("b",), 5)}


def test_kinds_of_a_lane_come_as_often_as_they_are_wanted_against_each_other() -> None:
    used: Counter[str] = Counter()
    for _ in range(40):
        used[lanes.choose("a", TWO, used, random.Random(len(used)))] += 1
    assert used.keys() == {"often", "seldom"}
    assert 28 <= used["often"] <= 32


def test_a_lane_chooses_the_same_from_the_same_seed() -> None:
    def choices(seed: int) -> list[str]:
        rng, used, chosen = random.Random(seed), Counter[str](), []
        for _ in range(20):
            chosen.append(lanes.choose("a", TWO, used, rng))
            used[chosen[-1]] += 1
        return chosen

    assert choices(1) == choices(1)
    assert any(choices(1) != choices(seed) for seed in range(2, 10))


def test_half_an_hour_owes_what_is_wanted_and_a_moment_owes_each_kind_once() -> None:
    assert lanes.quota("a", TWO.values(), 1800) == pytest.approx(lanes.MARGIN * 35)
    assert lanes.quota("a", TWO.values(), 1) == pytest.approx(lanes.MARGIN * 1.5)


def test_a_lane_that_is_behind_waits_less_and_none_waits_for_ever() -> None:
    rng = random.Random(1)
    ahead = [lanes.pause(10, 100, 1, rng) for _ in range(200)]
    behind = [lanes.pause(100, 100, 2, rng) for _ in range(200)]
    assert sum(ahead) / 200 == pytest.approx(9, rel=0.2)
    assert max(behind) <= 0.05
    assert max(lanes.pause(0, 1e6, 0, rng) for _ in range(200)) <= lanes.LONGEST_PAUSE


def test_what_is_owed_is_wanted() -> None:
    for kinds, count in OWED.values():
        assert sum(KINDS[kind].want for kind in kinds) >= count


def test_every_lane_has_kinds() -> None:
    assert all(any(lane in kind.lanes for kind in KINDS.values()) for lane in all_lanes())

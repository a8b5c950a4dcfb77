"""The scenes: each carries a scenario's plan out with one contestant, and returns what came of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from bench.peers.contestant import Contestant
from bench.plans import Plan
from bench.results import Result
from bench.scenes.crew import Crew
from bench.scenes.end_to_end import end_to_end
from bench.scenes.fanout import fanout
from bench.scenes.idle import idle
from bench.scenes.relay import relay
from bench.scenes.storm import storm

_SCENES: dict[str, Callable[[Crew, Contestant, Plan], Result]] = {
    "storm": storm,
    "idle": idle,
    "relay": relay,
    "end_to_end": end_to_end,
}


def play(crew: Crew, contestant: Contestant, plans: Sequence[Plan]) -> list[Result]:
    """Carry out plans that `bench.plans.together` has put together; return a result for each."""
    if plans[0].scene == "fanout":
        return fanout(crew, contestant, plans)
    return [_SCENES[plan.scene](crew, contestant, plan) for plan in plans]

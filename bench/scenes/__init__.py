"""The scenes: each carries a scenario's plan out with one contestant, and returns what came of it."""

from __future__ import annotations

from collections.abc import Callable

from bench.peers.contestant import Contestant
from bench.plans import Plan
from bench.results import Result
from bench.scenes.crew import Crew
from bench.scenes.end_to_end import end_to_end
from bench.scenes.fanout import fanout
from bench.scenes.idle import idle
from bench.scenes.relay import relay
from bench.scenes.storm import storm

SCENES: dict[str, Callable[[Crew, Contestant, Plan], Result]] = {
    "fanout": fanout,
    "storm": storm,
    "idle": idle,
    "relay": relay,
    "end_to_end": end_to_end,
}

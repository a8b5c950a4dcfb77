"""Relay: a full queue, and one process that empties it. One of the scenes.

Numbers: `per_s` messages a second, from the first one taken to the last one deleted; `cpu_us` the CPU for each, and
`redis_us` and `sqs_us` what it cost Redis and the SQS endpoint. That each is in its room's history, once, is checked
when the queue is empty.
"""

from __future__ import annotations

import time

from bench.ground import QueueWatch
from bench.peers.contestant import Consumer, Contestant
from bench.plans import Plan
from bench.results import Result
from bench.scenes.crew import Crew, Meter, rooms

FILL_SECONDS = 120.0
BEGIN_SECONDS = 30.0
EMPTY_SECONDS = 180.0
SOONEST_LOOK, LATEST_LOOK = 0.02, 0.5  # seconds; in between, half of the time that the rest will take


def relay(crew: Crew, contestant: Contestant, plan: Plan) -> Result:
    """Carry it out."""
    assert isinstance(contestant, Consumer)  # noqa: S101  the plan names no others
    result = Result(plan.name, contestant.name)
    with QueueWatch(crew.ground, contestant.queue) as queue:
        queue.purge()
        crew.open_talk("sqs", contestant.sqs)
        crew.talk.ask("fill", FILL_SECONDS, rooms=rooms(plan), count=plan.messages, size=crew.size)
        contestant.start_relay()
        until = time.monotonic() + BEGIN_SECONDS
        while (left := queue.waiting()[0]) == plan.messages and time.monotonic() < until:
            time.sleep(0.01)
        began, meter = time.monotonic(), Meter(contestant, crew)
        until = began + EMPTY_SECONDS
        while (still := sum(queue.waiting())) and time.monotonic() < until:
            # To count 20,000 messages takes the endpoint and us 6 ms of the core that they are carried on.
            carried = max(1, plan.messages - still)
            time.sleep(min(max(still / carried * (time.monotonic() - began) / 2, SOONEST_LOOK), LATEST_LOOK))
        took, cpu = time.monotonic() - began, meter.read(result)
        left = max(1, left)  # of few messages none may have been left when it was first looked
    if still:
        result.wrong = f"{still} of {plan.messages} messages were left after {took:.0f} s"
    else:
        seen, different = contestant.kept(crew, plan)
        if (seen, different) != (plan.messages, plan.messages):
            result.wrong = f"the histories hold {seen} messages, {different} of {plan.messages} different ones"
    result.numbers |= {
        "messages": plan.messages,
        "seconds": took,
        "per_s": left / took,
        "cpu_us": cpu / left * 1e6,
        "redis_us": result.numbers["redis_s"] / left * 1e6,
        "sqs_us": result.numbers["aws_s"] / left * 1e6,
    }
    return result

"""Idle: sockets to which nothing is sent. One of the scenes.

Numbers: `socket_kb` resident memory of the server after minus before, for each socket; `cpu_share` of a core.
"""

from __future__ import annotations

import time

from bench.machine import resident
from bench.peers.contestant import Contestant
from bench.plans import Plan
from bench.results import Result
from bench.scenes.crew import Crew, Meter


def idle(crew: Crew, contestant: Contestant, plan: Plan) -> Result:
    """Carry it out."""
    result = Result(plan.name, contestant.name)
    contestant.start()
    crew.gather(plan)
    contestant.calm()
    before = resident(contestant.pids)
    for step in plan.steps:
        opened = crew.open(plan, upto=step)
        if opened["open"] < step:
            result.wrong = f"{opened['open']} of {step} sockets opened; ends {opened['ends']}"
            return result
        contestant.calm()
        result.points.append((step, (resident(contestant.pids) - before) / step))
    meter = Meter(contestant, crew)
    time.sleep(plan.seconds)
    cpu = meter.read(result)
    after = resident(contestant.pids)
    left = crew.load.ask("count", 10.0)["open"]
    if left < plan.sockets:
        result.wrong = f"{plan.sockets - left} of {plan.sockets} sockets were closed"
    result.numbers |= {
        "sockets": plan.sockets,
        "before_mb": before / 2**20,
        "after_mb": after / 2**20,
        "socket_kb": (after - before) / plan.sockets / 1000,
        "cpu_share": cpu / result.numbers["wall_s"],
    }
    return result

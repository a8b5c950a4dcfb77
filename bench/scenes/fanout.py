"""Fan-out: messages to rooms, and whether every socket got each once and in order. One of the scenes.

Numbers: `per_s` deliveries a second, from the first publish to the last delivery; `cpu_us` the server's CPU for each,
and `load_us` the load client's; `message_us` and `redis_us` the server's and Redis's for each message; `p50_ms`,
`p99_ms`, `p999_ms` from the publisher's stamp to the client's callback.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from bench.peers.contestant import Contestant
from bench.plans import Plan
from bench.results import Result
from bench.scenes.crew import Crew, Meter

WARM_UP = 3  # messages of each room that are not measured: connections of the publisher, the first of everything
WARM_UP_SECONDS = 60.0
PAUSE_SECONDS = 0.5
LATE = 1.1  # times as long as planned
PATIENCE_SECONDS = 120.0  # beyond the time in which messages are offered


def fanout(crew: Crew, contestant: Contestant, plans: Sequence[Plan]) -> list[Result]:
    """Carry out plans that have the same sockets and rooms, one after the other on the same server."""
    results = [Result(plan.name, contestant.name) for plan in plans]
    plan = plans[0]
    contestant.start()
    crew.gather(plan)
    opened = crew.open(plan)
    if opened["open"] < plan.sockets:
        for result in results:
            result.wrong = f"{opened['open']} of {plan.sockets} sockets opened; ends {opened['ends']}"
        return results
    crew.open_talk()
    contestant.calm()
    crew.load.ask("expect", 10.0, upto=WARM_UP)
    crew.load.tell("wait", deadline=WARM_UP_SECONDS)
    crew.publish(plan, 1, WARM_UP, max(10.0, plan.rooms), WARM_UP_SECONDS)
    crew.load.answer(WARM_UP_SECONDS + 10)
    said = WARM_UP
    for plan, result in zip(plans, results, strict=True):
        time.sleep(PAUSE_SECONDS)
        result.numbers["open_s"] = opened["seconds"]
        said = _measure(crew, contestant, plan, result, said)
    return results


def _measure(crew: Crew, contestant: Contestant, plan: Plan, result: Result, said: int) -> int:
    """Publish what the plan says after the messages up to ``said``; return up to which number was published."""
    seconds = plan.slow_seconds if contestant.is_slow and plan.slow_seconds else plan.seconds
    count = max(1, round(plan.rate * seconds / plan.rooms))
    deliveries = count * plan.sockets
    patience = seconds + PATIENCE_SECONDS
    crew.load.ask("expect", 10.0, upto=said + count, timed_every=plan.timed_every)
    crew.load.tell("wait", deadline=patience)
    meter = Meter(contestant, crew)
    sent = crew.publish(plan, said + 1, count, plan.rate, patience)
    heard = crew.load.answer(patience + 10)
    cpu = meter.read(result)
    report = crew.load.ask("report", 60.0)
    result.spectrum = report["spectrum"]
    result.wrong = "; ".join(report["wrong"])
    took = (heard["last_ns"] - sent["first_ns"]) / 1e9
    offered = (sent["last_ns"] - sent["first_ns"]) / 1e9
    if offered > seconds * LATE:
        result.notes.append("offer")  # who publishes had to wait for answers, or for its core
    result.numbers |= {
        "sockets": plan.sockets,
        "rooms": plan.rooms,
        "rate": plan.rate,
        "messages": count * plan.rooms,
        "deliveries": deliveries,
        "seconds": took,
        "per_s": deliveries / took if took > 0 else 0.0,
        "per_core_s": deliveries / cpu,
        "cpu_us": cpu / deliveries * 1e6,
        "load_us": result.numbers["load_core"] * result.numbers["wall_s"] / deliveries * 1e6,
        "message_us": cpu / (count * plan.rooms) * 1e6,
        "redis_us": result.numbers["redis_s"] / (count * plan.rooms) * 1e6,
        "offered_s": offered,
        "batches": sent["batches"],
        "frame_bytes": report["bytes"],
        **percentiles(result),
    }
    return said + count


def percentiles(result: Result, prefix: str = "") -> dict[str, float]:
    """Return the usual percentiles of a result's spectrum."""
    by_share = dict(result.spectrum)
    names = {"p50_ms": 0.5, "p99_ms": 0.99, "p999_ms": 0.999}
    return {prefix + name: by_share[share] for name, share in names.items() if share in by_share}

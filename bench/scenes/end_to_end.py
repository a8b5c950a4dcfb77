"""End to end: from a back end's SendMessage to the frame in the browser's socket. One of the scenes.

Numbers: `p50_ms` and so on from the return of the call; `before_p50_ms` and so on from just before the call; `cpu_us`
the CPU of server and relay for each message.
"""

from __future__ import annotations

from bench.figures import spectrum
from bench.peers.contestant import Consumer, Contestant
from bench.plans import Plan
from bench.results import Result
from bench.scenes.crew import Crew, Meter, rooms
from bench.scenes.fanout import percentiles

WARM_UP = 20  # messages
PATIENCE_SECONDS = 60.0


def end_to_end(crew: Crew, contestant: Contestant, plan: Plan) -> Result:
    """Carry it out."""
    assert isinstance(contestant, Consumer)  # noqa: S101  the plan names no others
    result = Result(plan.name, contestant.name)
    contestant.start_consuming()
    crew.gather(plan, books="tally")
    opened = crew.open(plan)
    if opened["open"] < plan.sockets:
        result.wrong = f"{opened['open']} of {plan.sockets} sockets opened; ends {opened['ends']}"
        return result
    crew.open_talk("sqs", contestant.sqs)
    contestant.calm()
    _send(crew, plan, 0, WARM_UP, 20.0)

    count = round(plan.rate * plan.seconds)
    meter = Meter(contestant, crew)
    calls = _send(crew, plan, WARM_UP, count, plan.rate)
    cpu = meter.read(result)
    report = crew.load.ask("report", 30.0, arrivals=True)
    result.wrong = "; ".join(report["wrong"])
    began = {number: at for number, at, _ in calls}
    returned = {number: at for number, _, at in calls}
    result.spectrum = spectrum([(at - began[number]) / 1e6 for number, at in report["arrivals"] if number in began])
    before = percentiles(result, "before_")
    result.spectrum = spectrum([(at - returned[number]) / 1e6 for number, at in report["arrivals"] if number in began])
    result.numbers |= {"messages": count, "cpu_us": cpu / count * 1e6, **percentiles(result), **before}
    return result


def _send(crew: Crew, plan: Plan, done: int, count: int, rate: float) -> list[tuple[int, int, int]]:
    """Send messages, and wait until all have come; numbers go on after ``done``."""
    seconds = count / rate + PATIENCE_SECONDS
    crew.load.ask("expect", 10.0, upto=(done + count) // plan.rooms)
    crew.load.tell("wait", deadline=seconds)
    sent = crew.talk.ask("scatter", seconds, rooms=rooms(plan), first=done + 1, count=count, rate=rate, size=crew.size)
    crew.load.answer(seconds + 10)
    calls: list[tuple[int, int, int]] = [(number, began, ended) for number, began, ended in sent["calls"]]
    return calls

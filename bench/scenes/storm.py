"""Storm: everybody connects at once: to a server that has never seen them, to its successor, and to that once more.

One of the scenes. Numbers, each as `first_`, `new_` and `again_`: `us` the server's CPU for each socket until all are
in and have what they missed; `settled_us` until the registry has written them too; `seconds`; `tries` of a client.
"""

from __future__ import annotations

from bench.peers.contestant import Contestant
from bench.plans import Plan
from bench.results import Result
from bench.scenes.crew import Crew, Meter

LIVE = 3  # messages of each room while they are connected
MISSED = 3  # while they are away


def storm(crew: Crew, contestant: Contestant, plan: Plan) -> Result:
    """Carry it out."""
    result = Result(plan.name, contestant.name)
    contestant.start()
    crew.gather(plan)
    contestant.calm()
    _come(crew, contestant, plan, result, "first", upto=0)
    said = _say(crew, contestant, plan, result, 0, LIVE, is_awaited=True)

    for phase in ("new", "again"):
        if result.wrong:
            break
        if phase == "new":
            crew.talk.ask("close", 10.0)
            contestant.restart()
            crew.load.ask("stay_out", 20.0)
        else:
            crew.load.ask("leave", 30.0, forget=False)
        if contestant.resumes:
            said = _say(crew, contestant, plan, result, said, MISSED, is_awaited=False)
        contestant.calm()
        _come(crew, contestant, plan, result, phase, upto=said)
    result.numbers["sockets"] = plan.sockets
    return result


def _come(crew: Crew, contestant: Contestant, plan: Plan, result: Result, phase: str, upto: int) -> None:
    """Let everybody connect at the same moment, and wait until each has what was said up to then."""
    if upto:
        crew.load.ask("expect", 10.0, upto=upto, timed=False)
    meter = Meter(contestant, crew)
    opened = crew.open(plan, at_once=plan.sockets, comes_back=True)
    if upto:
        crew.load.ask("wait", 30.0)
    cpu = meter.cpu
    contestant.calm()
    settled = meter.read(result, f"{phase}_")
    if opened["open"] < plan.sockets:
        result.wrong = f"{phase}: {opened['open']} of {plan.sockets} came in; ends {opened['ends']}"
    elif upto:
        result.wrong = "; ".join(crew.load.ask("report", 30.0)["wrong"])
    result.numbers |= {
        f"{phase}_us": cpu / plan.sockets * 1e6,
        f"{phase}_settled_us": settled / plan.sockets * 1e6,
        f"{phase}_seconds": opened["seconds"],
        f"{phase}_tries": opened["tries"] / plan.sockets,
        f"{phase}_refused": opened["refused"],
    }


def _say(
    crew: Crew, contestant: Contestant, plan: Plan, result: Result, said: int, count: int, *, is_awaited: bool
) -> int:
    """Publish to every room; return up to which number was said."""
    if result.wrong:
        return said
    crew.talk.ask("close", 10.0)
    crew.open_talk()
    if is_awaited:
        crew.load.ask("expect", 10.0, upto=said + count, timed=False)
        crew.load.tell("wait", deadline=60.0)
    crew.publish(plan, said + 1, count, 500.0, 60.0)
    if is_awaited:
        crew.load.answer(70.0)
        result.wrong = "; ".join(crew.load.ask("report", 30.0)["wrong"])
    return said + count

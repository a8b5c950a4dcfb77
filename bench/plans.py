"""Plans: how large each scenario is: whole, quick, and as small as can be. Read by run, carried out by scenes. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

SIZES = (100, 300, 1_000, 3_000, 10_000)  # sockets, of growth
# Messages a second, in growth: the same number at each size, so that what a message costs by itself and what a delivery
# costs can be told apart; as many as a core can deliver to 10,000 sockets.
GROWTH_RATE = 5.0
SWEEP_ROOMS = (100, 300, 1_000, 3_000)  # of 5 sockets
SWEEP_RATES = (5, 20, 80)  # messages a second to 1,000 sockets
EVERYBODY = ("hermes", "socketio", "nchan", "centrifugo", "channels-uvicorn", "channels-daphne")
FAST = ("hermes", "socketio", "nchan", "centrifugo")
CONSUMERS = ("hermes", "centrifugo")


@dataclass(frozen=True, slots=True)
class Plan:
    """One scenario.

    Args:
        name: what results are kept under.
        scene: the module that carries it out.
        what: a sentence for the report.
        contestants: who takes part.
        sockets, rooms: how many, evenly.
        rate: messages a second, in all.
        seconds: for which they are offered, or for which nothing happens.
        slow_seconds: the same for contestants that would not be done in any reasonable time.
        timed_every: of how many sockets one's latency is taken.
        messages: how many wait.
        steps: at how many sockets memory is looked at.
    """

    name: str
    scene: str
    what: str
    contestants: tuple[str, ...] = EVERYBODY
    sockets: int = 0
    rooms: int = 1
    rate: float = 0.0
    seconds: float = 0.0
    slow_seconds: float = 0.0
    timed_every: int = 1
    messages: int = 0
    steps: tuple[int, ...] = ()

    def settings(self) -> dict[str, Any]:
        """Return what it is, for the file of results."""
        return asdict(self)


def growth(sockets: int) -> Plan:
    """Return growth's plan for a number of sockets."""
    return _one_room(f"growth-{sockets}", sockets, GROWTH_RATE, FAST)


def more_messages(rate: int) -> Plan:
    """Return the plan that tells whether cost grows with the number of messages, all else being the same."""
    return _one_room(f"sweep-messages-{rate}", 1_000, rate, ("hermes",))


def _one_room(name: str, sockets: int, rate: float, contestants: tuple[str, ...]) -> Plan:
    what = f"one room of {sockets:,} sockets, {rate:g} messages a second"
    return Plan(name, "fanout", what, contestants=contestants, sockets=sockets, rate=float(rate), seconds=8.0)


def more_rooms(rooms: int) -> Plan:
    """Return the plan that tells whether cost grows with the number of rooms, all else being the same."""
    return Plan(
        f"sweep-rooms-{rooms}",
        "fanout",
        f"{rooms:,} rooms of 5 sockets, 600 messages a second in all",
        contestants=("hermes",),
        sockets=rooms * 5,
        rooms=rooms,
        rate=600.0,
        seconds=10.0,
    )


_GENTLE = Plan(
    "fanout-gentle",
    "fanout",
    "one room of 2,000 sockets, 20 messages a second",
    sockets=2_000,
    rate=20.0,
    seconds=10.0,
    slow_seconds=2.0,
)
_SATURATED = Plan(
    "fanout-saturated",
    "fanout",
    "one room of 2,000 sockets, 400 messages a second offered: more than any of them can deliver at once",
    sockets=2_000,
    rate=400.0,
    seconds=5.0,
    slow_seconds=0.125,
    timed_every=20,
)
# Fewer messages than each of the two keeps (1,000), so that who lags behind need not lose any.
_CEILING = Plan(
    "fanout-ceiling",
    "fanout",
    "one room of 2,000 sockets, 900 messages offered at 2,000 a second: four million deliveries a second",
    contestants=("hermes", "nchan"),
    sockets=2_000,
    rate=2_000.0,
    seconds=0.45,
    timed_every=20,
)
_ROOMS = Plan(
    "rooms",
    "fanout",
    "2,000 rooms of 5 sockets, 2,000 messages a second",
    sockets=10_000,
    rooms=2_000,
    rate=2_000.0,
    seconds=10.0,
    slow_seconds=5.0,
)
_STORM = Plan(
    "storm",
    "storm",
    "10,000 clients connect at once, each with a token of its own",
    sockets=10_000,
    rooms=100,
)
_IDLE = Plan(
    "idle",
    "idle",
    "10,000 sockets to which nothing is sent, for 60 s",
    sockets=10_000,
    rooms=100,
    seconds=60.0,
    steps=(1_000, 3_000, 10_000),
)
_RELAY = Plan(
    "relay",
    "relay",
    "20,000 messages wait in SQS for one consumer process",
    contestants=CONSUMERS,
    rooms=100,
    messages=20_000,
)
_END_TO_END = Plan(
    "end-to-end",
    "end_to_end",
    "100 messages a second, from SendMessage to 50 sockets in 10 rooms",
    contestants=CONSUMERS,
    sockets=50,
    rooms=10,
    rate=100.0,
    seconds=10.0,
)
WHOLE = (
    *(_GENTLE, _SATURATED, _CEILING, _ROOMS, _STORM, _IDLE, _RELAY, _END_TO_END),
    *(growth(size) for size in SIZES),
    *(more_rooms(rooms) for rooms in SWEEP_ROOMS),
    *(more_messages(rate) for rate in SWEEP_RATES),
)
QUICK = (
    replace(
        _GENTLE, sockets=1_000, seconds=3.0, slow_seconds=0.25, what="one room of 1,000 sockets, 20 messages a second"
    ),
    replace(
        _SATURATED,
        sockets=1_000,
        seconds=1.5,
        slow_seconds=0.0125,
        what="one room of 1,000 sockets, 400 messages a second offered",
    ),
    replace(
        _STORM,
        sockets=1_000,
        contestants=FAST,
        what="1,000 clients connect at once, each with a token of its own",
    ),
    replace(
        _IDLE,
        sockets=1_000,
        contestants=FAST,
        seconds=3.0,
        steps=(1_000,),
        what="1,000 sockets to which nothing is sent, for 3 s",
    ),
    replace(_RELAY, messages=2_000, what="2,000 messages wait in SQS for one consumer process"),
    _END_TO_END,
)
# Every scene once, as small as it can be: whether the program works, and no numbers.
SMOKE = (
    replace(_GENTLE, sockets=20, seconds=1.0, what="one room of 20 sockets"),
    replace(_SATURATED, sockets=20, seconds=1.0, what="one room of 20 sockets, read by pieces"),
    replace(_ROOMS, sockets=20, rooms=4, rate=40.0, seconds=1.0, what="4 rooms of 5 sockets"),
    replace(_STORM, sockets=20, rooms=4, what="20 clients connect at once"),
    replace(_IDLE, sockets=20, rooms=4, seconds=1.0, steps=(10, 20), what="20 sockets to which nothing is sent"),
    replace(_RELAY, rooms=4, messages=400, what="400 messages wait in SQS"),
    replace(_END_TO_END, sockets=20, rooms=4, rate=20.0, seconds=1.0, what="20 messages to 20 sockets in 4 rooms"),
)
FAMILIES = ("growth", "sweep")  # plans of which a name is the first part


def family(name: str) -> str:
    """Return a plan's name as one asks for it: ``growth`` for ``growth-100``."""
    first = name.partition("-")[0]
    return first if first in FAMILIES else name


def omitted(plans: Sequence[Plan]) -> list[str]:
    """Return what of the whole benchmark is in none of these plans: scenarios, and contestants of a scenario."""
    here = {plan.name: plan for plan in plans}
    whole = list(dict.fromkeys(family(plan.name) for plan in WHOLE if plan.name not in here))
    lines = [f"{', '.join(whole)}: not part of it"] if whole else []
    for plan in (plan for plan in WHOLE if plan.name in here):
        less = [name for name in plan.contestants if name not in here[plan.name].contestants]
        lines += [f"{plan.name}, {', '.join(less)}: not part of it"] if less else []
    return lines


def choose(plans: tuple[Plan, ...], names: list[str]) -> list[Plan]:
    """Return the plans of these names; ``growth`` and ``sweep`` are all of theirs, and no name is all there are.

    Raises:
        KeyError: there is none of a name.
    """
    if not names:
        return list(plans)
    found: list[Plan] = []
    for name in names:
        chosen = [plan for plan in plans if name in (plan.name, family(plan.name))]
        if not chosen:
            raise KeyError(name)
        found += chosen
    return found


def together(plans: Sequence[Plan]) -> list[tuple[Plan, ...]]:
    """Put together what the same sockets of the same server can do one after the other: neighbours that fan out."""
    groups: list[tuple[Plan, ...]] = []
    for plan in plans:
        before = groups[-1][0] if groups else None
        same = before is not None and before.scene == plan.scene == "fanout" and before.contestants == plan.contestants
        if before is not None and same and (before.sockets, before.rooms) == (plan.sockets, plan.rooms):
            groups[-1] += (plan,)
        else:
            groups.append((plan,))
    return groups

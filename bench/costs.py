"""Costs: what one of each costs Hermes, each from a number that a scenario gave. Used by sizing and capacity. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass

from bench import growth
from bench.results import Report

PARTITIONS = 64  # of a stage, as notifications/stream/keys.py has them
IDLE_SOCKETS = 10_000  # of the scenario *idle*
NEEDED = {
    "joined": ("fanout-saturated", "cpu_us"),
    "join": ("storm", "new_us"),
    "settled": ("storm", "new_settled_us"),
    "settling": ("storm", "new_wall_s"),
    "memory": ("idle", "socket_kb"),
    "process": ("idle", "before_mb"),
    "idle": ("idle", "cpu_share"),
    "relay": ("relay", "cpu_us"),
    "together": ("end-to-end", "cpu_us"),
    "append": ("relay", "redis_us"),
    "heard": ("rooms", "redis_us"),
}


@dataclass(frozen=True, slots=True)
class Costs:
    """What one of each costs.

    Args:
        message, delivery: an entry to n sockets of a process costs it ``message + n · delivery``, µs. A delivery is the
            sweep of sockets', and where it grows dearer with sockets that of the largest size. A message is what is
            left of an entry to the few sockets of *many rooms* when their deliveries are taken off.
        lone: a message by the sweep of sockets: a few a second, so that it has in it what the process does by itself
            between two of them, which is in ``idle`` as well; µs.
        largest: sockets of the largest size.
        joined: a delivery where several entries wait and are written at once, µs.
        join: a socket that comes to a new process, its token known to the shared cache, µs; ``settled`` until the
            registry has written it, too; ``settling`` seconds until all of the storm are written.
        comers: how many came in that storm.
        memory: an idle socket, kB.
        process: a server with nobody connected, MiB.
        idle: 10,000 idle sockets, as a share of a core.
        relay: a message of a full queue, ten at a time, µs; ``together`` one of a hundred a second, with the server.
        append: a message, µs of Redis, ten at a time, while no server follows.
        heard: the same one by one, while one server follows all 64 partitions, µs of Redis.
        follow: what a partition that a process follows costs Redis while nothing happens, as a share of a core.
        pace: messages a second while ``heard`` was measured.
    """

    message: float
    delivery: float
    lone: float
    largest: float
    joined: float
    join: float
    settled: float
    settling: float
    comers: float
    memory: float
    process: float
    idle: float
    relay: float
    together: float
    append: float
    heard: float
    follow: float
    pace: float

    @property
    def copy(self) -> float:
        """What a process that a message reaches costs Redis for it, µs, at most.

        It is what `heard` has beyond `append`, less the looks that cost the same without a message: the hint, the line
        of activity, and what a message costs more that comes by itself and not with nine others.
        """
        looks = self.follow * PARTITIONS / self.pace * 1e6
        return max(0.0, self.heard - self.append - looks)

    @classmethod
    def of(cls, report: Report) -> Costs:
        """Read them.

        Raises:
            ValueError: the runs left one of them out, or it was a wrong run's.
        """
        found = {name: _median(report, *where) for name, where in NEEDED.items()}
        lone, delivery, largest = _entry(report)
        plan = report.settings["rooms"]
        heard_by = plan["sockets"] / plan["rooms"]
        quiet = report.settings["idle"]["rooms"]
        followed = PARTITIONS * (1 - (1 - 1 / PARTITIONS) ** quiet)
        idle_cores = _median(report, "idle", "redis_s") / _median(report, "idle", "wall_s")
        return cls(
            message=max(0.0, _median(report, "rooms", "cpu_us") - delivery) * heard_by,
            delivery=delivery,
            lone=lone,
            largest=largest,
            comers=float(report.settings["storm"]["sockets"]),
            follow=idle_cores / followed,
            pace=float(plan["rate"]),
            **found,
        )


def _median(report: Report, scenario: str, number: str) -> float:
    value = report.median(scenario, "hermes", number)
    if value is None or not math.isfinite(value):
        raise ValueError(f"No run gave {number} of {scenario}: run that scenario as well.")
    return value


def _entry(report: Report) -> tuple[float, float, float]:
    for sweep in growth.sweeps(report):
        costs = growth.costs(report, sweep, "hermes")
        if costs is not None:
            tenfolds = math.log10(sweep.sizes[-1] / sweep.sizes[0])
            at_largest = costs.first.value + costs.curve.value * tenfolds
            return max(0.0, costs.message.value), max(costs.delivery.value, at_largest), sweep.sizes[-1]
    raise ValueError("No run gave a sweep of sockets at one rate: run growth as well.")

"""Capacity: docs/capacity.md, made from a file of results: what so many sockets need. Beside report; asks results.

    python -m bench.capacity var/bench/<time>.json [var/bench/<time>.json …]

Every step of its arithmetic begins with a number that was measured; nothing else writes the page.
"""

from __future__ import annotations

import argparse
import math
import textwrap
from dataclasses import dataclass
from pathlib import Path

from bench import results
from bench.report import DOCS
from bench.results import Report
from bench.table import significant

PAGE = Path("capacity.md")
SIZES = (100_000, 1_000_000)
# How often a member gets an entry, in seconds, and in a room of how many; a member of a room of 500 hears 500 others.
LOADS = (("an entry a minute, rooms of 20", 60.0, 20), ("one every ten seconds, rooms of 200", 10.0, 200))
FULL = 0.6  # of a core: beyond it what waits grows faster than the work
RETURN_SECONDS = 20.0  # over which the toolkit spreads those who come back, once its back-off has grown
IDLE_SOCKETS = 10_000  # of the scenario *idle*

NEEDED = {
    "gentle": ("fanout-gentle", "cpu_us"),
    "joined": ("fanout-saturated", "cpu_us"),
    "join": ("storm", "new_us"),
    "memory": ("idle", "socket_kb"),
    "process": ("idle", "before_mb"),
    "idle": ("idle", "cpu_share"),
    "relay": ("relay", "cpu_us"),
    "redis": ("relay", "redis_us"),
}


@dataclass(frozen=True, slots=True)
class Costs:
    """What one of each costs.

    Args:
        gentle, joined: a delivery, µs: each entry a write of its own, and several in one.
        join: a socket that comes to a new process, its token known to the shared cache, µs.
        memory: an idle socket, kB.
        process: a server with nobody connected, MiB.
        idle: 10,000 idle sockets, as a share of a core.
        relay, redis: a message, µs.
    """

    gentle: float
    joined: float
    join: float
    memory: float
    process: float
    idle: float
    relay: float
    redis: float

    @classmethod
    def of(cls, report: Report) -> Costs:
        """Read them.

        Raises:
            ValueError: the run left one of them out.
        """
        found: dict[str, float] = {}
        for name, (scenario, number) in NEEDED.items():
            value = report.median(scenario, "hermes", number)
            if value is None:
                raise ValueError(f"No run gave {number} of {scenario}: run that scenario as well.")
            found[name] = value
        return cls(**found)


@dataclass(frozen=True, slots=True)
class Need:
    """What a number of sockets needs under a load.

    Args:
        deliveries, messages: a second.
        sending, idling: cores of servers.
        relays, redis: cores.
        memory: GB of servers.
    """

    deliveries: float
    messages: float
    sending: float
    idling: float
    relays: float
    redis: float
    memory: float

    @property
    def workers(self) -> int:
        """Server processes, one a core, none of them full."""
        return max(1, math.ceil((self.sending + self.idling) / FULL))


def need(costs: Costs, sockets: int, every: float, room: int) -> Need:
    """Return what is needed.

    Args:
        sockets: how many are open.
        every: seconds from one entry of a member to the next.
        room: how many sockets a room has.
    """
    deliveries = sockets / every
    messages = deliveries / room
    return Need(
        deliveries,
        messages,
        deliveries * costs.gentle / 1e6,
        sockets / IDLE_SOCKETS * costs.idle,
        messages * costs.relay / 1e6,
        messages * costs.redis / 1e6,
        sockets * costs.memory / 1e6,
    )


def page(report: Report, source: str) -> str:
    """Return the page.

    Args:
        report: what was measured.
        source: the file's name.

    Raises:
        ValueError: a number is missing.
    """
    costs = Costs.of(report)
    rows = [
        ("a delivery, each entry a write of its own", f"{significant(costs.gentle)} µs", "*gentle fan-out*"),
        ("a delivery, waiting entries joined in one write", f"{significant(costs.joined)} µs", "*saturated fan-out*"),
        ("a socket that joins a new process, its token known to Redis", f"{significant(costs.join)} µs", "*storm*"),
        ("an idle socket", f"{significant(costs.memory)} kB", "*idle*"),
        ("a server process with nobody connected", f"{costs.process:.0f} MiB", "*idle*"),
        ("10,000 idle sockets", f"{significant(costs.idle * 100)} % of a core", "*idle*"),
        ("a message through a relay", f"{significant(costs.relay)} µs", "*relay*"),
        ("the same for Redis: append, hint, heads", f"{significant(costs.redis)} µs", "*relay*"),
    ]
    lines = [
        "# Capacity",
        "",
        "What so many sockets need, step by step from what was measured. This page is written by a program, as",
        "[benchmarks.md](benchmarks.md) is; with numbers of a machine of your own it comes from",
        "",
        "```sh",
        "python -m bench.capacity var/bench/<time>.json",
        "```",
        "",
        f"Measured {report.started} on {report.machine.get('cores', '?')} cores of {report.machine.get('cpu', '?')}, "
        f"each process on one of them ({source}).",
        "",
        "## What one of each costs",
        "",
        "| | | from |",
        "|---|---:|---|",
        *(f"| {' | '.join(row)} |" for row in rows),
        "",
    ]
    for sockets in SIZES:
        lines += _of_size(costs, sockets)
    return "\n".join(_wrap(line) for line in [*lines, *_bounds(costs)]).rstrip() + "\n"


def _of_size(costs: Costs, sockets: int) -> list[str]:
    loads = [(title, every, room, need(costs, sockets, every, room)) for title, every, room in LOADS]
    cells: list[tuple[str, list[str]]] = [
        ("deliveries a second: sockets ÷ seconds between two", [significant(n.deliveries) for *_, n in loads]),
        ("messages a second: deliveries ÷ sockets of a room", [significant(n.messages) for *_, n in loads]),
        ("cores that send: deliveries × a delivery", [significant(n.sending, 2) for *_, n in loads]),
        ("cores that keep idle sockets: sockets × an idle one", [significant(n.idling, 2) for *_, n in loads]),
        (f"**server processes**: both, {FULL:.0%} of a core each", [f"**{n.workers}**" for *_, n in loads]),
        ("cores of relays: messages × a relay's message", [significant(n.relays, 2) for *_, n in loads]),
        ("cores of Redis: messages × its message", [significant(n.redis, 2) for *_, n in loads]),
    ]
    storm = sockets * costs.join / 1e6
    together = math.ceil(storm / RETURN_SECONDS)
    return [
        f"## {sockets:,} sockets",
        "",
        f"| | {' | '.join(title for title, *_ in loads)} |",
        f"|---|{'---:|' * len(loads)}",
        *(f"| {name} | {' | '.join(values)} |" for name, values in cells),
        "",
        f"**Memory**: {sockets:,} × {significant(costs.memory)} kB = {significant(sockets * costs.memory / 1e6)} GB, "
        f"and {costs.process:.0f} MiB for each process.",
        "",
        f"**When all come back at once**, as after a restart of everything: {sockets:,} × {significant(costs.join)} µs "
        f"= {significant(storm)} s of CPU. The toolkit spreads them over up to {RETURN_SECONDS:.0f} s, in which "
        f"{together} {'core is' if together == 1 else 'cores are'} busy with nothing else. With fewer it takes longer: "
        "who has to wait in line for 8 s is told to come back (4113). A rolling restart moves one process's "
        "sockets at a "
        "time.",
        "",
    ]


def _bounds(costs: Costs) -> list[str]:
    full = FULL * 1e6
    sockets = full / (costs.gentle / 60 + costs.idle / IDLE_SOCKETS * 1e6)
    return [
        "## What is full first",
        "",
        f"A core at {FULL:.0%} is",
        "",
        f"- a server process with {significant(sockets, 2)} sockets that get an entry a minute, or with "
        f"{significant(full / costs.gentle, 2)} deliveries a second; where entries wait for one another they "
        "are joined, "
        f"and it delivers up to {significant(full / costs.joined, 2)};",
        f"- a relay with {significant(full / costs.relay, 2)} messages a second;",
        f"- a Redis with {significant(full / costs.redis, 2)} messages a second, whatever the number of "
        "sockets: an entry "
        "costs it one append and one hint, which it copies to each server process that follows the room.",
        "",
        "So it is the servers' cores, unless rooms are small and many: a message to a room of one costs a "
        "delivery, and "
        f"{significant(costs.relay / costs.gentle, 2)} times as much in a relay. Relays are added without a word to "
        "anybody: a queue's messages go to whoever asks. Redis is last. What then?",
        "",
        "- **One Redis for each stage**: stages share nothing. Run them as two installations.",
        "- **Hints apart from histories**: `CHANNEL_LAYERS` takes several hosts, and each room's hints go over one of "
        "them.",
        "- **A cluster**: all keys of a room carry one hash tag, `{stage:partition}`, with 64 partitions a stage; so a "
        "script never leaves its slot, and up to 64 primaries could share a stage. The client that Hermes uses today "
        "speaks to one primary: this step is prepared and not taken.",
        "",
        "## What is not in these numbers",
        "",
        "- **TLS**, which nginx ends on cores of its own, and the kernel's work in interrupts.",
        "- **The network**: a delivery of 240 bytes is some 300 on the wire; a million sockets with an entry a "
        "minute are "
        f"{significant(1_000_000 / 60 * 300 * 8 / 1e6, 2)} Mbit/s.",
        "- **First-ever tokens**: each is a row read from DynamoDB and a bcrypt hash; "
        "[benchmarks.md](benchmarks.md) has "
        "what that costs beside the others of *storm*.",
        "- **Files**: a socket is one, and `LimitNOFILE` in `deploy/systemd` lets a process have 65,536.",
        "- **Another machine**: SQS, DynamoDB and Redis were on the same host; a network adds its latency and no CPU.",
    ]


def _wrap(line: str) -> str:
    """Break a paragraph or an item into lines as long as the other documents' are."""
    if line.startswith("|"):
        return line
    indent = "  " if line.startswith("- ") else ""
    return textwrap.fill(line, 120, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(prog="python -m bench.capacity", description="Write docs/capacity.md.")
    parser.add_argument("results", type=Path, nargs="+")
    paths: list[Path] = parser.parse_args().results
    names = ", ".join(path.name for path in paths)
    (DOCS / PAGE).write_text(page(results.read_all(paths), names), encoding="utf-8")


if __name__ == "__main__":
    main()

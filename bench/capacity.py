"""Capacity: docs/capacity.md, made from a file of results: what so many sockets need. Beside report; asks sizing.

    python -m bench.capacity [--out FOLDER] var/bench/<time>.json [var/bench/<time>.json …]

Every step of its arithmetic begins with a number that was measured, or is named as an assumption; nothing else writes
the page.
"""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Callable
from pathlib import Path

from bench import results, sizing
from bench.costs import IDLE_SOCKETS, PARTITIONS, Costs
from bench.report import DOCS
from bench.results import Report
from bench.sizing import FULL, Load, Need, Storm, by_files, need
from bench.table import significant

PAGE = Path("capacity.md")
SIZES = (100_000, 1_000_000)
# How often a member gets an entry, in seconds, and in a room of how many; a member of a room of 500 hears 500 others.
LOADS = (
    ("an entry a minute, rooms of 20", 60.0, 20),
    ("one every ten seconds, rooms of 200", 10.0, 200),
    ("one every ten seconds, rooms of 2", 10.0, 2),
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
    lines = [
        "# Capacity",
        "",
        "What so many sockets need, step by step from what was measured. This page is written by a program, as the "
        "tables of [benchmarks.md](benchmarks.md) are; with numbers of a machine of your own it comes from",
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
        "| | | measured by |",
        "|---|---:|---|",
        *(f"| {' | '.join(row)} |" for row in _costs(costs)),
        "",
        "An entry to n sockets of a process costs that process a + n · b. Of the two a it is the first that counts "
        "here: what a process does by itself between two messages is in its idle sockets already. Processes hold more "
        f"sockets here than the {costs.largest:,.0f} of the largest measurement: that b stays as it is there is an "
        "assumption.",
        "",
        *_assumptions(),
    ]
    for sockets in SIZES:
        lines += _of_size(costs, sockets)
    return "\n".join(_wrap(line) for line in [*lines, *_full_first(costs), *_redis(), *_outside()]).rstrip() + "\n"


def _costs(costs: Costs) -> list[tuple[str, str, str]]:
    return [
        (
            "a: a message by itself, at each process that has a member of its room: an entry less its deliveries",
            _us(costs.message),
            "*many rooms*, and b",
        ),
        (f"b: a delivery, at {costs.largest:,.0f} sockets", _us(costs.delivery), "*growth*"),
        ("a of a few messages a second, with what the process does in between", _us(costs.lone), "*growth*"),
        ("a delivery, waiting entries joined in one write", _us(costs.joined), "*saturated fan-out*"),
        ("a socket that joins a new process, its token known to Redis", _us(costs.join), "*storm*"),
        ("the same, until SQL and DynamoDB have it as well", _us(costs.settled), "*storm*"),
        ("an idle socket", f"{significant(costs.memory)} kB", "*idle*"),
        ("a server process with nobody connected", f"{costs.process:.0f} MiB", "*idle*"),
        ("10,000 idle sockets", f"{significant(costs.idle * 100)} % of a core", "*idle*"),
        ("a message through a relay, from a full queue, ten at a time", _us(costs.relay), "*relay*"),
        ("one of a hundred a second, one by one, relay and server together", _us(costs.together), "*end to end*"),
        ("a message for Redis, ten at a time, no server listening: the append", _us(costs.append), "*relay*"),
        ("one by one, one server listening: append, hint, activity read", _us(costs.heard), "*many rooms*"),
        (
            "a partition that a process follows, for Redis, while nothing happens",
            f"{significant(costs.follow * 100)} % of a core",
            "*idle*",
        ),
        (
            "a hint to one process for Redis, at most: the last but the append and the looks",
            _us(costs.copy),
            "these three",
        ),
    ]


def _us(value: float) -> str:
    return f"{significant(value)} µs"


def _assumptions() -> list[str]:
    return [
        "## What is assumed",
        "",
        f"- **{FULL:.0%} of a core** is what a process is planned for. Nobody measured that: beyond it what waits "
        "grows faster than the work, and a process that fails leaves its share to the others.",
        "- **Members are spread evenly** over processes, by chance: a room of r sockets is at P · (1 − (1 − 1/P)^r) "
        "of P processes, which is min(P, r) where r is much more or much less than P.",
        f"- **Files**: `LimitNOFILE` in `deploy/systemd` lets a process have {sizing.FILES:,}; {sizing.SPARE_FILES} "
        "are left for all that is no client.",
        f"- **Ports**: from nginx to one address of the servers Linux gives {sizing.PORTS:,} (`ip_local_port_range`), "
        "however many workers listen there. More sockets need more addresses: more hosts, or more `server` lines.",
        f"- **Redis's memory**: {sizing.ROOM_BYTES:,} bytes for a room, {sizing.ENTRY_BYTES} for each entry of a frame "
        f"of 240 bytes, {sizing.ID_BYTES} for each id that is remembered. No scenario measures them: they were looked "
        "up by hand, as `used_memory` of INFO before and after 10,000 messages in 100 rooms, and a test holds them. A "
        f"history keeps {sizing.KEPT_ENTRIES:,} entries or a day, ids are remembered for an hour (as shipped).",
        f"- **Activity**: a line costs Redis {sizing.ACTIVITY_US:g} µs for each process that reads it, by hand as "
        "well: 0.8 µs thirty at a time and 0.4 by the thousand.",
        f"- **DynamoDB**: {sizing.TABLE_UNITS:,} writes a second for a table and {sizing.KEY_UNITS:,} for one key of "
        "an index are limits that AWS publishes; the embedded engine that was measured has neither.",
        f"- **{sizing.SPARE_RELAYS} relays** at least, so that one may fail.",
        "",
    ]


def _of_size(costs: Costs, sockets: int) -> list[str]:
    needs = [need(costs, Load(sockets, every, room)) for _, every, room in LOADS]
    rows: list[tuple[str, Callable[[Need], str]]] = [
        ("deliveries a second: sockets ÷ seconds between two", lambda n: significant(n.load.deliveries)),
        ("messages a second: deliveries ÷ sockets of a room", lambda n: significant(n.load.messages)),
        ("processes that a message reaches", lambda n: significant(n.load.reached(n.processes), 2)),
        ("cores for messages: messages × reached × a", lambda n: significant(n.taking, 2)),
        ("cores for deliveries: deliveries × b", lambda n: significant(n.sending, 2)),
        ("cores for open sockets: sockets × an idle one", lambda n: significant(n.idling, 2)),
        (
            f"**server processes**: the larger of these cores ÷ {FULL:g} and of sockets ÷ files",
            lambda n: f"**{n.processes}** ({'files' if n.processes == by_files(sockets) else 'cores'})",
        ),
        ("memory of them", lambda n: f"{significant(n.memory_gb)} GB"),
        ("addresses behind nginx: sockets ÷ ports", lambda n: f"{n.addresses}"),
        ("cores of relays: messages × a relay's, ten at a time", lambda n: significant(n.relaying, 2)),
        ("while each message comes alone, at most: server included", lambda n: significant(n.relaying_singly, 2)),
        (f"**relays**: the former ÷ {FULL:g}", lambda n: f"**{n.relays}**"),
        ("cores of Redis, appends: messages × an append", lambda n: significant(n.appending, 2)),
        ("hints and activity: messages × (reached × a hint + processes × 1 µs)", lambda n: significant(n.copying, 2)),
        (f"looks: processes × {PARTITIONS} partitions × each", lambda n: significant(n.following, 2)),
        (f"**Redis shards**: these cores ÷ {FULL:g}", lambda n: f"**{n.shards}**"),
        ("memory of Redis: rooms, entries, ids", lambda n: f"{significant(n.redis_gb)} GB"),
    ]
    return [
        f"## {sockets:,} sockets",
        "",
        f"| | {' | '.join(title for title, *_ in LOADS)} |",
        f"|---|{'---:|' * len(LOADS)}",
        *(f"| {name} | {' | '.join(said(one) for one in needs)} |" for name, said in rows),
        "",
        *_storm(Storm(costs, sockets, max(one.processes for one in needs[:2]))),
    ]


def _storm(storm: Storm) -> list[str]:
    costs, busy = storm.costs, storm.busy
    return [
        f"**When all come back at once**, as after a restart of everything: {storm.sockets:,} × {_us(costs.settled)} = "
        f"{significant(storm.work)} s of CPU. The toolkit spreads them over up to {sizing.RETURN_SECONDS:.0f} s, in "
        f"which {busy} {'core is' if busy == 1 else 'cores are'} busy with nothing else; the {storm.processes} "
        f"process{'es' * (storm.processes != 1)} of the first two loads, each with a core of its own, take "
        f"{significant(storm.taking_seconds, 2)} s. Who has to wait in line for 8 s is told to come back (4113). A "
        "rolling restart moves one process's sockets at a time.",
        "",
        f"Behind them, with nobody waiting for it: **SQL** is to write {storm.rows:,.0f} rows a second (the end of "
        "each old connection and the beginning of each new one, up to 500 in a statement), and **DynamoDB** "
        f"{storm.units:,.0f} units ({sizing.ITEM_UNITS} for a connection that ends and comes again: a put and a delete "
        "in a table with two indexes, a put in the audit, 25 in a request). Measured: one process had at least "
        f"{storm.written:,.0f} joins a second in SQLite and in the embedded DynamoDB. Assumed: by AWS's limits "
        f"DynamoDB has all of it {significant(storm.mirror_seconds, 2)} s after the beginning, and the mirror is "
        "behind until then. First-ever tokens are read before anybody is let in: two items for each, 50 members in a "
        "request.",
        "",
    ]


def _full_first(costs: Costs) -> list[str]:
    full = FULL * 1e6
    files = sizing.FILES - sizing.SPARE_FILES
    sockets = full / (costs.delivery / 60 + costs.idle / IDLE_SOCKETS * 1e6)
    crowd = costs.append + 16 * (costs.copy + sizing.ACTIVITY_US)
    which = "so files and ports are full first" if sockets > files else "so the core is full first"
    return [
        "## What is full first",
        "",
        f"A core is full at {FULL:.0%}.",
        "",
        f"- A server process has its files full with {files:,} sockets, and one address behind nginx its ports with "
        f"{sizing.PORTS:,}. Its core would do for {significant(sockets, 2)} that get an entry a minute in large rooms: "
        f"{which}.",
        f"- Its core is full with {significant(full / costs.delivery, 2)} deliveries a second in large rooms, or with "
        f"{significant(full / (costs.message + costs.delivery), 2)} messages a second to rooms of which it has one "
        "member. Where entries wait for one another they are joined, and it delivers up to "
        f"{significant(full / costs.joined, 2)} a second.",
        f"- A relay is full with {significant(full / costs.relay, 2)} messages a second. Where each comes alone it "
        f"takes a core of relay and server {significant(costs.together / costs.relay, 2)} times as much at most; when "
        "it is busy they do not come alone.",
        f"- A Redis is full with {significant(full / (costs.append + costs.copy), 2)} messages a second to rooms of "
        f"one server process, and with {significant(full / crowd, 2)} at least to rooms that reach 16, whatever the "
        "number of sockets.",
        f"- In a storm of joins DynamoDB's index by server is full with {sizing.KEY_UNITS:,} items a second of one "
        "process, by AWS's limit. Nobody waits for it; the mirror is late.",
        "",
        "Redis's share grows with the number of processes: a message costs it a hint to each that has a member, and "
        "each of them looks at its partitions every second. So few large processes are cheaper than many small ones. "
        "A hint has been taken for dearer than it is: the difference that it was read from has in it what messages "
        "cost more that come one by one. Looked at by hand, that is about half of it. "
        "Relays are added without a word to anybody: a queue's messages go to whoever asks.",
        "",
    ]


def _redis() -> list[str]:
    return [
        "## Where several Redis come in",
        "",
        "Where a table above has more than one shard, or more memory than one host:",
        "",
        "- **One Redis for each stage**: stages share nothing. Run them as two installations. This is today's way.",
        "- **Hints apart from histories**: `CHANNEL_LAYERS` takes several hosts, and each room's hints go over one of "
        "them. It takes the hints away, and leaves appends and looks.",
        "- **A cluster**: all keys of a room carry one hash tag, `{stage:partition}`, with 64 partitions a stage; so a "
        "script never leaves its slot, and up to 64 primaries could share a stage, each with its share of appends, "
        "looks and memory. The client that Hermes uses today speaks to one primary: this step is prepared and not "
        "taken, and a load with more than one shard is out of reach of one stage until it is.",
        "- **Less to keep**: `HERMES_HISTORY_ENTRIES` and `HERMES_HISTORY_SECONDS` are most of the memory.",
        "",
    ]


def _outside() -> list[str]:
    return [
        "## What is not in these numbers",
        "",
        "- **TLS**, which nginx ends on cores of its own, and the kernel's work in interrupts.",
        "- **The network**: a delivery of 240 bytes is some 300 on the wire; a million sockets with an entry a minute "
        f"are {significant(1_000_000 / 60 * 300 * 8 / 1e6, 2)} Mbit/s.",
        "- **First-ever tokens**: each is a row read from DynamoDB and a bcrypt hash; "
        "[benchmarks.md](benchmarks.md) has what that costs beside the others of *storm*.",
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
    parser = argparse.ArgumentParser(prog="python -m bench.capacity", description="Write capacity.md.")
    parser.add_argument("results", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, default=DOCS, help="the folder to write to (docs)")
    arguments = parser.parse_args()
    paths: list[Path] = arguments.results
    text = page(results.read_all(paths), ", ".join(path.name for path in paths))
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / PAGE).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

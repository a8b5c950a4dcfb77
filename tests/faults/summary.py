"""Summary: what a run found, as docs/guarantees.md shows it. Made by run, printed by main."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from statistics import median, quantiles
from typing import TYPE_CHECKING

from tests.faults.checker import Checker, Event
from tests.faults.kinds import OWED

if TYPE_CHECKING:
    from tests.faults.run import Run

LONG_SECONDS = 1500.0  # from here on a run is the long form, and owes its counts


@dataclass
class Result:
    """What a run found.

    Args:
        seed: makes the same choices again, though not at the same moments.
        seconds: how long it took.
        faults: how many of each kind.
        judged: the checker.
        told: what members received, and what they were told.
        registry: how long the books took to be right, by after what, store, and what was wrong.
        memory: MiB of each part at the first calm and at the last.
        tracebacks: lines of logs that begin one.
        members: how many there were.
        lease: of the servers, in seconds.
    """

    seed: str
    seconds: float
    faults: Counter[str]
    judged: Checker
    told: Counter[str]
    registry: dict[tuple[str, str, str], list[float]]
    memory: list[dict[str, int]]
    tracebacks: int
    members: int
    lease: float

    @classmethod
    def of(cls, run: Run, seconds: float, events: list[Event]) -> Result:
        """Judge a run and count what there was."""
        told = Counter(
            f"{event['event']} {event.get('reason') or event.get('status')}"
            for event in events
            if event["event"] in ("hello", "lost", "gap")
        )
        told["shown"] = sum(1 for event in events if event["event"] == "received" and event["shown"])
        tracebacks = run.world.log_text().count("Traceback (most recent call last)")
        judged = Checker().check(events)
        books = run.ledger.seconds
        members, lease = len(run.members), run.world.times.lease
        return cls(run.seed, seconds, run.faults, judged, told, books, run.memory, tracebacks, members, lease)

    @property
    def owed(self) -> list[tuple[str, int, int]]:
        """What the long form owes: a name, how many there were, how many are wanted."""
        return [(name, sum(self.faults[kind] for kind in kinds), want) for name, (kinds, want) in OWED.items()]

    @property
    def missed(self) -> list[str]:
        """What a run that is long enough has not reached."""
        if self.seconds < LONG_SECONDS:
            return []
        return [f"{name} {count} of {want}" for name, count, want in self.owed if count < want]


def table(result: Result) -> str:
    """Return a result as a table in Markdown."""
    judged = result.judged
    counts, told = judged.counts, result.told
    lost = {name: count for name, count in sorted(told.items()) if name.split()[0] in ("lost", "gap")}
    hellos = {name: count for name, count in sorted(told.items()) if name.startswith("hello")}
    told_lost = {name: count for name, count in hellos.items() if name not in ("hello fresh", "hello recovered")}
    is_long = result.seconds >= LONG_SECONDS
    wants = {kinds[0]: f" of {want}" for kinds, want in OWED.values() if len(kinds) == 1 and is_long}
    sums = [
        (name, f"{count} of {want}" if is_long else count)
        for name, count, want in result.owed
        if name not in KINDS_ALONE
    ]
    rows: list[tuple[str, object]] = [("Faults", sum(result.faults.values()))]
    rows += sums
    rows += [(f"· {name}", f"{count}{wants.get(name, '')}") for name, count in sorted(result.faults.items())]
    rows += [
        ("Messages produced", counts["produced"]),
        ("Deleted from SQS (acked)", len(judged.acked)),
        ("Dead letters", len(judged.dead)),
        ("Entries appended", counts["appended"]),
        ("· of a FIFO queue, each producer's in order", judged.order.count),
        (f"Entries received by {result.members} members", counts["received"]),
        ("· shown", told["shown"]),
        ("Connections greeted", counts["hello"]),
        ("· recovered", told["hello recovered"]),
        *((f"· lost, {name.split()[1]}", count) for name, count in told_lost.items()),
        *((f"Told while connected: {name}", count) for name, count in lost.items()),
        ("Calms in which all came right", counts["settled"]),
        *((name.capitalize(), count) for name, count in sorted(judged.authority.counts.items())),
        *_obeyed(judged.authority.obeyed_after),
        *_books(result, result.lease),
        ("Violations", len(judged.violations)),
    ]
    minutes, seconds = divmod(round(result.seconds), 60)
    head = f"Seed `{result.seed}`, {minutes} min {seconds} s."
    return "\n".join([head, "", "| | |", "|---|---:|", *(f"| {name} | {value} |" for name, value in rows)])


KINDS_ALONE = {kinds[0] for kinds, _ in OWED.values() if len(kinds) == 1}
_STORES = {"registry": "SQL", "mirror": "DynamoDB"}
_WRONGS = {
    "dead": "rid of a dead server's connections",
    "missing": "every greeted member there",
    "left": "rid of vanished clients",
    "unaudited": "an audit of each connection that ended",
}


def _books(result: Result, lease: float) -> list[tuple[str, str]]:
    rows = []
    for (after, store, what), seconds in sorted(result.registry.items()):
        if what == "left" and after == "a kill":
            continue
        text = _spread(seconds)
        if what == "dead" and after == "a kill":
            text += f", within the lease {sum(each <= lease for each in seconds)} of {len(seconds)}"
        rows.append((f"{_STORES[store]} {_WRONGS[what]} after {after}, {len(seconds)} times", text))
    return rows


def _obeyed(seconds: list[float]) -> list[tuple[str, str]]:
    return [(f"Closed after a revocation, {len(seconds)} times", _spread(seconds))] if seconds else []


def _spread(seconds: list[float]) -> str:
    late = quantiles(seconds, n=20, method="inclusive")[-1] if len(seconds) > 1 else seconds[0]
    return f"{median(seconds):.1f} s, p95 {late:.1f} s, at most {max(seconds):.1f} s"

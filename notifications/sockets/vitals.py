"""Vitals: what `/metrics` says of this process's hub. Counted by hub and its neighbours, read by exposition.

What happens for each entry is counted in plain numbers, once for each write to a room and never for each socket: a
Counter has a lock, and a label a look-up. A collector shows the numbers to prometheus-client when it is asked.
"""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator

from prometheus_client import REGISTRY, Counter, Gauge
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from notifications.access.refusals import OF_HANDSHAKES, OF_TOKENS, REFUSALS
from notifications.sockets.protocol import Close
from notifications.stream.entry import Entry
from notifications.stream.position import Lost, Resume

CONNECTIONS = Gauge("hermes_connections", "Open connections.")
ROOMS = Gauge("hermes_rooms", "Rooms that a process follows, its control rooms included.")
TASKS = Gauge("hermes_tasks", "Tasks of the event loop: some for the process, two at most for each connection.")
JOINS = Counter("hermes_joins", "Connections that joined their room, by how they go on.", ["status"])
CLOSES = Counter("hermes_closes", "Connections that ended after they had joined, by close code.", ["code"])
LOST = Counter(
    "hermes_lost", "Times that a member was told that entries are lost, by reason and when.", ["reason", "when"]
)
# Who joins brings a position, and may bring any: only what connected members are told is ours to vouch for.
JOINING, CONNECTED = "joining", "connected"

# Those of RFC 6455 that browsers and networks make; a client may send any of 2,000 others.
STANDARD_CODES = (1000, 1001, 1002, 1005, 1006, 1007, 1009, 1011, 1012)
_CODES = {None: "none"} | {int(code): str(int(code)) for code in (*STANDARD_CODES, *Close)}
OTHER = "other"
# s; a fan-out is a matter of milliseconds, and from SQS on of a long poll at most.
FANOUT_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
END_TO_END_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)

# A counter that is not there cannot be seen to rise.
for _status in ("fresh", "recovered", "lost", "live"):
    JOINS.labels(_status)
for _code in (*_CODES.values(), OTHER):
    CLOSES.labels(_code)
for _lost in Lost:
    for _when in (JOINING, CONNECTED):
        LOST.labels(_lost.value, _when)
for _reason in (*OF_TOKENS, *OF_HANDSHAKES):
    REFUSALS.labels(_reason)


class Times:
    """A histogram of seconds in plain numbers.

    Args:
        bounds: of its buckets, in seconds, rising.
    """

    __slots__ = ("_bounds", "_counts", "_sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, seconds: float) -> None:
        """Count one; two clocks may make it less than nothing, which counts as nothing."""
        self._counts[bisect_left(self._bounds, seconds)] += 1
        self._sum += max(seconds, 0.0)

    def family(self, name: str, documentation: str) -> Metric:
        """Return it as prometheus-client has it."""
        buckets, total = [], 0
        for bound, count in zip((*map(str, self._bounds), "+Inf"), self._counts, strict=True):
            total += count
            buckets.append((bound, float(total)))
        return HistogramMetricFamily(name, documentation, buckets=buckets, sum_value=self._sum)


class Tally:
    """What this process has taken and written, in plain numbers."""

    __slots__ = ("deliveries", "end_to_end", "fanout", "fills", "found", "gaps", "hinted", "sent_bytes", "slow_cuts")

    def __init__(self) -> None:
        self.hinted = self.found = self.deliveries = self.sent_bytes = 0
        self.fills = self.gaps = self.slow_cuts = 0
        self.fanout = Times(FANOUT_SECONDS)
        self.end_to_end = Times(END_TO_END_SECONDS)

    def written(self, entries: int, size: int, sockets: int = 1) -> None:
        """Count one write.

        Args:
            entries: how many entries were in it.
            size: bytes of its texts.
            sockets: to how many it went.
        """
        self.deliveries += entries * sockets
        self.sent_bytes += size * sockets

    def delivered(self, since: float, entries: Iterable[Entry]) -> None:
        """Take the time of entries that have been written to the last socket of their room.

        Args:
            since: when the first of them was received, in monotonic seconds.
            entries: those written together.
        """
        self.fanout.observe(time.monotonic() - since)
        now = time.time()
        for entry in entries:
            if entry.sent_at:
                self.end_to_end.observe(now - entry.sent_at / 1000)


TALLY = Tally()


class _Collector(Collector):
    """Shows the tally to prometheus-client."""

    def collect(self) -> Iterator[Metric]:
        taken = CounterMetricFamily(
            "hermes_entries",
            "Entries that came to a process, once for each: by hint, or found in the history.",
            labels=["by"],
        )
        taken.add_metric(["hint"], TALLY.hinted)
        taken.add_metric(["history"], TALLY.found)
        yield taken
        for name, documentation, value in (
            ("hermes_deliveries", "Entries written to sockets, once for each socket.", TALLY.deliveries),
            ("hermes_sent_bytes", "Bytes of frames written to sockets, once for each socket.", TALLY.sent_bytes),
            ("hermes_fills", "Reads of a history for what its room lacked here.", TALLY.fills),
            ("hermes_gaps", "Times that a room's entries were trimmed before they came here.", TALLY.gaps),
            ("hermes_slow_cuts", "Connections cut because their reader did not keep up.", TALLY.slow_cuts),
        ):
            yield CounterMetricFamily(name, documentation, value=value)
        yield TALLY.fanout.family(
            "hermes_fanout_seconds",
            "From the hint to the write to the last socket of the room, for entries that go together.",
        )
        yield TALLY.end_to_end.family(
            "hermes_end_to_end_seconds",
            "From SQS's SentTimestamp to the write to the last socket of the room, by two clocks.",
        )


REGISTRY.register(_Collector())


def joined(how: Resume | None) -> None:
    """Count a join.

    Args:
        how: it goes on; ``None`` for the article's clients, which get what is live.
    """
    JOINS.labels("live" if how is None else how.status).inc()
    if how is not None and how.lost is not None:
        LOST.labels(how.lost.value, JOINING).inc()


def closed(code: int | None) -> None:
    """Count the end of a connection that had joined.

    Args:
        code: why, if it is known; those that are neither ours nor a browser's count as one.
    """
    CLOSES.labels(_CODES.get(code, OTHER)).inc()


def show(connections: Callable[[], int], rooms: Callable[[], int]) -> None:
    """Have the gauges show the running loop's hub.

    Args:
        connections, rooms: return how many there are now.
    """
    loop = asyncio.get_running_loop()
    CONNECTIONS.set_function(connections)
    ROOMS.set_function(rooms)
    TASKS.set_function(lambda: len(asyncio.all_tasks(loop)))

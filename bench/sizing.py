"""Sizing: the arithmetic of docs/capacity.md: from what one of each costs to what many need. Used by capacity. Pure.

What was measured is in `bench.costs`; what was not is a constant here, and an assumption. The page names both as what
they are.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from bench.costs import IDLE_SOCKETS, PARTITIONS, Costs

# Assumptions.
FULL = 0.6  # of a core: beyond it what waits grows faster than the work
RETURN_SECONDS = 20.0  # over which the toolkit spreads those who come back, once its back-off has grown
SPARE_RELAYS = 2  # at least, so that one may fail
TABLE_UNITS = 40_000  # writes a second that AWS lets an on-demand table do, unless it is asked for more
KEY_UNITS = 1_000  # of one key of an index: of one server process
# The kernel's and the deployment's.
FILES = 65_536  # LimitNOFILE in deploy/systemd, of each process
SPARE_FILES = 536  # for all that is no socket of a client
PORTS = 28_232  # that Linux gives to connections to one address and port: between nginx and the servers
# The product's: docs/settings.md, notifications/registry, notifications/access.
KEPT_ENTRIES, KEPT_SECONDS, REMEMBERED_SECONDS = 1_000, 86_400.0, 3_600.0
SQL_ROWS = 2  # of a connection's life: opened, closed
ITEM_UNITS = 7  # a put and a delete in a table with two indexes, and a put in the audit
# Measured by hand, with `used_memory` of Redis's INFO, 10,000 messages in 100 rooms; a test holds them.
ROOM_BYTES = 7_500  # a room's first entry, with head, log and activity
ENTRY_BYTES = 360  # each further one in the log, of a frame of 240 bytes
ID_BYTES = 170  # a message's id, while it is remembered, and its line of activity
ACTIVITY_US = (
    1.0  # of Redis, for each line of activity that a process reads: 0.8 µs thirty at a time, 0.4 by the thousand
)


@dataclass(frozen=True, slots=True)
class Load:
    """What is asked of an installation.

    Args:
        sockets: how many are open.
        every: seconds from one entry of a member to the next.
        room: how many sockets a room has.
    """

    sockets: int
    every: float
    room: int

    @property
    def deliveries(self) -> float:
        """A second."""
        return self.sockets / self.every

    @property
    def messages(self) -> float:
        """A second."""
        return self.deliveries / self.room

    @property
    def rooms(self) -> float:
        """How many there are."""
        return self.sockets / self.room

    def reached(self, processes: int) -> float:
        """Return how many of so many processes have a member of a message's room, whose members fell on any of them."""
        return processes * (1 - (1 - 1 / processes) ** self.room)


@dataclass(frozen=True, slots=True)
class Need:
    """What a load needs.

    Args:
        costs, load: of it.
        processes: of servers: enough cores at `FULL`, and enough files.
    """

    costs: Costs
    load: Load
    processes: int

    @property
    def taking(self) -> float:
        """Cores of servers for what messages cost by themselves, at each process that has a member."""
        return self.load.messages * self.load.reached(self.processes) * self.costs.message / 1e6

    @property
    def sending(self) -> float:
        """Cores of servers for deliveries."""
        return self.load.deliveries * self.costs.delivery / 1e6

    @property
    def idling(self) -> float:
        """Cores of servers for open sockets."""
        return self.load.sockets / IDLE_SOCKETS * self.costs.idle

    @property
    def serving(self) -> float:
        """Cores of servers in all."""
        return self.taking + self.sending + self.idling

    @property
    def relaying(self) -> float:
        """Cores of relays, whose messages come ten at a time as soon as they are busy."""
        return self.load.messages * self.costs.relay / 1e6

    @property
    def relaying_singly(self) -> float:
        """Cores of relays while each message comes alone, at most: a server's work for it is in it."""
        return self.load.messages * self.costs.together / 1e6

    @property
    def relays(self) -> int:
        """Processes of them."""
        return max(SPARE_RELAYS, math.ceil(self.relaying / FULL))

    @property
    def appending(self) -> float:
        """Cores of Redis for appends."""
        return self.load.messages * self.costs.append / 1e6

    @property
    def copying(self) -> float:
        """Cores of Redis for hints, to each process that a message reaches, and for its line of activity, to all."""
        hints = self.load.reached(self.processes) * self.costs.copy
        return self.load.messages * (hints + self.processes * ACTIVITY_US) / 1e6

    @property
    def following(self) -> float:
        """Cores of Redis for followers' looks, whatever happens."""
        return self.processes * PARTITIONS * self.costs.follow

    @property
    def redis(self) -> float:
        """Cores of Redis in all."""
        return self.appending + self.copying + self.following

    @property
    def shards(self) -> int:
        """How many Redis at `FULL`, if work were shared evenly."""
        return max(1, math.ceil(self.redis / FULL))

    @property
    def entries(self) -> float:
        """How many a room's history keeps."""
        return min(KEPT_ENTRIES, KEPT_SECONDS / self.load.every)

    @property
    def redis_gb(self) -> float:
        """Memory of Redis: rooms, entries, and ids that are remembered."""
        logs = self.load.rooms * (ROOM_BYTES + self.entries * ENTRY_BYTES)
        return (logs + self.load.messages * REMEMBERED_SECONDS * ID_BYTES) / 1e9

    @property
    def memory_gb(self) -> float:
        """Memory of the servers."""
        return self.load.sockets * self.costs.memory / 1e6 + self.processes * self.costs.process * 2**20 / 1e9

    @property
    def addresses(self) -> int:
        """How many addresses nginx must have to reach the servers, for its ports to be enough."""
        return math.ceil(self.load.sockets / PORTS)


def by_files(sockets: int) -> int:
    """Return how many processes so many sockets need for their files."""
    return math.ceil(sockets / (FILES - SPARE_FILES))


def need(costs: Costs, load: Load) -> Need:
    """Return what a load needs: the fewest processes of which none is fuller than `FULL`, or has too many files."""
    found = Need(costs, load, by_files(load.sockets))
    while found.serving > FULL * found.processes:  # more processes have more of a message's own work, up to a room's
        found = Need(costs, load, found.processes + 1)
    return found


@dataclass(frozen=True, slots=True)
class Storm:
    """All of an installation's sockets come back at once.

    Args:
        costs: what one costs.
        sockets: how many come.
        processes: that they come to.
    """

    costs: Costs
    sockets: int
    processes: int

    @property
    def work(self) -> float:
        """Seconds of servers' CPU."""
        return self.sockets * self.costs.settled / 1e6

    @property
    def busy(self) -> int:
        """Cores that are full with it while the toolkit spreads them."""
        return math.ceil(self.work / RETURN_SECONDS)

    @property
    def taking_seconds(self) -> float:
        """How long it takes with the processes that there are, all of whose core is free for it."""
        return max(RETURN_SECONDS, self.work / self.processes)

    @property
    def rows(self) -> float:
        """SQL's rows a second: the end of each old connection, and the beginning of each new one."""
        return self.sockets * SQL_ROWS / RETURN_SECONDS

    @property
    def units(self) -> float:
        """DynamoDB's writes a second, if it should keep up."""
        return self.sockets * ITEM_UNITS / RETURN_SECONDS

    @property
    def mirror_seconds(self) -> float:
        """How long the mirror is behind: the table's units, or those of one process in the index by server."""
        return max(self.sockets * ITEM_UNITS / TABLE_UNITS, self.sockets / self.processes * 2 / KEY_UNITS)

    @property
    def written(self) -> float:
        """Joins a second that one process had in SQL and DynamoDB when it was measured, at least."""
        return self.costs.comers / self.costs.settling

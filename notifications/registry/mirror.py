"""Mirror: the registry's copy and audit in DynamoDB, for other programs. Called by keeper, rests on tables."""

from __future__ import annotations

import time
import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from django.conf import settings

from notifications.conf import Stage
from notifications.exceptions import StoreUnavailable
from notifications.registry import items, tables
from notifications.registry.neighbours import Neighbours
from notifications.registry.records import ABNORMAL, ConnectionRecord, Life, Watch
from notifications.registry.tables import probe, provision, refused

__all__ = ["Mirror", "probe", "provision", "refused"]

# A batch takes DynamoDB some 10 ms; four at a time keep up with thousands of joins a second.
WRITERS = 4

# Of a server that ended on this machine every reaper knows at once. By its first words a beat is told from a claim.
CLAIM = "claimed-"
BURIED = 1_000  # dead servers that are looked for again
# What a server had sent to a store before it died may arrive after its death.
IN_FLIGHT_SECONDS = 1.0

Request = tuple[str, dict[str, Any]]
T = TypeVar("T")


class Mirror:
    """Who is connected, in DynamoDB. Every method blocks and may raise botocore's errors or ``StoreUnavailable``.

    A lease is an item whose ``beat`` its server changes; a server is dead when another has watched one beat for four
    tenths of a lease by its own monotonic clock. So no two hosts' clocks are ever compared.

    Args:
        server_id: this process, never used before.
        lease_seconds: how long a server counts as alive after its last heartbeat, in seconds.
    """

    name = "dynamodb"

    def __init__(self, server_id: str, lease_seconds: float) -> None:
        self._server_id = server_id
        self._lease = lease_seconds
        self._stages: dict[str, Stage] = settings.HERMES_STAGES
        self._kept = timedelta(days=settings.HERMES_AUDIT_DAYS)
        self._beats: dict[str, str] = {}
        self._watch: Watch[tuple[str, str], str] = Watch()
        self._neighbours = Neighbours()
        # When, in monotonic seconds, to look again for what the dead may have left, by audit table and server.
        self._again: dict[tuple[str, str], list[float]] = {}
        self._reconciled_at = datetime.now(UTC)
        self._writers = ThreadPoolExecutor(max_workers=WRITERS, thread_name_prefix="hermes-mirror")

    def write(self, lives: Sequence[Life]) -> Sequence[Life]:
        """Put an open life's item; put a closed one's audit, then delete its item. Return the lives not written whole.

        One batch with both may be processed by half: a server that dies then leaves a connection that has gone from
        both tables.
        """
        now = datetime.now(UTC)
        puts = [(life, self._put(life, now)) for life in lives]
        unwritten = self._batched(puts)
        closed = [life for life in lives if life.closed_at is not None and life.record.connection_id not in unwritten]
        unwritten |= self._batched([(life, self._delete(life)) for life in closed])
        return [life for life in lives if life.record.connection_id in unwritten]

    def renew(self) -> bool:
        """Change this server's beat in every audit table; make the lease where there is none.

        Returns:
            False if one was missing or somebody else's: this server is new, or was taken for dead.
        """
        kept = True
        for table in self._audit_tables():
            beat = uuid.uuid4().hex
            if not tables.change_beat(table, self._server_id, self._beats.get(table, ""), beat):
                kept = False
                tables.put_lease(table, self._server_id, beat)
            self._beats[table] = beat
        return kept

    def reconcile(self, live: Mapping[str, ConnectionRecord], closing: Collection[str]) -> Collection[str]:
        """Delete this server's items that have no live connection, and audit them.

        Returns:
            The ids of live connections whose item is missing, or due to be put again before its backstop.
        """
        now, found = datetime.now(UTC), set[str]()
        for table in self._connections_tables():
            here = set(tables.ids_of(table, self._server_id))
            self._bury(table, self._server_id, here - live.keys() - set(closing))
            found |= here
        due = {each for each, record in live.items() if items.renewal_due(record, self._reconciled_at, now)}
        self._reconciled_at = now
        return due | (live.keys() - found)

    def reap(self, now: float, unbroken: float) -> int:
        """Delete the items of servers that have fallen silent, or ended on this machine; any process may, one does.

        They are audited. Who has not come back by then is looked for again a second later, for what it had sent, and a
        lease later, for what the index had not shown. The claim is a conditional change of the dead server's beat:
        nobody else takes a claim for the beat of a server that has ended, and a process that dies in the middle leaves
        one that falls silent again.

        Args:
            now: seconds, by the clock of `Listening`.
            unbroken: for how many of them DynamoDB has answered without a break. In an outage nobody can renew,
                so silence says nothing until every server has had the time to.

        Returns:
            How many leases were removed.
        """
        buried, own_claim = 0, f"{CLAIM}{self._server_id}-"
        leases = [((table, server), beat) for table in self._audit_tables() for server, beat in tables.leases(table)]
        ended = self._neighbours.ended({server_id for (_, server_id), _ in leases} - {self._server_id})
        for (table, server_id), beat, silent_for in list(self._watch.look(leases, now)):
            is_free = not beat.startswith(CLAIM) or beat.startswith(own_claim)
            has_ended = server_id in ended and is_free
            is_silent = min(silent_for, unbroken) >= self._lease * self._neighbours.silence(server_id)
            if server_id == self._server_id or not (is_silent or has_ended):
                continue
            mine = f"{own_claim}{uuid.uuid4().hex}"
            if tables.change_beat(table, server_id, beat, mine):
                # If what follows fails, the next turn goes on where this one ended.
                self._watch.replace((table, server_id), mine)
                self._bury_all(table, server_id)
                tables.remove_lease(table, server_id, mine)
                self._bury_again(table, server_id)
                buried += 1
        self._look_again({key for key, _ in leases})
        return buried

    def is_bereaved(self) -> bool:
        """Tell whether a server of this machine has ended that the last look found there; waits for nobody."""
        return self._neighbours.misses_one()

    def prune(self) -> bool:
        """Nothing to do: TTL removes audit items after ``HERMES_AUDIT_DAYS``."""
        return False

    def release(self) -> None:
        """Give the leases back: everything is written, and there is nothing to reap."""
        for table, beat in self._beats.items():
            tables.remove_lease(table, self._server_id, beat)

    def close(self) -> None:
        """End the writers."""
        self._writers.shutdown(wait=False)

    def _audit_tables(self) -> list[str]:
        return list(dict.fromkeys(stage.audit_table for stage in self._stages.values()))

    def _connections_tables(self, audit_table: str | None = None) -> list[str]:
        stages = (stage for stage in self._stages.values() if audit_table in (None, stage.audit_table))
        return list(dict.fromkeys(stage.connections_table for stage in stages))

    def _put(self, life: Life, now: datetime) -> Request:
        stage, record = self._stages[life.record.stage], life.record
        if life.closed_at is None:
            return stage.connections_table, {
                "PutRequest": {"Item": items.connection_item(record, self._server_id, now)}
            }
        audit = items.audit_item(life, life.closed_at, self._server_id, self._kept)
        return stage.audit_table, {"PutRequest": {"Item": audit}}

    def _delete(self, life: Life) -> Request:
        key = items.connection_key(life.record.connection_id)
        return self._stages[life.record.stage].connections_table, {"DeleteRequest": {"Key": key}}

    def _batched(self, asked: Sequence[tuple[Life, Request]]) -> set[str]:
        """Write one request for each life; return the connections of the batches that were not taken whole."""
        batches = list(_chunks(asked, tables.WRITES))
        taken = self._writers.map(tables.batch_write, [[request for _, request in batch] for batch in batches])
        lost = (batch for batch, done in zip(batches, taken, strict=True) if not done)
        return {life.record.connection_id for batch in lost for life, _ in batch}

    def _bury_again(self, audit_table: str, server_id: str) -> None:
        now = time.monotonic()
        self._again[audit_table, server_id] = sorted((now + IN_FLIGHT_SECONDS, now + self._lease))
        if len(self._again) > BURIED:
            del self._again[next(iter(self._again))]

    def _look_again(self, there: Collection[tuple[str, str]]) -> None:
        now = time.monotonic()
        for (table, server_id), moments in list(self._again.items()):
            if moments[0] > now:
                continue
            if (table, server_id) not in there:  # else it came back, and has what it holds
                self._bury_all(table, server_id)
            self._again[table, server_id] = [each for each in moments if each > now]
            if not self._again[table, server_id]:
                del self._again[table, server_id]

    def _bury_all(self, audit_table: str, server_id: str) -> None:
        for connections in self._connections_tables(audit_table):
            self._bury(connections, server_id, set(tables.ids_of(connections, server_id)))

    def _bury(self, table: str, server_id: str, ids: Collection[str]) -> None:
        # The index may be behind: what the table itself no longer holds has been closed, and gets no second end.
        now = datetime.now(UTC)
        for chunk in _chunks(sorted(ids), tables.READS):
            open_items = [item for item in tables.batch_get(table, chunk) if item["server_id"]["S"] == server_id]
            lives = [Life(items.record_of(item), now, ABNORMAL) for item in open_items]
            # As in `write`; and who died between the two has said how the connection ended, which stands.
            list(self._writers.map(lambda life: self._put_end(life, now, server_id), lives))
            if self._batched([(life, self._delete(life)) for life in lives]):
                raise StoreUnavailable("DynamoDB: throttled")

    def _put_end(self, life: Life, now: datetime, server_id: str) -> None:
        audit = items.audit_item(life, now, server_id, self._kept)
        tables.put_end(self._stages[life.record.stage].audit_table, audit)


def _chunks(sequence: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    return (sequence[start : start + size] for start in range(0, len(sequence), size))

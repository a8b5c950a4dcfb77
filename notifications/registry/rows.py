"""Rows: the registry's SQL, one statement after the other in keeper's thread. Called by keeper; writes models."""

from __future__ import annotations

import functools
import os
import socket
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Concatenate, ParamSpec, TypeVar

from django.conf import settings
from django.db import close_old_connections, connection, transaction
from django.db.models.functions import Now
from django.utils import timezone

from notifications.models import Connection, Server
from notifications.registry.neighbours import Neighbours
from notifications.registry.records import ABNORMAL, SILENCE, ConnectionRecord, Life, Source, Watch

# SQLite takes 999 parameters in a statement on hosts with an older library.
SLICE = 500
COUNTS = ["frames_sent", "bytes_sent", "bytes_waiting"]
_NOTE = (
    f"UPDATE {Connection._meta.db_table} SET {', '.join(f'{name} = %s' for name in COUNTS)} "  # noqa: S608  our own names
    "WHERE connection_id = %s"
)

P = ParamSpec("P")
R = TypeVar("R")


def _in_database(work: Callable[Concatenate[Rows, P], R]) -> Callable[Concatenate[Rows, P], R]:
    """Run on this thread's database connection, which is kept, for as long as ``CONN_MAX_AGE`` says if it says so.

    Without that Django would make a new one for each call; and SQLite, when the last one is closed, writes its whole
    log back and waits for the disk.
    """

    @functools.wraps(work)
    def run(self: Rows, /, *args: P.args, **kwargs: P.kwargs) -> R:
        if connection.settings_dict["CONN_MAX_AGE"] != 0:
            close_old_connections()  # looks at its health, too, if `CONN_HEALTH_CHECKS` says so
        try:
            return work(self, *args, **kwargs)
        except BaseException:
            # What failed may have broken the connection, as the end of a database does; the next call makes a new one.
            connection.close()
            raise

    return run


class Rows:
    """Who is connected, in SQL, for the admin. Every method blocks and may raise ``django.db.Error``.

    A heartbeat changes the time at which a server's lease ends; a server is dead when another has watched one value for
    four tenths of a lease by its own monotonic clock. So a clock that is put right, here or at the database, buries
    nobody.

    Args:
        server_id: this process, at most 64 characters, never used before.
        lease_seconds: how long a server counts as alive after its last heartbeat, in seconds.
        sources: what knows the traffic of this process's live connections, by their ids; read, never changed.
    """

    name = "sql"

    def __init__(self, server_id: str, lease_seconds: float, sources: Mapping[str, Source] | None = None) -> None:
        self._server_id = server_id
        self._lease = timedelta(seconds=lease_seconds)
        self._started_at = timezone.now()
        self._watch: Watch[str, datetime] = Watch()
        self._neighbours = Neighbours()
        self._sources: Mapping[str, Source] = {} if sources is None else sources

    @_in_database
    def write(self, lives: Sequence[Life]) -> Sequence[Life]:
        """Insert or update a row for each life in one transaction; return those not written, here none."""
        Connection.objects.bulk_create(
            [self._row(life) for life in lives],
            batch_size=SLICE,
            update_conflicts=True,
            unique_fields=["connection_id"],
            update_fields=["server_id", "closed_at", "close_code", *COUNTS],
        )
        return ()

    @_in_database
    def renew(self) -> bool:
        """Prolong this server's lease by the database's clock; make it when there is none.

        Returns:
            False if there was none: this server is new, or was taken for dead and its rows were closed.
        """
        until = Now() + self._lease
        said = {"open_connections": len(self._sources), "load": os.getloadavg()[0]}
        if Server.objects.filter(server_id=self._server_id).update(lease_until=until, **said):
            return True
        Server.objects.create(
            server_id=self._server_id,
            host=socket.gethostname()[:255],
            pid=os.getpid(),
            started_at=self._started_at,
            lease_until=until,
            **said,
        )
        return False

    @_in_database
    def reconcile(self, live: Mapping[str, ConnectionRecord], closing: Collection[str]) -> Collection[str]:
        """Close this server's rows that have no live connection.

        Args:
            live: the live connections by their ids.
            closing: connections whose end is about to be written, with its true time and code.

        Returns:
            The ids of live connections that have no open row.
        """
        ours = Connection.objects.filter(server_id=self._server_id, closed_at=None)
        rows = set(ours.values_list("connection_id", flat=True).iterator(chunk_size=SLICE))
        surplus = sorted(rows - live.keys() - set(closing))
        for start in range(0, len(surplus), SLICE):
            ours.filter(connection_id__in=surplus[start : start + SLICE]).update(closed_at=Now(), close_code=ABNORMAL)
        self._note({connection_id: live[connection_id] for connection_id in rows & live.keys()})
        return live.keys() - rows

    def _row(self, life: Life) -> Connection:
        traffic = life.traffic
        return Connection(
            connection_id=life.record.connection_id,
            stage=life.record.stage,
            room_id=life.record.room_id,
            user_id=life.record.user_id,
            server_id=self._server_id,
            opened_at=life.record.opened_at,
            closed_at=life.closed_at,
            close_code=life.code,
            frames_sent=traffic.frames if traffic else None,
            bytes_sent=traffic.size if traffic else None,
            bytes_waiting=traffic.waiting if traffic else None,
        )

    def _note(self, known: Mapping[str, ConnectionRecord]) -> None:
        """Write what connections that have a row were sent until now."""
        sent = []
        for connection_id in known:
            source = self._sources.get(connection_id)
            if source is not None:
                traffic = source.traffic()
                sent.append((traffic.frames, traffic.size, traffic.waiting, connection_id))
        # Of everybody, once a minute; the ORM's bulk_create takes fifteen times as long.
        with connection.cursor() as cursor:
            for start in range(0, len(sent), SLICE):
                with transaction.atomic():
                    cursor.executemany(_NOTE, sent[start : start + SLICE])

    @_in_database
    def reap(self, now: float, unbroken: float) -> int:
        """Close what servers left open that have fallen silent, or ended on this machine; any process may, one does.

        The claim is the deletion of the server's row, in one transaction with the closing of its connections.

        Args:
            now: seconds, by the clock of `Listening`.
            unbroken: for how many of them SQL has answered without a break. In an outage nobody can renew,
                so silence says nothing until every server has had the time to.

        Returns:
            How many servers were buried.
        """
        silence, buried = self._lease.total_seconds() * SILENCE, 0
        others = list(Server.objects.exclude(server_id=self._server_id).values_list("server_id", "lease_until"))
        ended = self._neighbours.ended(server_id for server_id, _ in others)
        for server_id, lease_until, silent_for in self._watch.look(others, now):
            needed = self._lease.total_seconds() * self._neighbours.silence(server_id)
            if min(silent_for, unbroken) < needed and server_id not in ended:
                continue
            with transaction.atomic():
                claimed, _ = Server.objects.filter(server_id=server_id, lease_until=lease_until).delete()
                if claimed:
                    buried += 1
                    Connection.objects.filter(server_id=server_id, closed_at=None).update(
                        closed_at=Now(), close_code=ABNORMAL
                    )
        if unbroken < silence:
            return buried
        # A server that was taken for dead, wrote once more and then died has rows but no lease.
        orphans = Connection.objects.filter(closed_at=None).exclude(server_id__in=Server.objects.values("server_id"))
        orphans.update(closed_at=Now(), close_code=ABNORMAL)
        return buried

    def is_bereaved(self) -> bool:
        """Tell whether a server of this machine has ended that the last look found there; waits for nobody."""
        return self._neighbours.misses_one()

    @_in_database
    def prune(self) -> bool:
        """Delete a slice of the rows closed more than ``HERMES_CLOSED_ROWS_DAYS`` ago; return whether there are more.

        A slice, because one large deletion would hold the table's locks for seconds.
        """
        before = Now() - timedelta(days=settings.HERMES_CLOSED_ROWS_DAYS)
        old = Connection.objects.filter(closed_at__lt=before).order_by("closed_at")
        ids = list(old.values_list("connection_id", flat=True)[:SLICE])
        Connection.objects.filter(connection_id__in=ids).delete()
        return len(ids) == SLICE

    @_in_database
    def release(self) -> None:
        """Give the lease back: everything is written, and there is nothing to reap."""
        Server.objects.filter(server_id=self._server_id).delete()

    def close(self) -> None:
        """Close this thread's database connection."""
        connection.close()

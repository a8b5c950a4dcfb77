"""Dashboard: what goes on, in figures, tables and lines of small plots. Shown by admin_pages; asks SQL, Redis and SQS.

Redis and SQS are asked by dashboard_looks, so that neither can hold the page up; dashboard_tiles words what they say.
SQL is asked in the page's own thread, which could not be here without it; who looks at the same time shares the answer.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import connection
from django.db.models import CharField, Count, F, QuerySet
from django.db.models.functions import Cast, Now, Substr, TruncMinute
from django.utils import timezone

from notifications.admin_words import duration, number
from notifications.conf import Stage
from notifications.dashboard_looks import Looks, Refused
from notifications.dashboard_tiles import FIGURES, Past, Tile, counts, flow, plot
from notifications.intake import heartbeat, queue, sightings
from notifications.models import Connection, Server
from notifications.stream import pace

MINUTES = 60
MOST_SERVERS = 200  # that are shown


@functools.cache
def looks() -> Looks:
    """Return this process's looks at Redis and SQS."""
    parts: dict[str, Callable[[], Any]] = {}
    for stage in settings.HERMES_STAGES.values():
        parts[f"pace:{stage.name}"] = functools.partial(pace.pace, stage.name)
        parts[f"relays:{stage.name}"] = functools.partial(heartbeat.relays, stage.name)
        parts[f"queue:{stage.name}"] = functools.partial(queue.attributes, stage, stage.queue_name)
        parts[f"dead:{stage.name}"] = functools.partial(queue.attributes, stage, stage.dlq_name)
        parts[f"past:{stage.name}"] = functools.partial(_past, stage)
    return Looks(parts)


def _past(stage: Stage) -> Past:
    """Note how deep the queues were when they were last looked at, and read what is known of the last hour."""
    for part, figure in (("queue", "depth"), ("dead", "dead")):
        if told := looks().known(f"{part}:{stage.name}"):
            sightings.note(stage.name, figure, sum(counts(told)))
    hours = {figure: sightings.last_hour(stage.name, figure) for figure in FIGURES}
    return Past(sightings.since_empty(stage.name), hours)


def report() -> dict[str, Any]:
    """Look at everything.

    Returns:
        ``groups`` of tiles, and rows of ``servers`` and ``relays``: text alone, fit for JSON and for a template.
    """
    answers = looks().answers()
    presence, servers = looks().here(_registered)
    groups = [{"title": "Who is here", "tiles": [asdict(tile) for tile in presence]}]
    for stage in settings.HERMES_STAGES.values():
        told = {part: answers[f"{part}:{stage.name}"] for part in ("pace", "relays", "queue", "dead", "past")}
        groups.append({"title": f"Stage {stage.name}", "tiles": [asdict(tile) for tile in flow(stage, **told)]})
    return {"groups": groups, "servers": servers, "relays": relay_rows(answers)}


def _registered() -> tuple[list[Tile], list[list[str]]]:
    """Ask SQL: the tiles of connections, and a row for each server."""
    servers = list(Server.objects.order_by("host", "pid").annotate(now=Now())[:MOST_SERVERS])
    return _presence(servers), [_server_row(server) for server in servers]


def relay_rows(answers: Mapping[str, Any]) -> list[list[str]]:
    """Return a row for each relay that Redis knows of."""
    rows = []
    for name in settings.HERMES_STAGES:
        told = answers[f"relays:{name}"]
        for beat in () if isinstance(told, Refused) else told:
            tally = beat.tally
            lag = "nothing yet" if tally.worst_ms is None else duration(tally.worst_ms)
            counted = [number(tally.batches), number(tally.messages)]
            rows.append([f"{beat.host}:{beat.pid}", name, lag, *counted, f"{duration(beat.silent_s * 1000)} ago"])
    return rows


def _server_row(server: Any) -> list[str]:
    left = (server.lease_until - server.now).total_seconds()
    return [
        f"{server.host}:{server.pid}",
        f"alive for {left:.0f} s more" if left > 0 else "run out",
        "not known" if server.open_connections is None else number(server.open_connections),
        "not known" if server.load is None else f"{server.load:.2f}",
        timezone.localtime(server.started_at).strftime("%Y-%m-%d %H:%M"),
    ]


def _presence(servers: list[Any]) -> list[Tile]:
    """Tiles of connections, from what servers say of themselves and from two short stretches of indexes."""
    alive = [server for server in servers if server.lease_until > server.now]
    now = sum(server.open_connections or 0 for server in alive)
    this_minute = timezone.now().replace(second=0, microsecond=0)
    begin = this_minute - timedelta(minutes=MINUTES)
    times = [begin + timedelta(minutes=minute) for minute in range(MINUTES + 1)]
    came, left = _by_minute("opened_at", begin), _by_minute("closed_at", begin)
    joins, leaves = [came.get(at, 0) for at in times], [left.get(at, 0) for at in times]
    levels, level = [], now
    for joined, gone in zip(reversed(joins), reversed(leaves), strict=True):
        levels.append(max(level, 0))
        level += gone - joined
    levels.reverse()
    note = f"on {len(alive)} server{'' if len(alive) == 1 else 's'}"
    most = max(*joins, *leaves)
    return [
        plot(Tile("connections", "Open connections", number(now), note, "ok" if alive else "bad"), levels),
        plot(Tile("joins", "Joins a minute", number(joins[-2]), f"{number(sum(joins))} in an hour"), joins[:-1], most),
        plot(
            Tile("leaves", "Leaves a minute", number(leaves[-2]), f"{number(sum(leaves))} in an hour"),
            leaves[:-1],
            most,
        ),
    ]


def _by_minute(column: str, begin: datetime) -> dict[datetime, int]:
    """Count rows by the minute of a column, from its index alone."""
    rows: QuerySet[Connection, Any] = Connection.objects.filter(**{f"{column}__gte": begin}).order_by()
    if connection.vendor == "sqlite":
        # Django truncates times for SQLite in Python, row by row; what SQLite keeps is text, in UTC.
        minutes = rows.annotate(minute=Substr(Cast(F(column), CharField()), 1, 16)).values_list("minute")
        counted = minutes.annotate(count=Count("*"))
        return {datetime.fromisoformat(f"{minute}:00+00:00"): count for minute, count in counted}
    minutes = rows.annotate(minute=TruncMinute(column)).values_list("minute")
    return dict(minutes.annotate(count=Count("*")))

"""Dashboard: what goes on, in figures, tables and lines of small plots. Shown by admin_pages; asks SQL, Redis and SQS.

Redis and SQS are asked in threads of their own with one deadline: a part that hangs costs one thread, and its tiles say
that it does not answer. SQL is asked in the page's own thread, which could not be here without it.
"""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import connection
from django.db.models import CharField, Count, F, QuerySet
from django.db.models.functions import Cast, Now, Substr, TruncMinute
from django.utils import timezone

from notifications.admin_words import duration, line, number
from notifications.conf import Stage
from notifications.exceptions import HermesError
from notifications.intake import heartbeat, queue
from notifications.models import Connection, Server
from notifications.stream import pace

DEADLINE_SECONDS = 1.2
CACHE_SECONDS = 2.0
MINUTES = 60
MOST_SERVERS = 200  # that are shown
SILENT = "does not answer"


@dataclass(frozen=True, slots=True)
class Tile:
    """One figure.

    Args:
        key: what the page knows it by.
        title, value, note: what it says.
        state: ``ok``, ``warn``, ``bad``, or ``unknown`` where nobody answers.
        lines: paths of its plot, the main one first.
        rounds: the largest value of the plot, for people who cannot see it.
    """

    key: str
    title: str
    value: str
    note: str = ""
    state: str = "ok"
    lines: tuple[str, ...] = ()
    rounds: str = ""


@dataclass(frozen=True, slots=True)
class Refused:
    """Why a look brought nothing, for operators."""

    reason: str


class Looks:
    """Asks parts that may hang, each in a thread of its own; who asks meanwhile shares the answer.

    Args:
        parts: a blocking function for each; what it raises is an answer, too.
        deadline: how long anybody waits, in seconds.
        cached: how long an answer stays good, in seconds.
    """

    def __init__(
        self,
        parts: Mapping[str, Callable[[], Any]],
        *,
        deadline: float = DEADLINE_SECONDS,
        cached: float = CACHE_SECONDS,
    ) -> None:
        self._parts = parts
        self._deadline = deadline
        self._cached = cached
        self._lock = threading.Lock()
        self._threads = ThreadPoolExecutor(max_workers=len(parts), thread_name_prefix="hermes-dashboard")
        self._asked: dict[str, tuple[float, Future[Any]]] = {}

    def answers(self) -> dict[str, Any]:
        """Return each part's answer; `Refused` where it failed or did not come in time."""
        now = time.monotonic()
        with self._lock:
            for part, look in self._parts.items():
                since, asked = self._asked.get(part, (float("-inf"), None))
                if asked is None or (asked.done() and now - since >= self._cached):
                    self._asked[part] = (now, self._threads.submit(look))
            running = dict(self._asked)
        # Who has hung for longer than that is not waited for again by every page.
        wait([asked for since, asked in running.values() if now - since < self._deadline], timeout=self._deadline)
        return {part: _answer(asked) for part, (_, asked) in running.items()}

    def close(self) -> None:
        """End the threads; one that hangs ends by itself."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _answer(asked: Future[Any]) -> Any:
    if not asked.done():
        return Refused(SILENT)
    error = asked.exception()
    if error is None:
        return asked.result()
    return Refused(str(error) if isinstance(error, HermesError) else type(error).__name__)


@functools.cache
def looks() -> Looks:
    """Return this process's looks at Redis and SQS."""
    parts: dict[str, Callable[[], Any]] = {}
    for stage in settings.HERMES_STAGES.values():
        parts[f"pace:{stage.name}"] = functools.partial(pace.pace, stage.name)
        parts[f"relays:{stage.name}"] = functools.partial(heartbeat.relays, stage.name)
        parts[f"queue:{stage.name}"] = functools.partial(queue.attributes, stage, stage.queue_name)
        parts[f"dead:{stage.name}"] = functools.partial(queue.attributes, stage, stage.dlq_name)
    return Looks(parts)


def report() -> dict[str, Any]:
    """Look at everything.

    Returns:
        ``groups`` of tiles, and rows of ``servers`` and ``relays``: text alone, fit for JSON and for a template.
    """
    answers = looks().answers()
    servers = list(Server.objects.order_by("host", "pid").annotate(now=Now())[:MOST_SERVERS])
    groups = [{"title": "Who is here", "tiles": [asdict(tile) for tile in _presence(servers)]}]
    for stage in settings.HERMES_STAGES.values():
        told = {part: answers[f"{part}:{stage.name}"] for part in ("pace", "relays", "queue", "dead")}
        groups.append({"title": f"Stage {stage.name}", "tiles": [asdict(tile) for tile in _flow(stage, **told)]})
    return {"groups": groups, "servers": [_server_row(server) for server in servers], "relays": relay_rows(answers)}


def relay_rows(answers: Mapping[str, Any]) -> list[list[str]]:
    """Return a row for each relay that Redis knows of."""
    rows = []
    for name in settings.HERMES_STAGES:
        told = answers[f"relays:{name}"]
        for beat in () if isinstance(told, Refused) else told:
            tally = beat.tally
            lag = "nothing yet" if tally.lag_ms is None else duration(tally.lag_ms)
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
        _plot(Tile("connections", "Open connections", number(now), note, "ok" if alive else "bad"), levels),
        _plot(Tile("joins", "Joins a minute", number(joins[-2]), f"{number(sum(joins))} in an hour"), joins[:-1], most),
        _plot(
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


def _flow(stage: Stage, pace: Any, relays: Any, queue: Any, dead: Any) -> list[Tile]:
    """Tiles of one stage, from SQS to the histories."""
    key = stage.name
    return [_entries(key, pace), _depth(key, queue), _age(key, queue, relays), _dead(key, dead), _lag(key, relays)]


def _entries(key: str, told: Any) -> Tile:
    title = "Entries a minute"
    if isinstance(told, Refused):
        return _silent(f"entries-{key}", title, told)
    last = told.minutes[-1]
    now = "nothing counted yet" if told.now is None else f"{number(told.now)} since the minute began"
    state = "unknown" if last is None else "ok"
    tile = Tile(f"entries-{key}", title, "not known yet" if last is None else number(last), now, state)
    return _plot(tile, told.minutes)


def _depth(key: str, told: Any) -> Tile:
    title = "In the queue"
    if isinstance(told, Refused):
        return _silent(f"queue-{key}", title, told)
    if not told:
        return Tile(f"queue-{key}", title, "no such queue", "manage.py provision makes it", "bad")
    waiting, flying, delayed = _counts(told)
    note = f"{number(flying)} in flight" + (f", {number(delayed)} delayed" if delayed else "")
    return Tile(f"queue-{key}", title, number(waiting), note)


def _age(key: str, told: Any, relays: Any) -> Tile:
    title, name = "Oldest message", f"age-{key}"
    if isinstance(told, Refused):
        return _silent(name, title, told)
    waited = [] if isinstance(relays, Refused) else [beat.tally.waited_ms for beat in relays]
    known = [each for each in waited if each is not None]
    note = f"the last batch had waited {duration(max(known))}" if known else "CloudWatch knows: AgeOfOldestMessage"
    if told and not sum(_counts(told)):
        return Tile(name, title, "none", note)
    return Tile(name, title, "not known here", note, "unknown")


def _dead(key: str, told: Any) -> Tile:
    title, name = "Dead letters", f"dead-{key}"
    if isinstance(told, Refused):
        return _silent(name, title, told)
    if not told:
        return Tile(name, title, "no such queue", "refused messages stay in the queue", "warn")
    count = sum(_counts(told))
    return Tile(name, title, number(count), "wait for somebody" if count else "", "bad" if count else "ok")


def _lag(key: str, told: Any) -> Tile:
    title, name = "Relay lag", f"lag-{key}"
    if isinstance(told, Refused):
        return _silent(name, title, told)
    if not told:
        return Tile(name, title, "no relay", "manage.py relay_sqs runs one", "bad")
    lags = [beat.tally.lag_ms for beat in told if beat.tally.lag_ms is not None]
    note = f"{len(told)} relay{'' if len(told) == 1 else 's'}, of the last batch of each the slowest"
    return Tile(name, title, duration(max(lags)) if lags else "nothing yet", note)


def _counts(attributes: Mapping[str, str]) -> tuple[int, int, int]:
    """How many messages wait, are in flight and are delayed, about."""
    names = ("", "NotVisible", "Delayed")
    waiting, flying, delayed = (int(attributes.get(f"ApproximateNumberOfMessages{name}", "0")) for name in names)
    return waiting, flying, delayed


def _silent(key: str, title: str, told: Refused) -> Tile:
    return Tile(key, title, SILENT, "" if told.reason == SILENT else told.reason, "unknown")


def _plot(tile: Tile, values: list[Any], top: int | None = None) -> Tile:
    most = max((value for value in values if value is not None), default=0)
    lines = (line(values, most if top is None else top),)
    return Tile(
        tile.key, tile.title, tile.value, tile.note, tile.state, lines, f"the last hour, {number(most)} at most"
    )

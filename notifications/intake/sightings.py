"""Sightings: how a stage's queue was seen, in Redis for the admin's dashboard. Told by heartbeat and by dashboard.

SQS tells nobody how old its oldest message is. A relay that waited for messages and got none knows that none was
waiting at that moment, so that what waits now is younger. Figures are kept by the minute, for the plots.
"""

from __future__ import annotations

from typing import Any

import redis

from notifications.exceptions import HistoryUnavailable
from notifications.stream import keys, pace

KEPT_MS = 14 * 24 * 3_600_000  # SQS keeps no message for longer
MINUTES = pace.MINUTES


def add_emptiness(pipeline: Any, stage: str, ago_s: float) -> None:
    """Say that a queue was seen empty, within a pipeline of the caller's.

    Args:
        pipeline: of `redis`.
        stage: whose queue.
        ago_s: how many seconds ago.
    """
    # Its age is what it has used up of its time to live: so it runs by Redis's clock alone.
    pipeline.set(keys.queue_empty_key(stage), "1", px=max(1, KEPT_MS - round(ago_s * 1000)))


def since_empty(stage: str) -> float | None:
    """Return how many seconds ago a relay last waited for messages and got none; ``None`` where that is not known.

    Raises:
        HistoryUnavailable: Redis did not answer.
    """
    try:
        left = pace.shared_client().pttl(keys.queue_empty_key(stage))
    except (redis.RedisError, OSError) as error:
        raise HistoryUnavailable(f"Redis does not answer: {type(error).__name__}") from error
    return None if left < 0 else max(0.0, (KEPT_MS - left) / 1000)


def note(stage: str, figure: str, value: int) -> None:
    """Keep a figure for the present minute; of several the largest stays.

    Args:
        stage: whose.
        figure: what it is called: `depth`, `dead`, `lag`.
        value: how much.

    Raises:
        HistoryUnavailable: Redis did not answer.
    """
    client, name = pace.shared_client(), keys.figure_key(stage, figure)
    try:
        minute = int(client.time()[0]) // 60
        last = client.xrevrange(name, count=1)
        if last and _minute(last[0][0]) == minute and int(last[0][1][b"value"]) >= value:
            return
        pipeline = client.pipeline(transaction=False)
        pipeline.xadd(name, {"value": value}, id=f"{minute}-*", minid=f"{minute - MINUTES + 1}-0", approximate=False)
        pipeline.pexpire(name, 2 * MINUTES * 60_000)
        pipeline.execute()
    except (redis.RedisError, OSError) as error:
        raise HistoryUnavailable(f"Redis does not answer: {type(error).__name__}") from error


def last_hour(stage: str, figure: str) -> list[int | None]:
    """Return a figure of each of the last minutes, oldest first: the largest that anybody noted.

    Raises:
        HistoryUnavailable: Redis did not answer.
    """
    client, name = pace.shared_client(), keys.figure_key(stage, figure)
    try:
        now = int(client.time()[0]) // 60
        kept = client.xrange(name, f"{now - MINUTES + 1}-0", "+")
    except (redis.RedisError, OSError) as error:
        raise HistoryUnavailable(f"Redis does not answer: {type(error).__name__}") from error
    largest: dict[int, int] = {}
    for id_, fields in kept:
        largest[_minute(id_)] = max(int(fields[b"value"]), largest.get(_minute(id_), 0))
    return [largest.get(minute) for minute in range(now - MINUTES + 1, now + 1)]


def _minute(id_: bytes) -> int:
    return int(id_.split(b"-")[0])

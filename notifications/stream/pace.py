"""Pace: how many entries a stage's histories take in a minute. Sampled by the relays' heartbeat, read by dashboard.

Redis counts what each activity stream was ever given, so no append pays for this: a sample adds those numbers up. The
samples are a stream of their own whose ids are minutes, so that of many samplers the first one writes and the others
are refused.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import redis
from django.conf import settings

from notifications.exceptions import HistoryUnavailable
from notifications.stream import keys
from notifications.stream.redis_client import sync_client

MINUTES = 60  # that are kept
KEPT_MS = 2 * MINUTES * 60_000
LOOK_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Pace:
    """Entries a minute.

    Args:
        minutes: of each of the last whole minutes, oldest first; ``None`` where nobody sampled, or Redis lost its data.
        now: since the current minute's sample; ``None`` where there is none.
    """

    minutes: list[int | None]
    now: int | None


def sample(stage: str) -> tuple[int, int]:
    """Count a stage's entries, and keep the count if nobody has in this minute.

    Returns:
        How many entries the activity streams were ever given, and the minute it is by Redis's clock.

    Raises:
        HistoryUnavailable: Redis did not answer.
    """
    try:
        client = shared_client()
        pipeline = client.pipeline(transaction=False)
        pipeline.execute_command("TIME")
        for partition in range(keys.PARTITIONS):
            pipeline.execute_command("XINFO STREAM", keys.activity_key(stage, partition))
        (seconds, _), *streams = pipeline.execute(raise_on_error=False)
        # A partition without entries has no stream, and that is an error.
        total = sum(_entries_added(stream) for stream in streams if not isinstance(stream, Exception))
        minute = int(seconds) // 60
        kept = client.pipeline(transaction=False)
        kept.execute_command("XADD", keys.pace_key(stage), "MAXLEN", MINUTES + 1, f"{minute}-1", "total", total)
        kept.execute_command("PEXPIRE", keys.pace_key(stage), KEPT_MS)
        kept.execute(raise_on_error=False)  # the minute has its sample already, as most often
    except (redis.RedisError, OSError) as error:
        raise HistoryUnavailable(f"Redis does not answer: {type(error).__name__}") from error
    return total, minute


def pace(stage: str) -> Pace:
    """Sample, and say what the samples of the last hour amount to.

    Raises:
        HistoryUnavailable: Redis did not answer.
    """
    total, minute = sample(stage)
    try:
        kept = shared_client().execute_command("XRANGE", keys.pace_key(stage), f"{minute - MINUTES}-1", "+")
    except (redis.RedisError, OSError) as error:
        raise HistoryUnavailable(f"Redis does not answer: {type(error).__name__}") from error
    totals = {int(id_.split(b"-")[0]): int(fields[b"total"]) for id_, fields in kept}
    minutes = [_between(totals.get(at), totals.get(at + 1)) for at in range(minute - MINUTES, minute)]
    return Pace(minutes, _between(totals.get(minute), total))


def _entries_added(stream: Mapping[str, Any]) -> int:
    """Read how many entries a stream was ever given."""
    if "entries-added" not in stream:
        raise HistoryUnavailable("This Redis does not count entries; it does from 7.0 on.")
    return int(stream["entries-added"])


def _between(before: int | None, after: int | None) -> int | None:
    return None if before is None or after is None or after < before else after - before


def shared_client() -> Any:
    """Return this process's Redis client for looks that must be short; it is thread-safe."""
    return _client_for(settings.REDIS_URL)


@functools.cache
def _client_for(url: str) -> redis.Redis:
    return sync_client(LOOK_SECONDS)

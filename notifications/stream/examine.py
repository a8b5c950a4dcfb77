"""Examine: is Redis one that histories can live in, and does the channel layer carry. Called by doctor.

Every function raises ``HistoryUnavailable`` where Redis does not answer.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import redis
from django.conf import settings

from notifications.exceptions import HistoryUnavailable
from notifications.findings import Finding, fail, ok, warn
from notifications.findings import clock as judge_clock
from notifications.stream.publish import PROBE, probe_layer, publish_once
from notifications.stream.redis_client import primary_of, sync_client

ANSWER_SECONDS = 1.0
LAYER_SECONDS = 3.0
# XTRIM with MINID came with 6.2, WAITAOF with 7.2.
OLDEST, OLDEST_FSYNC = (6, 2), (7, 2)
# Above it writes will soon be refused: Redis must not evict.
FULL = 0.9
REFUSED = "CERTIFICATE_VERIFY_FAILED"  # as OpenSSL says it


def answers() -> Iterator[Finding]:
    """Find whether Redis answers, is new enough, and takes writes."""
    with _client() as client:
        client.ping()
        info = _info(client, "server", "replication")
        primary = primary_of(client)
    if not info:
        yield _blind("Redis answers")
        return
    version = str(info.get("redis_version", "0"))
    name = f"Valkey {info['valkey_version']}" if "valkey_version" in info else f"Redis {version}"
    found = [*_version(name, version), *_writable(name, info)]
    yield from found
    if not found:
        named = f" at {primary}, which the sentinels name" if primary else ""
        yield ok(f"{name} answers, {info.get('role', 'master')}{named}")


def eviction() -> Iterator[Finding]:
    """Find whether Redis might evict a history, or is about to refuse writes."""
    with _client() as client:
        info = _info(client, "memory")
    if not info:
        yield _blind("whether Redis evicts is not known")
        return
    policy, most, used = info.get("maxmemory_policy", "noeviction"), int(info.get("maxmemory", 0)), info["used_memory"]
    found = []
    if policy != "noeviction":
        found.append(
            fail(
                f"maxmemory-policy is {policy}: Redis may evict histories and idempotency keys",
                "Set maxmemory-policy noeviction, in Redis's configuration and with CONFIG SET.",
            )
        )
    if most and used > FULL * most:
        found.append(
            warn(
                f"{used / most:.0%} of maxmemory is used: writes will be refused",
                "Raise maxmemory, or lower HERMES_HISTORY_ENTRIES or HERMES_HISTORY_SECONDS.",
            )
        )
    yield from found
    if not found:
        yield ok(f"noeviction, {used / 2**20:.0f} MiB used of {f'{most / 2**20:.0f} MiB' if most else 'no limit'}")


def persistence() -> Iterator[Finding]:
    """Hold Redis's persistence and replicas against `HERMES_DURABILITY`."""
    with _client() as client:
        info = _info(client, "persistence", "replication")
    if not info:
        yield _blind("what Redis keeps is not known")
        return
    durability: str = settings.HERMES_DURABILITY
    found = [*_written(info)]
    if durability == "fsync" and not info.get("aof_enabled"):
        found.append(
            fail(
                "appendonly is no, and HERMES_DURABILITY=fsync waits for it: nothing will ever be appended",
                "Set appendonly yes, in Redis's configuration and with CONFIG SET, or another HERMES_DURABILITY.",
            )
        )
    if durability == "replica":
        found += _replicas(info)
    yield from found
    if not found:
        kept = f"appendonly {'yes' if info.get('aof_enabled') else 'no'}, replicas online: {_online(info)}"
        yield ok(f"{kept}; HERMES_DURABILITY={durability} asks for no more")


def append() -> Iterator[Finding]:
    """Find whether an append is taken, and confirmed as `HERMES_DURABILITY` asks; in a room that nobody can be in."""
    stage = next(iter(settings.HERMES_STAGES))
    try:
        asyncio.run(publish_once(stage, PROBE))
    except HistoryUnavailable:
        if not _is_never_synced():
            raise
        yield fail(
            "appendfsync is no, and HERMES_DURABILITY=fsync waits for what Redis then never confirms: nothing is ever "
            "taken off SQS",
            "Set appendfsync everysec or always, in Redis's configuration and with CONFIG SET, or another "
            "HERMES_DURABILITY.",
        )
        return
    yield ok(f"taken, and confirmed as HERMES_DURABILITY={settings.HERMES_DURABILITY} asks")


def layer() -> Iterator[Finding]:
    """Find whether what is sent over the channel layer comes back."""
    if asyncio.run(probe_layer(LAYER_SECONDS)):
        yield ok("a hint came back")
    else:
        yield fail(
            "a hint did not come back: every entry is up to HERMES_FOLLOW_SECONDS late",
            "Let this host publish and subscribe at REDIS_URL (&hermes.*), over connections that may stay open.",
        )


def clock(now: Callable[[], float] = time.time) -> Iterator[Finding]:
    """Hold Redis's clock against ours.

    Args:
        now: this host's clock, in unix seconds.
    """
    with _client() as client:
        client.ping()  # connects, which would make the answer's way longer
        before = now()
        seconds, microseconds = client.time()
        after = now()
    theirs = seconds + microseconds / 1e6
    yield judge_clock("Redis", theirs - after, theirs - before)


@contextmanager
def _client() -> Iterator[redis.Redis]:
    try:
        with sync_client(ANSWER_SECONDS) as client:
            yield client
    except redis.RedisError as error:
        reason = REFUSED if REFUSED in str(error) else type(error).__name__
        raise HistoryUnavailable(f"Redis does not answer: {reason}") from error


def _info(client: redis.Redis, *sections: str) -> dict[str, Any]:
    """Return some sections of INFO as one, empty where INFO is not permitted, or taken away.

    They are asked for one by one, because several at once came with Redis 7.
    """
    found: dict[str, Any] = {}
    try:
        for section in sections:
            answer: Any = client.info(section)
            found |= answer
    except redis.exceptions.ResponseError:
        return {}
    return found


def _is_never_synced() -> bool:
    """Return whether Redis leaves to the kernel when its file reaches the disk; no where CONFIG is not permitted.

    Asked only when something is wrong: whoever watches Redis's ACL log would be told of each attempt.
    """
    if settings.HERMES_DURABILITY != "fsync":
        return False
    with _client() as client:
        try:
            answer: Any = client.config_get("appendfsync")
        except redis.exceptions.ResponseError:
            return False
    return bool(answer.get("appendfsync") == "no")


def _blind(known: str) -> Finding:
    return warn(f"{known}; this user may not ask INFO", "Allow it (+info), and the doctor sees what Redis is.")


def _version(name: str, version: str) -> Iterator[Finding]:
    numbers = tuple(map(int, re.findall(r"[0-9]+", version)[:2]))
    wanted = OLDEST_FSYNC if settings.HERMES_DURABILITY == "fsync" else OLDEST
    if numbers < wanted:
        spelled = ".".join(map(str, wanted))
        reason = " for HERMES_DURABILITY=fsync" if numbers >= OLDEST else ""
        yield fail(f"{name} is too old{reason}", f"Use Redis {spelled} or newer, or Valkey.")


def _writable(name: str, info: Mapping[str, Any]) -> Iterator[Finding]:
    if info.get("role") == "slave":
        yield fail(f"{name} is a replica and takes no writes", "Have REDIS_URL lead to the primary.")


def _written(info: Mapping[str, Any]) -> Iterator[Finding]:
    for what, field in (("append-only file", "aof_last_write_status"), ("snapshot", "rdb_last_bgsave_status")):
        if info.get(field, "ok") != "ok":
            yield fail(f"the last write of Redis's {what} failed", "Look at Redis's log, and at the space on its disk.")


def _online(info: Mapping[str, Any]) -> int:
    replicas = [value for key, value in info.items() if key.startswith("slave") and isinstance(value, dict)]
    return sum(replica.get("state") == "online" for replica in replicas)


def _replicas(info: Mapping[str, Any]) -> Iterator[Finding]:
    online = _online(info)
    if online < settings.HERMES_REPLICAS:
        yield fail(
            f"replicas online: {online}, and HERMES_DURABILITY=replica waits for {settings.HERMES_REPLICAS}",
            "Have more replicas follow REDIS_URL's server (REPLICAOF), or lower HERMES_REPLICAS.",
        )

"""Keeper: holds one store, rows or mirror, in step with the live connections. Owned by connections; knows records."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Protocol, TypeVar

from django.conf import settings
from prometheus_client import Counter, Gauge

from notifications.registry.records import BEATS, ConnectionRecord, Life, Listening, Pending, full_jitter

logger = logging.getLogger(__name__)

# The admin may be a fifth of a second behind; joins that come in a burst share one statement.
FLUSH_SECONDS = 0.2
FLUSH_LIVES = 500
RECONCILE_SECONDS = 60.0
PRUNE_SECONDS = 3600.0
# An outage ends for us this many seconds after it ends, at the latest, and never later than the next heartbeat was due.
RETRY_CAP_SECONDS = 5.0
LOG_SECONDS = 60.0

PENDING = Gauge("hermes_registry_pending", "Connections whose newest state is still to be written.", ["store"])
OLDEST = Gauge("hermes_registry_oldest_seconds", "For how long, at most, one of those has waited.", ["store"])
FAILURES = Counter("hermes_registry_failures", "Turns in which a store did not answer, or not whole.", ["store"])
DROPPED = Counter("hermes_registry_dropped", "Closed connections given up unwritten in an outage.", ["store"])
REAPED = Counter("hermes_registry_reaped", "Dead servers whose connections this process closed.", ["store"])

R = TypeVar("R")


class Store(Protocol):
    """Where connections are written: rows (SQL) or mirror (DynamoDB). Its methods block and may raise anything.

    All but `is_bereaved`, which the event loop asks.
    """

    @property
    def name(self) -> str:
        """A word for logs and metrics."""

    def write(self, lives: Sequence[Life]) -> Sequence[Life]:
        """Write them, whatever is there already; return those not written."""

    def renew(self) -> bool:
        """Prolong this server's lease; False: there was none."""

    def reconcile(self, live: Mapping[str, ConnectionRecord], closing: Collection[str]) -> Collection[str]:
        """Close what is open there and neither live nor closing; return the live ones that are missing there."""

    def reap(self, now: float, unbroken: float) -> int:
        """Bury servers that have fallen silent, by the clock of `Listening`; return how many."""

    def is_bereaved(self) -> bool:
        """Whether a server of this machine has ended that the last `reap` found there; waits for nobody."""

    def prune(self) -> bool:
        """Remove a slice of what is too old; return whether there is more."""

    def release(self) -> None:
        """Give this server's lease back."""

    def close(self) -> None:
        """Release what the thread holds."""


class Keeper:
    """Writes what it is told, keeps the lease, buries dead servers, and repairs what an outage swallowed.

    All of the store's work happens in one thread and in one order, so that a connection's end never overtakes its
    beginning. Nothing here waits on the accept path, and no outage ends the task.

    Args:
        store: where to write.
        live: this process's live connections; read, never changed.
        lease_seconds: how long a server counts as alive after its last heartbeat, in seconds.
    """

    def __init__(self, store: Store, live: Mapping[str, ConnectionRecord], lease_seconds: float) -> None:
        self._store = store
        self._live = live
        self._lease = lease_seconds
        self._pending = Pending(settings.HERMES_CLOSED_PENDING)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"hermes-registry-{store.name}")
        self._wake = asyncio.Event()
        self._bereaved = asyncio.Event()
        self._renew_at = self._reconcile_at = 0.0
        # Not at once and not in step: many processes start together.
        self._prune_at = time.monotonic() + random.uniform(1, PRUNE_SECONDS)  # noqa: S311  not for secrets
        self._listening = Listening(lease_seconds)
        self._waited = 0.0
        self._is_new = True  # nobody can have taken us for dead
        self._doubtful_until = float("-inf")
        self._logged_at = float("-inf")
        self._dropped = 0
        self._waiting_since: float | None = None
        OLDEST.labels(store.name).set_function(self._oldest_seconds)
        for counter in (FAILURES, DROPPED, REAPED):
            counter.labels(store.name)  # a counter that is not there cannot be seen to rise

    @property
    def pending(self) -> int:
        """How many connections wait to be written."""
        return len(self._pending)

    def add(self, life: Life) -> None:
        """Remember what is to be written. Never blocks, never raises."""
        if self._waiting_since is None:
            self._waiting_since = time.monotonic()
        self._pending.add(life)
        self._wake.set()

    def look_around(self) -> None:
        """Have the dead of this machine buried at once, if there are any. Never blocks, never raises."""
        if self._store.is_bereaved():
            self._bereaved.set()
            self._wake.set()

    async def run(self) -> None:
        """Take turns until cancelled."""
        attempt, cap = 0, min(RETRY_CAP_SECONDS, self._lease / BEATS)
        while True:
            try:
                more = await self.turn()
            except Exception as error:  # whatever it is: who is connected must come right once it is over
                attempt += 1
                self._failed(error)
                await asyncio.sleep(full_jitter(attempt, base=FLUSH_SECONDS, cap=cap))
                continue
            attempt = 0
            if not more:
                with suppress(TimeoutError):
                    async with asyncio.timeout_at(asyncio.get_running_loop().time() + self._idle_seconds()):
                        await self._wake.wait()
                    async with asyncio.timeout(FLUSH_SECONDS):
                        await self._bereaved.wait()

    async def turn(self) -> bool:
        """Do what is due: heartbeat and reaping, one batch of writes, reconciling, pruning.

        Returns:
            Whether more is due at once.

        Raises:
            Exception: whatever the store raises; what was to be written is kept.
        """
        if time.monotonic() >= self._renew_at or self._bereaved.is_set():
            await self._beat()
        self._wake.clear()
        await self._flush()
        if time.monotonic() >= self._reconcile_at:
            await self._reconcile()
        if time.monotonic() >= self._prune_at and not await self._call(self._store.prune):
            self._prune_at = time.monotonic() + PRUNE_SECONDS
        return len(self._pending) > 0 or self._bereaved.is_set() or time.monotonic() >= self._prune_at

    async def finish(self) -> None:
        """Write everything, then give the lease back; the caller sets the deadline. `run` must have ended.

        A store that does not answer leaves the lease to run out: another server's reaper does the rest.
        """
        attempt = 0
        while len(self._pending):
            try:
                await self._flush()
            except Exception as error:  # as in `run`
                attempt += 1
                self._failed(error)
                await asyncio.sleep(full_jitter(attempt, base=FLUSH_SECONDS, cap=1))
        try:
            await self._call(self._store.release)
        except Exception as error:  # as in `run`
            self._failed(error)

    def close(self) -> None:
        """End the thread once what it does now is done; does not wait for it."""
        self._thread.submit(self._store.close)
        self._thread.shutdown(wait=False)

    async def _beat(self) -> None:
        begun = time.monotonic()
        self._bereaved.clear()
        kept = await self._call(self._store.renew)
        now = time.monotonic()
        self._listening.look(now, self._waited)
        self._waited = 0.0
        self._renew_at = self._next_beat(begun)
        is_new, self._is_new = self._is_new, False
        if not kept and not is_new:
            # Who took us for dead may still be at it: what is looked at now may be gone a moment later.
            self._doubtful_until = now + self._lease
        if now < self._doubtful_until:
            self._reconcile_at = now
        buried = await self._call(self._store.reap, self._listening.seconds, self._listening.unbroken)
        if buried:
            REAPED.labels(self._store.name).inc(buried)
            logger.info("%s: closed what %d dead server(s) had left open", self._store.name, buried)

    def _next_beat(self, begun: float) -> float:
        """Return when the next beat is due: by a schedule, for what each call takes would be added to every beat."""
        if begun < self._renew_at:  # this one came before its time
            return self._renew_at
        due = self._renew_at + self._lease / BEATS
        return due if due > begun else begun + self._lease / BEATS

    async def _flush(self) -> None:
        begun = time.monotonic()
        lives = self._pending.take(FLUSH_LIVES)
        is_all = not len(self._pending)
        if lives:
            try:
                unwritten = await self._call(self._store.write, lives)
            except BaseException:
                # Also when cancelled: written twice does no harm, not written does.
                self._pending.put_back(lives)
                raise
            self._pending.put_back(unwritten)
            if unwritten:
                raise NotWritten(f"{len(unwritten)} of {len(lives)} not written")
        if is_all:
            self._waiting_since = begun if len(self._pending) else None
        PENDING.labels(self._store.name).set(len(self._pending))

    async def _reconcile(self) -> None:
        missing = await self._call(self._store.reconcile, dict(self._live), frozenset(self._pending.closed_ids))
        for connection_id in missing:
            record = self._live.get(connection_id)
            if record is not None:
                self.add(Life(record))
        self._reconcile_at = time.monotonic() + RECONCILE_SECONDS

    async def _call(self, work: Callable[..., R], *args: object) -> R:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._timed, work, *args)

    def _timed(self, work: Callable[..., R], *args: object) -> R:
        begun = time.monotonic()
        try:
            return work(*args)
        finally:
            self._waited += max(0.0, time.monotonic() - begun - self._lease / BEATS)

    def _failed(self, error: Exception) -> None:
        FAILURES.labels(self._store.name).inc()
        PENDING.labels(self._store.name).set(len(self._pending))
        DROPPED.labels(self._store.name).inc(self._pending.dropped - self._dropped)
        self._dropped = self._pending.dropped
        if not isinstance(error, NotWritten):
            self._listening.failed()
            # What was written before the outage may not have arrived.
            self._reconcile_at = 0.0
        if time.monotonic() - self._logged_at >= LOG_SECONDS:
            self._logged_at = time.monotonic()
            logger.warning(
                "%s does not answer (%s); %d connections wait to be written, %d were given up; trying on",
                self._store.name,
                type(error).__name__,
                len(self._pending),
                self._pending.dropped,
            )

    def _oldest_seconds(self) -> float:
        since = self._waiting_since
        return 0.0 if since is None else time.monotonic() - since

    def _idle_seconds(self) -> float:
        return max(0.0, min(self._renew_at, self._reconcile_at, self._prune_at) - time.monotonic())


class NotWritten(Exception):
    """The store answered and refused a part, as DynamoDB does when it is throttled."""

"""Health: does this process live, and does what it needs answer. Called by urls; asks doctor's cheap checks and ear."""

from __future__ import annotations

import asyncio
import functools
import logging
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe
from prometheus_client import Counter, Gauge

from notifications import doctor, exposition
from notifications.exceptions import HermesError
from notifications.sockets import ear

logger = logging.getLogger(__name__)

# Load balancers give up after 2 to 5 seconds; what takes longer than this is of no use to a browser either.
DEADLINE_SECONDS = 1.5
# Many balancers may ask at once and often: each part is asked once a second.
CACHE_SECONDS = 1.0

READY = Gauge("hermes_ready", "Whether a part that Hermes needs answered when it was asked last.", ["part"])
OUTAGES = Counter("hermes_outages", "Times that a part that Hermes needs stopped answering.", ["part"])

Probe = Callable[[], object]
Report = dict[str, Any]


class Readiness:
    """Asks every part at once, each in a thread of its own, with one deadline; who asks meanwhile shares the answer.

    A part that hangs keeps its one thread and gets no second, so that an outage costs no more threads than parts.

    Args:
        probes: a blocking function for each part; it raises when the part does not answer.
        deadline: how long a part may take, in seconds.
        cached: how long a report stays good, in seconds.
    """

    def __init__(
        self, probes: Mapping[str, Probe], *, deadline: float = DEADLINE_SECONDS, cached: float = CACHE_SECONDS
    ) -> None:
        self._probes = probes
        self._deadline = deadline
        self._cached = cached
        self._lock = threading.Lock()
        self._rounds = ThreadPoolExecutor(max_workers=1, thread_name_prefix="hermes-readiness")
        self._threads = ThreadPoolExecutor(max_workers=len(probes), thread_name_prefix="hermes-probe")
        self._asked: dict[str, Future[float]] = {}
        self._report: Future[Report] | None = None
        self._reported_at = float("-inf")
        self._failing: set[str] = set()
        for part in probes:
            OUTAGES.labels(part)  # a counter that is not there cannot be seen to rise

    def report(self) -> Future[Report]:
        """Return the running or the last report, or begin one.

        Returns:
            ``{"status": "ready" or "degraded", "checks": {part: {"ok": bool, "ms": float}}}``; names no address and
            no error, because everybody may read it.
        """
        with self._lock:
            stale = time.monotonic() - self._reported_at >= self._cached
            if self._report is None or (self._report.done() and stale):
                self._report = self._rounds.submit(self._round)
            return self._report

    def close(self) -> None:
        """End the threads; one that hangs ends by itself."""
        self._rounds.shutdown(wait=False)
        self._threads.shutdown(wait=False)

    def _round(self) -> Report:
        for part, probe in self._probes.items():
            # An answer that came too late for the last report says nothing about now.
            if part not in self._asked or self._asked[part].done():
                self._asked[part] = self._threads.submit(_seconds, probe)
        wait(self._asked.values(), timeout=self._deadline)
        checks = {part: self._check(part) for part in self._probes}
        self._reported_at = time.monotonic()
        ready = all(check["ok"] for check in checks.values())
        return {"status": "ready" if ready else "degraded", "checks": checks}

    def _check(self, part: str) -> dict[str, Any]:
        seconds, reason = self._deadline, "no answer in time"
        if self._asked[part].done():
            answer = self._asked.pop(part)
            if (error := answer.exception()) is not None:
                reason = str(error) if isinstance(error, HermesError) else type(error).__name__
            elif (seconds := answer.result()) <= self._deadline:
                reason = ""
        READY.labels(part).set(not reason)
        if reason and part not in self._failing:
            self._failing.add(part)
            OUTAGES.labels(part).inc()
            logger.warning("not ready: %s (%s)", part, reason)
        elif not reason and part in self._failing:
            self._failing.remove(part)
            logger.info("ready again: %s", part)
        return {"ok": not reason, "ms": round(seconds * 1000, 1)}


def _seconds(probe: Probe) -> float:
    begun = time.monotonic()
    probe()
    return time.monotonic() - begun


def _once(probe: Probe) -> Probe:
    """Return a probe that is asked until it has succeeded: what it asks for does not go away again."""
    succeeded = threading.Event()

    def ask() -> None:
        if not succeeded.is_set():
            probe()
            succeeded.set()

    return ask


@functools.cache
def readiness() -> Readiness:
    """Return this process's readiness: the doctor's cheap checks, and whether its hub hears."""
    probes: dict[str, Probe] = {
        check.name: functools.partial(doctor.insist, check) for check in doctor.checks() if check.is_cheap
    }
    probes["migrations"] = _once(probes["migrations"])  # looks at every migration there is
    probes["receiving"] = ear.probe
    return Readiness(probes)


def look() -> None:
    """Ask all that Hermes needs, so that the metrics say what answers; waits for it."""
    readiness().report().result(2 * DEADLINE_SECONDS)


@functools.cache
def keeping() -> exposition.Keeping:
    """Return who keeps this worker's metrics for the others."""
    return exposition.Keeping(look)


@require_safe
@never_cache
async def healthz(request: HttpRequest) -> HttpResponse:
    """Answer that the process and its event loop live; asks nobody."""
    return JsonResponse({"status": "alive"})


@require_safe
@never_cache
async def readyz(request: HttpRequest) -> HttpResponse:
    """Answer 200 if everything that Hermes needs answers, else 503; the body says what does not."""
    report = await asyncio.wrap_future(readiness().report())
    return JsonResponse(report, status=200 if report["status"] == "ready" else 503)


@require_safe
@never_cache
async def metrics(request: HttpRequest) -> HttpResponse:
    """Answer the metrics of all workers to who brings ``HERMES_METRICS_TOKEN`` as a bearer token; 404 if there is none.

    What it needs is asked as for /readyz, so that each outage shows here also where nobody else asks.

    Never open to loopback alone: behind a reverse proxy on this host, everybody comes from there.
    """
    if not settings.HERMES_METRICS_TOKEN:
        return HttpResponse(status=404)
    if not exposition.is_permitted(request.headers.get("Authorization", "")):
        return HttpResponse(status=401, headers={"WWW-Authenticate": "Bearer"})
    await asyncio.wrap_future(readiness().report())
    return HttpResponse(await asyncio.to_thread(keeping().answer), content_type=exposition.CONTENT_TYPE)

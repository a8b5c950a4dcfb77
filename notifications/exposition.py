"""Exposition: the metrics of all workers of a server as one answer, and on a port of its own. Asked by health, serve
and relay_sqs; puts processes beside what the rooms count, and knows no metric's meaning.

A server of several workers has a folder. Each worker keeps a sheet there, its numbers of a moment ago, and holds a lock
that ends with it, however it ends. Whoever is asked adds the sheets up: gauges of those who live, counters of all.
"""

from __future__ import annotations

import fcntl
import hmac
import json
import logging
import operator
import os
import secrets
import socket
import socketserver
import threading
import time
import wsgiref.simple_server
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import prometheus_client
from django.conf import settings
from prometheus_client import REGISTRY, CollectorRegistry, Gauge
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from notifications import processes  # noqa: F401  puts what it knows into REGISTRY
from notifications.exceptions import HermesError

logger = logging.getLogger(__name__)

CONTENT_TYPE = prometheus_client.CONTENT_TYPE_LATEST
FOLDER_VARIABLE = "HERMES_SERVE_METRICS_FOLDER"  # set by `serve` for the workers that it spawns
SHEET_SECONDS = 1.0  # how old a worker's numbers may be
ASK_SECONDS = 10.0  # between two looks of a worker at what it needs; a scrape asks one of them only
STOP_SECONDS = 5.0  # for a look that has begun, and the last sheet
CLIENT_SECONDS = 5.0  # for a client of the port to send its request
COUNTED = ("counter", "histogram", "summary")  # what outlives its process
# Gauges that a sum would make nonsense of: one process that lacks something is what is to be seen.
OTHERWISE: dict[str, Callable[..., float]] = {
    "hermes_ready": min,
    "hermes_registry_oldest_seconds": max,
    "process_start_time_seconds": max,
    "process_open_fds": max,  # of each process, as its limit is
    "process_max_fds": min,
    "python_info": max,
}
LOOPBACK = ("127.0.0.1", "::1", "localhost")

PROCESSES = Gauge("hermes_processes", "Processes whose numbers are in this answer.")
PROCESSES.set(1)
prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]  # twice the lines, and nothing that Prometheus needs

Sheet = list[dict[str, Any]]


class PortUnavailable(HermesError):
    """The port for metrics cannot be opened, or may not."""


def take() -> Sheet:
    """Return this process's metrics as values that JSON can carry."""
    return [
        {
            "name": family.name,
            "type": family.type,
            "documentation": family.documentation,
            "samples": [[sample.name, sample.labels, sample.value] for sample in family.samples],
        }
        for family in REGISTRY.collect()
    ]


def counted(sheet: Sheet) -> Sheet:
    """Return what of a sheet outlives its process."""
    return [family for family in sheet if family["type"] in COUNTED]


def add_up(sheets: Iterable[Sheet]) -> Sheet:
    """Return the sum of sheets, sample by sample; a few gauges have their least or their greatest instead."""
    families: dict[str, dict[str, Any]] = {}
    values: dict[str, dict[tuple[str, tuple[tuple[str, str], ...]], float]] = {}
    for family in (family for sheet in sheets for family in sheet):
        name = family["name"]
        families.setdefault(name, family)
        mine = values.setdefault(name, {})
        both: Callable[..., float] = OTHERWISE.get(name) or operator.add
        for sample, labels, value in family["samples"]:
            key = (sample, tuple(labels.items()))
            mine[key] = both(mine[key], value) if key in mine else value
    return [
        {**family, "samples": [[sample, dict(labels), value] for (sample, labels), value in values[name].items()]}
        for name, family in families.items()
    ]


class Folder:
    """The sheets of one server's workers.

    Every method may wait for a disk, and is not for an event loop.

    Args:
        path: made by `serve`, for nobody else.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._mine = path / f"{os.getpid()}-{secrets.token_hex(4)}.sheet"  # process ids come again
        self._alive = self._mine.with_suffix(".alive").open("wb")  # closed by the kernel, whatever ends this process
        fcntl.flock(self._alive, fcntl.LOCK_EX)

    def keep(self) -> None:
        """Write this process's sheet."""
        _write(self._mine, take())

    def close(self) -> None:
        """Write it for the last time, and let others count this process as gone."""
        try:
            self.keep()
        finally:
            self._alive.close()


def all_of(path: Path) -> Sheet:
    """Return what the sheets of a folder add up to; the numbers of those who have gone are kept there as one."""
    with (path / "lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # else a counter could be seen between two files, and fall
        dead, living = path / "dead", list[Sheet]()
        for sheet in sorted(path.glob("*.sheet")):
            if _is_alive(sheet.with_suffix(".alive")):
                living.append(_read(sheet))
            else:
                _write(dead, add_up([_read(dead), counted(_read(sheet))]))
                sheet.unlink()
                sheet.with_suffix(".alive").unlink(missing_ok=True)
        return add_up([_read(dead), *living])


def _is_alive(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False
    return False


def _read(path: Path) -> Sheet:
    try:
        sheet: Sheet = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return []
    return sheet


def _write(path: Path, sheet: Sheet) -> None:
    new = path.with_suffix(f".{threading.get_ident()}")
    new.write_text(json.dumps(sheet), encoding="utf-8")
    new.replace(path)


class Keeping:
    """A thread that keeps this worker's sheet.

    Args:
        ask: looks at what the process needs, so that its sheet says so although nobody asks it.
    """

    def __init__(self, ask: Callable[[], object]) -> None:
        self._ask = ask
        self._folder: Folder | None = None
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="hermes-metrics", daemon=True)

    def start(self) -> None:
        """Begin; does nothing in a server of one process."""
        path = folder()
        if path is not None:
            self._folder = Folder(path)
            self._thread.start()

    def stop(self) -> None:
        """Write the last sheet; waits for it, so not for an event loop, and not for ever."""
        self._ending.set()
        if self._thread.is_alive():
            self._thread.join(STOP_SECONDS)

    def _run(self) -> None:
        asked_at = float("-inf")
        while not self._ending.is_set():
            self._keep()
            if time.monotonic() - asked_at >= ASK_SECONDS:
                asked_at = time.monotonic()
                _look(self._ask)
            self._ending.wait(SHEET_SECONDS)
        self._keep(is_last=True)

    def _keep(self, *, is_last: bool = False) -> None:
        if self._folder is None:
            return
        try:
            if is_last:
                self._folder.close()
            else:
                self._folder.keep()
        except OSError as error:  # a full disk, or the folder is gone: the numbers are old, and the service goes on
            logger.warning("This worker's metrics could not be written: %s", error)

    def answer(self) -> bytes:
        """Return the metrics of all of this server in Prometheus's text format; may wait for a disk."""
        if not self._ending.is_set():
            self._keep()
        return prometheus_client.generate_latest(_EVERYBODY)


def _look(ask: Callable[[], object]) -> None:
    """Have the metrics say what answers; where that fails they say what they said last."""
    try:
        ask()
    except Exception:
        logger.exception("What Hermes needs could not be looked at; its metrics are old.")


def folder() -> Path | None:
    """Return the folder of this server's workers; none where it is one process."""
    path = os.environ.get(FOLDER_VARIABLE)
    return Path(path) if path else None


class _Everybody(Collector):
    """The metrics of this server's workers, or of this process where there are none."""

    def collect(self) -> Iterator[Metric]:
        path = folder()
        for family in take() if path is None else all_of(path):
            metric = Metric(family["name"], family["documentation"], family["type"])
            for name, labels, value in family["samples"]:
                metric.add_sample(name, labels, value)
            yield metric


_EVERYBODY = CollectorRegistry(auto_describe=False)
_EVERYBODY.register(_Everybody())


def is_permitted(authorization: str) -> bool:
    """Whether an ``Authorization`` header brings ``HERMES_METRICS_TOKEN``; it must not be empty."""
    return hmac.compare_digest(authorization.encode(), f"Bearer {settings.HERMES_METRICS_TOKEN}".encode())


class _Server(socketserver.ThreadingMixIn, wsgiref.simple_server.WSGIServer):
    daemon_threads = True


class _Server6(_Server):
    address_family = socket.AF_INET6


class _Handler(wsgiref.simple_server.WSGIRequestHandler):
    timeout = CLIENT_SECONDS

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: a scrape is no event."""


def serve(host: str, port: int, ask: Callable[[], object] = lambda: None) -> int:
    """Answer with the metrics on a port of their own, in a thread, until the process ends.

    Who brings no token is answered too, unless ``HERMES_METRICS_TOKEN`` asks for it: only this host reaches loopback.

    Args:
        host, port: where; port 0 is any free one.
        ask: called before each answer, in the answer's thread.

    Returns:
        The port.

    Raises:
        PortUnavailable: nobody can listen there; or it is not loopback, and there is no token.
    """
    if host not in LOOPBACK and not settings.HERMES_METRICS_TOKEN:
        raise PortUnavailable(
            f"Metrics on {host} could be read by everybody: set HERMES_METRICS_TOKEN, or leave HERMES_METRICS_HOST out."
        )
    metrics = prometheus_client.make_wsgi_app(_EVERYBODY)

    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environ["PATH_INFO"] != "/metrics":
            start_response("404 Not Found", [("Content-Length", "0")])
            return []
        if settings.HERMES_METRICS_TOKEN and not is_permitted(environ.get("HTTP_AUTHORIZATION", "")):
            start_response("401 Unauthorized", [("WWW-Authenticate", "Bearer"), ("Content-Length", "0")])
            return []
        _look(ask)
        answered: Iterable[bytes] = metrics(environ, start_response)
        return answered

    try:
        server = wsgiref.simple_server.make_server(
            host, port, application, _Server6 if ":" in host else _Server, _Handler
        )
    except OSError as error:
        raise PortUnavailable(f"Cannot listen on {host}:{port} for metrics: {error.strerror or error}.") from error
    threading.Thread(target=server.serve_forever, name="hermes-metrics-port", daemon=True).start()
    return int(server.server_port)

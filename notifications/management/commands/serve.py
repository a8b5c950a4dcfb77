"""`manage.py serve`: the production server, uvicorn with protocols of our own (sockets.http, sockets.server)."""

from __future__ import annotations

import os
import signal
import tempfile
from typing import Any

import uvicorn
from django.conf import settings
from django.core.management.base import CommandError, CommandParser

from notifications import exposition, health
from notifications.management.service import Service
from notifications.sockets import tcp
from notifications.sockets.handshake import Handshake
from notifications.sockets.http import HermesHttpProtocol
from notifications.sockets.server import DRAIN_SECONDS, DRAIN_VARIABLE
from notifications.sockets.workers import Supervisor

# A host that is busy, as in a deployment, takes longer than uvicorn's 5 s to start a worker or to answer for one; the
# restart would be given up in the middle.
WORKER_SECONDS = 30
STOP_GRACE_SECONDS = 5  # beyond the drain, for the last closing handshakes


class Command(Service):
    """Serves HTTP and WebSocket."""

    help = "Serve HTTP and WebSocket with uvicorn, until SIGTERM or SIGINT."

    def add_arguments(self, parser: CommandParser) -> None:
        """Parse."""
        parser.add_argument("--host", default="127.0.0.1")
        parser.add_argument("--port", type=int, default=8000)
        parser.add_argument("--workers", type=int, default=1, help="processes that share the port (default 1)")
        parser.add_argument(
            "--drain-seconds",
            type=float,
            default=DRAIN_SECONDS,
            help="over which connections are closed on SIGTERM (default 5)",
        )
        parser.add_argument(
            "--metrics-port",
            type=int,
            default=settings.HERMES_METRICS_PORT,
            help="answers /metrics too, on HERMES_METRICS_HOST (default HERMES_METRICS_PORT; 0: none)",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Wire and run."""
        os.environ[DRAIN_VARIABLE] = str(options["drain_seconds"])  # workers are spawned, and inherit this alone
        with tempfile.TemporaryDirectory(prefix="hermes-metrics-", ignore_cleanup_errors=True) as folder:
            if options["workers"] > 1:
                os.environ[exposition.FOLDER_VARIABLE] = folder
            self._serve(options)
        self.say("The server has stopped.")

    def _serve(self, options: dict[str, Any]) -> None:
        config = uvicorn.Config(
            "hermes_site.asgi:application",
            workers=options["workers"],
            http=HermesHttpProtocol,
            ws=Handshake,  # made by HermesHttpProtocol; here it says that there are WebSockets
            lifespan="on",
            log_config=None,  # the settings' LOGGING, which redacts tokens
            access_log=False,
            server_header=False,
            # Else a client would say itself where it comes from.
            proxy_headers=settings.HERMES_TRUSTED_PROXIES not in ([], ["direct"]),
            forwarded_allow_ips=settings.HERMES_TRUSTED_PROXIES,
            timeout_worker_healthcheck=WORKER_SECONDS,
            timeout_graceful_shutdown=int(options["drain_seconds"]) + STOP_GRACE_SECONDS,
        )
        self._open_metrics(options["metrics_port"], options["workers"])
        try:
            listener = tcp.listening_socket(options["host"], options["port"])
        except OSError as error:
            raise CommandError(f"Cannot listen on {options['host']}:{options['port']}: {error.strerror}.") from error
        host, port = listener.getsockname()[:2]
        self.say(f"Serving on http://{host}:{port} with {options['workers']} worker(s).")
        if options["workers"] > 1 and not tcp.SHARES:
            self.say("This system does not share connections out: whichever worker is quicker accepts them.")
        # uvicorn raises the signal once more when it has stopped, which would end an orderly stop with a failure.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: None)
        server = uvicorn.Server(config)
        if options["workers"] > 1:
            supervisor = Supervisor(config, listener)
            supervisor.run()
            if supervisor.has_failed:
                raise CommandError("A worker could not start; what it said is above.")
        else:
            server.run(sockets=tcp.accepting(listener))

    def _open_metrics(self, port: int, workers: int) -> None:
        if not port:
            return
        try:  # workers look by themselves, each at what it needs
            exposition.serve(settings.HERMES_METRICS_HOST, port, health.look if workers == 1 else lambda: None)
        except exposition.PortUnavailable as error:
            raise CommandError(str(error)) from error
        self.say(f"Metrics on http://{settings.HERMES_METRICS_HOST}:{port}/metrics.")

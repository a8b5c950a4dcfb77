"""A proxy before SQS and DynamoDB: refuses a service, or calls that are not permitted; keeps a wrong clock."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Callable
from datetime import timedelta
from email.utils import format_datetime, parsedate_to_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

HOST = "127.0.0.1"
# A long poll takes 20 s.
UPSTREAM_SECONDS = 60

Watch = Callable[[str, bytes], None]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server
    upstream: http.client.HTTPConnection | None = None
    # Without it each small answer waits 40 ms for an acknowledgement.
    disable_nagle_algorithm = True
    wbufsize = -1

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        target = self.headers.get("X-Amz-Target", "")
        service = "dynamodb" if target.startswith("DynamoDB") else "sqs"
        if self.server.watch is not None:
            self.server.watch(target, body)
        if service in self.server.stopped:
            # Nothing answers: the connection ends, as it does when a process has died.
            self.close_connection = True
            return
        if target.rpartition(".")[2] in self.server.denied:
            self._deny(target)
            return
        try:
            status, headers, answer = self._forward(body)
        except (OSError, http.client.HTTPException):
            self.close_connection = True
            return
        if service in self.server.stopped:
            # A long poll that was under way when the service stopped.
            self.close_connection = True
            return
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() == "date":
                value = self.server.date(value)
            if name.lower() not in {"transfer-encoding", "connection", "content-length"}:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)
        self.wfile.flush()

    do_GET = do_POST  # noqa: N815  the name that http.server calls

    def _deny(self, target: str) -> None:
        """Answer as AWS does where a role may not make this call."""
        kind = "com.amazonaws.sqs" if target.startswith("AmazonSQS") else "com.amazon.coral.service"
        answer = json.dumps({"__type": f"{kind}#AccessDeniedException", "message": "You may not."}).encode()
        self.send_response_only(403 if kind.endswith("sqs") else 400)
        self.send_header("Content-Type", "application/x-amz-json-1.0")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def _forward(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        if self.upstream is None:
            self.upstream = http.client.HTTPConnection(HOST, self.server.upstream_port, timeout=UPSTREAM_SECONDS)
        try:
            self.upstream.request(self.command, self.path, body, dict(self.headers.items()))
            response = self.upstream.getresponse()
            return response.status, response.getheaders(), response.read()
        except (OSError, http.client.HTTPException):
            self.upstream.close()
            self.upstream = None
            raise

    def finish(self) -> None:
        if self.upstream is not None:
            self.upstream.close()
        super().finish()

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except ConnectionError:
            self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, upstream_port: int, watch: Watch | None) -> None:
        super().__init__((HOST, 0), _Handler)
        self.upstream_port = upstream_port
        self.watch = watch
        self.stopped: set[str] = set()
        self.denied: set[str] = set()
        self.seconds_ahead: float | None = 0.0

    def date(self, told: str) -> str:
        """Return the date that is passed on."""
        if self.seconds_ahead is None:
            return ""
        return format_datetime(parsedate_to_datetime(told) + timedelta(seconds=self.seconds_ahead), usegmt=True)


class AwsProxy:
    """An AWS endpoint whose services fail one by one when told to.

    Args:
        watch: called with the target and the body of each call, by many threads.
    """

    def __init__(self, watch: Watch | None = None) -> None:
        self._watch = watch
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None
        self.url = ""

    def start(self, upstream_port: int) -> None:
        """Listen on a free port of loopback and forward to ``upstream_port``."""
        self._server = _Server(upstream_port, self._watch)
        self.url = f"http://{HOST}:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def stop_service(self, service: str) -> None:
        """Answer ``sqs`` or ``dynamodb`` no more: its connections end, also those that wait."""
        assert self._server
        self._server.stopped.add(service)

    def start_service(self, service: str) -> None:
        """Answer it again."""
        assert self._server
        self._server.stopped.discard(service)

    def deny(self, *actions: str) -> None:
        """Refuse these calls, and no others, as AWS refuses what a role may not do."""
        assert self._server
        self._server.denied = set(actions)

    def set_clock(self, seconds_ahead: float | None) -> None:
        """Pass dates on as of a clock that is wrong by so much; empty for ``None``."""
        assert self._server
        self._server.seconds_ahead = seconds_ahead

    def stop(self) -> None:
        """Listen no more."""
        if self._server and self._thread:
            self._server.shutdown()
            self._server.server_close()
            self._thread.join(5)

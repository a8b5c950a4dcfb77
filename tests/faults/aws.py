"""Aws: a proxy before SQS and DynamoDB that knows their calls, fails them in their own ways, and sees what is acked.

Started by world, told by faults how to fail, writes to recorder. It has the shape of tests.proxy's AwsProxy.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import random
import re
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, TypeVar

from hermes_site.engines import HOST
from tests.faults.recorder import Recorder

UPSTREAM_SECONDS = 30
MODES = {
    "sqs": (
        "unreachable",
        "throttled",
        "slow",
        "half_failing",
        "lost_replies",
        "duplicating",
        "reordering",
        "expired_receipts",
    ),
    "dynamodb": ("unreachable", "throttled", "slow", "half_failing", "lost_replies"),
}
MARK = re.compile(r'"n": ?"([^"]+)"')
_THROTTLED = {"sqs": "com.amazonaws.sqs#RequestThrottled", "dynamodb": "ProvisionedThroughputExceededException"}
_BATCHES = ("DeleteMessageBatch", "ChangeMessageVisibilityBatch", "SendMessageBatch")

Answer = tuple[int, Any]
T = TypeVar("T")


class AwsChaos:
    """An AWS endpoint whose services fail when told to.

    Args:
        recorder: learns what was deleted and what went to a dead-letter queue.
        rng: decides call by call; seeded by the run.
    """

    def __init__(self, recorder: Recorder, rng: random.Random) -> None:
        self.url = ""
        self.modes: dict[str, set[str]] = {"sqs": set(), "dynamodb": set()}
        # How many calls each mode has disturbed: a fault that disturbed nothing is not counted.
        self.bites: Counter[tuple[str, str]] = Counter()
        # The connections that DynamoDB ever took, whoever was told: each must be audited once it has ended.
        self.booked: set[str] = set()
        self._recorder, self._rng = recorder, rng
        self._lock = threading.Lock()
        self._mid_of: dict[str, str] = {}
        self._recent: deque[dict[str, Any]] = deque(maxlen=40)
        self._trap: tuple[str, bool, Callable[[], None]] | None = None
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    def start(self, upstream_port: int, address: str = HOST) -> None:
        """Listen on a free port of loopback, or of another address of ours, and forward to ``upstream_port``."""
        self._server = _Server(upstream_port, self, address)
        self.url = f"http://{address}:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Listen no more."""
        if self._server and self._thread:
            self._server.shutdown()
            self._server.server_close()
            self._thread.join(5)

    def fail(self, service: str, mode: str) -> None:
        """Have a service fail in one of its ``MODES``, beside those that it fails in already."""
        self.modes[service] |= {mode}

    def heal(self, service: str, mode: str) -> None:
        """Have a service fail no longer in this mode."""
        self.modes[service] -= {mode}

    def _bite(self, service: str, mode: str) -> bool:
        with self._lock:
            self.bites[service, mode] += 1
        return True

    def set_trap(self, action: str, spring: Callable[[], None], *, answered: bool) -> None:
        """Call ``spring`` once: when such a call has come, which is never done; or when it is done, never answered."""
        self._trap = (action, answered, spring)

    def clear_trap(self) -> None:
        """Call nobody."""
        self._trap = None

    def _springs(self, action: str, answer: dict[str, Any] | None) -> bool:
        trap = self._trap
        if trap is None or trap[:2] != (action, answer is not None):
            return False
        if action == "ReceiveMessage" and not (answer or {}).get("Messages"):
            return False
        self._trap = None
        trap[2]()
        return True

    # ── One call ─────────────────────────────────────────────────────────────────────────────────────────────────────
    def answer(self, handler: _Handler, target: str, body: bytes) -> Answer | None:
        """Return the status and the answer of one call, or None where the connection just ends."""
        asked = time.time()
        service = "dynamodb" if target.startswith("DynamoDB") else "sqs"
        action = target.rpartition(".")[2]
        modes = frozenset(self.modes[service])
        if "unreachable" in modes and self._bite(service, "unreachable"):
            return None
        if "slow" in modes and self._bite(service, "slow"):
            time.sleep(self._rng.uniform(0.1, 1.5))
        if "throttled" in modes and self._rng.random() < 0.7 and self._bite(service, "throttled"):
            return 400, {"__type": _THROTTLED[service], "message": "Rate exceeded"}
        request: dict[str, Any] = json.loads(body or b"{}")
        if self._springs(action, None):
            return None
        kept: dict[str, Any] = {}
        if "half_failing" in modes and (kept := _keep_half(action, request, self._rng)):
            self._bite(service, "half_failing")
        if "expired_receipts" in modes and action == "DeleteMessageBatch" and self._rng.random() < 0.5:
            self._bite(service, "expired_receipts")
            failed = _failed(request.get("Entries", []), "ReceiptHandleIsInvalid") + kept.get("Failed", [])
            return 200, {"Successful": [], "Failed": failed}
        status, raw = handler.forward(json.dumps(request).encode())
        answer = json.loads(raw or b"{}")
        if status == 200 and service == "sqs":
            self._observe(action, request, answer, asked)
            if self._springs(action, answer):
                return None
        if status == 200 and action == "BatchWriteItem":
            self._book(request, answer)
        for silent, chance in (("unreachable", 1.0), ("lost_replies", 0.4)):  # it happened, and nobody is told
            if silent in self.modes[service] and self._rng.random() < chance and self._bite(service, silent):
                return None
        # A FIFO queue neither repeats what is in flight nor gives it in another order.
        if action == "ReceiveMessage" and status == 200 and not request["QueueUrl"].endswith(".fifo"):
            self._disturb(modes, answer, request["QueueUrl"])
        if kept:
            for name, value in kept.items():
                answer[name] = [*answer.get(name, ()), *value] if isinstance(value, list) else value
            answer.setdefault("Successful", []) if action in _BATCHES else None
        return status, answer

    def _observe(self, action: str, request: dict[str, Any], answer: dict[str, Any], asked: float) -> None:
        """Write down what was done; whoever asked for it at that moment had done already what must come before."""
        if action == "ReceiveMessage":
            with self._lock:
                for message in answer.get("Messages", ()):
                    self._mid_of[message["ReceiptHandle"]] = message["MessageId"]
                    self._recent.append({**message, "queue": request["QueueUrl"]})
        elif action == "DeleteMessageBatch":
            failed = {entry["Id"] for entry in answer.get("Failed", ())}
            for entry in request["Entries"]:
                if entry["Id"] not in failed:
                    mid = self._mid_of.get(entry["ReceiptHandle"], "unknown")
                    self._recorder.write("acked", mid=mid, unix=round(asked, 4))
        elif (
            action == "SendMessage"
            and request["QueueUrl"].endswith(("-dead", "-dead.fifo"))
            and (mark := MARK.search(request["MessageBody"]))
        ):
            self._recorder.write("dead", n=mark[1], unix=round(time.time(), 4))

    def _book(self, request: dict[str, Any], answer: dict[str, Any]) -> None:
        for table, writes in request["RequestItems"].items():
            left = answer.get("UnprocessedItems", {}).get(table, ())
            for item in (
                write["PutRequest"]["Item"] for write in writes if "PutRequest" in write and write not in left
            ):
                if "connected_at" in item:  # a connection's, and not an audit's
                    self.booked.add(item["connection_id"]["S"])

    def _disturb(self, modes: frozenset[str], answer: dict[str, Any], queue: str) -> None:
        """Deliver again what this queue delivered lately, or in another order."""
        messages = list(answer.get("Messages", ()))
        if "duplicating" in modes and messages:
            with self._lock:
                old = [message for message in self._recent if message["queue"] == queue]
            have = {message["ReceiptHandle"] for message in messages}
            again = [message for message in old if message["ReceiptHandle"] not in have]
            self._rng.shuffle(again)
            again = again[: 10 - len(messages)]
            if again:
                self._bite("sqs", "duplicating")
            messages += [{name: value for name, value in each.items() if name != "queue"} for each in again]
        if modes & {"duplicating", "reordering"} and len(messages) > 1:
            self._rng.shuffle(messages)
            answer["Messages"] = messages
            if "reordering" in modes:
                self._bite("sqs", "reordering")


def _failed(entries: list[dict[str, Any]], code: str) -> list[dict[str, Any]]:
    return [{"Id": entry["Id"], "Code": code, "Message": code, "SenderFault": False} for entry in entries]


def _keep_half(action: str, request: dict[str, Any], rng: random.Random) -> dict[str, Any]:
    """Take a random half of a batch out of its request; return what to add to the answer for it.

    Random, for what always goes together (a put and a deletion) would never be torn apart. One is left at least, as
    DynamoDB does, which otherwise refuses the whole batch.
    """
    if action in _BATCHES:
        entries = request["Entries"]
        request["Entries"], kept = _torn(entries, rng)
        return {"Failed": _failed(kept, "InternalError")} if kept else {}
    if action == "BatchWriteItem":
        pairs = [(table, write) for table, writes in request["RequestItems"].items() for write in writes]
        taken, left = _torn(pairs, rng)
        request["RequestItems"] = _by_table(taken)
        return {"UnprocessedItems": _by_table(left)} if left else {}
    if action == "BatchGetItem":
        asked = request["RequestItems"]
        taken, left = _torn([(table, key) for table, keys in asked.items() for key in keys["Keys"]], rng)
        request["RequestItems"] = {table: {**asked[table], "Keys": keys} for table, keys in _by_table(taken).items()}
        unread = {table: {**asked[table], "Keys": keys} for table, keys in _by_table(left).items()}
        return {"UnprocessedKeys": unread} if unread else {}
    return {}


def _torn(whole: list[T], rng: random.Random) -> tuple[list[T], list[T]]:
    out = set(rng.sample(range(len(whole)), len(whole) // 2))
    return [each for at, each in enumerate(whole) if at not in out], [whole[at] for at in sorted(out)]


def _by_table(pairs: list[tuple[str, Any]]) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for table, each in pairs:
        found.setdefault(table, []).append(each)
    return found


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server
    upstream: http.client.HTTPConnection | None = None
    # Without it each small answer waits 40 ms for an acknowledgement.
    disable_nagle_algorithm = True
    wbufsize = -1

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        try:
            answer = self.server.chaos.answer(self, self.headers.get("X-Amz-Target", ""), body)
        except (OSError, http.client.HTTPException):
            answer = None
        if answer is None:
            self.close_connection = True
            return
        status, value = answer
        text = json.dumps(value).encode()
        self.send_response_only(status)
        self.send_header("Content-Type", "application/x-amz-json-1.0")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)
        self.wfile.flush()

    def forward(self, body: bytes) -> tuple[int, bytes]:
        """Ask the endpoint itself."""
        if self.upstream is None:
            self.upstream = http.client.HTTPConnection(HOST, self.server.upstream_port, timeout=UPSTREAM_SECONDS)
        headers = {**dict(self.headers.items()), "Content-Length": str(len(body))}
        try:
            self.upstream.request(self.command, self.path, body, headers)
            response = self.upstream.getresponse()
            return response.status, response.read()
        except (OSError, http.client.HTTPException):
            self.upstream.close()
            self.upstream = None
            raise

    def finish(self) -> None:
        if self.upstream is not None:
            self.upstream.close()
        with contextlib.suppress(OSError):
            super().finish()

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except OSError:
            self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, upstream_port: int, chaos: AwsChaos, address: str) -> None:
        super().__init__((address, 0), _Handler)
        self.upstream_port = upstream_port
        self.chaos = chaos

"""Centrifugo v6 with JWT, history and recovery in Redis, and its SQS consumer: one of the contestants.

`make bench` builds it where there is a Go toolchain; any program of version 6 in var/bench/bin or on the path will do.
"""

from __future__ import annotations

import http.client
import json
import shutil
import subprocess
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import jwt

from bench import marks
from bench.dialects import Member
from bench.ground import HOST, REGION
from bench.helper import ROOT
from bench.peers.contestant import START_SECONDS, Consumer

if TYPE_CHECKING:
    from bench.plans import Plan
    from bench.scenes.crew import Crew

MODULE = "github.com/centrifugal/centrifugo/v6"
PINNED = "v6.9.1"
QUEUE = "bench-centrifugo-{}"
# Its consumer receives, processes and deletes, one after the other, for each queue of its list. The same queue several
# times gives it as many such loops: Hermes' relay has eight pollers. End to end it is the faster for it, too.
LOOPS = 8
RECEIVES = 10  # then a message is a dead letter, as Hermes provisions its queue
_BIN = ROOT / "var" / "bench" / "bin"
_SECRET = "bench-only-secret-" * 4
_KEY = "bench-only-key"
_TOKEN_SECONDS = 6 * 3600


class Centrifugo(Consumer):
    """Centrifugo, as near to Hermes as it can be set: authenticated, with a history that outlives it, recovery on."""

    name = "centrifugo"
    title = "Centrifugo"
    what = (
        "one process with GOMAXPROCS=1, JWT (HS512), 1,000 messages and a day of history in Redis, recovery forced, "
        "the subscription granted by the token; published to by its HTTP API, or from SQS by its own consumer, whose "
        f"list has the queue {LOOPS} times, so that it has as many batches in flight as Hermes."
    )
    dialect = "centrifugo"
    entrance = "centrifugo"
    frame_overhead = 61
    resumes = True
    shape = "centrifugo"

    def obstacle(self) -> str:
        """Return what is missing, with what the build said of it."""
        if self._program() is None:
            log = _BIN / "centrifugo.log"
            said = " ".join(log.read_text().split()) if log.exists() else "there is no Go toolchain to build it"
            return f"it is not installed: {said}"
        return "" if " v6." in f" {self.version()}" else f"it is {self.version()}, and not version 6"

    def version(self) -> str:
        """Return what it says of itself."""
        said = subprocess.run(
            [self._program() or "", "version"], capture_output=True, text=True, check=False, timeout=10
        )
        words = said.stdout.split()
        found = next((word for word in words if word.lstrip("v")[:1].isdigit()), "unknown")
        return f"Centrifugo v{found.lstrip('v')}"

    def environment(self) -> dict[str, str]:
        """Return ours; one core is all it has."""
        return {**super().environment(), "GOMAXPROCS": "1"}

    def commands(self) -> dict[str, Sequence[str]]:
        """Return the server, without its consumer."""
        return {"server": self.command([])}

    def command(self, consumers: list[dict[str, Any]]) -> list[str]:
        """Return the server with consumers; they run in the same process."""
        settings = {
            "http_server": {"address": HOST, "port": str(self.port)},
            "log": {"level": "error"},
            "http_api": {"key": _KEY},
            "client": {"token": {"hmac_secret_key": _SECRET}, "allowed_origins": ["*"]},
            "channel": {"without_namespace": {"history_size": 1000, "history_ttl": "24h", "force_recovery": True}},
            "engine": {"type": "redis", "redis": {"address": self.ground.valkey.url}},
            "consumers": consumers,
        }
        path = self.ground.directory / "centrifugo.json"
        path.write_text(json.dumps(settings, indent=1))
        return [self._program() or "centrifugo", "-c", str(path)]

    def consumer(self) -> dict[str, Any]:
        """Return the SQS consumer: the body is the payload, an attribute names the channel."""
        return {
            "enabled": True,
            "name": "bench",
            "type": "aws_sqs",
            "aws_sqs": {
                "queues": [self.queue] * LOOPS,
                "region": REGION,
                "localstack_endpoint": self.ground.aws.url,
                "max_concurrency": 10,  # all of a batch at once; by default it takes one message after the other
                "publication_data_mode": {"enabled": True, "channels_attribute": "centrifugo-channels"},
            },
        }

    def start_relay(self) -> None:
        """Start the one process, whose consumer begins at once."""
        self.start_process("server", self.command([self.consumer()]))

    def start_consuming(self) -> None:
        """Start it, and wait until it answers."""
        self.start_relay()
        self.processes[0].wait_until_ready(self.answers, START_SECONDS)

    def kept(self, crew: Crew, plan: Plan) -> tuple[int, int]:
        """Ask the API for each channel's history."""
        numbers: list[int] = []
        connection = http.client.HTTPConnection(HOST, self.port, timeout=10)
        for number in range(plan.rooms):
            body = json.dumps({"channel": f"room-{number:04d}", "limit": -1})
            connection.request("POST", "/api/history", body, {"X-API-Key": _KEY, "Content-Type": "application/json"})
            numbers += [found for found, _ in marks.find_all(connection.getresponse().read())]
        connection.close()
        return len(numbers), len(set(numbers))

    @property
    def sender(self) -> dict[str, Any]:
        """What the sender must know."""
        return {**super().sender, "key": _KEY}

    def members(self, seats: Sequence[tuple[str, str]]) -> list[Member]:
        """Issue a token to each; it subscribes its bearer to the room."""
        exp = int(time.time()) + _TOKEN_SECONDS
        return [
            Member(user, room, jwt.encode({"sub": user, "channels": [room], "exp": exp}, _SECRET, "HS512"))
            for user, room in seats
        ]

    @property
    def queue(self) -> str:
        """The queue's URL; it is made if it is not there, with dead letters as Hermes' has them. Each run has its own.

        What a run that was ended has still asked for would be given to nobody, and be invisible for half a minute.
        """
        client = self.ground.client("sqs")
        try:
            dead = client.create_queue(QueueName=QUEUE.format("dead"))["QueueUrl"]
            arn = client.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
            policy = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": RECEIVES})
            attributes = {"RedrivePolicy": policy}
            return str(client.create_queue(QueueName=QUEUE.format(self.port), Attributes=attributes)["QueueUrl"])
        finally:
            client.close()

    @staticmethod
    def _program() -> str | None:
        own = _BIN / "centrifugo"
        return str(own) if own.exists() else shutil.which("centrifugo")

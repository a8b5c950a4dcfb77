"""World: one server process on a core of its own, its engines, its members. Made by the tests and by `make load`.

Everything but the server runs on the other core, so that what a test measures is the server's.
"""

from __future__ import annotations

import copy
import http.client
import json
import os
import re
import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

import bcrypt
import boto3
import redis
from botocore.config import Config
from django.conf import settings
from django.test import override_settings

from hermes_site.children import ChildProcess
from hermes_site.engines import HOST, AwsEndpoint, Valkey, free_port
from notifications.access import tokens
from notifications.access.token_store import OUR_COST
from tests.environment import environment, sqlite_url, without_foreign
from tests.load.swarm import raise_open_files
from tests.processes import MANAGE, START_DEADLINE, STOP_DEADLINE
from tests.proxy import AwsProxy

METRICS_TOKEN = "metrics-of-the-load-tests"
TOKEN_SECONDS = 12 * 3600
_SAMPLE = re.compile(r"^(\w+(?:\{[^}]*\})?) ([0-9.e+-]+)$", re.MULTILINE)


def pin(pid: int, *cores: int) -> None:
    """Keep all threads of a process on some cores, where the machine has more than one; new ones inherit it."""
    if (os.cpu_count() or 1) < 2:
        return
    for thread in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(thread.name), cores)


class World:
    """A server on engines of its own.

    Args:
        directory: for data and logs.
        overrides: environment variables of the server that win.
    """

    stage = "development"

    def __init__(self, directory: Path, overrides: Mapping[str, str] | None = None) -> None:
        self.directory = directory
        self.port = free_port()
        self.database = directory / "load.sqlite3"
        self.calls: Counter[str] = Counter()
        self.read: Counter[str] = Counter()
        self.server: ChildProcess | None = None
        self.open_files = raise_open_files()
        self._overrides = dict(overrides or {})
        self._proxy = AwsProxy(self._watch)
        self._valkey = Valkey(directory / "valkey")
        self._aws = AwsEndpoint(directory / "aws")
        self._settings: Any = None

    def start(self) -> Self:
        """Start engines, prepare database and tables; the server is not started yet."""
        pin(os.getpid(), 1)
        for engine in (self._valkey, self._aws):
            pin(engine.start().child.pid, 1)
        self._proxy.start(self._aws.port)
        self.env = {
            **without_foreign(dict(os.environ)),
            **environment(aws_url=self._proxy.url, redis_url=self._valkey.url, database_url=sqlite_url(self.database)),
            "HERMES_METRICS_TOKEN": METRICS_TOKEN,
            "HERMES_LEASE_SECONDS": "30",
            "PYTHONUNBUFFERED": "1",
            **self._overrides,
        }
        layer = copy.deepcopy(settings.CHANNEL_LAYERS)
        layer["default"]["CONFIG"]["hosts"][0]["address"] = self._valkey.url
        self._settings = override_settings(REDIS_URL=self._valkey.url, CHANNEL_LAYERS=layer)
        self._settings.enable()  # so that this process publishes where the server listens
        for command in ("migrate", "provision"):
            self._child(command, command).start().wait_until_ended(START_DEADLINE, threading.Event())
        return self

    def stop(self) -> None:
        """Stop all of it."""
        if self.server is not None:
            self.server.stop(STOP_DEADLINE)
        self._proxy.stop()
        self._aws.stop()
        self._valkey.stop()
        if self._settings is not None:
            self._settings.disable()
        pin(os.getpid(), *range(os.cpu_count() or 1))

    def start_server(self) -> None:
        """Start the server, and pin it once it answers."""
        arguments = ("serve", "--host", HOST, "--port", str(self.port), "--drain-seconds", "1")
        self.server = self._child("server", *arguments).start()
        self.server.wait_until_ready(lambda: self._get("/healthz")[0] == 200, START_DEADLINE)
        pin(self.server.pid, 0)

    def _child(self, name: str, *arguments: str) -> ChildProcess:
        log = self.directory / "log" / f"{name}.log"
        return ChildProcess(name, [sys.executable, MANAGE, *arguments], environment=self.env, log=log)

    def _watch(self, target: str, body: bytes) -> None:
        action = target.rpartition(".")[2]
        self.calls[action] += 1
        if action == "BatchGetItem":
            for table, request in json.loads(body)["RequestItems"].items():
                if table == self.tokens_table:
                    self.calls["reads"] += 1
                    self.read.update(key["user_id"]["S"] for key in request["Keys"])

    @property
    def tokens_table(self) -> str:
        """Where the members' rows are."""
        return str(settings.HERMES_STAGES[self.stage].tokens_table)

    # ── What the server says of itself ───────────────────────────────────────────────────────────────────────────────
    def _get(self, path: str) -> tuple[int, str]:
        connection = http.client.HTTPConnection(HOST, self.port, timeout=20)
        try:
            connection.request("GET", path, headers={"Authorization": f"Bearer {METRICS_TOKEN}"})
            response = connection.getresponse()
            return response.status, response.read().decode()
        except OSError:
            return 0, ""
        finally:
            connection.close()

    def metrics(self) -> dict[str, float]:
        """Return the server's metrics by name, labels included as Prometheus writes them."""
        status, text = self._get("/metrics")
        assert status == 200, status
        return {name: float(value) for name, value in _SAMPLE.findall(text)}

    def memory(self, kind: str = "VmRSS") -> float:
        """Return the server's resident memory (`VmHWM`: at its highest) in MiB."""
        assert self.server is not None
        status = Path(f"/proc/{self.server.pid}/status").read_text()
        return int(status.split(f"{kind}:")[1].split()[0]) / 1024

    def cpu_seconds(self) -> float:
        """Return the CPU time that the server has used."""
        assert self.server is not None
        fields = Path(f"/proc/{self.server.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def kept_waiting(self) -> float:
        """Return for how many seconds in all the server's event loop has waited for its core, which others had."""
        assert self.server is not None
        return int(Path(f"/proc/{self.server.pid}/task/{self.server.pid}/schedstat").read_text().split()[1]) / 1e9

    # ── Members ──────────────────────────────────────────────────────────────────────────────────────────────────────
    def token(self, user: str, room: str) -> str:
        """Return a fresh token."""
        stage = settings.HERMES_STAGES[self.stage]
        return tokens.issue(stage, user, room, now=time.time(), ttl=TOKEN_SECONDS)

    def make_members(self, members: Sequence[tuple[str, str]]) -> None:
        """Write the rows of members (pairs of user and room) as `access.token_store` would."""

        def put(chunk: Sequence[tuple[str, str]]) -> None:
            requests: list[Any] = []
            for user, room in chunk:
                hashed = make_hash(tokens.make_digest(user, passcode, room))
                item = {"user_id": {"S": user}, "room_id": {"S": room}, "token": {"S": hashed}}
                requests.append({"PutRequest": {"Item": item}})
            client.batch_write_item(RequestItems={self.tokens_table: requests})

        passcode = settings.HERMES_STAGES[self.stage].passcode
        client = self._dynamodb()
        with ThreadPoolExecutor(os.cpu_count(), initializer=_anywhere) as pool:
            list(pool.map(put, [members[start : start + 25] for start in range(0, len(members), 25)]))
        client.close()

    def items(self, table: str) -> list[dict[str, Any]]:
        """Return every item of a table."""
        client = self._dynamodb()
        try:
            pages = client.get_paginator("scan").paginate(TableName=table, ConsistentRead=True)
            return [item for page in pages for item in page["Items"]]
        finally:
            client.close()

    def _dynamodb(self) -> Any:
        return boto3.client(
            "dynamodb",
            endpoint_url=self._aws.url,
            region_name=self.env["AWS_REGION"],
            aws_access_key_id="tests",
            aws_secret_access_key="tests",
            config=Config(connect_timeout=2, read_timeout=30, max_pool_connections=8, parameter_validation=False),
        )

    def keys(self) -> Counter[str]:
        """Return how many keys of each kind Redis holds."""
        with self.redis() as client:
            return Counter(key.decode().split(":")[3] for key in client.scan_iter(count=1000))

    def longest_lives(self) -> dict[str, int]:
        """Return for each kind of key how many seconds the longest-lived one has left; 0 where one lives for ever."""
        longest: dict[str, int] = {}
        with self.redis() as client:
            for key in client.scan_iter(count=1000):
                kind, left = key.decode().split(":")[3], int(client.pttl(key))
                if left == -2:
                    continue  # it has ended meanwhile
                seconds = 0 if left == -1 else -(-left // 1000)
                longest[kind] = 0 if not seconds or longest.get(kind) == 0 else max(longest.get(kind, 0), seconds)
        return longest

    def redis(self) -> redis.Redis:
        """Return a client of the histories' Redis; close it."""
        return redis.Redis.from_url(self.env["REDIS_URL"])


def make_hash(digest: str) -> str:
    """Return a digest's hash as `access.token_store` makes it."""
    return bcrypt.hashpw(digest.encode(), bcrypt.gensalt(OUR_COST)).decode()


def _anywhere() -> None:
    os.sched_setaffinity(0, range(os.cpu_count() or 1))

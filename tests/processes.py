"""Hermes as its users run it: engines, server and relay as processes. Called by conftest and the whole-path tests."""

from __future__ import annotations

import http.client
import json
import sys
import urllib.parse
from collections.abc import Callable, Mapping
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any, Self

import boto3
import redis
from botocore.config import Config

from hermes_site.children import ChildProcess
from hermes_site.engines import HOST, AwsEndpoint, Valkey, free_port
from tests.environment import environment, sqlite_url
from tests.proxy import AwsProxy
from tests.waiting import wait_until

MANAGE = str(Path(__file__).parent.parent / "manage.py")
PASSWORD = "a password that the tests know"
ROOM_OF = {"alice": "acme", "bob": "acme", "charlie": "globex", "admin": "acme"}
START_DEADLINE = 40.0
STOP_DEADLINE = 15.0


class Hermes:
    """One Hermes of its own: nothing is shared with other tests but the machine.

    Args:
        directory: for its data and logs.
        base: the environment to start from.
        make_database: returns the URL of an empty database; None for a SQLite file.
        overrides: variables that win over the tests' usual ones.
    """

    stage = "development"

    def __init__(
        self,
        directory: Path,
        base: Mapping[str, str],
        make_database: Callable[[], str] | None = None,
        overrides: Mapping[str, str] | None = None,
    ) -> None:
        self.directory = directory
        self.valkey = Valkey(directory / "valkey", persistent=True)
        self.aws = AwsEndpoint(directory / "aws")
        self.aws_proxy = AwsProxy()
        self.port = free_port()
        self.url = f"http://{HOST}:{self.port}"
        self.ws_url = f"ws://{HOST}:{self.port}/ws/{self.stage}"
        self.database_url = make_database() if make_database else sqlite_url(directory / "hermes.sqlite3")
        self.env: dict[str, str] = {}
        self.processes: dict[str, ChildProcess] = {}
        self._base, self._overrides = dict(base), dict(overrides or {})
        self._cookies: dict[tuple[str, str], str] = {}
        self._clients: dict[str, Any] = {}

    def start(self) -> Self:
        """Start all of it and wait until it is ready."""
        self.valkey.start()
        self.aws.start()
        self.aws_proxy.start(self.aws.port)
        self.env = {
            **self._base,
            **environment(aws_url=self.aws_proxy.url, redis_url=self.valkey.url, database_url=self.database_url),
            "DJANGO_SETTINGS_MODULE": "hermes_site.settings",
            "HERMES_ALLOWED_ORIGINS": f"{self.url},http://localhost:{self.port}",
            "HERMES_DEMO_PASSWORD": PASSWORD,
            "PYTHONUNBUFFERED": "1",
            **self._overrides,
        }
        self.manage("demo", "--prepare")
        self.start_server()
        self.start_relay()
        wait_until(lambda: self.status("/readyz") == 200, START_DEADLINE, "/readyz says 200")
        return self

    def stop(self) -> None:
        """End all of it, at once: the tests that are about stopping in order do that themselves."""
        for process in reversed(self.processes.values()):
            process.kill()
        for client in self._clients.values():
            client.close()
        self.aws_proxy.stop()
        self.aws.kill()
        self.valkey.kill()

    def child(self, name: str, *arguments: str, port: int | None = None, **overrides: str) -> ChildProcess:
        """Return a `manage.py` command as a child that is not started yet.

        Args:
            name: of its log.
            arguments: of `manage.py`.
            port: whose origins it allows instead of the server's.
            overrides: environment variables that it alone has.
        """
        variables = {**self.env, **overrides}
        if port is not None:
            variables["HERMES_ALLOWED_ORIGINS"] = f"http://{HOST}:{port},http://localhost:{port}"
        log = self.directory / "log" / f"{name}.log"
        return ChildProcess(name, [sys.executable, MANAGE, *arguments], environment=variables, log=log)

    def manage(self, *arguments: str, **overrides: str) -> str:
        """Run a `manage.py` command to its end and return what it wrote; a failure fails the test."""
        process = self.child(f"manage-{arguments[0]}", *arguments, **overrides)
        before = len(process.log_text())
        process.start()
        wait_until(lambda: not process.running, START_DEADLINE, f"manage.py {arguments[0]} ends")
        assert process.kill() == 0, process.log_tail(40)
        return process.log_text()[before:]

    # ── Server and relay ─────────────────────────────────────────────────────────────────────────────────────────────
    def start_server(self) -> None:
        """Start the server on the same port as ever and wait until it answers."""
        arguments = ("serve", "--host", HOST, "--port", str(self.port))
        server = self.processes["server"] = self.child("server", *arguments).start()
        server.wait_until_ready(self.is_alive, START_DEADLINE)

    def stop_server(self) -> int | None:
        """Stop the server in order; return its exit code."""
        return self.processes["server"].stop(STOP_DEADLINE)

    def kill_server(self) -> None:
        """Kill the server and its workers as a crash would."""
        self.processes["server"].kill()

    def restart_server(self) -> None:
        """Stop the server in order and start it again."""
        self.stop_server()
        self.start_server()

    def start_relay(self) -> None:
        """Start the relay; it receives as soon as it is up."""
        self.processes["relay"] = self.child("relay", "relay_sqs").start()

    def stop_relay(self) -> int | None:
        """Stop the relay in order; return its exit code."""
        return self.processes["relay"].stop(STOP_DEADLINE)

    def kill_relay(self) -> None:
        """Kill the relay as a crash would."""
        self.processes["relay"].kill()

    def is_alive(self, url: str = "") -> bool:
        """Return whether the server, or another one at ``url``, answers at all."""
        return self.status("/healthz", url) == 200

    def status(self, path: str, url: str = "") -> int:
        """Return the HTTP status of a page, or 0 if nobody answers."""
        try:
            return self.request("GET", path, url=url)[0]
        except (OSError, http.client.HTTPException):
            return 0

    def log_text(self) -> str:
        """Return everything that server and relay have written."""
        return "".join(process.log_text() for process in self.processes.values())

    # ── What a browser does ──────────────────────────────────────────────────────────────────────────────────────────
    def connection(self, url: str) -> http.client.HTTPConnection:
        """Return a connection to a server of this machine; close it."""
        return http.client.HTTPConnection(HOST, int(url.rsplit(":", 1)[1]), timeout=10)

    def request(
        self, method: str, path: str, body: str = "", headers: Mapping[str, str] | None = None, url: str = ""
    ) -> tuple[int, str, dict[str, str]]:
        """Make one HTTP request.

        Returns:
            Status, body, and the cookies that the response sets.
        """
        connection = self.connection(url or self.url)
        try:
            connection.request(method, path, body or None, dict(headers or {}))
            response = connection.getresponse()
            cookies: SimpleCookie = SimpleCookie()
            for value in response.headers.get_all("Set-Cookie", []):
                cookies.load(value)
            values = {name: morsel.value for name, morsel in cookies.items()}
            return response.status, response.read().decode(), values
        finally:
            connection.close()

    def sign_in(self, user: str, url: str = "") -> dict[str, str]:
        """Sign a member in as a browser does; return the cookies. Asked again, it answers from memory."""
        url = url or self.url
        if (url, user) not in self._cookies:
            cookies = self.request("GET", "/sign-in/", url=url)[2]
            form = {"username": user, "password": PASSWORD, "csrfmiddlewaretoken": cookies["csrftoken"]}
            status, page, after = self.request(
                "POST",
                "/sign-in/",
                urllib.parse.urlencode(form),
                {
                    "Content-Type": "application/x-www-form-urlencoded",
                    "Cookie": f"csrftoken={cookies['csrftoken']}",
                    "Referer": f"{url}/sign-in/",
                },
                url=url,
            )
            assert status == 302, (status, page[:500])
            self._cookies[url, user] = json.dumps({**cookies, **after})
        remembered: dict[str, str] = json.loads(self._cookies[url, user])
        return remembered

    def token_response(self, user: str, url: str = "", **body: Any) -> dict[str, Any]:
        """POST /notifications/token as a page does; return what it answers."""
        cookies = self.sign_in(user, url)
        status, text, _ = self.request(
            "POST",
            "/notifications/token",
            json.dumps(body),
            {
                "Content-Type": "application/json",
                "Cookie": "; ".join(f"{name}={value}" for name, value in cookies.items()),
                "X-CSRFToken": cookies["csrftoken"],
                "Referer": f"{url or self.url}/",
            },
            url=url,
        )
        assert status == 200, (status, text[:500])
        answer: dict[str, Any] = json.loads(text)
        return answer

    def token(self, user: str, url: str = "", **body: Any) -> str:
        """Return a fresh token of a member."""
        return str(self.token_response(user, url, **body)["token"])

    # ── What a producer does, and what can be looked up behind the scenes ────────────────────────────────────────────
    def client(self, service: str) -> Any:
        """Return a boto3 client that goes straight to the endpoint, past the proxy."""
        if service not in self._clients:
            self._clients[service] = boto3.client(
                service,
                endpoint_url=self.aws.url,
                region_name=self.env["AWS_REGION"],
                aws_access_key_id="tests",
                aws_secret_access_key="tests",
                config=Config(connect_timeout=2, read_timeout=30, max_pool_connections=32),
            )
        return self._clients[service]

    def queue_url(self, name: str = "hermes-messageQueue") -> str:
        """Return a queue's URL."""
        return str(self.client("sqs").get_queue_url(QueueName=name)["QueueUrl"])

    def send_body(self, body: str) -> str:
        """Put any body on the queue; return the MessageId."""
        return str(self.client("sqs").send_message(QueueUrl=self.queue_url(), MessageBody=body)["MessageId"])

    def send(self, room: Any, data: Any, user: Any = 0, **extra: Any) -> str:
        """Put a message on the queue as any back end does; return the MessageId."""
        return self.send_body(json.dumps({"user_id": user, "room_id": room, "data": data, **extra}))

    def send_many(self, room: str, items: list[Any]) -> None:
        """Put many messages on the queue, ten at a time."""
        url = self.queue_url()
        for start in range(0, len(items), 10):
            entries = [
                {"Id": str(at), "MessageBody": json.dumps({"user_id": 0, "room_id": room, "data": item})}
                for at, item in enumerate(items[start : start + 10])
            ]
            answer = self.client("sqs").send_message_batch(QueueUrl=url, Entries=entries)
            assert not answer.get("Failed"), answer

    def queued(self, name: str = "hermes-messageQueue") -> int:
        """Return how many messages a queue holds, those in flight included."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        answer = self.client("sqs").get_queue_attributes(QueueUrl=self.queue_url(name), AttributeNames=names)
        return sum(int(answer["Attributes"][name]) for name in names)

    def dead_letters(self, name: str = "hermes-messageQueue-dead") -> list[dict[str, Any]]:
        """Take everything out of the dead-letter queue."""
        taken: list[dict[str, Any]] = []
        url = self.queue_url(name)
        while True:
            answer = self.client("sqs").receive_message(
                QueueUrl=url, MaxNumberOfMessages=10, MessageAttributeNames=["All"], WaitTimeSeconds=0
            )
            if not answer.get("Messages"):
                return taken
            for message in answer["Messages"]:
                taken.append(message)
                self.client("sqs").delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])

    def items(self, table: str = "hermesConnections") -> list[dict[str, Any]]:
        """Return every item of a table, in DynamoDB's notation."""
        pages = self.client("dynamodb").get_paginator("scan").paginate(TableName=table, ConsistentRead=True)
        return [item for page in pages for item in page["Items"]]

    def live_rows(self) -> set[str]:
        """Return the ids of the connections that the connections table holds."""
        rows = (item["connection_id"]["S"] for item in self.items())
        return {row for row in rows if not row.startswith("server#")}

    def redis(self) -> redis.Redis:
        """Return a client of its Valkey; close it."""
        return redis.Redis.from_url(self.valkey.url)

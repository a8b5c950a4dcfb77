"""Our own way of asking AWS says what boto3 says: over TLS, over connections that ended, and when refused."""

from __future__ import annotations

import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import boto3
import botocore.session
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, EndpointConnectionError, NoCredentialsError, SSLError

from notifications.conf import Stage
from notifications.intake.queue import Queue
from notifications.wire import Wire, connect
from tests.conftest import Aws
from tests.intake.conftest import Sqs

Make = Callable[..., Wire]


@pytest.fixture
def make(queues: Sqs) -> Iterator[Make]:
    """Return a function that makes a wire to an address, SQS's own by default."""
    clients: list[Any] = []

    def make(url: str = queues.engine.url, *, answer_seconds: float = 5, **keys: Any) -> Wire:
        session = botocore.session.get_session()
        clients.append(
            boto3.session.Session(region_name="eu-west-1", botocore_session=session, **keys).client(
                "sqs", endpoint_url=url, config=Config(connect_timeout=2, retries={"max_attempts": 1})
            )
        )
        return Wire(clients[-1], session, answer_seconds)

    yield make
    for client in clients:
        client.close()


class Front:
    """A listener before SQS: passes bytes on, and counts connections. With a certificate it speaks TLS.

    Args:
        port: of SQS.
        context: of the certificate.
        ends: whether each connection ends after one exchange, as a balancer's does that has been idle.
        failures: how many requests are answered with 500.
    """

    def __init__(
        self, port: int, context: ssl.SSLContext | None = None, *, ends: bool = False, failures: int = 0
    ) -> None:
        self._to, self._context, self._ends, self._failures = port, context, ends, failures
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.connections = 0
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            with suppress(OSError):  # a client that does not trust us goes away in the middle
                if self._context is not None:
                    connection = self._context.wrap_socket(connection, server_side=True)
                self._pass_on(connection)
            connection.close()

    def _pass_on(self, connection: socket.socket) -> None:
        connection.settimeout(2)
        with closing(socket.create_connection(("127.0.0.1", self._to))) as sqs:
            sqs.settimeout(2)
            while request := _whole(connection):
                if self._failures:
                    self._failures -= 1
                    connection.sendall(b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 2\r\n\r\n{}")
                    continue
                sqs.sendall(request)
                connection.sendall(_whole(sqs))
                if self._ends:
                    return

    def close(self) -> None:
        """Stop."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(10)


def _whole(connection: socket.socket) -> bytes:
    """Read a request or an answer, body and all; nothing when the other side has ended."""
    said = b""
    while b"\r\n\r\n" not in said:
        if not (more := connection.recv(65536)):
            return b""
        said += more
    head, _, body = said.partition(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
    while len(body) < length:
        body += connection.recv(65536)
    return head + b"\r\n\r\n" + body


def ask(wire: Wire, stage: Stage) -> str:
    """Ask for the queue's URL; return the name in it, because its address is the one we asked."""
    return str(wire.call("GetQueueUrl", QueueName=stage.queue_name)["QueueUrl"]).rpartition("/")[2]


def test_one_connection_is_kept_for_many_calls(make: Make, queues: Sqs, stage: Stage) -> None:
    with closing(Front(queues.engine.port)) as front:
        wire = make(f"http://127.0.0.1:{front.port}")
        assert ask(wire, stage) == ask(wire, stage) == stage.queue_name
        assert front.connections == 1
        del wire


def test_a_connection_that_sqs_has_closed_meanwhile_is_made_anew(make: Make, queues: Sqs, stage: Stage) -> None:
    with closing(Front(queues.engine.port, ends=True)) as front:
        wire = make(f"http://127.0.0.1:{front.port}")
        assert [ask(wire, stage) for _ in range(3)] == [stage.queue_name] * 3
        assert front.connections == 3


def test_a_refusal_is_called_what_boto3_calls_it(make: Make, queues: Sqs) -> None:
    arguments = {"QueueUrl": f"{queues.engine.url}/000000000000/nobody", "MaxNumberOfMessages": 1}
    with pytest.raises(ClientError) as theirs:
        queues.client.receive_message(**arguments)
    with pytest.raises(ClientError) as ours:
        make().call("ReceiveMessage", **arguments)
    assert ours.value.response["Error"] == theirs.value.response["Error"]
    assert type(ours.value).__name__ == type(theirs.value).__name__ == "QueueDoesNotExist"


def test_a_failure_of_the_service_is_asked_again_once(make: Make, queues: Sqs, stage: Stage) -> None:
    with closing(Front(queues.engine.port, failures=1)) as front:
        assert ask(make(f"http://127.0.0.1:{front.port}"), stage) == stage.queue_name
    with closing(Front(queues.engine.port, failures=2)) as front, pytest.raises(ClientError) as failure:
        ask(make(f"http://127.0.0.1:{front.port}"), stage)
    assert failure.value.response["ResponseMetadata"]["HTTPStatusCode"] == 500


def test_dynamodb_is_asked_in_its_own_words_and_says_what_boto3_says(aws: Aws, stage: Stage) -> None:
    theirs, ours = connect("dynamodb", endpoint=aws.url, region="eu-west-1", answer_seconds=5, pool=1)
    item = {"user_id": {"S": "alice"}, "room_id": {"S": "acme"}, "not_before": {"N": "7"}}
    assert not ours.call("BatchWriteItem", RequestItems={stage.tokens_table: [{"PutRequest": {"Item": item}}]}).get(
        "UnprocessedItems"
    )
    keys = {stage.tokens_table: {"Keys": [{name: item[name] for name in ("user_id", "room_id")}]}}
    assert (
        ours.call("BatchGetItem", RequestItems=keys)["Responses"]
        == theirs.batch_get_item(RequestItems=keys)["Responses"]
        == {stage.tokens_table: [item]}
    )
    with pytest.raises(theirs.exceptions.ResourceNotFoundException):
        ours.call("BatchGetItem", RequestItems={"nothing": keys[stage.tokens_table]})


def test_who_does_not_listen_and_who_does_not_answer_are_told_apart(make: Make, nowhere: str, stage: Stage) -> None:
    with pytest.raises(EndpointConnectionError):
        ask(make(nowhere), stage)
    with closing(socket.create_server(("127.0.0.1", 0))) as silent, pytest.raises(BotoCoreError, match="Read timeout"):
        ask(make(f"http://127.0.0.1:{silent.getsockname()[1]}", answer_seconds=0.2), stage)


def test_without_credentials_nothing_is_sent(
    make: Make, queues: Sqs, stage: Stage, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with closing(Front(queues.engine.port)) as front:
        with pytest.raises(NoCredentialsError):
            ask(make(f"http://127.0.0.1:{front.port}"), stage)
        assert front.connections == 0


def test_who_speaks_for_sqs_over_tls_is_one_whom_aws_ca_bundle_trusts(
    make: Make, queues: Sqs, stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    made += ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(made, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    monkeypatch.delenv("AWS_CA_BUNDLE", raising=False)
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    with closing(Front(queues.engine.port, context)) as front:
        with pytest.raises(SSLError, match="certificate verify failed"):
            ask(make(f"https://localhost:{front.port}"), stage)
        monkeypatch.setenv("AWS_CA_BUNDLE", str(certificate))
        assert ask(make(f"https://localhost:{front.port}"), stage) == stage.queue_name


def test_behind_a_proxy_boto3_asks(make: Make, queues: Sqs, stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(Front(queues.engine.port)) as front:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{front.port}")
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        assert ask(make("http://sqs.example:80"), stage)
        assert front.connections > 0


def test_bytes_in_an_attribute_are_bytes(queues: Sqs, stage: Stage) -> None:
    attributes: Any = {"raw": {"DataType": "Binary", "BinaryValue": b"\x00\xff"}}
    queues.put(stage.queue_name, "x", MessageAttributes=attributes)
    (received,) = Queue(stage).receive()
    assert received.attributes["raw"]["BinaryValue"] == b"\x00\xff"

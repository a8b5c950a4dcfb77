"""Our own way of asking AWS says what boto3 says: over TLS, over connections that ended, and when refused."""

from __future__ import annotations

import asyncio
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import boto3
import botocore.session
import pytest
from botocore.config import Config
from botocore.credentials import DeferredRefreshableCredentials
from botocore.exceptions import BotoCoreError, ClientError, EndpointConnectionError, NoCredentialsError, SSLError

from notifications import wire as module
from notifications.conf import Stage
from notifications.exceptions import MessageRefused, QueueUnavailable
from notifications.intake.queue import Queue
from notifications.intake.received import Received
from notifications.intake.sqs import with_bytes
from notifications.wire import UnreadableAnswer, Wire, connect
from tests.asking import receive
from tests.conftest import Aws
from tests.intake.conftest import Sqs
from tests.waiting import eventually

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


def in_a_thread(wire: Wire, operation: str, **arguments: Any) -> dict[str, Any]:
    """Call as a thread does."""
    return wire.call(operation, **arguments)


def on_a_loop(wire: Wire, operation: str, **arguments: Any) -> dict[str, Any]:
    """Call as a task does, on an event loop of its own."""
    return asyncio.run(wire.call_here(operation, asyncio.to_thread, **arguments))


@pytest.fixture(params=[in_a_thread, on_a_loop], ids=["in_a_thread", "on_a_loop"])
def call(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """How `ask` calls in this test: all that is said of a wire holds for both of its ways."""
    monkeypatch.setattr(sys.modules[__name__], "_call", request.param)
    return request.param


_call: Callable[..., dict[str, Any]] = in_a_thread


def ask(wire: Wire, stage: Stage) -> str:
    """Ask for the queue's URL; return the name in it, because its address is the one we asked."""
    return str(_call(wire, "GetQueueUrl", QueueName=stage.queue_name)["QueueUrl"]).rpartition("/")[2]


@pytest.mark.usefixtures("call")
def test_one_connection_is_kept_for_many_calls(make: Make, queues: Sqs, stage: Stage) -> None:
    with closing(Front(queues.engine.port)) as front:
        wire = make(f"http://127.0.0.1:{front.port}")
        assert ask(wire, stage) == ask(wire, stage) == stage.queue_name
        assert front.connections == 1
        del wire


@pytest.mark.usefixtures("call")
def test_a_connection_that_sqs_has_closed_meanwhile_is_made_anew(make: Make, queues: Sqs, stage: Stage) -> None:
    with closing(Front(queues.engine.port, ends=True)) as front:
        wire = make(f"http://127.0.0.1:{front.port}")
        assert [ask(wire, stage) for _ in range(3)] == [stage.queue_name] * 3
        assert front.connections == 3


def test_a_refusal_is_called_what_boto3_calls_it(make: Make, queues: Sqs, call: Any) -> None:
    arguments = {"QueueUrl": f"{queues.engine.url}/000000000000/nobody", "MaxNumberOfMessages": 1}
    with pytest.raises(ClientError) as theirs:
        queues.client.receive_message(**arguments)
    with pytest.raises(ClientError) as ours:
        call(make(), "ReceiveMessage", **arguments)
    assert ours.value.response["Error"] == theirs.value.response["Error"]
    assert type(ours.value).__name__ == type(theirs.value).__name__ == "QueueDoesNotExist"


@pytest.mark.usefixtures("call")
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


@pytest.mark.usefixtures("call")
def test_who_does_not_listen_and_who_does_not_answer_are_told_apart(make: Make, nowhere: str, stage: Stage) -> None:
    with pytest.raises(EndpointConnectionError):
        ask(make(nowhere), stage)
    with closing(socket.create_server(("127.0.0.1", 0))) as silent, pytest.raises(BotoCoreError, match="Read timeout"):
        ask(make(f"http://127.0.0.1:{silent.getsockname()[1]}", answer_seconds=0.2), stage)


@pytest.mark.usefixtures("call")
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


@pytest.mark.usefixtures("call")
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
        before, wire = front.connections, make(f"https://localhost:{front.port}")
        assert ask(wire, stage) == ask(wire, stage) == stage.queue_name
        assert front.connections == before + 1, "it is kept over TLS, too"
        del wire


@pytest.mark.usefixtures("call")
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
    (received,) = receive(Queue(stage))
    assert received.attributes["raw"]["BinaryValue"] == b"\x00\xff"
    (behind_a_proxy,) = with_bytes([{"MessageAttributes": {"raw": {"BinaryValue": b"\x00\xff"}}}])
    assert behind_a_proxy["MessageAttributes"]["raw"]["BinaryValue"] == b"\x00\xff", "boto3 has decoded them"


# ── Answers of every kind ────────────────────────────────────────────────────────────────────────────────────────────
class Teller:
    """A listener that says what it is told to.

    Args:
        connections: for each connection what is said to each of its requests, in pieces; then it ends.
        pause: seconds between two pieces.
    """

    def __init__(self, *connections: list[tuple[bytes, ...]], pause: float = 0.02) -> None:
        self._connections, self._pause = connections, pause
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.requests = 0
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        for answers in self._connections:
            with suppress(OSError), closing(self._listener.accept()[0]) as connection:
                connection.settimeout(1)
                for pieces in answers:
                    if not _whole(connection):
                        break
                    self.requests += 1
                    for piece in pieces:
                        connection.sendall(piece)
                        time.sleep(self._pause)

    def close(self) -> None:
        """Stop."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(10)


def answer(body: bytes, status: str = "200 OK", head: str = "") -> bytes:
    return f"HTTP/1.1 {status}\r\n{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def open_ended(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + body


YES = b'{"QueueUrl": "http://sqs/0/yes"}'
NO = b'{"QueueUrl": "http://sqs/0/no"}'
HINTS = b"HTTP/1.1 103 Early Hints\r\nContent-Length: 5\r\nLink: </x>\r\n\r\n"

GOOD: dict[str, tuple[bytes, ...]] = {
    "byte by byte": tuple(answer(YES)[at : at + 1] for at in range(len(answer(YES)))),
    "an interim answer before it": (b"HTTP/1.1 100 Continue\r\nX: y\r\n\r\n", answer(YES)),
    "two interim answers in one read with it": (HINTS + b"HTTP/1.1 100 Continue\r\n\r\n" + answer(YES),),
    "in chunks": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"10\r\n" + YES[:16] + b"\r\n",
        f"{len(YES) - 16:x}\r\n".encode() + YES[16:] + b"\r\n0\r\n\r\n",
    ),
    "ended by the connection": (open_ended(YES[:9]), YES[9:]),
    "another behind it in one read": (answer(YES) + answer(NO, "408 Request Timeout"),),
    "half of another behind it": (answer(YES) + answer(NO)[:20],),
    "no HTTP behind it": (answer(YES) + b"<html>",),
    "another behind one that closes": (answer(YES, head="Connection: close\r\n") + answer(NO),),
    "a newer protocol offered": (answer(YES, head="Connection: Upgrade\r\nUpgrade: h2c\r\n"),),
}


@pytest.mark.usefixtures("call")
@pytest.mark.parametrize("name", GOOD)
def test_an_answer_is_read_whole_and_no_other_with_it(make: Make, stage: Stage, name: str) -> None:
    with closing(Teller([GOOD[name]], [(answer(YES),)], pause=0.002)) as teller:
        wire = make(teller.url)
        assert ask(wire, stage) == "yes"
        assert ask(wire, stage) == "yes", "what came behind the first is not taken for the second's"


BROKEN: dict[str, tuple[bytes, ...]] = {
    "nothing": (),
    "half a status line": (b"HTTP/1.1 2",),
    "half of the headers": (b"HTTP/1.1 200 OK\r\nDate: today\r\nConte",),
    "headers without a length and no body": (open_ended(b""),),
    "half of a body": (answer(YES)[:-5],),
    "half of its chunks": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10\r\n" + YES[:16] + b"\r\n",),
    "an interim answer alone": (b"HTTP/1.1 100 Continue\r\nX: y\r\n\r\n",),
    "another protocol": (b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",),
    "no HTTP": (b"SSH-2.0-OpenSSH\r\n",),
}


@pytest.mark.usefixtures("call")
@pytest.mark.parametrize("name", BROKEN)
def test_an_answer_that_breaks_off_is_none(make: Make, stage: Stage, name: str) -> None:
    with closing(Teller([BROKEN[name]])) as teller, pytest.raises(BotoCoreError, match="closed"):
        ask(make(teller.url), stage)


@pytest.mark.usefixtures("call")
@pytest.mark.parametrize("name", BROKEN)
def test_on_a_kept_connection_it_is_asked_for_again_on_a_new_one(make: Make, stage: Stage, name: str) -> None:
    with closing(Teller([(answer(YES),), BROKEN[name]], [(answer(YES),)])) as teller:
        wire = make(teller.url)
        assert [ask(wire, stage), ask(wire, stage)] == ["yes", "yes"]
        assert teller.requests == 3


@pytest.mark.usefixtures("call")
@pytest.mark.parametrize("last_word", [b"", answer(NO, "408 Request Timeout", "Connection: close\r\n")])
def test_what_came_while_a_connection_was_idle_answers_nobody(make: Make, stage: Stage, last_word: bytes) -> None:
    with closing(Teller([(answer(YES), b"", b"", last_word)], [(answer(YES),)])) as teller:
        wire = make(teller.url)
        assert ask(wire, stage) == "yes"
        time.sleep(0.3)
        assert ask(wire, stage) == "yes"
        assert teller.requests == 2, "and no request was lost on it"


@pytest.mark.usefixtures("call")
def test_an_answer_that_drips_has_its_deadline_too(make: Make, stage: Stage) -> None:
    drops = tuple(answer(YES)[at : at + 1] for at in range(len(answer(YES))))
    with closing(Teller([drops], pause=0.1)) as teller:
        wire = make(teller.url, answer_seconds=0.5)  # half a second of CPU, which is no answer's
        began = time.monotonic()
        with pytest.raises(BotoCoreError, match="Read timeout"):
            ask(wire, stage)
        assert time.monotonic() - began < 2


NOT_OURS = (b"<html>Please sign in</html>", b"<html>\xe9</html>", b'["a", "list"]', b"null", b"\xff\xfe")


@pytest.mark.usefixtures("call")
@pytest.mark.parametrize("body", NOT_OURS)
@pytest.mark.parametrize("status", ["200 OK", "403 Forbidden", "502 Bad Gateway"])
def test_what_is_not_aws_s_answer_is_an_error_of_aws_s_kind(make: Make, stage: Stage, body: bytes, status: str) -> None:
    """A proxy that wants a login, a broken balancer: it passes, and is waited out like any failure."""
    with (
        closing(Teller([(answer(body, status),)] * 2)) as teller,
        pytest.raises((UnreadableAnswer, ClientError)) as said,
    ):
        ask(make(teller.url), stage)
    if status == "200 OK":
        assert isinstance(said.value, UnreadableAnswer)
    else:
        assert isinstance(said.value, ClientError)
        assert said.value.response["Error"]["Code"] == status[:3]


def test_a_queue_behind_a_proxy_that_wants_a_login_is_unavailable_and_takes_nothing(
    stage: Stage, settings: Any
) -> None:
    page = (answer(NOT_OURS[0]),)
    calls: dict[str, Callable[[Queue], Any]] = {
        "receive": receive,
        "delete": lambda queue: queue.delete([Received("1", "r", "{}")]),
        "send": lambda queue: queue.send("{}"),
        "bury": lambda queue: queue.dead_letter(Received("1", "r", "{}"), MessageRefused("not_json", "")),
    }
    for knows_urls in (False, True):
        for call in calls.values():
            with closing(Teller([page, page], [page])) as teller:
                settings.AWS_ENDPOINT_URL = teller.url
                queue = Queue(stage)
                if knows_urls:
                    queue._urls = {name: f"{teller.url}/0/{name}" for name in (stage.queue_name, stage.dlq_name)}
                with pytest.raises(QueueUnavailable):
                    call(queue)


def test_a_request_that_is_larger_than_the_kernel_takes_at_once_is_sent_whole(
    make: Make, queues: Sqs, stage: Stage, call: Any
) -> None:
    with closing(Front(queues.engine.port)) as front:
        wire = make(f"http://127.0.0.1:{front.port}", answer_seconds=20)
        with pytest.raises(ClientError):
            call(wire, "GetQueueUrl", QueueName="x" * 8 * 1024 * 1024)
        assert ask(wire, stage) == stage.queue_name
        del wire


async def test_many_tasks_share_a_wire_and_each_gets_its_own_answer(make: Make, queues: Sqs, stage: Stage) -> None:
    names = [f"{stage.queue_name}-{number}" for number in range(8)]
    for name in names:
        queues.client.create_queue(QueueName=name)
    wire = make()

    async def ask_often(name: str) -> set[str]:
        answers = [await wire.call_here("GetQueueUrl", asyncio.to_thread, QueueName=name) for _ in range(25)]
        return {answer["QueueUrl"].rpartition("/")[2] for answer in answers}

    assert await asyncio.gather(*map(ask_often, names)) == [{name} for name in names]
    assert len(wire._idle) <= len(names)


async def test_who_is_cancelled_while_an_answer_is_to_come_leaves_it_to_nobody(make: Make) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        silent.settimeout(20)
        wire = make(f"http://127.0.0.1:{silent.getsockname()[1]}", answer_seconds=20)
        poll = asyncio.create_task(wire.call_here("ReceiveMessage", asyncio.to_thread, QueueUrl="q"))
        asked, _ = await asyncio.to_thread(silent.accept)
        with closing(asked):
            asked.settimeout(20)
            assert b"ReceiveMessage" in await asyncio.to_thread(asked.recv, 65536)
            poll.cancel()
            with pytest.raises(asyncio.CancelledError):
                await poll
            assert await asyncio.to_thread(asked.recv, 1) == b"", "the connection has ended with it"
        assert not wire._idle


async def test_an_event_loop_goes_on_while_a_roles_credentials_are_renewed(
    make: Make, queues: Sqs, stage: Stage
) -> None:
    """A host's own service is asked for them, and may take as long as it likes."""
    asked, answers = threading.Event(), threading.Event()

    def renew() -> dict[str, str]:
        asked.set()
        assert answers.wait(20), "the loop stood still"
        return {"access_key": "a", "secret_key": "b", "token": "c", "expiry_time": "2099-01-01T00:00:00Z"}

    wire = make()
    wire._credentials = DeferredRefreshableCredentials(renew, "a-role")
    call = asyncio.create_task(wire.call_here("GetQueueUrl", asyncio.to_thread, QueueName=stage.queue_name))
    await eventually(asked.is_set, what="they are renewed")
    answers.set()
    assert (await call)["QueueUrl"]

    async def nobody(*_: Any) -> Any:
        raise AssertionError("now they are there, and no thread is needed")

    assert (await wire.call_here("GetQueueUrl", nobody, QueueName=stage.queue_name))["QueueUrl"]


def test_many_threads_share_a_wire_and_each_gets_its_own_answer(make: Make, queues: Sqs, stage: Stage) -> None:
    names = [f"{stage.queue_name}-{number}" for number in range(8)]
    for name in names:
        queues.client.create_queue(QueueName=name)
    wire = make()

    def ask_often(name: str) -> set[str]:
        return {wire.call("GetQueueUrl", QueueName=name)["QueueUrl"].rpartition("/")[2] for _ in range(25)}

    with ThreadPoolExecutor(len(names)) as threads:
        assert list(threads.map(ask_often, names)) == [{name} for name in names]
    assert len(wire._idle) <= len(names)


@pytest.mark.usefixtures("call")
def test_credentials_that_come_late_are_found_by_both_clients(
    queues: Sqs, stage: Stage, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The host's own service, or a file that is mounted, may be later than we."""
    file = tmp_path / "credentials"
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setattr(module, "_LOOK_SECONDS", 0)
    theirs, ours = connect("sqs", endpoint=queues.engine.url, region="eu-west-1", answer_seconds=5, pool=1)
    for _ in range(2):
        with pytest.raises(NoCredentialsError):
            ask(ours, stage)
        with pytest.raises(NoCredentialsError):
            theirs.get_queue_url(QueueName=stage.queue_name)
    file.write_text("[default]\naws_access_key_id = late\naws_secret_access_key = secret\n")
    assert ask(ours, stage) == stage.queue_name
    assert theirs.get_queue_url(QueueName=stage.queue_name)["QueueUrl"]
    theirs.close()

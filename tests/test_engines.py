"""Engines: they serve on loopback, keep their port, and die with their parent."""

from __future__ import annotations

import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import boto3
import pytest
import redis

from hermes_site import aws_endpoint, engines
from hermes_site.children import ChildError, ChildProcess
from hermes_site.engines import AwsEndpoint, Valkey
from tests.waiting import wait_until

ROOT = Path(__file__).parent.parent


def is_gone(pid: int) -> bool:
    """Whether no process, or only an unburied one, has this id."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return True


def listening_addresses(pid: int) -> set[str]:
    """Return the local addresses, as in /proc/net/tcp, on which a process listens."""
    inodes = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        target = os.readlink(descriptor)
        if target.startswith("socket:["):
            inodes.add(target[8:-1])
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in inodes:
                found.add(fields[1].rsplit(":", 1)[0])
    return found


def test_valkey_keeps_its_data_and_its_port_over_a_restart_when_it_is_persistent(tmp_path: Path) -> None:
    with Valkey(tmp_path, persistent=True) as valkey:
        port = valkey.port
        with redis.Redis.from_url(valkey.url) as client:
            client.set("room", "acme")
        valkey.restart()
        assert valkey.port == port
        with redis.Redis.from_url(valkey.url) as client:
            assert client.get("room") == b"acme"
    assert not valkey.running


def test_valkey_never_evicts_a_history(tmp_path: Path) -> None:
    with Valkey(tmp_path) as valkey, redis.Redis.from_url(valkey.url) as client:
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}


def test_the_aws_endpoint_serves_sqs_and_dynamodb(tmp_path: Path) -> None:
    with AwsEndpoint(tmp_path) as aws:
        for service, operation in (("sqs", "list_queues"), ("dynamodb", "list_tables")):
            client = boto3.client(service, endpoint_url=aws.url)
            assert getattr(client, operation)()["ResponseMetadata"]["HTTPStatusCode"] == 200
            client.close()


@pytest.mark.skipif(not Path("/proc").exists(), reason="reads /proc")
def test_engines_listen_on_loopback_only(tmp_path: Path) -> None:
    with Valkey(tmp_path / "valkey") as valkey, AwsEndpoint(tmp_path / "aws") as aws:
        assert listening_addresses(valkey.child.pid) == {"0100007F"}
        assert listening_addresses(aws.child.pid) == {"0100007F"}


def test_a_suspended_engine_answers_nobody_until_it_is_resumed(tmp_path: Path) -> None:
    with Valkey(tmp_path) as valkey:
        valkey.suspend()
        assert valkey.running
        assert not valkey.answers()
        valkey.resume()
        wait_until(valkey.answers)


def test_a_killed_engine_starts_again_on_its_port(tmp_path: Path) -> None:
    with Valkey(tmp_path) as valkey:
        port = valkey.port
        valkey.kill()
        assert not valkey.running
        assert not valkey.answers()
        assert valkey.start().port == port


def test_an_engine_whose_port_is_taken_says_so_and_quotes_its_log(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(ChildError, match=r"(?s)valkey ended with 1 at its start.*already in use"):
            Valkey(tmp_path, other.getsockname()[1]).start()


def test_an_engine_that_was_never_started_has_no_process(tmp_path: Path) -> None:
    valkey = Valkey(tmp_path)
    valkey.stop()
    valkey.kill()
    assert not valkey.running
    with pytest.raises(ChildError, match="not started"):
        valkey.suspend()


@pytest.mark.skipif(sys.platform != "linux", reason="the parent-death signal is Linux's")
def test_an_engine_dies_with_its_parent_even_when_that_is_killed(tmp_path: Path) -> None:
    program = (
        "import pathlib, sys, time; from hermes_site.engines import Valkey;"
        f"print(Valkey(pathlib.Path({str(tmp_path)!r})).start().child.pid, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, cwd=ROOT, text=True) as parent:
        assert parent.stdout
        pid = int(parent.stdout.readline())
        assert not is_gone(pid)
        parent.kill()
    wait_until(lambda: is_gone(pid))


def child(tmp_path: Path, program: str) -> ChildProcess:
    """Return a Python child."""
    return ChildProcess(
        "child", [sys.executable, "-c", program], environment=dict(os.environ), log=tmp_path / "child.log"
    )


def test_a_child_that_ignores_sigterm_is_killed_after_its_deadline(tmp_path: Path) -> None:
    process = child(
        tmp_path,
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)",
    ).start()
    process.wait_until_ready(lambda: "up" in process.log_text(), 10)
    assert process.stop(deadline=0.2) == -signal.SIGKILL


def test_what_a_child_started_ends_with_it(tmp_path: Path) -> None:
    process = child(
        tmp_path,
        "import subprocess, sys, time; print(subprocess.Popen(['sleep', '60']).pid, flush=True); time.sleep(60)",
    ).start()
    process.wait_until_ready(lambda: bool(process.log_text()), 10)
    process.stop()
    wait_until(lambda: is_gone(int(process.log_text())))


def test_a_child_that_is_not_ready_in_time_says_so(tmp_path: Path) -> None:
    process = child(tmp_path, "import time; time.sleep(60)").start()
    with pytest.raises(ChildError, match=r"not ready after 0\.1 s"):
        process.wait_until_ready(lambda: False, 0.1)
    process.kill()


def test_a_child_runs_once_at_a_time_and_a_child_that_never_ran_can_be_stopped(tmp_path: Path) -> None:
    process = child(tmp_path, "import time; time.sleep(60)")
    assert process.stop() is None
    assert process.exit_code is None
    process.start()
    with pytest.raises(ChildError, match="runs already"):
        process.start()
    process.kill()


def test_a_program_that_is_not_there_is_named(tmp_path: Path) -> None:
    child = ChildProcess("nobody", ["/no/such/program"], environment={}, log=tmp_path / "log")
    with pytest.raises(FileNotFoundError, match="/no/such/program"):
        child.start()
    assert not child.running


def test_the_embedded_sqs_takes_what_aws_takes(tmp_path: Path) -> None:
    with AwsEndpoint(tmp_path) as aws:
        sqs = boto3.client("sqs", endpoint_url=aws.url)
        url = sqs.create_queue(QueueName="large")["QueueUrl"]
        sqs.send_message(QueueUrl=url, MessageBody="x" * 1024 * 1024)
        with pytest.raises(sqs.exceptions.ClientError):
            sqs.send_message(QueueUrl=url, MessageBody="x" * (1024 * 1024 + 1))
        sqs.close()


def test_a_queues_own_limit_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same in this process, where it is measured which lines ran."""
    made: list[dict[str, object]] = []
    monkeypatch.setattr(aws_endpoint.sqs, "_NUMERIC_ATTR_RANGES", {})
    monkeypatch.setattr(aws_endpoint.sqs, "_HANDLERS", {"CreateQueue": lambda data, _: made.append(data["Attributes"])})
    aws_endpoint._allow_large_messages()
    create = aws_endpoint.sqs._HANDLERS["CreateQueue"]
    create({"QueueName": "large", "Attributes": None}, "")
    create({"QueueName": "small", "Attributes": {"MaximumMessageSize": "1024"}}, "")
    assert [attributes["MaximumMessageSize"] for attributes in made] == ["1048576", "1024"]


def test_a_free_port_is_none_that_an_outgoing_connection_could_take(monkeypatch: pytest.MonkeyPatch) -> None:
    assert 10_000 <= engines.free_port() < 32_000
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        taken = other.getsockname()[1]
        monkeypatch.setattr(engines, "_PORTS", (taken, taken + 1))
        with pytest.raises(OSError, match="in use"):
            engines.free_port()


def test_a_long_poll_of_the_embedded_sqs_ends_when_a_message_comes(tmp_path: Path) -> None:
    """As SQS's does; by looking ten times a second, half of them would wait for more than 50 ms."""
    with AwsEndpoint(tmp_path) as endpoint, ThreadPoolExecutor(1) as asking:
        client = boto3.client("sqs", endpoint_url=endpoint.url, region_name="eu-west-1")
        url = client.create_queue(QueueName="q")["QueueUrl"]
        took = []
        for number in range(21):
            poll = asking.submit(client.receive_message, QueueUrl=url, WaitTimeSeconds=5, VisibilityTimeout=60)
            assert not wait([poll], timeout=0.01 * (number % 10)).done
            begun = time.monotonic()
            client.send_message(QueueUrl=url, MessageBody=str(number))
            assert poll.result()["Messages"][0]["Body"] == str(number)
            took.append(time.monotonic() - begun)
        client.close()
    assert statistics.median(took) < 0.04


def test_the_embedded_sqs_deletes_of_a_batch_what_is_meant_and_says_what_it_has_not(tmp_path: Path) -> None:
    with AwsEndpoint(tmp_path) as endpoint:
        client = boto3.client("sqs", endpoint_url=endpoint.url, region_name="eu-west-1")
        url = client.create_queue(QueueName="q")["QueueUrl"]
        for body in ("a", "b", "c"):
            client.send_message(QueueUrl=url, MessageBody=body)
        got = client.receive_message(QueueUrl=url, MaxNumberOfMessages=3, VisibilityTimeout=0)["Messages"]
        receipts = {message["Body"]: message["ReceiptHandle"] for message in got}
        entries = [
            {"Id": "a", "ReceiptHandle": receipts["a"]},
            {"Id": "c", "ReceiptHandle": receipts["c"]},
            {"Id": "x", "ReceiptHandle": "nobody's"},
        ]
        answer = client.delete_message_batch(QueueUrl=url, Entries=entries)
        assert {entry["Id"] for entry in answer["Successful"]} == {"a", "c"}
        assert {entry["Id"] for entry in answer["Failed"]} == {"x"}
        left = client.receive_message(QueueUrl=url, MaxNumberOfMessages=10)["Messages"]
        assert [message["Body"] for message in left] == ["b"]
        client.close()


def test_the_embedded_sqs_buries_what_was_received_too_often_however_many_messages_wait_behind(tmp_path: Path) -> None:
    with AwsEndpoint(tmp_path) as endpoint:
        client = boto3.client("sqs", endpoint_url=endpoint.url, region_name="eu-west-1")
        dead = client.create_queue(QueueName="dead")["QueueUrl"]
        arn = client.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        policy = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": 2})
        url = client.create_queue(QueueName="q", Attributes={"RedrivePolicy": policy})["QueueUrl"]
        for start in range(0, 40, 10):
            entries = [{"Id": str(number), "MessageBody": str(start + number)} for number in range(10)]
            client.send_message_batch(QueueUrl=url, Entries=entries)

        def receive(queue: str, seconds: int) -> list[int]:
            got = client.receive_message(QueueUrl=queue, MaxNumberOfMessages=10, VisibilityTimeout=seconds)
            return [int(message["Body"]) for message in got.get("Messages", [])]

        assert receive(url, 0) == receive(url, 0) == list(range(10))
        assert receive(url, 60) == list(range(10, 20)), "the first ten have been received twice, and are dead"
        assert sorted(receive(dead, 60)) == list(range(10))
        assert receive(url, 60) + receive(url, 60) == list(range(20, 40))
        client.close()


@pytest.mark.parametrize("many", [100, 20_000])
def test_what_receiving_costs_the_embedded_sqs_does_not_grow_with_the_messages_that_wait(
    many: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted in this process: how many messages are looked at for one answer, with a dead-letter queue."""
    seen: set[str] = set()

    class Message(dict[str, Any]):
        def __getitem__(self, key: str) -> Any:
            seen.add(dict.__getitem__(self, "id"))
            return super().__getitem__(key)

    for name in ("_collect_msgs", "_dlq_sweep"):
        monkeypatch.setattr(aws_endpoint.sqs, name, getattr(aws_endpoint.sqs, name))  # put back afterwards
    monkeypatch.setattr(aws_endpoint.sqs, "_HANDLERS", dict(aws_endpoint.sqs._HANDLERS))
    monkeypatch.setattr(aws_endpoint.sqs, "_queue_by_arn", lambda _: {"messages": []})
    aws_endpoint._empty_long_queues_as_fast_as_short_ones()
    policy = json.dumps({"deadLetterTargetArn": "arn", "maxReceiveCount": 2})
    messages = [Message(id=str(number), body="", visible_at=0.0, receive_count=0) for number in range(many)]
    queue = {"is_fifo": False, "attributes": {"RedrivePolicy": policy}, "messages": messages}
    aws_endpoint.sqs._dlq_sweep(queue)
    assert len(aws_endpoint.sqs._collect_msgs(queue, 10, 30)) == 10
    assert queue["messages"] is messages
    assert len(seen) == 10


def test_a_port_that_was_given_is_given_to_nobody_else_and_is_free_to_listen_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Suites run side by side on one machine, and a server takes seconds from its port's choice to its bind."""
    port = engines.free_port()
    chosen = f"import hermes_site.engines as e; e._PORTS = ({port}, {port + 1}); e.free_port()"
    other = subprocess.run([sys.executable, "-c", chosen], capture_output=True, text=True, check=False, timeout=30)
    assert "Address already in use" in other.stderr
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((engines.HOST, port))
        listener.listen()
    monkeypatch.setattr(engines, "_RESERVED", deque())  # other tests count on theirs
    monkeypatch.setattr(engines, "_RESERVATIONS", 3)
    ports = [engines.free_port() for _ in range(5)]
    assert [reserved.getsockname()[1] for reserved in engines._RESERVED] == ports[2:]
    for reserved in engines._RESERVED:
        reserved.close()

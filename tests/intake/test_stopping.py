"""The relay as a process: the first signal finishes or gives back within the grace period, the second ends it."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from hermes_site.children import ChildProcess
from hermes_site.engines import Valkey
from notifications.conf import Stage
from notifications.intake.queue import Queue
from notifications.stream import keys
from tests.asking import receive
from tests.intake.conftest import Sqs
from tests.waiting import wait_until

MANAGE = str(Path(__file__).parents[2] / "manage.py")
GRACE = 5.0
START_DEADLINE = 40.0
Start = Callable[..., ChildProcess]


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[Valkey]:
    """A Valkey of this test, which may be suspended."""
    with Valkey(tmp_path / "valkey") as engine:
        yield engine
        engine.resume()


@pytest.fixture
def start(queues: Sqs, stage: Stage, valkey: Valkey, tmp_path: Path) -> Iterator[Start]:
    """Return a function that starts a relay and waits until it relays."""
    started: list[ChildProcess] = []

    def start(*arguments: str) -> ChildProcess:
        variables = {
            **os.environ,
            "AWS_ENDPOINT_URL": queues.engine.url,
            "REDIS_URL": valkey.url,
            "HERMES_WAIT_SECONDS": "1",
            "PYTHONUNBUFFERED": "1",
        }
        command = [sys.executable, MANAGE, "relay_sqs", "--stage", stage.name, "--pollers", "1", *arguments]
        relay = ChildProcess("relay", command, environment=variables, log=tmp_path / "relay.log").start()
        started.append(relay)
        wait_until(lambda: "Relaying" in relay.log_text(), START_DEADLINE, "the relay relays")
        return relay

    yield start
    for relay in started:
        relay.kill()


def history(valkey: Valkey, stage: Stage) -> list[Any]:
    """Return what acme's history holds."""
    with redis.Redis.from_url(valkey.url) as client:
        items = client.xrange(keys.log_key(stage.name, "acme"))
    return [json.loads(fields[b"frame"] + b"}")["data"] for _, fields in items]


def with_a_message_in_hand(start: Start, queues: Sqs, stage: Stage, valkey: Valkey) -> ChildProcess:
    """Start a relay whose Redis hangs, and give it a message."""
    relay = start("--grace-seconds", str(GRACE))
    valkey.suspend()
    queues.send(stage, "acme", "hello")

    def in_hand() -> bool:
        name = "ApproximateNumberOfMessagesNotVisible"
        url = queues.url(stage.queue_name)
        answer = queues.client.get_queue_attributes(QueueUrl=url, AttributeNames=[name])
        return answer["Attributes"][name] == "1"

    wait_until(in_hand, 20, "the relay has the message in hand")
    return relay


def exit_code(relay: ChildProcess, deadline: float) -> int | None:
    """Wait until a relay has ended."""
    wait_until(lambda: not relay.running, deadline, "the relay ends")
    return relay.exit_code


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_finishes_what_is_in_hand(
    start: Start, queues: Sqs, stage: Stage, valkey: Valkey, number: signal.Signals
) -> None:
    relay = start()
    for item in range(30):
        queues.send(stage, "acme", item)
    wait_until(lambda: history(valkey, stage), 20, "the relay is at work")
    relay.send_signal(number)
    assert exit_code(relay, 15) == 0, relay.log_tail()
    assert "The relay has stopped." in relay.log_text()
    done = history(valkey, stage)
    assert len(done) + queues.held(stage.queue_name) == 30, "what is in the history is deleted, the rest is not"
    assert len(queues.take(stage.queue_name)) == 30 - len(done), "nothing is left in flight"


def test_what_cannot_be_finished_is_given_back_within_the_grace_period(
    start: Start, queues: Sqs, stage: Stage, valkey: Valkey
) -> None:
    relay = with_a_message_in_hand(start, queues, stage, valkey)
    began = time.monotonic()
    relay.send_signal(signal.SIGTERM)
    assert exit_code(relay, GRACE + 3) == 0, relay.log_tail()
    assert time.monotonic() - began < GRACE + 3
    assert "Traceback" not in relay.log_text()
    (message,) = receive(Queue(stage))  # at once: nobody waits for its visibility to end
    assert json.loads(message.body)["data"] == "hello"


def test_the_second_signal_ends_it_at_once_and_loses_nothing(
    start: Start, queues: Sqs, stage: Stage, valkey: Valkey
) -> None:
    relay = with_a_message_in_hand(start, queues, stage, valkey)
    relay.send_signal(signal.SIGTERM)
    # Its stop must have begun: the same signal twice in an instant may reach a process as one.
    began = time.monotonic()
    while relay.running and time.monotonic() < began + GRACE - 1:
        relay.send_signal(signal.SIGTERM)
        time.sleep(0.05)
    assert exit_code(relay, 2) == 128 + signal.SIGTERM, relay.log_tail()
    assert queues.held(stage.queue_name) == 1, "it comes again when its visibility ends"


def test_an_sqs_that_hangs_does_not_outlast_the_grace_period(start: Start, queues: Sqs) -> None:
    relay = start("--grace-seconds", str(GRACE))
    queues.engine.suspend()
    try:
        relay.send_signal(signal.SIGTERM)
        assert exit_code(relay, GRACE + 3) == 0, relay.log_tail()
    finally:
        queues.engine.resume()
    assert "The relay has stopped." in relay.log_text()

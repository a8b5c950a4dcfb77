"""The commands of intake: send puts a message on the queue, relay_sqs runs until a signal."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command, get_commands, load_command_class
from django.core.management.base import CommandError

from hermes_site.engines import free_port
from notifications.conf import Stage
from notifications.management.service import Service
from tests.conftest import Aws
from tests.waiting import wait_until

ROOT = Path(__file__).parent.parent


def queue_url(aws: Aws, stage: Stage) -> str:
    """Return the URL of a stage's queue."""
    return str(aws.sqs.get_queue_url(QueueName=stage.queue_name)["QueueUrl"])


def send(*arguments: str) -> str:
    """Run `manage.py send` and return what it says."""
    out = io.StringIO()
    call_command("send", *arguments, stdout=out)
    return out.getvalue()


# ── send ─────────────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.django_db(transaction=True)
def test_send_puts_a_message_on_the_queue(aws: Aws, production: Stage) -> None:
    said = send(
        *("acme", '{"type": "info", "data": "Hello"}', "--to", "42", "--to", "43"),
        *("--id", "order-7", "--user", "alice", "--stage", "production"),
    )
    assert said == "Sent to room acme.\n"
    (message,) = aws.sqs.receive_message(QueueUrl=queue_url(aws, production))["Messages"]
    assert json.loads(message["Body"]) == {
        "user_id": "alice",
        "room_id": "acme",
        "data": {"type": "info", "data": "Hello"},
        "to": ["42", "43"],
        "id": "order-7",
    }


@pytest.mark.parametrize("text", ["Hello", "", "{", "NaN", '{"a": 1, "a": 2}', "[" * 100_000])
def test_send_says_what_is_wrong_with_a_payload(text: str) -> None:
    with pytest.raises(CommandError, match="Strings need quotes of their own: '\"Hello\"'"):
        send("acme", text)


def test_send_says_that_there_is_no_such_stage() -> None:
    with pytest.raises(CommandError, match=r"^There is no stage 'staging'\.$"):
        send("acme", "1", "--stage", "staging")


@pytest.mark.parametrize(("room", "data"), [("", "1"), ("acme", '{"type": "hermes.hello"}'), ("acme", '"\\ud800"')])
def test_send_refuses_what_could_never_be_delivered(room: str, data: str) -> None:
    with pytest.raises(CommandError, match=r"bad_field|reserved_type|lone_surrogate"):
        send(room, data)


@pytest.mark.django_db(transaction=True)
def test_send_says_that_sqs_does_not_answer(settings: Any) -> None:
    settings.AWS_ENDPOINT_URL = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(CommandError, match="could not send"):
        send("acme", "1")


# ── relay_sqs ────────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    "arguments", [["--stage", "staging"], ["--pollers", "0"], ["--pollers", "17"], ["--pollers", "many"]]
)
def test_relay_sqs_takes_only_what_makes_sense(arguments: list[str]) -> None:
    with pytest.raises(CommandError, match=r"argument --(stage|pollers): invalid"):
        call_command("relay_sqs", *arguments)


@pytest.mark.parametrize("seconds", ["0", "-1", "3601", "nan"])
def test_relay_sqs_takes_only_a_grace_period_that_ends(seconds: str) -> None:
    with pytest.raises(CommandError, match="--grace-seconds must be"):
        call_command("relay_sqs", f"--grace-seconds={seconds}")


class Said(io.StringIO):
    """What a command says, and a signal to ourselves once it has said something."""

    def __init__(self, number: signal.Signals, aws: Aws, url: str) -> None:
        super().__init__()
        self.number, self.aws, self.url = number, aws, url
        self.thread = threading.Thread(target=self.stop_it)

    def write(self, text: str) -> int:
        if "Relaying" in text:
            self.thread.start()
        return super().write(text)

    def stop_it(self) -> None:
        """Send the signal once the queue is empty."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]

        def is_empty() -> bool:
            answer = self.aws.sqs.get_queue_attributes(QueueUrl=self.url, AttributeNames=names)
            return sum(int(answer["Attributes"][name]) for name in names) == 0

        try:
            wait_until(is_empty, what="the relay empties the queue")
        finally:
            os.kill(os.getpid(), self.number)


@pytest.fixture
def _handlers() -> Iterator[None]:
    """Put the signals' handlers back."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("_handlers", "valkey")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize(
    ("arguments", "stages"),
    [([], "development, production"), (["--stage", "development", "--pollers", "1"], "development")],
)
def test_relay_sqs_carries_until_a_signal_and_then_stops_in_order(
    aws: Aws, stage: Stage, settings: Any, number: signal.Signals, arguments: list[str], stages: str
) -> None:
    settings.HERMES_WAIT_SECONDS = 1
    url = queue_url(aws, stage)
    aws.sqs.send_message(QueueUrl=url, MessageBody='{"user_id": 1, "room_id": "acme", "data": "hello"}')
    said = Said(number, aws, url)
    call_command("relay_sqs", *arguments, stdout=said)
    said.thread.join(10)
    assert said.getvalue().startswith(f"Relaying {stages} with ")
    assert said.getvalue().endswith("The relay has stopped.\n")


def test_what_a_service_says_of_itself_has_the_format_of_its_log(
    settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    shown = io.StringIO()
    service = Service(stdout=shown)
    settings.HERMES_LOG_FORMAT = "human"
    service.say("It serves.")
    settings.HERMES_LOG_FORMAT = "json"
    service.say("It has stopped.")
    assert shown.getvalue() == "It serves.\n"
    assert caplog.messages == ["It has stopped."]


def test_only_runserver_loads_what_daphne_needs() -> None:
    """Twisted is a fifth of what a process takes to start, and servers and relays are started often."""
    code = "import django, sys; django.setup(); import hermes_site.asgi; print('twisted' in sys.modules)"
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "hermes_site.settings"}
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert (ran.returncode, ran.stdout.strip()) == (0, "False"), ran.stderr
    assert load_command_class("notifications", "runserver").server_cls.__module__ == "daphne.server"
    assert get_commands()["runserver"] == "notifications"

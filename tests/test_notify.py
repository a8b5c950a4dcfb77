"""hermes.notify: a message on the queue once the transaction has committed, checked before."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from django.db import transaction

from hermes_site.engines import free_port
from notifications import hermes
from notifications.conf import Stage
from notifications.exceptions import MessageRefused, QueueUnavailable
from tests.conftest import Aws

Queued = Callable[..., list[dict[str, Any]]]
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def queued(aws: Aws, stage: Stage) -> Queued:
    """Return a function that takes what is on a stage's queue."""

    def take(of: Stage = stage) -> list[dict[str, Any]]:
        url = aws.sqs.get_queue_url(QueueName=of.queue_name)["QueueUrl"]
        bodies = []
        while messages := aws.sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages"):
            for message in messages:
                bodies.append(json.loads(message["Body"]))
                aws.sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        return bodies

    return take


@pytest.mark.django_db(transaction=True)
def test_without_a_transaction_it_is_sent_at_once(queued: Queued) -> None:
    hermes.notify("acme", {"type": "info", "data": "Grüße"})
    (body,) = queued()
    key = body.pop("id")
    assert len(key) == 32
    assert body == {"user_id": "hermes", "room_id": "acme", "data": {"type": "info", "data": "Grüße"}}


@pytest.mark.django_db(transaction=True)
def test_in_a_transaction_it_is_sent_when_that_has_committed(queued: Queued) -> None:
    with transaction.atomic():
        hermes.notify("acme", 1, to=("42", 43), id="order-7", user=42)
        assert queued() == []
    assert queued() == [{"user_id": 42, "room_id": "acme", "data": 1, "to": ["42", 43], "id": "order-7"}]


@pytest.mark.django_db(transaction=True)
def test_after_a_rollback_nothing_is_sent(queued: Queued) -> None:
    with transaction.atomic():
        hermes.notify("acme", 1)
        transaction.set_rollback(True)
    assert queued() == []


@pytest.mark.django_db(transaction=True)
def test_what_changes_after_the_call_is_not_sent(queued: Queued) -> None:
    data, to = {"n": 1}, ["42"]
    with transaction.atomic():
        hermes.notify("acme", data, to)
        data["n"] = 2
        to.append("43")
    (body,) = queued()
    assert (body["data"], body["to"]) == ({"n": 1}, ["42"])


@pytest.mark.django_db(transaction=True)
def test_a_stage_may_be_named(queued: Queued, stage: Stage, production: Stage) -> None:
    hermes.notify("acme", 1, stage="production")
    assert queued(stage) == []
    assert len(queued(production)) == 1


def nested(depth: int) -> Any:
    """Lists in lists."""
    value: Any = []
    for _ in range(depth):
        value = [value]
    return value


MISTAKES: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "no such stage": ({"stage": "staging"}, KeyError, "staging"),
    "no JSON": ({"data": object()}, TypeError, "not JSON serializable"),
    "not finite": ({"data": float("inf")}, ValueError, "not JSON compliant"),
    "a room without a name": ({"room": ""}, MessageRefused, "room_id must have 1 to 128"),
    "a control character": ({"room": "a\nb"}, MessageRefused, "room_id holds a control character"),
    "to nobody": ({"to": []}, MessageRefused, "to must be a list"),
    "to everybody by name": ({"to": [str(n) for n in range(1001)]}, MessageRefused, "more than 1000"),
    "an empty key": ({"id": ""}, MessageRefused, "id must have 1 to 128"),
    "a forged control frame": ({"data": {"type": "hermes.hello"}}, MessageRefused, "reserved_type"),
    "too large": ({"data": "x" * 70_000}, MessageRefused, "too_large"),
    "too deep": ({"data": nested(33)}, MessageRefused, "too_deep"),
    "far too deep": ({"data": nested(100_000)}, MessageRefused, "too_deep"),
    "half of a pair": ({"data": "\ud800"}, MessageRefused, "lone_surrogate"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
@pytest.mark.django_db(transaction=True)
def test_a_mistake_is_an_exception_here_and_not_a_dead_letter_later(queued: Queued, mistake: str) -> None:
    arguments, error, text = MISTAKES[mistake]
    with transaction.atomic(), pytest.raises(error, match=text):
        hermes.notify(**{"room": "acme", "data": 1, **arguments})
    assert queued() == []


@pytest.mark.django_db(transaction=True)
def test_without_sqs_it_says_so(settings: Any) -> None:
    settings.AWS_ENDPOINT_URL = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(QueueUnavailable, match="could not send"):
        hermes.notify("acme", 1)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("given", "sent"),
    [
        (TRACEPARENT, {"DataType": "String", "StringValue": TRACEPARENT}),
        ("nonsense", None),
        ("", None),
        (None, None),
    ],
)
def test_a_traceparent_goes_along_as_an_attribute_and_a_malformed_one_is_ignored(
    aws: Aws, stage: Stage, given: str | None, sent: dict[str, str] | None
) -> None:
    hermes.notify("acme", 1, traceparent=given)
    url = aws.sqs.get_queue_url(QueueName=stage.queue_name)["QueueUrl"]
    (message,) = aws.sqs.receive_message(QueueUrl=url, MessageAttributeNames=["All"])["Messages"]
    assert message.get("MessageAttributes", {}).get("traceparent") == sent

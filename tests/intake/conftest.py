"""The scene of intake's tests: an SQS and a Redis of their own, which a test may stop."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import boto3
import pytest
from channels.layers import get_channel_layer
from django.test import override_settings

from hermes_site.engines import AwsEndpoint, free_port
from notifications.conf import Stage
from notifications.intake import queue


class Sqs:
    """An SQS of these tests, as a producer and an operator see it."""

    def __init__(self, engine: AwsEndpoint) -> None:
        self.engine = engine
        self.client: Any = boto3.client("sqs", endpoint_url=engine.url, region_name="eu-west-1")

    def url(self, name: str) -> str:
        """Return a queue's URL."""
        return str(self.client.get_queue_url(QueueName=name)["QueueUrl"])

    def names(self) -> set[str]:
        """Return the names of all queues."""
        return {url.rsplit("/", 1)[1] for url in self.client.list_queues().get("QueueUrls", [])}

    def put(self, name: str, body: str, **options: Any) -> str:
        """Put a body on a queue; return the MessageId."""
        return str(self.client.send_message(QueueUrl=self.url(name), MessageBody=body, **options)["MessageId"])

    def send(self, stage: Stage, room: Any, data: Any, **fields: Any) -> str:
        """Put a message on a stage's queue as any back end does; return the MessageId."""
        return self.put(stage.queue_name, json.dumps({"user_id": 7, "room_id": room, "data": data, **fields}))

    def held(self, name: str) -> int:
        """Return how many messages a queue holds, those in flight included."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        answer = self.client.get_queue_attributes(QueueUrl=self.url(name), AttributeNames=names)
        return sum(int(answer["Attributes"][name]) for name in names)

    def take(self, name: str) -> list[dict[str, Any]]:
        """Take everything visible out of a queue."""
        taken: list[dict[str, Any]] = []
        url = self.url(name)
        while messages := self.client.receive_message(
            QueueUrl=url, MaxNumberOfMessages=10, MessageAttributeNames=["All"], AttributeNames=["All"]
        ).get("Messages"):
            for message in messages:
                taken.append(message)
                self.client.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        return taken


@pytest.fixture(scope="module")
def _engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AwsEndpoint]:
    """An AWS endpoint for one module, that its tests may stop."""
    with AwsEndpoint(tmp_path_factory.mktemp("aws")) as engine:
        yield engine


@pytest.fixture
def sqs(_engine: AwsEndpoint) -> Iterator[Sqs]:
    """An SQS without any queue."""
    if not _engine.running:
        _engine.start()
    scene = Sqs(_engine)
    for url in scene.client.list_queues().get("QueueUrls", []):
        scene.client.delete_queue(QueueUrl=url)
    with override_settings(AWS_ENDPOINT_URL=_engine.url, HERMES_WAIT_SECONDS=1):
        yield scene
    scene.client.close()


@pytest.fixture
def queues(sqs: Sqs, stage: Stage) -> Sqs:
    """An SQS with the stage's queue and its dead-letter queue, both empty."""
    queue.provision(stage)
    return sqs


@pytest.fixture
async def layer() -> AsyncIterator[Any]:
    """The channel layer; its connections end with the test."""
    layer: Any = get_channel_layer()
    yield layer
    await layer.flush()


@pytest.fixture
def nowhere() -> str:
    """An address at which nobody listens."""
    return f"http://127.0.0.1:{free_port()}"

"""The scene of intake's tests: an SQS, a Redis and a relay of their own, which a test may stop."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import boto3
import pytest
import redis
from channels.layers import get_channel_layer
from django.test import override_settings

from hermes_site.engines import AwsEndpoint, Valkey, free_port
from notifications.conf import Stage
from notifications.intake import queue
from notifications.intake.queue import Queue
from notifications.intake.received import ERROR_ATTRIBUTE
from notifications.intake.relay import Relay
from notifications.stream.history import History
from notifications.stream.publish import Publisher


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


class Scene:
    """A relay, its queue, and the histories it fills."""

    def __init__(self, sqs: Sqs, stage: Stage, valkey: Valkey, **options: Any) -> None:
        self.sqs, self.stage, self.valkey = sqs, stage, valkey
        self.history = History()
        self.queue = Queue(stage)
        self.publisher = Publisher(self.history)
        self.relay = Relay(stage.name, self.queue, self.publisher, **options)

    async def data(self, room: str = "acme") -> list[Any]:
        """Return what a room's history holds, in order."""
        page = await self.history.read(self.stage.name, room)
        return [json.loads(entry.frame)["data"] for entry in page.entries]

    def held(self) -> int:
        """Return how many messages the queue holds, those in flight included."""
        return self.sqs.held(self.stage.queue_name)

    def dead(self) -> list[dict[str, Any]]:
        """Take everything out of the dead-letter queue."""
        return self.sqs.take(self.stage.dlq_name)

    def reasons(self) -> list[str]:
        """Take everything out of the dead-letter queue; return why it is there."""
        return [dead["MessageAttributes"][ERROR_ATTRIBUTE]["StringValue"].split(":")[0] for dead in self.dead()]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[asyncio.Task[None]]:
        """Let the relay run; stop it at the end, within its deadline."""
        task = asyncio.create_task(self.relay.run())
        try:
            yield task
        finally:
            self.relay.stop()
            await asyncio.wait_for(task, 15)


@pytest.fixture(scope="module")
def _own_valkey(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A Valkey of this module, which its tests may stop; it keeps its data."""
    with Valkey(tmp_path_factory.mktemp("valkey"), persistent=True) as engine:
        yield engine


@pytest.fixture
async def make_scene(
    queues: Sqs, stage: Stage, _own_valkey: Valkey, settings: Any, layer: Any
) -> AsyncIterator[Callable[..., Scene]]:
    """Return a function that makes a relay with an empty Redis."""
    if not _own_valkey.running:
        _own_valkey.start()
    with redis.Redis.from_url(_own_valkey.url) as client:
        client.flushall()
    settings.REDIS_URL = _own_valkey.url
    made: list[Scene] = []

    def make(stage: Stage = stage, **options: Any) -> Scene:
        made.append(Scene(queues, stage, _own_valkey, **options))
        return made[-1]

    yield make
    for one in made:
        await one.history.aclose()


@pytest.fixture
def scene(make_scene: Callable[..., Scene]) -> Scene:
    """One relay of the first stage."""
    return make_scene()

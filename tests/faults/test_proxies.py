"""The proxies of the fault suite do what they are told, or nothing that they find could be believed."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import redis
import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from hermes_site.engines import HOST, Valkey
from notifications.conf import Stage
from notifications.exceptions import MessageRefused, QueueUnavailable
from notifications.intake import sqs
from notifications.intake.queue import Queue
from tests.asking import receive
from tests.conftest import Aws
from tests.faults.aws import AwsChaos, _keep_half
from tests.faults.break_processes import POINTS
from tests.faults.chaos import ChaosProxy, is_message, split_replies
from tests.faults.checker import Event
from tests.faults.recorder import Recorder, read
from tests.waiting import eventually


@pytest.fixture
async def proxy(valkey: Valkey) -> AsyncIterator[ChaosProxy]:
    """A proxy before the run's Valkey."""
    between = await ChaosProxy(valkey.port).start()
    yield between
    await between.stop()


@pytest.fixture
async def client(proxy: ChaosProxy) -> AsyncIterator[redis.asyncio.Redis]:
    """A client behind the proxy, which tries nothing twice and waits half a second."""
    behind = redis.asyncio.Redis.from_url(
        f"redis://{HOST}:{proxy.port}/0", socket_timeout=0.5, retry=Retry(NoBackoff(), 0)
    )
    yield behind
    await behind.aclose()


async def test_a_harmless_proxy_changes_nothing(client: redis.asyncio.Redis) -> None:
    value = random.Random(1).randbytes(300_000)
    await client.set("key", value)
    assert await client.get("key") == value


@pytest.mark.parametrize("directions", [("up",), ("down",), ("up", "down")])
async def test_in_a_black_hole_nobody_is_answered_and_nothing_ends(
    proxy: ChaosProxy, client: redis.asyncio.Redis, directions: tuple[str, ...]
) -> None:
    await client.ping()
    proxy.hold(*directions)
    with pytest.raises(redis.TimeoutError):
        await client.ping()
    proxy.heal()
    assert await client.ping()


@pytest.mark.parametrize("reset", [False, True])
async def test_what_is_cut_ends_and_may_begin_again_unless_refused(
    proxy: ChaosProxy, client: redis.asyncio.Redis, reset: bool
) -> None:
    await client.ping()
    proxy.refuses = True
    assert proxy.cut(reset=reset) == 1
    with pytest.raises((redis.ConnectionError, OSError)):
        await client.ping()
    proxy.heal()
    assert await client.ping()


async def test_a_slow_link_takes_its_time(proxy: ChaosProxy, client: redis.asyncio.Redis) -> None:
    await client.ping()
    proxy.bytes_a_second = 10_000
    started = asyncio.get_running_loop().time()
    await client.set("key", b"x" * 3_000)
    assert asyncio.get_running_loop().time() - started > 0.2


@pytest.mark.parametrize("answered", [False, True])
async def test_a_trap_springs_once_at_its_command_and_ends_the_connection(
    proxy: ChaosProxy, client: redis.asyncio.Redis, valkey: Valkey, answered: bool
) -> None:
    sprung: list[bool] = []
    await client.get("key")
    proxy.set_trap(b"\r\nSET\r\n", lambda: sprung.append(True), answered=answered)
    await client.get("key")
    assert sprung == []
    with pytest.raises(redis.ConnectionError):
        await client.set("key", "value")
    assert sprung == [True]
    assert (await client.get("key") == b"value") is answered
    await client.set("key", "other")
    assert sprung == [True]


async def test_a_deaf_subscriber_is_answered_and_hears_nothing(
    proxy: ChaosProxy, client: redis.asyncio.Redis, valkey: Valkey
) -> None:
    direct = redis.asyncio.Redis.from_url(valkey.url)
    async with client.pubsub() as pubsub:
        await pubsub.subscribe("news")
        await eventually(lambda: direct.publish("news", "one"))
        heard = [await pubsub.get_message(timeout=1) for _ in range(2)]
        assert heard[1] is not None
        assert heard[1]["data"] == b"one"
        proxy.is_deaf = True
        await direct.publish("news", "two")
        await pubsub.ping()
        answer = await pubsub.get_message(timeout=1)
        assert answer is not None
        assert answer["type"] == "pong"
        proxy.heal()
        await direct.publish("news", "three")
        last = await pubsub.get_message(timeout=1)
        assert last is not None
        assert last["data"] == b"three"
    await direct.aclose()


def test_replies_are_split_wherever_they_are_cut() -> None:
    replies = [
        b"+OK\r\n",
        b"*3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$5\r\na\r\nb\n\r\n",
        b"$-1\r\n",
        b">2\r\n*1\r\n:1\r\n*-1\r\n",
        b"%1\r\n+server\r\n$6\r\nvalkey\r\n",
    ]
    stream = b"".join(replies)
    for cut in range(len(stream)):
        first, rest = split_replies(stream[:cut])
        second, rest = split_replies(rest + stream[cut:])
        assert [*first, *second] == replies
        assert rest == b""
    assert [is_message(reply) for reply in replies] == [False, True, False, False, False]


# ── SQS ──────────────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.fixture
def recorder(tmp_path: Path) -> Iterator[Recorder]:
    """A record of what happens."""
    begun = Recorder(tmp_path / "history.jsonl")
    yield begun
    begun.close()


@pytest.fixture
def chaos(recorder: Recorder) -> AwsChaos:
    """A proxy before the run's AWS endpoint."""
    return AwsChaos(recorder, random.Random(3))


@pytest.fixture
def queue(chaos: AwsChaos, aws: Aws, stage: Stage, settings: Any) -> Iterator[Queue]:
    """The stage's queue, behind the proxy; three messages wait in it."""
    settings.HERMES_WAIT_SECONDS = 1
    chaos.start(aws.engine.port)
    settings.AWS_ENDPOINT_URL = chaos.url
    behind = Queue(stage)
    for number in range(3):
        behind.send(f'{{"n": "m{number}"}}')
    yield behind
    behind._client.close()
    chaos.stop()
    sqs._clients_for.cache_clear()


def recorded(recorder: Recorder, event: str) -> list[Event]:
    recorder.flush()
    return [found for found in read(recorder.path) if found["event"] == event]


def test_what_is_deleted_is_written_down(recorder: Recorder, queue: Queue) -> None:
    messages = receive(queue)
    assert queue.delete(messages) == []
    assert {event["mid"] for event in recorded(recorder, "acked")} == {message.id for message in messages}


def test_half_of_a_batch_fails_and_the_rest_is_done(chaos: AwsChaos, recorder: Recorder, queue: Queue) -> None:
    messages = receive(queue)
    chaos.fail("sqs", "half_failing")
    failed = queue.delete(messages)
    assert len(failed) == len(messages) // 2
    assert len(recorded(recorder, "acked")) == len(messages) - len(failed)


def test_half_of_a_batch_of_dynamodbs_is_any_half_and_never_all_of_it() -> None:
    rng, table = random.Random(3), "hermesConnections"
    put, delete = {"PutRequest": {"Item": {}}}, {"DeleteRequest": {"Key": {}}}
    left = set()
    for _ in range(50):
        request: dict[str, Any] = {"RequestItems": {"hermesAudit": [put], table: [delete]}}
        kept = _keep_half("BatchWriteItem", request, rng)["UnprocessedItems"]
        assert len(request["RequestItems"]) == len(kept) == 1
        assert request["RequestItems"].keys() | kept.keys() == {"hermesAudit", table}
        left |= kept.keys()
    assert left == {"hermesAudit", table}
    alone: dict[str, Any] = {"RequestItems": {table: [put]}}
    assert _keep_half("BatchWriteItem", alone, rng) == {}
    keys: dict[str, Any] = {"RequestItems": {table: {"Keys": [1, 2, 3], "ConsistentRead": True}}}
    unread = _keep_half("BatchGetItem", keys, rng)["UnprocessedKeys"][table]
    assert unread["ConsistentRead"]
    assert sorted(unread["Keys"] + keys["RequestItems"][table]["Keys"]) == [1, 2, 3]


def test_a_throttled_or_unreachable_service_fails(chaos: AwsChaos, queue: Queue) -> None:
    for mode in ("throttled", "unreachable"):
        chaos.fail("sqs", mode)

        def fails() -> bool:
            try:
                receive(queue)
            except QueueUnavailable:
                return True
            return False

        assert any(fails() for _ in range(30)), mode
        assert chaos.bites["sqs", mode] > 0
        chaos.heal("sqs", mode)
    assert receive(queue) is not None


def test_expired_receipts_delete_nothing(chaos: AwsChaos, recorder: Recorder, queue: Queue) -> None:
    messages = receive(queue)
    chaos.fail("sqs", "expired_receipts")
    while queue.delete(messages[:1]) == []:
        messages = messages[1:]
        assert messages, "no receipt was refused"
    assert {event["mid"] for event in recorded(recorder, "acked")}.isdisjoint({messages[0].id})


def test_what_was_delivered_is_delivered_again(chaos: AwsChaos, queue: Queue) -> None:
    first = {message.id for message in receive(queue)}
    chaos.fail("sqs", "duplicating")
    queue.send('{"n": "m9"}')
    second = [message.id for message in receive(queue)]
    assert first & set(second)


def test_a_trap_springs_once_when_its_call_is_done(chaos: AwsChaos, recorder: Recorder, queue: Queue) -> None:
    sprung: list[str] = []
    chaos.set_trap("DeleteMessageBatch", lambda: sprung.append("deleted"), answered=True)
    messages = receive(queue)
    assert sprung == []
    # The answer never comes, and boto3 asks again.
    queue.delete(messages)
    assert sprung == ["deleted"]
    assert recorded(recorder, "acked")


def test_a_relay_may_be_killed_between_a_dead_letter_and_its_deletion(
    chaos: AwsChaos, recorder: Recorder, queue: Queue
) -> None:
    where, action, answered = POINTS["after burying"]
    assert where == "SQS"
    found: list[tuple[int, int]] = []
    chaos.set_trap(
        action,
        lambda: found.append((len(recorded(recorder, "dead")), len(recorded(recorder, "acked")))),
        answered=answered,
    )
    (message, *_) = receive(queue)
    refused = replace(message, body='["n", {"n": "m1"}]')
    assert queue.dead_letter(refused, MessageRefused("not_an_object", ""))
    queue.delete([message])
    assert found == [(1, 0)]


def test_a_trap_springs_before_its_call_is_done(chaos: AwsChaos, recorder: Recorder, queue: Queue) -> None:
    before: list[int] = []
    chaos.set_trap("DeleteMessageBatch", lambda: before.append(len(recorded(recorder, "acked"))), answered=False)
    queue.delete(receive(queue))
    assert before == [0]

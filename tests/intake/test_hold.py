"""What a relay has in hand comes to nobody else, however long it takes; what it cannot finish is given back."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest
import redis

from hermes_site.engines import Valkey
from notifications.exceptions import QueueUnavailable
from notifications.intake import relay as module
from notifications.intake.hold import Complaints, Hold
from notifications.intake.queue import Queue
from notifications.intake.received import Received
from tests.asking import in_thread
from tests.intake.conftest import Scene
from tests.waiting import eventually

ONE, OTHER = Received("sqs-1", "receipt-1", "a secret"), Received("sqs-2", "receipt-2", "a secret")


class Script:
    """An SQS that answers as it is told and writes down what it is asked."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[list[str], int]] = []

    def hold(self, messages: list[Received], seconds: int) -> list[Received]:
        self.asked.append(([message.id for message in messages], seconds))
        answer = self.answers.pop(0) if self.answers else []
        if isinstance(answer, Exception):
            raise answer
        found: list[Received] = answer(messages) if callable(answer) else answer
        return found


def make_hold(script: Script) -> Hold:
    async def at_once(work: Callable[..., Any], *arguments: Any) -> Any:
        return work(*arguments)

    return Hold(script, at_once, Complaints())  # type: ignore[arg-type]


# ── The hold alone ───────────────────────────────────────────────────────────────────────────────────────────────────
async def test_only_what_is_held_is_kept(settings: Any) -> None:
    settings.HERMES_VISIBILITY_SECONDS = 60
    script = Script()
    hold = make_hold(script)
    await hold.beat()
    assert script.asked == [], "nothing is held, nobody is asked"
    hold.take([ONE, OTHER])
    hold.drop([OTHER, OTHER])
    await hold.beat()
    assert script.asked == [(["sqs-1"], 60)]
    await hold.give_back()
    await hold.beat()
    assert script.asked[1:] == [(["sqs-1"], 0)]


async def test_an_sqs_that_does_not_answer_is_asked_again_at_the_next_beat(caplog: pytest.LogCaptureFixture) -> None:
    script = Script(QueueUnavailable("no"), QueueUnavailable("no"))
    hold = make_hold(script)
    hold.take([ONE])
    for _ in range(3):
        await hold.beat()
    assert len(script.asked) == 3
    assert caplog.text.count("what is in hand may come again") == 1
    assert "secret" not in caplog.text


async def test_what_lapsed_is_told_and_what_was_done_meanwhile_is_not(caplog: pytest.LogCaptureFixture) -> None:
    hold: Hold

    def done_meanwhile(messages: list[Received]) -> list[Received]:
        hold.drop(messages)
        return messages

    hold = make_hold(Script(done_meanwhile, [ONE]))
    hold.take([ONE])
    await hold.beat()
    assert caplog.text == ""
    hold.take([ONE])
    await hold.beat()
    assert "1 messages in hand may come again" in caplog.text


@pytest.mark.parametrize("answer", [QueueUnavailable("no"), [ONE]])
async def test_what_cannot_be_given_back_is_told(answer: Any, caplog: pytest.LogCaptureFixture) -> None:
    hold = make_hold(Script(answer))
    await hold.give_back([ONE])
    assert "come back when their visibility ends" in caplog.text


async def test_a_call_that_fails_keeps_none_of_the_others_from_being_made(settings: Any) -> None:
    settings.HERMES_VISIBILITY_SECONDS = 60
    many = [Received(f"sqs-{number}", f"receipt-{number}", "") for number in range(25)]
    asked = [([message.id for message in many[start : start + 10]], 60) for start in (0, 10, 20)]
    script = Script(QueueUnavailable("no"), QueueUnavailable("no"))
    hold = make_hold(script)
    hold.take(many)
    await hold.beat()
    assert script.asked == asked
    script.answers = [QueueUnavailable("no")]
    await hold.give_back()
    assert [ids for ids, seconds in script.asked[3:]] == [ids for ids, _ in asked]


# ── In a relay ───────────────────────────────────────────────────────────────────────────────────────────────────────
@asynccontextmanager
async def stuck(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[asyncio.Event]:
    """Let Redis answer nothing before the event is set, or the end; wait until the relay asks it."""
    asked, goes_on = asyncio.Event(), asyncio.Event()
    real = scene.publisher.publish

    async def publish(stage: str, messages: Any) -> Any:
        asked.set()
        await goes_on.wait()
        return await real(stage, messages)

    with monkeypatch.context() as patch:
        patch.setattr(scene.publisher, "publish", publish)
        scene.sqs.send(scene.stage, "acme", "hello")
        async with scene.running():
            await asyncio.wait_for(asked.wait(), 20)
            yield goes_on


async def test_a_batch_that_takes_longer_than_its_visibility_comes_to_nobody_else(
    scene: Scene, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.HERMES_VISIBILITY_SECONDS = 2
    async with stuck(scene, monkeypatch) as goes_on:
        another, end = Queue(scene.stage), time.monotonic() + 4
        while time.monotonic() < end:
            assert await another.receive(asyncio.to_thread) == []
        goes_on.set()
        await eventually(lambda: scene.held() == 0)
    assert await scene.data() == ["hello"]


async def test_what_is_not_finished_within_the_grace_period_is_given_back(
    make_scene: Callable[..., Scene], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    scene = make_scene(pollers=1, grace_seconds=module.RELEASE_SECONDS + 0.3)
    async with stuck(scene, monkeypatch):
        scene.relay.stop()
    assert "1 messages were not finished within the grace period" in caplog.text
    assert not scene.relay.is_hung
    (message,) = await Queue(scene.stage).receive(asyncio.to_thread)  # at once: nobody waits for its visibility to end
    Queue(scene.stage).hold([message], 0)
    another = make_scene()
    assert await another.relay.turn() == 1
    assert await scene.data() == ["hello"]


async def test_an_sqs_that_never_answers_a_poll_keeps_no_thread_and_no_relay(
    make_scene: Callable[..., Scene], monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = make_scene(pollers=1, grace_seconds=0.1)
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        monkeypatch.setattr(scene.queue._wire, "_port", silent.getsockname()[1])
        monkeypatch.setattr(scene.queue._wire, "_idle", deque())
        async with scene.running():
            silent.settimeout(20)
            asked, _ = await asyncio.to_thread(silent.accept)
            assert b"ReceiveMessage" in await asyncio.to_thread(asked.recv, 65536)
            began = time.monotonic()
        assert time.monotonic() - began < 5
        assert not scene.relay.is_hung
        asked.close()


async def test_an_sqs_that_hangs_holds_nobody_up(
    make_scene: Callable[..., Scene], monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = make_scene(grace_seconds=0.1)
    asked, answers = threading.Event(), threading.Event()

    def receive() -> list[Any]:
        asked.set()
        answers.wait(20)
        return []

    monkeypatch.setattr(scene.queue, "receive", in_thread(receive))
    try:
        async with scene.running():
            await eventually(asked.is_set)
            began = time.monotonic()
        assert time.monotonic() - began < 5
        assert scene.relay.is_hung
    finally:
        answers.set()
    await eventually(lambda: not scene.relay.is_hung)


async def test_giving_back_has_a_deadline_too(
    make_scene: Callable[..., Scene], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "RELEASE_SECONDS", 0.2)
    scene = make_scene(pollers=1, grace_seconds=0.3)
    answers = threading.Event()
    monkeypatch.setattr(scene.queue, "hold", lambda *_: answers.wait(20) and [])
    async with stuck(scene, monkeypatch):
        scene.relay.stop()
    answers.set()
    assert "SQS does not answer; they come back when their visibility ends." in caplog.text
    assert scene.held() == 1


async def test_an_error_of_our_own_ends_the_relay_and_gives_back_what_it_holds(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.sqs.send(scene.stage, "acme", "hello")

    async def publish(*_: Any) -> Any:
        raise RuntimeError("ours")

    with monkeypatch.context() as patch:
        patch.setattr(scene.publisher, "publish", publish)
        with pytest.raises(RuntimeError, match="ours"):
            await asyncio.wait_for(scene.relay.run(), 30)
    assert len(await Queue(scene.stage).receive(asyncio.to_thread)) == 1


async def test_a_hold_that_fails_ends_the_relay_with_its_error(
    scene: Scene, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A relay that goes on without it would give what takes long to others, again and again, and say nothing."""
    settings.HERMES_VISIBILITY_SECONDS = 1

    async def beat() -> None:
        raise RuntimeError("ours")

    monkeypatch.setattr(scene.relay.hold, "beat", beat)
    with pytest.raises(RuntimeError, match="ours"):
        await asyncio.wait_for(scene.relay.run(), 15)


# ── Durability ───────────────────────────────────────────────────────────────────────────────────────────────────────
async def test_a_message_is_not_deleted_while_no_replica_has_it(scene: Scene, settings: Any, tmp_path: Path) -> None:
    settings.HERMES_DURABILITY, settings.HERMES_DURABILITY_SECONDS = "replica", 1
    async with scene.running():
        scene.sqs.send(scene.stage, "acme", "hello")
        await eventually(lambda: "history" in scene.relay.complaints, 20)
        assert await scene.data() == ["hello"], "it is in the history already"
        assert scene.held() == 1
        options = ("--replicaof", "127.0.0.1 " + str(scene.valkey.port))
        with Valkey(tmp_path / "replica", arguments=options) as replica:
            await eventually(lambda: scene.held() == 0, 40, "the replica has it")
            with redis.Redis.from_url(replica.url) as client:
                assert client.keys("*head:acme")
    assert await scene.data() == ["hello"], "once, however often it was appended"


async def test_a_message_is_not_deleted_while_it_is_on_no_disk(scene: Scene, settings: Any) -> None:
    settings.HERMES_DURABILITY, settings.HERMES_DURABILITY_SECONDS = "fsync", 1
    with redis.Redis.from_url(scene.valkey.url) as client:
        client.config_set("appendonly", "no")
        try:
            async with scene.running():
                scene.sqs.send(scene.stage, "acme", "hello")
                await eventually(lambda: "history" in scene.relay.complaints, 20)
                assert scene.held() == 1
                client.config_set("appendonly", "yes")
                await eventually(lambda: scene.held() == 0, 40, "it is on the disk")
        finally:
            client.config_set("appendonly", "yes")
    assert await scene.data() == ["hello"]

"""The one door: history first, then the hint; and nobody else has a key to it."""

from __future__ import annotations

import ast
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from channels.layers import get_channel_layer

from notifications.exceptions import HistoryUnavailable
from notifications.stream import keys
from notifications.stream.entry import from_hint
from notifications.stream.history import History
from notifications.stream.message import Message
from notifications.stream.publish import Publisher
from notifications.stream.replies import Appended

Make = Callable[..., Message]
ROOT = Path(__file__).parents[2] / "notifications"


@pytest.fixture
async def listener(history: History) -> AsyncIterator[Any]:
    """Returns what the groups of acme and globex get."""
    layer = get_channel_layer()
    channel = await layer.new_channel()
    for room in ("acme", "globex"):
        await layer.group_add(keys.group_name("development", room), channel)

    async def receive() -> dict[str, Any]:
        hint: dict[str, Any] = await layer.receive(channel)
        return hint

    yield receive
    await layer.flush()


async def test_a_hint_carries_the_entries_of_its_room(history: History, message: Make, listener: Any) -> None:
    publisher = Publisher(history)
    results = await publisher.publish("development", [message(1), message(2, room="globex"), message(3)])
    hints = {hint["room"]: hint for hint in [await listener(), await listener()]}
    entries = [result.entry for result in results if isinstance(result, Appended)]
    assert from_hint(hints["acme"]) == [entries[0], entries[2]]
    assert from_hint(hints["globex"]) == [entries[1]]
    assert hints["acme"]["seq"] == 2


async def test_the_rooms_of_a_batch_are_hinted_in_one_round_trip(
    history: History, message: Make, listener: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    await Publisher(history).publish("development", [message(0)])  # whatever a first time costs
    assert (await listener())["room"] == "acme"
    layer = get_channel_layer()
    assert layer is not None
    (shard,) = layer._get_layer()._shards
    sent: list[int] = []
    make_really = shard.round_trips.make

    async def make(commands: Any) -> Any:
        sent.append(len(commands))
        return await make_really(commands)

    monkeypatch.setattr(shard.round_trips, "make", make)
    await Publisher(history).publish("development", [message(1), message(2, room="globex"), message(3)])
    assert sent == [2]
    assert {(await listener())["room"] for _ in range(2)} == {"acme", "globex"}


async def test_hints_go_to_the_shard_of_their_group(history: History, message: Make, settings: Any) -> None:
    """Several Redis may carry hints; each group has one of them."""
    config = settings.CHANNEL_LAYERS["default"]["CONFIG"]
    settings.CHANNEL_LAYERS = {
        "default": {**settings.CHANNEL_LAYERS["default"], "CONFIG": {**config, "hosts": config["hosts"] * 3}}
    }
    layer = get_channel_layer()
    assert layer is not None
    channel, rooms = await layer.new_channel(), {f"room-{number}" for number in range(12)}
    for room in rooms:
        await layer.group_add(keys.group_name("development", room), channel)
    await Publisher(history).publish("development", [message(1, room=room) for room in rooms])
    assert {(await layer.receive(channel))["room"] for _ in rooms} == rooms
    await layer.flush()


async def test_a_layer_of_another_kind_is_sent_to_group_by_group(
    history: History, message: Make, settings: Any
) -> None:
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}
    layer = get_channel_layer()
    assert layer is not None
    channel = await layer.new_channel()
    for room in ("acme", "globex"):
        await layer.group_add(keys.group_name("development", room), channel)
    await Publisher(history).publish("development", [message(1), message(2, room="globex")])
    assert [(await layer.receive(channel))["room"] for _ in range(2)] == ["acme", "globex"]


async def test_a_duplicate_is_hinted_without_an_entry(history: History, message: Make, listener: Any) -> None:
    """Whoever appended it may have died before its own hint."""
    await history.append("development", [message(1)])
    await Publisher(history).publish("development", [message(1)])
    hint = await listener()
    assert (from_hint(hint), hint["seq"]) == ([], 1)


async def test_publishing_nothing_asks_nobody(history: History) -> None:
    assert await Publisher(history).publish("development", []) == []


async def test_a_hint_that_cannot_be_sent_is_not_an_error(
    history: History, message: Make, settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    layers = {"default": {**settings.CHANNEL_LAYERS["default"], "CONFIG": {"hosts": ["redis://127.0.0.1:1/0"]}}}
    settings.CHANNEL_LAYERS = layers
    publisher = Publisher(history)
    for number in (1, 2):
        (result,) = await publisher.publish("development", [message(number)])
        assert isinstance(result, Appended)
    assert caplog.text.count("A hint was not sent") == 1, "and it is said once a minute"


async def test_without_a_history_nothing_is_hinted(message: Make, settings: Any) -> None:
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    lost = History()
    with pytest.raises(HistoryUnavailable):
        await Publisher(lost).publish("development", [message(1)])
    await lost.aclose()


def test_nobody_else_appends_or_sends_to_a_group() -> None:
    calls: dict[str, set[str]] = {"group_send": set(), "group_send_many": set(), "append": set()}
    for path in ROOT.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            on_history = isinstance(node.func.value, ast.Attribute) and node.func.value.attr in {"_history", "history"}
            if node.func.attr.startswith("group_send") or (node.func.attr == "append" and on_history):
                calls[node.func.attr].add(path.relative_to(ROOT).as_posix())
    assert calls == {call: {"stream/publish.py"} for call in calls}

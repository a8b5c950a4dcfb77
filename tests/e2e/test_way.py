"""From an SQS message to every socket of the room, and to nobody else."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest

from tests.e2e.client import Client, in_order
from tests.processes import Hermes


async def test_a_message_on_sqs_is_a_frame_within_a_second(hermes: Hermes) -> None:
    async with Client(hermes, "alice") as alice, Client(hermes, "bob") as bob:
        await alice.hello()
        await bob.hello()
        # The first one warms connections up; the second is measured.
        for text in ("warm", "measured"):
            started = time.monotonic()
            identifier = await asyncio.to_thread(hermes.send, "acme", {"type": "info", "data": text}, 42)
            await alice.until(lambda text=text: {"type": "info", "data": text} in alice.received)
            took = time.monotonic() - started
        await bob.until(lambda: {"type": "info", "data": "measured"} in bob.received)
        assert took < 1.0
        assert alice.entries[-1] == {
            "user_id": 42,
            "data": {"type": "info", "data": "measured"},
            "room_id": "acme",
            "id": identifier,
            "epoch": alice.entries[-2]["epoch"],
            "seq": alice.entries[-2]["seq"] + 1,
        }
        assert alice.entries == bob.entries


async def test_charlie_sees_nothing_of_what_is_sent_to_acme(hermes: Hermes) -> None:
    async with Client(hermes, "alice") as alice, Client(hermes, "charlie") as charlie:
        await charlie.hello()
        await asyncio.to_thread(hermes.send, "acme", {"type": "info", "data": "for acme"})
        await asyncio.to_thread(hermes.send, "globex", {"type": "info", "data": "for globex"})
        await alice.until(lambda: alice.received)
        await charlie.until(lambda: charlie.received)
        assert charlie.received == [{"type": "info", "data": "for globex"}]
        assert {"type": "info", "data": "for globex"} not in alice.received


async def test_only_the_members_named_in_to_see_a_message_live_and_on_replay(hermes: Hermes) -> None:
    bob_id = (await asyncio.to_thread(hermes.token_response, "bob"))["user_id"]
    async with Client(hermes, "alice") as alice, Client(hermes, "bob") as bob:
        await alice.hello()
        before = alice.position
        await bob.hello()
        await asyncio.to_thread(hermes.send, "acme", "for bob", to=[bob_id])
        await asyncio.to_thread(hermes.send, "acme", "for everyone")
        await alice.until(lambda: "for everyone" in alice.received)
        await bob.until(lambda: "for everyone" in bob.received)
        assert alice.received == ["for everyone"]
        assert bob.received == ["for bob", "for everyone"]
    async with Client(hermes, "alice", position=before) as again:
        assert (await again.hello())["status"] == "recovered"
        await again.until(lambda: again.received)
        assert again.received == ["for everyone"]


async def test_the_same_idempotency_key_makes_one_entry(hermes: Hermes) -> None:
    async with Client(hermes, "alice") as alice:
        await alice.hello()
        for text in ("first", "again"):
            await asyncio.to_thread(hermes.send, "acme", text, id="an invoice")
        await asyncio.to_thread(hermes.send, "acme", "last")
        await alice.until(lambda: "last" in alice.received)
        assert len(alice.received) == 2
        assert "an invoice" in [entry["id"] for entry in alice.entries]


@pytest.mark.parametrize("user", [7, "7", 2**53 - 1, "ü"])
async def test_a_frames_user_id_keeps_the_producers_type(hermes: Hermes, user: Any) -> None:
    async with Client(hermes, "alice") as alice:
        await alice.hello()
        await asyncio.to_thread(hermes.send, "acme", "x", user)
        await alice.until(lambda: alice.entries)
        assert alice.entries[0]["user_id"] == user
        assert type(alice.entries[0]["user_id"]) is type(user)


async def test_what_a_browser_sends_reaches_its_own_room_under_its_own_name(hermes: Hermes) -> None:
    alice_id = (await asyncio.to_thread(hermes.token_response, "alice"))["user_id"]
    async with Client(hermes, "alice") as alice, Client(hermes, "bob") as bob, Client(hermes, "charlie") as charlie:
        await alice.hello()
        await bob.hello()
        await charlie.hello()
        forged = {"action": "sendMessage", "data": "from alice", "user_id": 666, "room_id": "globex"}
        await alice.send(forged)
        await bob.until(lambda: bob.entries)
        assert bob.received == ["from alice"]
        assert str(bob.entries[0]["user_id"]) == str(alice_id)
        assert bob.entries[0]["room_id"] == "acme"
        await alice.until(lambda: alice.control("sent"))
        await asyncio.to_thread(hermes.send, "globex", "for globex")
        await charlie.until(lambda: charlie.received)
        assert charlie.received == ["for globex"]


async def test_a_client_that_was_away_gets_what_it_missed_once_and_in_order(hermes: Hermes) -> None:
    async with Client(hermes, "alice") as alice:
        await alice.hello()
        await asyncio.to_thread(hermes.send, "acme", "before")
        await alice.until(lambda: alice.received)
        position = alice.position
    missed = [f"missed {number}" for number in range(30)]
    async with Client(hermes, "bob") as bob:
        await bob.hello()
        for text in missed:
            await asyncio.to_thread(hermes.send, "acme", text)
        await bob.until(lambda: len(bob.received) == len(missed))
        order = bob.received
    async with Client(hermes, "alice", position=position) as back:
        hello = await back.hello()
        await asyncio.to_thread(hermes.send, "acme", "after")
        await back.until(lambda: "after" in back.received)
        assert hello["status"] == "recovered"
        assert hello["replayed"] == len(missed)
        assert back.received == [*order, "after"]
        assert in_order(back.entries)


async def test_even_a_rooms_very_first_entry_can_be_resumed_to(hermes: Hermes) -> None:
    """A position of an empty room is one: what came first while away is replayed."""
    async with Client(hermes, "charlie") as charlie:
        assert (await charlie.hello())["epoch"]
        position = charlie.position
    await asyncio.to_thread(hermes.send, "globex", "while away")
    async with Client(hermes, "charlie", position=position) as back:
        await back.until(lambda: back.received)
        assert back.received == ["while away"]


async def test_notify_puts_a_message_on_the_same_way(hermes: Hermes) -> None:
    async with Client(hermes, "alice") as alice:
        await alice.hello()
        await asyncio.to_thread(hermes.manage, "send", "acme", json.dumps({"type": "info", "data": "from a shell"}))
        await alice.until(lambda: alice.received)
        assert alice.received == [{"type": "info", "data": "from a shell"}]


async def test_the_two_stages_never_meet(hermes: Hermes) -> None:
    token = await asyncio.to_thread(lambda: hermes.token("alice", stage="production"))
    url = hermes.ws_url.replace("/development", "/production")
    body = json.dumps({"user_id": 0, "room_id": "acme", "data": "for production"})
    queue = hermes.queue_url("hermes-messageQueue-production")
    async with Client(hermes, token=token, url=url) as there, Client(hermes, "alice") as here:
        await there.hello()
        await here.hello()
        hermes.client("sqs").send_message(QueueUrl=queue, MessageBody=body)
        await there.until(lambda: there.received)
        await asyncio.to_thread(hermes.send, "acme", "for development")
        await here.until(lambda: here.received)
        assert there.received == ["for production"]
        assert here.received == ["for development"]
    async with Client(hermes, token=token) as refused:
        await refused.until(lambda: refused.close_codes)
        assert refused.close_codes == [4401]
        assert not refused.entries

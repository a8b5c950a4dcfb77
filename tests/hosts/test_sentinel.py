"""Sentinels name another primary in mid-stream: nothing that was confirmed is lost, and nothing else untold."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from hermes_site.engines import HOST
from notifications import doctor
from notifications.exceptions import HistoryUnavailable
from notifications.findings import Check, Status
from notifications.stream import examine
from notifications.stream.history import History
from notifications.stream.message import Message
from notifications.stream.publish import publish_once
from tests.e2e.client import Client, in_order
from tests.hosts.watched import SERVICE, Watched
from tests.processes import Hermes

PASSWORD = secrets.token_hex(16)
MESSAGES = 300


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    with Watched(tmp_path, 2, PASSWORD) as watched:
        yield watched


@pytest.fixture
def here(watched: Watched, settings: Any) -> Watched:
    """Let this process's settings lead there."""
    settings.REDIS_URL = watched.url
    settings.REDIS_SENTINEL_PASSWORD = PASSWORD
    layer = settings.CHANNEL_LAYERS["default"]
    host = {**layer["CONFIG"]["hosts"][0], "address": watched.url}
    settings.CHANNEL_LAYERS = {"default": {**layer, "CONFIG": {**layer["CONFIG"], "hosts": [host]}}}
    return watched


async def test_a_primary_that_dies_in_mid_stream_costs_nothing_that_a_replica_has_confirmed(
    watched: Watched, make_hermes: Callable[..., Hermes], record_property: Callable[[str, object], None]
) -> None:
    hermes = make_hermes(
        REDIS_URL=watched.url,
        REDIS_SENTINEL_PASSWORD=PASSWORD,
        HERMES_DURABILITY="replica",
        HERMES_DURABILITY_SECONDS="1",
    )
    try:
        await asyncio.to_thread(hermes.start)
        async with Client(hermes, "alice", stay=True) as alice, Client(hermes, "bob", stay=True) as bob:
            await alice.hello()
            await bob.hello()
            old = await asyncio.to_thread(watched.primary)
            sending = asyncio.create_task(asyncio.to_thread(hermes.send_many, "acme", list(range(MESSAGES))))
            await alice.until(lambda: len(alice.received) >= 50)
            await asyncio.to_thread(watched.server(old).kill)
            killed = time.monotonic()
            had = len(alice.received)
            await alice.until(lambda: len(alice.received) > had + 20, 40.0)
            record_property("outage_seconds", round(time.monotonic() - killed, 1))
            await sending
            for member in (alice, bob):
                await member.until(lambda member=member: len(member.received) >= MESSAGES, 40.0)
                assert sorted(member.received) == list(range(MESSAGES))
                assert in_order(member.entries)
                assert [*member.control("lost"), *member.control("gap"), *member.close_codes] == []
            assert await asyncio.to_thread(watched.primary) != old
            assert alice.entries == bob.entries
        assert PASSWORD not in hermes.log_text()
    finally:
        await asyncio.to_thread(hermes.stop)


async def test_what_a_primary_takes_with_it_is_told_to_who_had_seen_it(
    watched: Watched, make_hermes: Callable[..., Hermes]
) -> None:
    hermes = make_hermes(REDIS_URL=watched.url, REDIS_SENTINEL_PASSWORD=PASSWORD)
    try:
        await asyncio.to_thread(hermes.start)
        async with Client(hermes, "alice", stay=True) as alice, Client(hermes, "charlie", stay=True) as charlie:
            await alice.hello()
            await asyncio.to_thread(hermes.send, "acme", "on every server")
            await alice.until(lambda: alice.received == ["on every server"])
            await asyncio.to_thread(watched.keep_from_replicas)
            await asyncio.to_thread(hermes.send, "acme", "on the primary alone")
            await alice.until(lambda: "on the primary alone" in alice.received)
            await asyncio.to_thread(watched.server(await asyncio.to_thread(watched.primary)).kill)
            await alice.until(lambda: alice.control("lost"), 40.0)
            assert [lost["reason"] for lost in alice.control("lost")] == ["fork"]
            await asyncio.to_thread(hermes.send, "acme", "by the new primary")
            await alice.until(lambda: alice.received[-1:] == ["by the new primary"], 20.0)
            assert charlie.received == []
    finally:
        await asyncio.to_thread(hermes.stop)


async def test_one_that_is_asked_to_give_way_is_followed_and_the_doctor_names_its_successor(here: Watched) -> None:
    history = History()
    position = await history.open("development", "acme")
    old = await asyncio.to_thread(here.primary)
    told = await asyncio.to_thread(doctor.examine, [Check("redis", examine.answers), Check("layer", examine.layer)])
    assert [line.finding.status for line in told] == [Status.OK, Status.OK]
    assert f"{HOST}:{old}" in told[0].finding.found
    await asyncio.to_thread(here.give_way)
    # The same connections, as far as they live.
    assert await history.open("development", "acme") == position
    (told_after,) = await asyncio.to_thread(doctor.examine, [Check("redis", examine.answers)])
    assert told_after.finding.status is Status.OK
    assert f"{HOST}:{await asyncio.to_thread(here.primary)}" in told_after.finding.found
    assert str(old) not in told_after.finding.found
    await history.aclose()


async def test_a_sentinel_that_is_gone_costs_a_moment_and_all_of_them_a_clear_error(
    here: Watched, settings: Any
) -> None:
    here.sentinels[0].kill()
    history = History()
    started = time.monotonic()
    await history.open("development", "acme")
    assert time.monotonic() - started < 3.0
    for sentinel in here.sentinels[1:]:
        sentinel.kill()
    await history.aclose()
    with pytest.raises(HistoryUnavailable, match=f"No sentinel names a primary of '{SERVICE}'") as refused:
        await history.open("development", "acme")
    assert PASSWORD not in str(refused.value)
    await history.aclose()


async def test_one_that_is_a_replica_though_the_sentinels_name_it_is_taken_for_no_primary(
    here: Watched, settings: Any
) -> None:
    settings.HERMES_DURABILITY = "replica"
    old = await asyncio.to_thread(here.primary)
    others = [server.port for server in here.servers if server.port != old]
    with redis.Redis(host=HOST, port=old) as client:
        client.replicaof(HOST, others[0])
    message = Message(id="m", user_id=0, room_id="acme", data="null")
    with pytest.raises(HistoryUnavailable, match=f"{HOST}:{old} is a replica"):
        await publish_once("development", message)
    with redis.Redis(host=HOST, port=old) as client:
        client.execute_command("REPLICAOF", "NO", "ONE")
    history = History()
    await history.open("development", "acme")
    await history.aclose()


async def test_a_user_who_may_not_ask_who_is_the_primary_is_served_all_the_same(here: Watched) -> None:
    for server in here.servers:
        with redis.Redis.from_url(server.url) as client:
            client.execute_command("ACL", "SETUSER", "hermes", "-info")
    history = History()
    assert (await history.open("development", "acme")).seq == 0
    await history.aclose()


async def test_a_wrong_password_of_the_sentinels_is_told_without_it(here: Watched, settings: Any) -> None:
    settings.REDIS_SENTINEL_PASSWORD = "the-wrong-password"
    history = History()
    with pytest.raises(HistoryUnavailable) as refused:
        await history.open("development", "acme")
    assert "the-wrong-password" not in str(refused.value)
    await history.aclose()
    (told,) = await asyncio.to_thread(doctor.examine, [Check("redis", examine.answers)])
    assert told.finding.status is Status.FAIL
    assert "the-wrong-password" not in told.finding.found

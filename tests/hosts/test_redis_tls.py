"""Redis as it is on another host: behind TLS with an authority of one's own, for a user who may do no more than needed.

The wheel's Valkey is built without TLS, so that `TlsEnd` ends it in front, as stunnel does; the user is Valkey's own.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from django.core.exceptions import ImproperlyConfigured

from hermes_site.engines import HOST, Valkey
from notifications import doctor
from notifications.exceptions import HistoryUnavailable
from notifications.findings import Check, Status
from notifications.intake import heartbeat
from notifications.stream import examine, glance, keys, pace
from notifications.stream.history import History
from notifications.stream.message import Message
from notifications.stream.publish import publish_once
from notifications.stream.redis_client import primary_of, sync_client
from tests.certificates import make_certificate
from tests.e2e.client import Client
from tests.hosts.tls_end import TlsEnd
from tests.hosts.watched import SERVICE, SentinelServer, words_of_user
from tests.processes import Hermes
from tests.waiting import eventually

PASSWORD = secrets.token_hex(16)
CHECKS = [
    Check("redis", examine.answers),
    Check("redis.eviction", examine.eviction),
    Check("redis.persistence", examine.persistence),
    Check("redis.append", examine.append),
    Check("layer", examine.layer),
    Check("clock.redis", examine.clock),
]

NOT_ON_THE_WAY = {"select", "wait", "xtrim", "eval", "smembers", "srem"}


class Guarded:
    """A Valkey with the user of docs/operations.md, behind TLS."""

    def __init__(self, engine: Valkey, directory: Path) -> None:
        self.engine = engine
        self.authority = make_certificate(directory, "redis.pem", "redis.key")
        self.end = TlsEnd(engine.port, directory / "redis.pem", directory / "redis.key")
        self.words = words_of_user(PASSWORD)

    @property
    def url(self) -> str:
        return f"rediss://hermes:{PASSWORD}@localhost:{self.end.port}/0"

    def admin(self) -> redis.Redis:
        return redis.Redis.from_url(self.engine.url)

    def refusals(self) -> list[Any]:
        with self.admin() as admin:
            return [line for line in admin.acl_log() if line["username"] == "hermes"]


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    directory = tmp_path_factory.mktemp("guarded")
    with Valkey(directory / "valkey", persistent=True) as engine:
        guarded = Guarded(engine, directory)
        with guarded.admin() as admin:
            admin.execute_command("ACL", *guarded.words)
            admin.execute_command("ACL", "SETUSER", "hermes", "+waitaof")
        with guarded.end:
            yield guarded


def lead(settings: Any, url: str) -> None:
    """Let histories and channel layer be at a URL."""
    settings.REDIS_URL = url
    layer = settings.CHANNEL_LAYERS["default"]
    host = {**layer["CONFIG"]["hosts"][0], "address": url}
    settings.CHANNEL_LAYERS = {"default": {**layer, "CONFIG": {**layer["CONFIG"], "hosts": [host]}}}


@pytest.fixture
def here(guarded: Guarded, settings: Any) -> Guarded:
    """Let this process's settings lead there."""
    lead(settings, guarded.url)
    settings.REDIS_CA = guarded.authority.read_text(encoding="utf-8")
    with guarded.admin() as admin:
        admin.acl_log_reset()
    return guarded


def unused(guarded: Guarded) -> set[str]:
    """Return what the user may do and nobody did.

    Left out is what takes another database, another durability, an old entry, a page of a room without history, a look
    at the dashboard, or a relay that is gone.
    """
    with guarded.admin() as admin:
        used = {name.removeprefix("cmdstat_") for name in admin.info("commandstats")}
    return {word[1:] for word in guarded.words if word.startswith("+")} - used - NOT_ON_THE_WAY


async def test_a_message_goes_the_whole_way_over_tls_with_a_user_who_may_do_no_more(
    guarded: Guarded, make_hermes: Callable[..., Hermes]
) -> None:
    hermes = make_hermes(REDIS_URL=guarded.url, REDIS_CA_FILE=str(guarded.authority))
    try:
        await asyncio.to_thread(hermes.start)
        async with Client(hermes, "alice") as alice, Client(hermes, "charlie") as charlie:
            await alice.hello()
            await charlie.hello()
            before = alice.position
            for at in range(20):  # enough for the script to trim
                await asyncio.to_thread(hermes.send, "acme", f"over TLS {at}")
            await alice.until(lambda: len(alice.received) == 20)
            assert charlie.received == []
        async with Client(hermes, "alice", position=before) as again:
            assert (await again.hello())["status"] == "recovered"
            await again.until(lambda: len(again.received) == 20)
        assert guarded.refusals() == []
        # Channels are left a moment after their last member has gone.
        await eventually(lambda: not unused(guarded), what="all that the user may do was done")
        assert PASSWORD not in hermes.log_text()
        with guarded.admin() as admin:
            assert {key.partition(b":")[0] for key in admin.scan_iter()} == {b"hermes"}
    finally:
        await asyncio.to_thread(hermes.stop)


def test_what_the_dashboard_and_a_rooms_page_ask_is_allowed(here: Guarded) -> None:
    with here.admin() as admin:
        admin.sadd(keys.relays_key("development"), "a relay that is gone")
    assert "a relay that is gone" not in {beat.relay_id for beat in heartbeat.relays("development")}
    assert pace.pace("development").minutes
    assert glance.last_entries("development", "no history", 5) == (None, [])
    assert here.refusals() == []


@pytest.mark.parametrize("durability", ["memory", "fsync"])
def test_the_doctor_finds_nothing_wrong_there(here: Guarded, settings: Any, durability: str) -> None:
    settings.HERMES_DURABILITY = durability
    lines = doctor.examine(CHECKS)
    assert [line.finding for line in lines if line.finding.status is not Status.OK] == []
    assert here.refusals() == []


@pytest.mark.parametrize(
    "command",
    [
        ("FLUSHALL",),
        ("KEYS", "*"),
        ("CONFIG", "GET", "*"),
        ("ACL", "LIST"),
        ("GET", "another's"),
        ("SET", "another's", "x"),
        ("EVAL", "return redis.call('GET', KEYS[1])", 1, "another's"),
        ("EVAL", "return redis.call('FLUSHALL')", 0),
        ("PUBLISH", "another's", "x"),
        ("SCRIPT", "FLUSH"),
        ("CLIENT", "KILL", "TYPE", "normal"),
        ("REPLICAOF", "NO", "ONE"),
    ],
    ids=lambda command: " ".join(map(str, command[:2])),
)
def test_that_user_may_do_nothing_else(here: Guarded, command: tuple[Any, ...]) -> None:
    with sync_client(5.0) as client:
        assert client.ping()
        with pytest.raises(redis.exceptions.ResponseError, match=r"permission|ACL failure"):
            client.execute_command(*command)


@pytest.mark.parametrize("word", ["+evalsha", "+xadd", "+hmget", "~hermes:*"])
async def test_a_user_who_may_less_is_told_what_is_missing_and_never_the_password(here: Guarded, word: str) -> None:
    with here.admin() as admin:
        admin.execute_command("ACL", *(part for part in here.words if part != word))
    try:
        with pytest.raises(HistoryUnavailable, match=r"permission|ACL failure") as refused:
            await publish_once("development", Message(id="m", user_id=0, room_id="acme", data="null"))
        assert PASSWORD not in str(refused.value)
    finally:
        with here.admin() as admin:
            admin.execute_command("ACL", *here.words)


@pytest.mark.parametrize("where", ["127.0.0.1", "localhost"])
async def test_a_certificate_that_is_not_for_this_host_or_of_an_unknown_authority_is_refused(
    here: Guarded, settings: Any, where: str
) -> None:
    settings.REDIS_URL = here.url.replace("localhost", where)
    if where == "localhost":
        settings.REDIS_CA = ""
    history = History()
    with pytest.raises(HistoryUnavailable, match="CERTIFICATE_VERIFY_FAILED") as refused:
        await history.heads("development", ["acme"])
    await history.aclose()
    assert PASSWORD not in str(refused.value)
    (line,) = await asyncio.to_thread(doctor.examine, [Check("redis", examine.answers)])
    assert line.finding.status is Status.FAIL
    assert "REDIS_CA_FILE" in (line.finding.cure or "")
    assert PASSWORD not in line.finding.found


def test_sentinels_are_asked_over_tls_and_the_primary_must_speak_it_too(
    here: Guarded, settings: Any, tmp_path: Path
) -> None:
    shown, key = here.authority.with_name("redis.pem"), here.authority.with_name("redis.key")
    with SentinelServer(tmp_path, here.engine.port, PASSWORD) as sentinel, TlsEnd(sentinel.port, shown, key) as end:
        settings.REDIS_SENTINEL_PASSWORD = PASSWORD
        settings.REDIS_URL = f"rediss+sentinel://hermes:{PASSWORD}@localhost:{end.port}/{SERVICE}/0"
        with sync_client(2.0) as client:
            # The primary that it names speaks no TLS here: nothing in plain text is said to it.
            with pytest.raises((redis.ConnectionError, redis.TimeoutError)):
                client.ping()
            assert primary_of(client) == f"{HOST}:{here.engine.port}"


def test_a_wrong_password_is_told_without_it(here: Guarded, settings: Any) -> None:
    lead(settings, here.url.replace(PASSWORD, "the-wrong-password"))
    for line in doctor.examine(CHECKS):
        assert line.finding.status is Status.FAIL
        assert "the-wrong-password" not in line.finding.found


@pytest.mark.parametrize("option", ["ssl_cert_reqs=none", "ssl_check_hostname=false"])
def test_nobody_can_turn_the_verification_off(here: Guarded, settings: Any, option: str) -> None:
    settings.REDIS_URL = f"{here.url}?{option}"
    with pytest.raises(ImproperlyConfigured, match="always verified") as refused:
        sync_client(1.0)
    assert PASSWORD not in str(refused.value)

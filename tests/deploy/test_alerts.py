"""Each alert fires on its fault: a real Hermes is broken, and promtool judges what it then says of itself.

What is scraped before, during and after a fault is stretched to the minutes that the rules look at (alerts).
hermes.rules.test.yml plays all of them once more, with numbers of ours.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import resource
import select
import shutil
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import bcrypt
import jwt
import pytest

from hermes_site.children import ChildProcess
from hermes_site.engines import HOST, free_port
from notifications.access import tokens
from notifications.access.token_store import MAX_COST
from notifications.conf import Stage
from tests.deploy import alerts
from tests.deploy.alerts import MINUTES, Scrape
from tests.deploy.conftest import need
from tests.documents import read
from tests.e2e.client import Client
from tests.load.wire import handshake
from tests.processes import START_DEADLINE, Hermes
from tests.waiting import eventually, wait_until

JOBS = ("hermes", "hermes-relay")
INFO = {"type": "info", "data": "hello"}
HISTORY = 50  # entries, so that a burst is more than a room keeps
VISIBILITY = 12  # seconds, the least that the checks allow: what is in hand is given back after 8.4
LIFE = 1.5  # seconds: a relay that lives has asked SQS again, and a keeper its store
CLOSED = 100  # ends that a server keeps for a store that does not answer, the least that the settings allow
LATE = 11.0  # seconds: a message that waits so long is late
CROWD = 300  # sockets: the time to write to all of them is long enough to stop the server within it
FLOOD = 150  # clients: three times what the rules forgive in a fault's minutes


class Broken:
    """A Hermes that the tests break and mend, and what its processes answer.

    Args:
        hermes: which runs.
        port, relay_port: of the metrics of server and relay.
        folder: for promtool.
    """

    def __init__(self, hermes: Hermes, port: int, relay_port: int, folder: Path) -> None:
        self.hermes, self._folder = hermes, folder
        self.targets = {f"{HOST}:{port}": JOBS[0], f"{HOST}:{relay_port}": JOBS[1]}

    async def scrape(self) -> Scrape:
        """Ask every target."""
        return await asyncio.to_thread(alerts.scrape, self.targets)

    async def scrape_once(self, holds: Callable[[Scrape], Any], deadline: float = 20.0) -> Scrape:
        """Ask until an answer is as it should be, and return that one."""
        found: list[Scrape] = []

        async def is_so() -> bool:
            found[:] = [await self.scrape()]
            return bool(holds(found[0]))

        await eventually(is_so, deadline)
        return found[0]

    async def well(self) -> Scrape:
        """Return what all targets say once everything is well."""
        return await self.scrape_once(
            lambda now: (
                now.sum("up") == len(self.targets)
                and not lacks_something(now)
                and now.sum("hermes_registry_oldest_seconds") < 1
                and now.sum("hermes_bcrypt_waiting") == 0
            )
        )

    def fires(self, before: Scrape, during: Sequence[Scrape], *fired: str, minutes: float = MINUTES) -> None:
        """Assert that alerts fire in the end of a fault, and that nothing was to be said in the hour before it."""
        played = alerts.a_fault_after_an_hour(before, during, minutes)
        against = alerts.judge(played, {"59m": (), f"{60 + int(minutes)}m": fired}, self._folder)
        assert not against, against

    def is_silent(self, scrapes: Sequence[Scrape]) -> None:
        """Assert that nothing was to be said in an hour that is as these seconds were."""
        against = alerts.judge(alerts.an_hour_of(scrapes), {"60m": ()}, self._folder)
        assert not against, against

    def sockets(self, port: int, given: Sequence[str]) -> list[socket.socket]:
        """Ask for a connection with each token; nobody waits for the answers."""
        opened = []
        for token in given:
            opened.append(socket.create_connection((HOST, port)))
            opened[-1].sendall(handshake(f"{HOST}:{port}", f"/ws/{self.hermes.stage}", token))
        return opened

    async def come_in_vain(self, count: int, token: str) -> None:
        """Have so many clients ask with a token, and be sent away."""
        sockets = await asyncio.to_thread(self.sockets, self.hermes.port, [token] * count)
        with contextlib.ExitStack() as stack:
            for one in sockets:
                stack.enter_context(contextlib.closing(one))
            await asyncio.to_thread(wait_until, lambda: all(ended(one) for one in sockets), 20, "all are sent away")


def lacks_something(now: Scrape) -> bool:
    """Whether a server says of a part that it does not answer."""
    return any(series.name == "hermes_ready" and not value for series, value in now.values.items())


def ended(one: socket.socket) -> bool:
    """Whether a WebSocket's server has said close: a frame with the opcode 8."""
    said = one.recv(4096, socket.MSG_PEEK | socket.MSG_DONTWAIT) if select.select([one], [], [], 0)[0] else b""
    return b"\r\n\r\n\x88" in said


@pytest.fixture(scope="module")
def broken(make_hermes: Callable[..., Hermes], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broken]:
    """One Hermes for all of it; who breaks something mends it."""
    need("promtool")
    port, relay_port = free_port(), free_port()
    own = make_hermes(
        HERMES_METRICS_PORT=str(port),
        HERMES_RELAY_METRICS_PORT=str(relay_port),
        HERMES_HISTORY_ENTRIES=str(HISTORY),
        HERMES_VISIBILITY_SECONDS=str(VISIBILITY),
        HERMES_WAIT_SECONDS="1",
        HERMES_QUEUE_BYTES="65536",
        HERMES_CONNECTIONS_PER_USER="1000",
        HERMES_CLOSED_PENDING=str(CLOSED),
    )
    try:
        yield Broken(own.start(), port, relay_port, tmp_path_factory.mktemp("played"))
    finally:
        own.stop()


@pytest.fixture
async def alice(broken: Broken) -> AsyncIterator[Client]:
    """Alice is there, and everything is well."""
    async with Client(broken.hermes, "alice", stay=True) as alice:
        await alice.hello()
        await broken.well()
        yield alice


# ── Nothing is wrong ─────────────────────────────────────────────────────────────────────────────────────────────────
async def test_an_hour_of_what_a_healthy_hermes_says_is_silent(broken: Broken, alice: Client) -> None:
    hermes = broken.hermes
    scrapes = [await broken.well()]
    for _ in range(3):
        async with Client(hermes, "bob") as bob, Client(hermes, "charlie") as charlie:
            for member in (bob, charlie):
                await member.hello()
            for _ in range(12):
                heard = len(alice.received)
                await asyncio.to_thread(hermes.send, "acme", INFO)
                await alice.until(lambda heard=heard: len(alice.received) > heard)  # type: ignore[misc]
            await bob.until(lambda bob=bob: len(bob.received) >= 12)  # type: ignore[misc]
            assert not charlie.received
        scrapes.append(await broken.scrape())
    assert scrapes[-1].sum("hermes_entries_total") - scrapes[0].sum("hermes_entries_total") >= 36
    broken.is_silent(scrapes)


# ── SQS ──────────────────────────────────────────────────────────────────────────────────────────────────────────────
async def test_a_body_that_nobody_can_read_is_told(broken: Broken, alice: Client) -> None:
    before = await broken.well()
    await asyncio.to_thread(broken.hermes.send_body, "this is no JSON")
    during = await broken.scrape_once(lambda now: rise(before, now, "hermes_relay_messages_total", "dead_letter") == 1)
    broken.fires(before, [during], "HermesDeadLetters")


async def test_a_dead_letter_queue_that_takes_nothing_is_told(broken: Broken, alice: Client) -> None:
    hermes = broken.hermes
    before = await broken.well()
    hermes.aws_proxy.deny("SendMessage")
    try:
        await asyncio.to_thread(hermes.send_body, "this is no JSON either")
        during = await broken.scrape_once(lambda now: rise(before, now, "hermes_relay_messages_total", "refused") == 1)
    finally:
        hermes.aws_proxy.deny()
        await asyncio.to_thread(hermes.client("sqs").purge_queue, QueueUrl=hermes.queue_url())
    broken.fires(before, [during], "HermesNoDeadLetterQueue")


async def test_a_queue_that_does_not_answer_is_told(broken: Broken, alice: Client) -> None:
    proxy = broken.hermes.aws_proxy
    before = await broken.well()
    proxy.stop_service("sqs")
    try:
        tried = await broken.scrape_once(
            lambda now: lacks_something(now) and rise(before, now, "hermes_relay_retries_total", "receive") >= 2
        )
        await asyncio.sleep(LIFE)  # that a moment stands still shows in time alone
        still = await broken.scrape()
    finally:
        proxy.start_service("sqs")
    broken.fires(before, [tried, still], "HermesRelaySilent", "HermesNotReady")


async def test_a_relay_that_dies_again_and_again_is_told(broken: Broken, alice: Client) -> None:
    """Between two deaths it answers, for less than two minutes it does not: nothing else tells."""
    before = await broken.well()
    during = []
    for _ in range(4):
        await asyncio.to_thread(broken.hermes.kill_relay)
        await asyncio.to_thread(broken.hermes.start_relay)
        during.append(await broken.scrape_once(lambda now: now.sum("up") == len(broken.targets)))
    broken.fires(before, during, "HermesRelayRestarts", minutes=10)


# ── Redis ────────────────────────────────────────────────────────────────────────────────────────────────────────────
async def test_a_redis_that_passes_no_hint_on_is_told_and_so_are_entries_that_were_trimmed_meanwhile(
    broken: Broken, alice: Client
) -> None:
    hermes = broken.hermes
    before = await broken.well()
    with contextlib.closing(hermes.redis()) as redis:
        redis.execute_command("ACL", "SETUSER", "default", "-publish")
        try:
            for _ in range(5):
                await asyncio.to_thread(hermes.send, "acme", INFO)
            deaf = await broken.scrape_once(
                lambda now: lacks_something(now) and rise(before, now, "hermes_entries_total", "history") >= 5
            )
            burst = [INFO] * 4 * HISTORY

            async def has_gap() -> bool:
                await asyncio.to_thread(hermes.send_many, "acme", burst)
                return rise(before, await broken.scrape(), "hermes_gaps_total") >= 1

            await eventually(has_gap, 20)
            trimmed = await broken.scrape()
        finally:
            redis.execute_command("ACL", "SETUSER", "default", "+publish")
    await alice.until(lambda: alice.control("gap"))
    broken.fires(before, [deaf], "HermesHintsLost", "HermesNotReady")
    broken.fires(before, [trimmed], "HermesGaps")


async def test_a_redis_that_dies_is_told_and_so_is_what_was_late_and_lost_when_it_came_back(
    broken: Broken, alice: Client
) -> None:
    hermes = broken.hermes
    charlie = await asyncio.to_thread(hermes.token, "charlie")  # nobody is in his room, so its history must be asked
    before = await broken.well()
    hermes.valkey.kill()
    dead_since = time.monotonic()
    await asyncio.to_thread(hermes.send_many, "acme", [INFO] * 100)  # more than all pollers take
    await broken.come_in_vain(FLOOD, charlie)
    given_back = await broken.scrape_once(
        lambda now: (
            lacks_something(now)
            and now.sum("hermes_relay_in_hand") == 0
            and rise(before, now, "hermes_relay_messages_total", "given_back") >= 1
        )
    )
    # Nothing is in the relay's hands any more, and it is as little well as before.
    await broken.come_in_vain(FLOOD, charlie)
    await asyncio.sleep(max(0.0, dead_since + LATE - time.monotonic()))  # a message is late in time alone
    still = await broken.scrape_once(lambda now: rise(given_back, now, "hermes_relay_retries_total", "append") >= 1)
    broken.fires(before, [given_back, still], "HermesNotReady", "HermesAppendsRefused", "HermesJoinsRefused")
    shutil.rmtree(hermes.valkey.directory / "appendonlydir")
    hermes.valkey.start()
    after = await broken.scrape_once(
        lambda now: (
            rise(before, now, "hermes_lost_total", "epoch", "connected") >= 1
            and rise(before, now, "hermes_end_to_end_seconds_bucket", "+Inf") >= HISTORY
        )
    )
    await alice.until(lambda: alice.control("lost"))
    broken.fires(before, [still, after], "HermesHistoryLost", "HermesRelayLate", "HermesDeliveryLate")


# ── DynamoDB ─────────────────────────────────────────────────────────────────────────────────────────────────────────
async def test_a_mirror_that_takes_nothing_is_told_and_so_are_the_ends_that_are_given_up(
    broken: Broken, alice: Client
) -> None:
    hermes, proxy = broken.hermes, broken.hermes.aws_proxy
    charlie = await asyncio.to_thread(hermes.token, "charlie")
    first = await broken.well()
    with contextlib.ExitStack() as stack:
        for one in await asyncio.to_thread(broken.sockets, hermes.port, [charlie] * (CLOSED + 20)):
            stack.enter_context(contextlib.closing(one))
        await broken.scrape_once(lambda now: rise(first, now, "hermes_joins_total") >= CLOSED + 20)
        before = await broken.well()
        proxy.stop_service("dynamodb")
    try:
        behind = await broken.scrape_once(
            lambda now: lacks_something(now) and now.sum("hermes_registry_oldest_seconds", store="dynamodb") > 0
        )
        await asyncio.sleep(LIFE)
        still = await broken.scrape_once(lambda now: rise(before, now, "hermes_registry_dropped_total") >= 20)
    finally:
        proxy.start_service("dynamodb")
    broken.fires(before, [behind, still], "HermesRegistryBehind", "HermesNotReady")
    broken.fires(before, [still], "HermesRegistryDropped", minutes=1)


# ── Clients ──────────────────────────────────────────────────────────────────────────────────────────────────────────
async def test_a_flood_of_tokens_with_another_secret_is_told(broken: Broken, alice: Client, stage: Stage) -> None:
    before = await broken.well()
    claims = jwt.decode(alice.token, options={"verify_signature": False})
    other = jwt.encode(claims, "another secret than the one it should be " * 4, tokens.ALGORITHM)
    await broken.come_in_vain(2 * FLOOD, other)
    during = await broken.scrape_once(lambda now: rise(before, now, "hermes_refusals_total", "signature") >= 2 * FLOOD)
    broken.fires(before, [during], "HermesTokensRefused")


async def test_readers_that_do_not_read_are_told(broken: Broken, alice: Client) -> None:
    hermes, count = broken.hermes, 30
    charlie = await asyncio.to_thread(hermes.token, "charlie")
    before = await broken.well()
    readers = await asyncio.to_thread(broken.sockets, hermes.port, [charlie] * count)
    try:
        await broken.scrape_once(lambda now: rise(before, now, "hermes_joins_total") >= count)
        there = await broken.well()

        async def all_are_cut() -> bool:
            await asyncio.to_thread(hermes.send_many, "globex", [{"type": "info", "data": "x" * 20_000}] * 10)
            return rise(there, await broken.scrape(), "hermes_slow_cuts_total") >= count

        await eventually(all_are_cut, 30)
        cut = await broken.scrape()
    finally:
        for reader in readers:
            reader.close()
    broken.fires(there, [cut], "HermesSlowReaders", minutes=10)


# ── A second server, which does not live long ────────────────────────────────────────────────────────────────────────
@pytest.fixture(scope="module")
def beside(broken: Broken) -> Iterator[tuple[ChildProcess, int]]:
    """Another server of the same Hermes; its process and its port."""
    port, metrics_port = free_port(), free_port()
    arguments = ("serve", "--host", HOST, "--port", str(port), "--metrics-port", str(metrics_port))
    hermes = broken.hermes
    process = hermes.processes["beside"] = hermes.child("beside", *arguments, port=port).start()
    try:
        process.wait_until_ready(lambda: hermes.is_alive(f"http://{HOST}:{port}"), START_DEADLINE)
        broken.targets[f"{HOST}:{metrics_port}"] = JOBS[0]
        yield process, port
    finally:
        process.kill()
        broken.targets.pop(f"{HOST}:{metrics_port}", None)


async def test_a_server_that_gets_no_processor_and_one_that_has_no_files_left_are_told(
    broken: Broken, alice: Client, beside: tuple[ChildProcess, int]
) -> None:
    process, port = beside
    before = await broken.well()
    crowd = await asyncio.to_thread(broken.sockets, port, [alice.token] * CROWD)
    try:
        joined = await broken.scrape_once(lambda now: now.sum("hermes_connections") >= CROWD + 1)

        async def is_slow() -> bool:
            await asyncio.to_thread(stop_amid_a_fanout, broken.hermes, process, crowd)
            now = await broken.scrape()
            name = "hermes_fanout_seconds_bucket"
            return rise(joined, now, name, "+Inf") > rise(joined, now, name, "1.0")

        await eventually(is_slow, 60, "it was stopped amid a fan-out, and not after it")
        slow = await broken.scrape()
        broken.fires(joined, [slow], "HermesFanoutSlow")
        there = max(value for series, value in slow.values.items() if series.name == "process_open_fds")
        limits = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (int(there * 1.1), limits[1]))
        try:
            few = await broken.scrape()
        finally:
            resource.prlimit(process.pid, resource.RLIMIT_NOFILE, limits)
        broken.fires(before, [few], "HermesOpenFiles")
    finally:
        for one in crowd:
            one.close()


def stop_amid_a_fanout(hermes: Hermes, process: ChildProcess, crowd: Sequence[socket.socket]) -> None:
    """Send a message, and take the processor from the server for a second once it has come to the first of a crowd."""
    poll = select.epoll()
    try:
        for one in crowd:
            while select.select([one], [], [], 0)[0] and one.recv(65536):
                pass
            poll.register(one, select.EPOLLIN)
        hermes.send("acme", {"type": "info", "data": "x" * 10_000})
        assert poll.poll(10), "it comes to somebody"
        process.suspend()
        time.sleep(1.1)  # the fault is that time passes
    finally:
        process.resume()
        poll.close()


async def test_joins_that_wait_for_bcrypt_are_told_and_so_is_the_death_of_their_server(
    broken: Broken, alice: Client, beside: tuple[ChildProcess, int], stage: Stage
) -> None:
    process, port = beside
    hermes, users = broken.hermes, [f"dear-{number}" for number in range(256)]
    dear = bcrypt.hashpw(b"nobody's digest", bcrypt.gensalt(MAX_COST)).decode()
    table = hermes.client("dynamodb")
    for start in range(0, len(users), 25):
        puts = [
            {"PutRequest": {"Item": {"user_id": {"S": user}, "room_id": {"S": "acme"}, "token": {"S": dear}}}}
            for user in users[start : start + 25]
        ]
        await asyncio.to_thread(table.batch_write_item, RequestItems={stage.tokens_table: puts})
    before = await broken.well()
    given = [tokens.issue(stage, user, "acme", now=time.time(), ttl=600) for user in users]
    waiting = await asyncio.to_thread(broken.sockets, port, given)
    try:
        behind = await broken.scrape_once(lambda now: now.sum("hermes_bcrypt_waiting") > 200)
        process.kill()
    finally:
        for one in waiting:
            one.close()
    died = await broken.scrape_once(lambda now: rise(before, now, "hermes_registry_reaped_total", "sql") >= 1)
    broken.fires(before, [behind], "HermesBcryptBehind")
    broken.fires(before, [died], "HermesServerDied", "HermesDown")


# ── All of them ──────────────────────────────────────────────────────────────────────────────────────────────────────
def test_every_alert_is_fired_by_a_fault() -> None:
    assert set(re.findall(r'"(Hermes[A-Z]\w+)"', read("tests/deploy/test_alerts.py"))) == set(alerts.ALERTS)


def rise(before: Scrape, after: Scrape, name: str, *values: str) -> float:
    """Return by how much a metric has risen, in the series that have these labels' values."""

    def sum_of(scrape: Scrape) -> float:
        return sum(
            value
            for series, value in scrape.values.items()
            if series.name == name and all(f'="{word}"' in series.labels for word in values)
        )

    return sum_of(after) - sum_of(before)

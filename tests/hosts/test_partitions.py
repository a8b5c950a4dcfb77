"""Three hosts, each cut off in mid-stream, and a Sentinel failover: the fault suite's invariants hold.

It takes root, because hosts are network namespaces. Where none can be made these tests are left out, and say so.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio

from tests.faults.ledger import BUSY_SECONDS, load
from tests.faults.times import SCALED
from tests.faults.world import SERVERS
from tests.hosts.network import Network, why_not
from tests.hosts.scene import Hosts
from tests.postgres import binaries
from tests.waiting import eventually


def missing() -> str:
    """Return why these tests cannot run here; in CI, which installs what they need, only what it cannot install."""
    if os.environ.get("CI") != "true" and not (binaries() and shutil.which("setpriv") and shutil.which("curl")):
        return "PostgreSQL's programs, setpriv or curl are missing"
    return why_not()


WHY_NOT = missing()
pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(bool(WHY_NOT), reason=f"LEFT OUT: three hosts: {WHY_NOT}"),
]
# Longer than the lease, and shorter than a client's patience: its sockets outlive the cut.
SHORT_SECONDS = 2.0 * SCALED.lease
# Longer than a client's patience and a server's with its sockets: everybody moves to the other host.
LONG_SECONDS = 12.0
NETWORK = {"database", "redis", "sqs", "dynamodb"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def hosts() -> AsyncIterator[Hosts]:
    with tempfile.TemporaryDirectory(prefix="hermes-hosts-") as directory, Network("abc") as network:
        hosts = Hosts(Path(directory), network, secrets.token_hex(4))
        try:
            await hosts.open()
            yield hosts
        finally:
            await hosts.close()


@pytest.fixture(autouse=True)
def _stream(hosts: Hosts) -> None:
    """A stream of messages goes in by SQS in each of these tests, and was silent while the last one was judged."""
    hosts.producer.resume()


async def flows(hosts: Hosts, count: int) -> None:
    """Wait until so many more messages have a place in a history."""
    enough = hosts.tap.appended + count
    await eventually(lambda: hosts.tap.appended >= enough, 20.0, f"{count} more entries")


async def is_buried(hosts: Hosts, server: str) -> None:
    """Wait until a server that is out of reach has no connection in the books any more."""
    seconds = SCALED.lease + BUSY_SECONDS * load()
    for read in (hosts.open_rows, hosts.live_items):
        what = f"{read.__name__} without {server}"
        await eventually(lambda read=read: not hosts.of_server(read(), server), seconds, what)


async def is_not_ready(hosts: Hosts, server: str, parts: set[str]) -> set[str]:
    """Wait until ``/readyz`` on a server's own host names these parts; return all that it names."""

    async def named() -> set[str] | None:
        status, silent = await asyncio.to_thread(hosts.readiness, server)
        return silent if status == 503 and silent >= parts else None

    found: set[str] = await eventually(named, SHORT_SECONDS / 2, f"/readyz of {server} names {sorted(parts)}")
    return found


@asynccontextmanager
async def cut_off(hosts: Hosts, host: str, server: str, other: str, seconds: float) -> AsyncIterator[None]:
    """Cut a host off in mid-stream and join it again: the other server buries its connections, and all comes right."""
    await flows(hosts, 20)
    async with hosts.partition(host):
        end = time.monotonic() + seconds
        await is_buried(hosts, server)
        await is_not_ready(hosts, server, NETWORK)
        assert await asyncio.to_thread(hosts.readiness, other) == (200, set())
        yield
        await asyncio.sleep(max(0.0, end - time.monotonic()))
    await hosts.comes_right(f"host {host.upper()} was cut off", time.monotonic())
    assert hosts.violations() == []


async def test_a_server_and_the_relay_that_are_cut_off_are_buried_and_come_back(hosts: Hosts) -> None:
    async with cut_off(hosts, "a", "server-0", "server-1", SHORT_SECONDS):
        pass


async def test_a_server_that_is_cut_off_for_long_loses_its_members_to_the_other(hosts: Hosts) -> None:
    async with cut_off(hosts, "b", "server-1", "server-0", LONG_SECONDS):
        await flows(hosts, 50)
        await eventually(lambda: all(member.is_open for member in hosts.members), LONG_SECONDS, "all are connected")


async def test_redis_and_postgresql_out_of_reach_are_waited_out_by_everybody(hosts: Hosts) -> None:
    await flows(hosts, 20)
    async with hosts.partition("c"):
        end = time.monotonic() + SHORT_SECONDS
        for server in SERVERS:
            silent = await is_not_ready(hosts, server, {"database", "redis"})
            assert not {"sqs", "dynamodb"} & silent
        await asyncio.sleep(max(0.0, end - time.monotonic()))
    await hosts.comes_right("host C was cut off", time.monotonic())
    assert hosts.violations() == []


async def test_a_failover_of_redis_in_mid_stream_loses_nothing_that_was_confirmed(hosts: Hosts) -> None:
    await flows(hosts, 20)
    await hosts.lose_primary()
    await hosts.comes_right("Redis's primary died", time.monotonic())
    assert hosts.violations() == []
    assert hosts.password not in hosts.log_text()

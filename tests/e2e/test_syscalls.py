"""What a delivery costs the kernel, in the process that `manage.py serve` is: one write, and less where entries wait.

Counted by the kernel, by difference: what the process writes by its clock is the same beside few sockets and many.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest
from django.conf import settings
from django.test import override_settings

from hermes_site.engines import HOST
from notifications.stream.history import History
from notifications.stream.message import Message
from notifications.stream.publish import Publisher
from tests.processes import Hermes
from tests.sockets.pages import REQUEST, Page
from tests.waiting import eventually

ENTRIES, TOGETHER = 100, 10
EACH = 15  # of two members: fewer than HERMES_CONNECTIONS_PER_USER allows
# Each page may be pinged once meanwhile, which is a write, too.
ROUGHLY = 0.02

pytestmark = pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="the kernel counts no system calls")


class Crowd:
    """Pages at a server that is a process.

    Args:
        hermes: whose it is.
    """

    def __init__(self, hermes: Hermes) -> None:
        self._hermes = hermes
        self.pages: list[Page] = []
        self._numbers = iter(range(1_000_000))

    async def fill(self, user: str, count: int) -> None:
        """Let a member open so many more pages."""
        token = await asyncio.to_thread(self._hermes.token, user)
        for _ in range(count):
            _, page = await asyncio.get_running_loop().create_connection(Page, HOST, self._hermes.port)
            page.transport.write(REQUEST.format(query="", token=token).encode())
            self.pages.append(page)
        await eventually(lambda: all(page.is_greeted for page in self.pages))

    async def say(self, publisher: Publisher, together: int) -> None:
        """Publish entries, and wait until every page has them."""
        data = '"' + "x" * 100 + '"'
        messages = [Message(f"write-{next(self._numbers)}", 42, "acme", data) for _ in range(together)]
        missing = {page: page.received + 100 * together for page in self.pages}
        arrived = asyncio.get_running_loop().create_future()

        def hear(page: Page) -> None:
            if page.received >= missing.get(page, 0):
                missing.pop(page, None)
            if not missing and not arrived.done():
                arrived.set_result(None)

        for page in self.pages:
            page.on_data = hear
        for result in await publisher.publish(self._hermes.stage, messages):
            assert not isinstance(result, Exception)
        async with asyncio.timeout(10):
            await arrived

    async def writes(self, publisher: Publisher, together: int) -> int:
        """Return how many system calls that write the server's loop makes for so many entries: the least of three."""
        pid = self._hermes.processes["server"].pid

        def count() -> int:
            lines = Path(f"/proc/{pid}/task/{pid}/io").read_text().splitlines()
            return int(dict(line.split(": ") for line in lines)["syscw"])

        await self.say(publisher, together)
        counts = []
        for _ in range(3):
            before = count()
            for _ in range(ENTRIES // together):
                await self.say(publisher, together)
            counts.append(count() - before)
        return min(counts)  # the clock's own writes, pings among them, are not in all of them


@pytest.fixture
async def crowd(hermes: Hermes) -> AsyncIterator[Crowd]:
    """A crowd with nobody in it."""
    made = Crowd(hermes)
    yield made
    for page in made.pages:
        page.transport.abort()


async def test_a_delivery_is_one_write_to_the_kernel_and_entries_that_wait_share_one(
    hermes: Hermes, crowd: Crowd
) -> None:
    layer = copy.deepcopy(settings.CHANNEL_LAYERS)
    layer["default"]["CONFIG"]["hosts"][0]["address"] = hermes.valkey.url
    with override_settings(REDIS_URL=hermes.valkey.url, CHANNEL_LAYERS=layer):
        async with aclosing(History()) as history:
            publisher = Publisher(history)
            await crowd.fill("alice", 1)
            few = [await crowd.writes(publisher, together) for together in (1, TOGETHER)]
            await crowd.fill("alice", EACH - 1)
            await crowd.fill("bob", EACH)
            many = [await crowd.writes(publisher, together) for together in (1, TOGETHER)]
    gentle, joined = ((more - less) / ENTRIES / (2 * EACH - 1) for less, more in zip(few, many, strict=True))
    assert gentle == pytest.approx(1, abs=ROUGHLY)
    assert joined == pytest.approx(1 / TOGETHER, abs=ROUGHLY)

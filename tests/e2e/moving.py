"""docs/migration.md played: its scripts, the forwarder as a process, producers and pages. Called by test_migration.

Both sides are real but for API Gateway (old_system). Time is SQS's, which here is this machine's.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from hermes_site.children import ChildProcess
from tests.documents import blocks, read
from tests.e2e.client import Client
from tests.e2e.old_system import TABLE, OldPage, OldSystem
from tests.processes import ROOM_OF, Hermes
from tests.proxy import AwsProxy
from tests.waiting import eventually

PAGE = "docs/migration.md"
FROM, OLD = "hermes-messageQueue", "hermes-oldSender.fifo"
# What a killed forwarder held comes back after it; the document's 60 s in small.
VISIBILITY = 2
AHEAD_SECONDS = 0.25  # the document's minute in small: there is one clock here and one forwarder
TICK_SECONDS = 0.1


def script(name: str) -> str:
    """Return the script of the page that begins with this name."""
    (found,) = [block for block in blocks(read(PAGE), "python") if block.startswith(f'"""{name}:')]
    return found


def load(name: str, directory: Path, **variables: str) -> ModuleType:
    """Import a script of the page as it stands there, in an environment of its own."""
    path = directory / f"{name}.py"
    path.write_text(script(name), encoding="utf-8")
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        for variable, value in variables.items():
            patch.setenv(variable, value)
        spec.loader.exec_module(module)
    return module


def names() -> dict[str, str]:
    """Return the variables that keep Hermes apart from the article's system."""
    (block,) = blocks(read(PAGE), "sh")
    return dict(line.split("=", 1) for line in block.splitlines())


def example() -> str:
    """Return the page's list of moves."""
    (block,) = blocks(read(PAGE), "text")
    return block


class Forwarder:
    """The page's forwarder as a process, with a proxy before AWS that can kill it between sending and deleting.

    Args:
        hermes: whose AWS endpoint it uses.
        directory: for the script, the list and the log.
    """

    def __init__(self, hermes: Hermes, directory: Path) -> None:
        self.moves = directory / "moves.txt"
        self.moves.write_text("", encoding="utf-8")
        self.killed = asyncio.Event()
        # How often each message was put on each queue, by what it says.
        self.sent: Counter[tuple[str, str]] = Counter()
        self._urls = {hermes.queue_url(name): name for name in (FROM, OLD, hermes.env["HERMES_QUEUE_NAME"])}
        self._in_hand: set[str] = set()
        self._is_doomed = False
        self._loop = asyncio.get_running_loop()
        self._aws_port = hermes.aws.port
        self._proxies: list[AwsProxy] = []
        path = directory / "forwarder.py"
        path.write_text(script("Forwarder"), encoding="utf-8")
        variables = dict(zip(("FROM_QUEUE_URL", "OLD_QUEUE_URL", "HERMES_QUEUE_URL"), self._urls, strict=True))
        environment = {**hermes.env, **variables, "MOVES": str(self.moves)}
        self._process = ChildProcess(
            "forwarder", [sys.executable, str(path)], environment=environment, log=directory / "forwarder.log"
        )

    def start(self) -> None:
        """Run it, before a proxy of its own: that of a killed one answers nobody any more."""
        proxy = AwsProxy(self._watch)
        proxy.start(self._aws_port)
        self._proxies.append(proxy)
        self._process.environment["AWS_ENDPOINT_URL"] = proxy.url
        self._process.start()

    def stop(self) -> None:
        """End it for good."""
        self._process.stop()
        while self._proxies:
            self._proxies.pop().stop()

    @property
    def log(self) -> str:
        """What it has written."""
        return self._process.log_text()

    async def kill_between(self) -> None:
        """Kill it when it has put a message on both queues and has not deleted it; return when it is dead."""
        self._is_doomed = True
        await asyncio.wait_for(self.killed.wait(), 10)

    def _watch(self, target: str, body: bytes) -> None:
        action = target.rpartition(".")[2]
        if action == "SendMessageBatch":
            call = json.loads(body)
            queue = self._urls[call["QueueUrl"]]
            self._in_hand.add(queue)
            for entry in call["Entries"]:
                self.sent[queue, json.loads(entry["MessageBody"])["data"]["data"]] += 1
        elif action == "DeleteMessageBatch":
            if self._is_doomed and len(self._in_hand) == 2:
                self._is_doomed = False
                # Nothing more of it reaches SQS, this call included.
                self._proxies[-1].stop_service("sqs")
                self._process.kill()
                self._loop.call_soon_threadsafe(self.killed.set)
            self._in_hand.clear()


@dataclass(eq=False)
class Tab:
    """One page that a member has open.

    Args:
        room: whose messages it may show.
        page: on whichever side.
        since: how many of the room's messages had been sent when it was open.
        until: how many when it was closed; None while it is open.
    """

    room: str
    page: OldPage | Client
    since: int
    until: int | None = None

    @property
    def shown(self) -> list[str]:
        """What it has shown."""
        return [data["data"] for data in self.page.received]


@dataclass
class Scene:
    """Both systems, the forwarder between them, producers, and the members' pages."""

    hermes: Hermes
    old: OldSystem
    forwarder: Forwarder
    queue: str = FROM
    sent: dict[str, list[str]] = field(default_factory=lambda: {"acme": [], "globex": []})
    tabs: dict[str, list[Tab]] = field(default_factory=lambda: {"alice": [], "bob": [], "charlie": []})
    _talking: set[str] = field(default_factory=set)
    _busy: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def produce(self) -> None:
        """Send to the rooms that are talked of, all the time."""
        url = {name: await asyncio.to_thread(self.hermes.queue_url, name) for name in self._queues}
        while True:
            async with self._busy:
                entries = []
                for room in sorted(self._talking):
                    text = f"{room} {len(self.sent[room])}"
                    body = {"user_id": 0, "room_id": room, "data": {"type": "info", "data": text}}
                    # Written down first: whoever is there from now on must get it.
                    self.sent[room].append(text)
                    entries.append({"Id": room, "MessageBody": json.dumps(body)})
                if entries:
                    send = self.hermes.client("sqs").send_message_batch
                    answer = await asyncio.to_thread(send, QueueUrl=url[self.queue], Entries=entries)
                    assert not answer.get("Failed"), answer
            await asyncio.sleep(TICK_SECONDS)

    @property
    def open_tabs(self) -> list[Tab]:
        """The pages that are open."""
        return [tab for tabs in self.tabs.values() for tab in tabs if tab.until is None]

    @property
    def _queues(self) -> tuple[str, str, str]:
        return FROM, OLD, self.hermes.env["HERMES_QUEUE_NAME"]

    def talk(self, *rooms: str) -> None:
        """Let messages flow to these rooms and no others."""
        self._talking = set(rooms)

    async def hush(self, *rooms: str) -> None:
        """Let nothing more flow to these rooms, and wait until what was sent is with every open page of theirs."""
        self._talking -= set(rooms)
        async with self._busy:
            pass
        for tab in self.open_tabs:
            if tab.room in rooms:
                await self.arrived(tab)

    async def arrived(self, tab: Tab) -> None:
        """Wait until a page has shown all that was sent since it was opened, until now."""
        due = set(self.sent[tab.room][tab.since :])
        await eventually(lambda: due <= set(tab.shown), VISIBILITY + 10, f"a page of {tab.room} shows all")

    async def go_on(self) -> None:
        """Wait until each open page has shown something that was sent from now on."""
        before = {room: len(sent) for room, sent in self.sent.items()}
        for tab in self.open_tabs:
            await eventually(
                lambda tab=tab: set(self.sent[tab.room][before[tab.room] :]) & set(tab.shown),  # type: ignore[misc]
                VISIBILITY + 10,
                f"a page of {tab.room} goes on",
            )

    async def move(self, room: str, side: str) -> None:
        """Add a line to the list, and wait until it counts."""
        at = datetime.fromtimestamp(time.time() + AHEAD_SECONDS, UTC)
        with self.forwarder.moves.open("a", encoding="utf-8") as moves:
            moves.write(f"{at.isoformat()} {side} {room}\n")
        await eventually(lambda: datetime.now(UTC) > at, what="the move counts")

    async def open(self, user: str, side: str) -> Tab:
        """Open a page of a member on a side."""
        token = await asyncio.to_thread(self.hermes.token, user)
        page: OldPage | Client
        if side == "old":
            page = await OldPage(self.old, token).__aenter__()
        else:
            page = await Client(self.hermes, token=token).__aenter__()
            await page.hello()
        room = ROOM_OF[user]
        tab = Tab(room, page, len(self.sent[room]))
        self.tabs[user].append(tab)
        return tab

    async def close(self, tab: Tab) -> None:
        """Close a page when it has shown what it must."""
        due_until = len(self.sent[tab.room])
        await self.arrived(tab)
        tab.until = due_until  # what is sent while it is waited for may or may not be shown
        await tab.page.leave()

    async def change_sides(self, user: str, side: str) -> None:
        """Open a page on another side, and close the one before when messages come to both."""
        (before,) = [tab for tab in self.tabs[user] if tab.until is None]
        await self.open(user, side)
        await self.go_on()
        await self.close(before)

    async def everything_is_worked_off(self) -> None:
        """Wait until no queue holds anything."""
        await eventually(lambda: not any(map(self.hermes.queued, self._queues)), VISIBILITY + 10, "empty queues")


@asynccontextmanager
async def scene(hermes: Hermes, directory: Path) -> AsyncIterator[Scene]:
    """Both systems side by side, as the page's section "Before" leaves them."""
    make(hermes)
    async with OldSystem(hermes, OLD) as old:
        old.sender = load(
            "sendMessage",
            directory,
            AWS_ENDPOINT_URL=hermes.aws.url,
            TABLE_NAME=TABLE,
            ENDPOINT=old.management_url,
        )
        forwarder = Forwarder(hermes, directory)
        forwarder.start()
        played = Scene(hermes, old, forwarder)
        producing = asyncio.create_task(played.produce(), name="producers")
        with closing(old.sender.DYNAMODB), closing(old.sender.GATEWAY):
            try:
                yield played
                if producing.done():
                    producing.result()
            finally:
                producing.cancel()
                for tab in played.open_tabs:
                    await tab.page.leave()
                await asyncio.to_thread(forwarder.stop)
                await asyncio.gather(producing, return_exceptions=True)
                await old.finish()


def make(hermes: Hermes) -> None:
    """Make what the article's system has, and the old sender's own queue, unless they are there."""
    sqs, dynamodb = hermes.client("sqs"), hermes.client("dynamodb")
    sqs.create_queue(QueueName=FROM, Attributes={"VisibilityTimeout": str(VISIBILITY)})
    sqs.create_queue(QueueName=OLD, Attributes={"FifoQueue": "true"})
    if TABLE not in dynamodb.list_tables()["TableNames"]:
        key: dict[str, Any] = {"AttributeName": "connection_id"}
        dynamodb.create_table(
            TableName=TABLE,
            BillingMode="PAY_PER_REQUEST",
            KeySchema=[{**key, "KeyType": "HASH"}],
            AttributeDefinitions=[{**key, "AttributeType": "S"}],
        )

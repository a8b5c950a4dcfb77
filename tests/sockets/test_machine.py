"""Whatever happens to histories, hints and connections: each once, in order, nobody else's, or told before the next.

The real hub with its feeds, rings and follower, over a model of the history. Hypothesis chooses what happens; model.py
holds the history, and clients that judge every frame the moment they get it.
"""

from __future__ import annotations

import asyncio
import gc
import math
import time
from collections.abc import Iterator
from typing import Any
from unittest import mock

import pytest
from channels.layers import InMemoryChannelLayer
from django.test import override_settings
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from notifications.access import commands
from notifications.access.commands import Revoke
from notifications.access.token_store import Row
from notifications.exceptions import Unavailable
from notifications.registry.connections import Registry
from notifications.sockets import feed as feed_module
from notifications.sockets import follower as follower_module
from notifications.sockets.feeds import Feeds
from notifications.sockets.follower import Follower
from notifications.sockets.hints import Hints
from notifications.sockets.hub import Hub
from notifications.sockets.outbound import RawOutbound
from notifications.stream.entry import from_hint, to_hint
from notifications.stream.keys import CONTROL_ROOM, group_name
from notifications.stream.message import Message
from notifications.stream.position import Position
from tests.sockets.model import Client, Clock, Pipe, World, make_message
from tests.sockets.scene import make_connection

STAGE = "development"
# Small, so that thirty steps reach every limit.
LIMITS = {
    "HERMES_HISTORY_ENTRIES": 6,
    "HERMES_HISTORY_SECONDS": 100,
    "HERMES_REPLAY_ENTRIES": 4,
    "HERMES_REPLAY_BYTES": 480,
    "HERMES_QUEUE_BYTES": 400,
    "HERMES_STAGES": {STAGE: None},
}
TURNS = 16  # of the loop: more than any chain of waits within one step
indices = st.integers(0, 1_000)
rooms = st.sampled_from(["acme", "acme", "acme", "globex"])
addressees = st.lists(st.sampled_from([None, None, ["alice"], ["bob"], ["alice", "zoe"]]), min_size=1, max_size=3)


async def read_row(*member: Any) -> tuple[float, Row]:
    """Every member has a row, which says nothing of revocations: the commands alone must do."""
    return time.monotonic(), Row("a hash")


class Process:
    """One server process: the real hub on a channel layer of its own, so that its hints can be held back."""

    def __init__(self, world: World) -> None:
        self.layer = InMemoryChannelLayer()
        with mock.patch("notifications.sockets.hub.get_channel_layer", return_value=self.layer):
            self.hub = Hub()
        self.hub.registry = Registry("model", stores=())
        self.hub.authorizer.read_once = read_row  # type: ignore[method-assign]
        self.feeds = self.hub._feeds = Feeds(world, self.layer, self.hub._guard.make_feed)  # type: ignore[arg-type]
        self.follower = self.hub._follower = Follower(self.feeds, world)  # type: ignore[arg-type]
        self.hints: list[dict[str, Any]] = []
        self.hub._hints = Hints(self.layer, self.feeds, self.hub._ear)
        self.tasks: list[asyncio.Task[Any]] = [asyncio.create_task(self.hub._hints.run(lambda: None))]
        self.looking: asyncio.Task[None] | None = None

    async def hear(self, hint: dict[str, Any]) -> None:
        await self.layer.group_send(group_name(hint["stage"], hint["room"]), hint)

    def look(self) -> None:
        """Have the follower look, unless its last look is still waiting for an answer."""
        if self.looking is None or self.looking.done():
            self.looking = asyncio.create_task(self.follower.look())

    async def ping(self) -> None:
        """Tell everybody the position of their room."""
        self.hub._ping(list(self.hub._connections))

    async def end(self) -> None:
        tasks = [*self.tasks, *([self.looking] if self.looking else [])]
        for task in tasks:
            task.cancel()
        for error in await asyncio.gather(*tasks, return_exceptions=True):
            assert error is None or isinstance(error, asyncio.CancelledError), error
        await self.feeds.stop()
        await self.hub.authorizer.aclose()
        await self.hub._history.aclose()


class Machine(RuleBasedStateMachine):
    """Two processes, two rooms, and six clients that come and go."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.patches = [
            override_settings(**LIMITS),
            mock.patch.object(feed_module, "time", self.clock),
            mock.patch.object(follower_module, "OVERTAKEN_SECONDS", 0),
        ]
        for patch in self.patches:
            patch.__enter__()
        self.loop = asyncio.new_event_loop()
        self.world = World(self.clock)
        self.processes = [self._do(self._begin()) for _ in range(2)]
        self.clients = [
            Client("alice", "acme", self.world),
            Client("alice", "acme", self.world),
            Client("bob", "acme", self.world),
            Client("bob", "acme", self.world),
            Client("bob", "acme", self.world, speaks_v1=False),
            Client("charlie", "globex", self.world),
        ]
        self.sent: list[Message] = []
        self.revoked: dict[str, int] = {}
        # So that what happens happens to somebody, from the first step on.
        for index, client in enumerate(self.clients):
            self._join(client, index % 2)
        self.turn()
        for room in ("acme", "globex"):
            self._publish(room, [None, None], is_heard=True)
        for index in range(2):
            self.sweep(index)

    async def _begin(self) -> Process:
        return Process(self.world)

    def _do(self, work: Any) -> Any:
        return self.loop.run_until_complete(work)

    def turn(self) -> None:
        """Let everything run that waits for nothing, and every client judge what it got."""

        async def spin() -> None:
            for _ in range(TURNS):
                await asyncio.sleep(0)

        self._do(spin())
        for client in self.clients:
            if client.joining is not None and client.joining.done():
                self._joined(client)
            client.listen()
            if client.is_connected and (client.pipe.is_cut or client.pipe.closed):
                self._leave(client)  # as the consumer does when the socket has ended

    # ── Producers ────────────────────────────────────────────────────────────────────────────────────────────────────
    def _publish(
        self, room: str, to: list[list[str] | None], expires_in: int | None = None, *, is_heard: bool = False
    ) -> None:
        messages = []
        for addressees in to:
            expires_at = None if expires_in is None else int(self.clock.now) + expires_in
            messages.append(make_message(len(self.sent) + 1, room, addressees, expires_at))
            self.sent.append(messages[-1])
        self._append(room, messages, is_heard=is_heard)

    def _append(self, room: str, messages: list[Message], *, is_heard: bool) -> None:
        results = [self.world.append(room, message) for message in messages]
        entries = [result.entry for result in results if result.entry is not None]
        hint = to_hint(STAGE, room, entries, max(result.seq for result in results))
        for process in self.processes:
            if is_heard:
                self._do(process.hear(hint))
            else:
                process.hints.append(hint)
        self.turn()

    @precondition(lambda self: not self.world.is_down)
    @rule(room=rooms, to=addressees, expires_in=st.sampled_from([None, None, -5, 5]), is_heard=st.booleans())
    def publish(self, room: str, to: list[list[str] | None], expires_in: int | None, is_heard: bool) -> None:
        self._publish(room, to, expires_in, is_heard=is_heard)

    @precondition(lambda self: not self.world.is_down)
    @rule(room=rooms, count=st.integers(1, 4))
    def publish_unheard(self, room: str, count: int) -> None:
        self._publish(room, [None] * count)

    @precondition(lambda self: not self.world.is_down)
    @rule(index=indices, is_heard=st.booleans())
    def deliver_again(self, index: int, is_heard: bool) -> None:
        """SQS delivers a message twice; it has its place, or the history has lost it and it gets another."""
        message = self.sent[-1 - index % min(len(self.sent), 6)]
        head = self.world.room(message.room_id).open()
        there = self.world.room(message.room_id).ever.get(Position(head.epoch, head.seq + 1, message.id))
        # The one fork that no position can show: the same id at the same seq behind another entry than before.
        if there is None or there.prev == head.id:
            self._append(message.room_id, [message], is_heard=is_heard)

    # ── Hints ────────────────────────────────────────────────────────────────────────────────────────────────────────
    @rule(process=st.integers(0, 1), index=indices, is_repeated=st.booleans())
    def hear(self, process: int, index: int, is_repeated: bool) -> None:
        """A hint arrives, in whatever order, perhaps not for the last time."""
        hints = self.processes[process].hints
        if hints:
            hint = hints[index % len(hints)] if is_repeated else hints.pop(index % len(hints))
            self._do(self.processes[process].hear(hint))
            self.turn()

    @precondition(lambda self: not self.world.is_down)
    @rule(process=st.integers(0, 1), index=st.integers(0, 4), is_joining=st.booleans(), written=st.integers(0, 3))
    def hear_at_the_last_moment(self, process: int, index: int, is_joining: bool, written: int) -> None:
        """A hint has been taken, and written to some, when somebody joins or everybody is told the room's position."""
        here, client = self.processes[process], self.clients[index]
        if is_joining:
            self._leave(client)
        self._publish("acme", [None])
        hint = here.hints.pop()

        async def at_once() -> None:
            feed = here.feeds.get((STAGE, hint["room"]))
            if feed is None:
                return
            if not feed.take(from_hint(hint), hint["seq"]):
                here.feeds.fill(feed)
            if written:
                feed.write(written)
            if is_joining:
                self._join(client, process)
            else:
                await here.ping()
            here.feeds.mark(feed)  # last, so that what was asked above comes first

        self._do(at_once())
        self.turn()

    @rule(process=st.integers(0, 1), index=indices)
    def drop(self, process: int, index: int) -> None:
        hints = self.processes[process].hints
        if hints:
            hints.pop(index % len(hints))

    # ── The history ──────────────────────────────────────────────────────────────────────────────────────────────────
    @rule(room=rooms, lost=st.integers(1, 4), new=st.integers(0, 5), is_heard=st.booleans())
    def fork(self, room: str, lost: int, new: int, is_heard: bool) -> None:
        """The history loses its last entries, and perhaps goes on differently."""
        self.world.fork(room, lost)
        if new and not self.world.is_down:
            self._publish(room, [None] * new, is_heard=is_heard)

    @rule(room=rooms, unheard=st.integers(0, 4), count=st.integers(1, 7))
    def trim(self, room: str, unheard: int, count: int) -> None:
        """The oldest entries go, perhaps some that nobody has read."""
        if unheard and not self.world.is_down:
            self._publish(room, [None] * unheard)
        self.world.trim(room, count)

    @rule(room=rooms, new=st.integers(0, 3))
    def forget(self, room: str, new: int) -> None:
        """The history is gone, and perhaps begins anew."""
        self.world.forget(room)
        if new and not self.world.is_down:
            self._publish(room, [None] * new)

    @rule(seconds=st.sampled_from([4, 10, 60, 120]))
    def let_time_pass(self, seconds: int) -> None:
        self.clock.now += seconds

    @rule(is_down=st.booleans())
    def redis_goes_or_comes(self, is_down: bool) -> None:
        self.world.is_down = is_down

    @rule(is_slow=st.booleans())
    def redis_slows_or_hurries(self, is_slow: bool) -> None:
        self.world.is_slow = is_slow
        if not is_slow:
            self._answer_all()

    @precondition(lambda self: self.world.asked)
    @rule(index=indices, is_answered=st.booleans())
    def redis_works(self, index: int, is_answered: bool) -> None:
        """One question is worked out, and perhaps its answer arrives; in between anything may happen."""
        index %= len(self.world.asked)
        self.world.find(index)
        if is_answered:
            self.world.reply(index)
            self.turn()

    def _answer_all(self) -> None:
        while self.world.asked:
            self.world.reply(0)
            self.turn()

    # ── Commands ─────────────────────────────────────────────────────────────────────────────────────────────────────
    @precondition(lambda self: not self.world.is_down)
    @rule(index=st.integers(0, 5), is_heard=st.booleans())
    def revoke(self, index: int, is_heard: bool) -> None:
        """A member's tokens of until now are taken back; whoever comes later has a newer one."""
        client = self.clients[index]
        self.revoked[client.user] = int(self.clock.now)
        command = commands.encode(Revoke(client.user, client.room_id, int(self.clock.now)))
        message = Message(f"c{len(self.sent)}-{self.clock.now}", "hermes", CONTROL_ROOM, command)
        self.clock.now += 1
        self._append(CONTROL_ROOM, [message], is_heard=is_heard)
        if is_heard and not self.world.is_slow:  # an earlier command may lack, and has to be read first
            self._require_revoked()

    @rule(process=st.integers(0, 1))
    def sweep(self, process: int) -> None:
        """Everybody's row is read, because commands may have been missed; it says what was taken back."""
        guard = self.processes[process].hub._guard
        if guard._sweep_at == 0:
            guard._sweep_at = math.inf
            for client in self.clients:
                if client.is_connected and client.process == process and self._is_revoked(client):
                    self._leave(client)

    def _is_revoked(self, client: Client) -> bool:
        return client.issued_at <= self.revoked.get(client.user, 0)

    def _require_revoked(self) -> None:
        """Nobody is connected by a token that was taken back, except where everybody's row is about to be read."""
        for client in self.clients:
            if client.is_connected and self._is_revoked(client):
                guard = self.processes[client.process].hub._guard
                assert guard._sweep_at == 0, f"{client.user} is connected by a token that was taken back"

    # ── Hubs ─────────────────────────────────────────────────────────────────────────────────────────────────────────
    @rule(process=st.integers(0, 1), is_compared=st.booleans())
    def look(self, process: int, is_compared: bool) -> None:
        if is_compared:
            self.processes[process].follower.compare_soon()
        self._do(self._look(self.processes[process]))
        self.turn()

    async def _look(self, process: Process) -> None:
        process.look()

    @rule(process=st.integers(0, 1))
    def ping(self, process: int) -> None:
        self._do(self.processes[process].ping())
        self.turn()

    @rule(process=st.integers(0, 1))
    def close_empty(self, process: int) -> None:
        self._do(self.processes[process].feeds.close_empty())
        self.turn()

    @rule(process=st.integers(0, 1))
    def restart(self, process: int) -> None:
        """A process dies; its clients notice, another takes its place."""
        for client in self.clients:
            if client.process == process:
                self._leave(client)
        self._do(self.processes[process].end())
        self.processes[process] = self._do(self._begin())
        self.turn()

    # ── Clients ──────────────────────────────────────────────────────────────────────────────────────────────────────
    @rule(index=st.integers(0, 5), process=st.integers(0, 1), is_malformed=st.sampled_from([False] * 5 + [True]))
    def come_back(self, index: int, process: int, is_malformed: bool) -> None:
        """A client reconnects at once, perhaps elsewhere."""
        self._leave(self.clients[index])
        self.join(index, process, is_malformed)

    @rule(index=st.integers(0, 5), process=st.integers(0, 1), is_malformed=st.sampled_from([False] * 5 + [True]))
    def join(self, index: int, process: int, is_malformed: bool) -> None:
        client = self.clients[index]
        if client.connection is None:
            self._join(client, process, is_malformed=is_malformed and client.position is not None)
            self.turn()

    @rule(index=st.integers(0, 5), is_stalled=st.booleans())
    def stall(self, index: int, is_stalled: bool) -> None:
        """A client takes nothing from the network any more, or goes on; too far behind, it is cut."""
        self.clients[index].is_stalled = is_stalled
        self.turn()

    @rule(index=st.integers(0, 5))
    def leave(self, index: int) -> None:
        self._leave(self.clients[index])

    @rule(index=st.integers(0, 5))
    def begin_anew(self, index: int) -> None:
        """A page that was closed and knows nothing any more."""
        client = self.clients[index]
        self._leave(client)
        client.position, client.shown, client.may_repeat = None, set(), set()

    def _join(self, client: Client, process: int, *, is_malformed: bool = False) -> None:
        connection = make_connection(client.user, client.room_id, v1=client.speaks_v1, issued_at=int(self.clock.now))
        client.connection, client.process, client.issued_at = connection, process, int(self.clock.now)
        client.pipe, client.is_stalled = Pipe(), False
        hub = self.processes[process].hub
        connection.outbound = RawOutbound(client.pipe, connection.on_cut, hub.wheel.laggards(connection))
        position = None if is_malformed else client.position
        joining = hub.join(connection, position, malformed=is_malformed)
        client.joining = self.loop.create_task(joining)

    def _joined(self, client: Client) -> None:
        task, client.joining = client.joining, None
        assert task is not None
        if task.cancelled() or isinstance(task.exception(), Unavailable):
            client.connection = None
            return
        task.result()

    def _leave(self, client: Client) -> None:
        if client.connection is None:
            return
        if client.joining is not None:
            client.joining.cancel()
            self.turn()
        elif client.connection is not None:
            client.listen()
            self.processes[client.process].hub.leave(client.connection, 1001)
            client.connection = None

    # ── What holds ───────────────────────────────────────────────────────────────────────────────────────────────────
    @invariant()
    def whoever_is_connected_is_in_an_open_room(self) -> None:
        for client in self.clients:
            if client.is_connected and client.connection is not None:
                feed = self.processes[client.process].feeds.get((STAGE, client.room_id))
                assert feed is not None, "a room with a connection is open"
                assert client.connection in feed.connections

    @rule()
    def settle(self) -> None:
        """Redis answers, the followers look, everybody is there: then nothing is missing anywhere."""
        self.world.is_down = self.world.is_slow = False
        self._answer_all()
        self._come_all()
        for process in self.processes:
            for _ in range(2):
                process.follower.compare_soon()
                self._do(self._look(process))
                self.turn()
        self._require_revoked()
        for index in range(2):
            self.sweep(index)
        self._come_all()  # whom that has cost the connection
        for index in range(2):
            self.ping(index)
        for client in self.clients:
            assert client.is_connected
            if client.speaks_v1:
                head = self.world.room(client.room_id).open()
                assert client.position == head, f"{client.user} stands at {client.position} and the room at {head}"

    def _come_all(self) -> None:
        for index, client in enumerate(self.clients):
            client.is_stalled = False
            if client.connection is None:
                self._join(client, index % 2)
        self.turn()

    def teardown(self) -> None:
        try:
            self.settle()
        finally:
            for process in self.processes:
                self._do(process.end())
            self._do(self.loop.shutdown_asyncgens())
            self.loop.close()
            for patch in reversed(self.patches):
                patch.__exit__(None, None, None)


def test_whatever_happens_each_client_gets_each_entry_once_in_order_or_is_told() -> None:
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )


@pytest.fixture
def machine() -> Iterator[Machine]:
    """The machine for a story that it has found; at its end nothing may be missing."""
    machine = Machine()
    yield machine
    machine.teardown()


CHARLIE = 5


def test_a_room_is_not_closed_under_a_client_whose_position_means_nothing(machine: Machine) -> None:
    machine.leave(CHARLIE)
    machine.redis_slows_or_hurries(is_slow=True)
    machine.join(CHARLIE, 1, is_malformed=True)
    machine.close_empty(1)
    machine.redis_slows_or_hurries(is_slow=False)
    machine.whoever_is_connected_is_in_an_open_room()
    assert machine.clients[CHARLIE].is_connected


def test_a_client_that_leaves_while_its_room_cannot_be_opened_leaves_no_traceback(
    machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    machine.restart(1)
    machine.redis_slows_or_hurries(is_slow=True)
    machine.join(CHARLIE, 1, is_malformed=False)
    machine.leave(CHARLIE)
    machine.redis_goes_or_comes(is_down=True)
    machine.redis_slows_or_hurries(is_slow=False)
    gc.collect()
    assert "never retrieved" not in caplog.text

"""Every bad input has its answer, and nothing else suffers: one Hermes of processes, both servers, and Alice who stays.

After each input a good message goes onto the FIFO queue. At the end Alice has all of them in order, no process has
ended, no answer was a 500, and no log holds a traceback.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from hermes_site.engines import HOST, free_port
from tests.e2e.bad_inputs import bodies, frames, handshakes, requests, tokens
from tests.e2e.bad_inputs.tokens import Forge
from tests.e2e.bad_inputs.wire import DROPPED, Answer, Wire, frame
from tests.e2e.client import Client, in_order
from tests.e2e.conftest import Server
from tests.processes import START_DEADLINE, Hermes
from tests.waiting import wait_until

QUEUE, DEAD = "hermes-bad.fifo", "hermes-bad-dead.fifo"
GOOD = "good"  # the group whose order counts
METRICS_TOKEN = "the-metrics-token"
AT_LEAST = 300


class World:
    """A Hermes, both of its servers, and Alice, who is connected from the first case to the last."""

    def __init__(self, hermes: Hermes) -> None:
        self.hermes = hermes
        self.servers = {"serve": Server("serve", hermes.url, hermes.processes["server"])}
        self.forge = Forge(hermes.env)
        self.good = self.forge.sign()
        self.sent = 0
        self.statuses: list[tuple[str, int]] = []
        self._alice: Client | None = None
        self._leave = threading.Event()
        self._joined = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._stay()), name="alice")
        self._waiting: list[dict[str, str]] = []
        self._queue_url = hermes.queue_url(QUEUE)

    def start(self) -> None:
        port = free_port()
        url = f"http://{HOST}:{port}"
        process = self.hermes.child("runserver", "runserver", f"{HOST}:{port}", "--noreload", port=port).start()
        self.hermes.processes["runserver"] = process
        for item in self.forge.rows():
            self.hermes.client("dynamodb").put_item(TableName="hermesTokens", Item=item)
        process.wait_until_ready(lambda: self.hermes.is_alive(url), START_DEADLINE)
        self.servers["runserver"] = Server("runserver", url, process)
        self.pids = {name: each.pid for name, each in self.hermes.processes.items()}
        self._thread.start()
        assert self._joined.wait(20)

    def stop(self) -> None:
        self._leave.set()
        self._thread.join(20)

    @property
    def alice(self) -> Client:
        assert self._alice is not None
        return self._alice

    async def _stay(self) -> None:
        async with Client(self.hermes, "alice") as self._alice:
            await self._alice.hello()
            self._joined.set()
            while not self._leave.is_set():
                await asyncio.sleep(0.05)

    def queue(self, body: str, group: str) -> None:
        """Take a body for the next `put`."""
        key = uuid.uuid4().hex
        self._waiting.append({"Id": key, "MessageBody": body, "MessageGroupId": group, "MessageDeduplicationId": key})

    def put(self) -> None:
        """Put what is waiting on the queue, which keeps the order of each group."""
        while self._waiting:  # four at a time, because they may be large
            few, self._waiting = self._waiting[:4], self._waiting[4:]
            answer = self.hermes.client("sqs").send_message_batch(QueueUrl=self._queue_url, Entries=few)
            assert not answer.get("Failed"), answer

    def next_good(self) -> str:
        """Return the next good message."""
        self.sent += 1
        return json.dumps({"user_id": 0, "room_id": "acme", "data": self.sent - 1})

    def shake(self, server: str, path: str, **options: Any) -> tuple[Wire, Answer]:
        """Make a handshake."""
        wire = Wire(self.servers[server].url)
        headers = [(name, fill(value, wire.host, self.good)) for name, value in options.pop("headers", ())]
        answer = wire.handshake(path.replace("{token}", self.good), headers=headers, **options)
        self.statuses.append((path[:80], answer.status))
        return wire, answer

    def join(self, server: str, query: str = "") -> Wire:
        """Join as the toolkit does and read the greeting."""
        wire, answer = self.shake(server, f"/ws/development{query and '?'}{query}", headers=[handshakes.V1])
        assert answer.status == 101
        return wire


def fill(value: str | bytes, host: str, token: str) -> bytes:
    """Put what a case does not know in its place."""
    raw = value.encode() if isinstance(value, str) else value
    return raw.replace(b"{port}", host.split(":")[1].encode()).replace(b"{token}", token.encode())


@pytest.fixture(scope="module")
def world(make_hermes: Callable[..., Hermes]) -> Iterator[World]:
    """The one world of all cases."""
    hermes = make_hermes(
        HERMES_QUEUE_NAME=QUEUE,
        HERMES_METRICS_TOKEN=METRICS_TOKEN,
        HERMES_CLIENT_BURST="200",
    )
    try:
        hermes.start()
        made = World(hermes)
        try:
            made.start()
            yield made
        finally:
            made.stop()
    finally:
        hermes.stop()


@pytest.fixture(autouse=True)
def _a_good_message_after_each(world: World) -> Iterator[None]:
    yield
    world.queue(world.next_good(), GOOD)
    world.put()


each_server = pytest.mark.parametrize("server", ["serve", "runserver"])


# ── SQS ──────────────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.fixture(scope="module")
def letters(world: World) -> dict[str, str]:
    """Every refused body is put on the queue, a good message between any two; the dead letters, by their bodies."""
    # A third in the good messages' own group, whose order they must not stop, and the others beside it.
    for at, (body, _) in enumerate(bodies.REFUSED.values()):
        world.queue(body, GOOD if at % 3 == 0 else f"bad-{at % 8}")
        world.queue(world.next_good(), GOOD)
    world.put()
    wait_until(lambda: not time.sleep(0.2) and world.hermes.queued(QUEUE) == 0, 100, "the queue is empty")
    found: dict[str, str] = {}

    def collect() -> bool:
        for letter in world.hermes.dead_letters(DEAD):
            assert letter["Body"] not in found, "a letter is there twice"
            found[letter["Body"]] = letter["MessageAttributes"]["hermes-error"]["StringValue"]
        return len(found) >= len(bodies.REFUSED)

    wait_until(collect, 60, "every dead letter")
    return found


@pytest.mark.parametrize("name", bodies.REFUSED)
def test_a_body_that_can_never_be_delivered_is_a_dead_letter_with_its_reason(
    letters: dict[str, str], name: str
) -> None:
    body, code = bodies.REFUSED[name]
    assert letters[body].split(":")[0] == code


# ── Tokens ───────────────────────────────────────────────────────────────────────────────────────────────────────────
def refusal(world: World, server: str, path: str, headers: Any) -> tuple[int | None, str]:
    """Return how a handshake was refused: accepted first, so that a browser can read why; Daphne says no reasons."""
    wire, answer = world.shake(server, path, headers=headers)
    with wire:
        assert answer.status == 101
        end = wire.until_closed()
    assert end.texts == []
    return end.code, end.reason if server == "serve" else ""


@each_server
@pytest.mark.parametrize("way", ["subprotocol", "query"])
@pytest.mark.parametrize("name", tokens.REFUSED)
def test_a_token_that_gives_no_authority_is_refused_with_its_code(
    world: World, server: str, way: str, name: str
) -> None:
    make, code, reason = tokens.REFUSED[name]
    token = make(world.forge)
    if way == "subprotocol":
        if not set(token) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!#$%&'*+-.^_`|~"):
            pytest.skip("no subprotocol can hold it")
        headers, path = [("Sec-WebSocket-Protocol", f"hermes.v1, hermes.token.{token}")], "/ws/development"
    else:
        headers, path = [], f"/ws/development?token={token}"
    assert refusal(world, server, path, headers) == (code, reason if server == "serve" else "")


@each_server
@pytest.mark.parametrize("name", handshakes.CREDENTIALS)
def test_a_handshake_without_exactly_one_token_for_its_stage_is_refused(world: World, server: str, name: str) -> None:
    path, headers, code, reason = handshakes.CREDENTIALS[name]
    assert refusal(world, server, path, headers) == (code, reason if server == "serve" else "")


# ── Handshakes ───────────────────────────────────────────────────────────────────────────────────────────────────────
@each_server
@pytest.mark.parametrize("name", handshakes.ORIGINS)
def test_a_page_of_another_origin_is_refused(world: World, server: str, name: str) -> None:
    values, on_serve, on_runserver = handshakes.ORIGINS[name]
    wire, answer = world.shake(server, "/ws/development", headers=[handshakes.V1, *(("Origin", v) for v in values)])
    with wire:
        assert answer.status == (on_serve if server == "serve" else on_runserver)


@each_server
@pytest.mark.parametrize("name", handshakes.NO_HANDSHAKE)
def test_what_is_no_handshake_is_refused_before_it_is_accepted(world: World, server: str, name: str) -> None:
    path, method, without, headers, on_serve, on_runserver = handshakes.NO_HANDSHAKE[name]
    wire, answer = world.shake(server, path, headers=headers, without=without, method=method)
    with wire:
        assert answer.status == (on_serve if server == "serve" else on_runserver)


@each_server
@pytest.mark.parametrize("name", handshakes.POSITIONS)
def test_a_position_that_is_none_is_told_as_lost_and_not_refused(world: World, server: str, name: str) -> None:
    query, expected = handshakes.POSITIONS[name]
    with world.join(server, query) as wire:
        hello = json.loads(wire.next_text())["data"]
        assert hello["type"] == "hermes.hello"
        assert (hello["data"]["status"], hello["data"].get("reason", "")) == expected


# ── Frames ───────────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.fixture(scope="module")
def talkers(world: World) -> Iterator[dict[str, Wire]]:
    """A connection to each server over which everything is said that must not end it."""
    made = {server: world.join(server) for server in world.servers}
    yield made
    for wire in made.values():
        wire.__exit__()


def error_of(wire: Wire) -> str:
    """Return the code of the next error frame; entries and pings come in between."""
    while True:
        said = json.loads(wire.next_text())
        if "seq" not in said and said["data"]["type"] == "hermes.error":
            return str(said["data"]["data"]["code"])


@each_server
@pytest.mark.parametrize("name", frames.ANSWERED)
def test_a_frame_that_makes_no_sense_is_answered_and_ends_nothing(
    talkers: dict[str, Wire], server: str, name: str
) -> None:
    sent, code = frames.ANSWERED[name]
    talkers[server].send(sent)
    assert error_of(talkers[server]) == code


def test_those_who_were_answered_are_still_connected(talkers: dict[str, Wire]) -> None:
    for wire in talkers.values():
        wire.send(frame('{"action": "dance"}'))
        assert error_of(wire) == "unknown_action"


@each_server
@pytest.mark.parametrize("name", frames.ENDED)
def test_a_frame_that_breaks_the_protocol_ends_its_own_connection(world: World, server: str, name: str) -> None:
    sent, on_serve, on_runserver = frames.ENDED[name]
    with world.join(server) as wire:
        wire.next_text()
        wire.send(sent)
        if server == "runserver" and on_runserver == 0:
            assert error_of(wire) in ("too_large", "binary")
        else:
            assert wire.until_closed().code == (on_serve if server == "serve" else on_runserver)


@each_server
@pytest.mark.parametrize("name", frames.CUT_OFF)
def test_a_client_that_goes_in_the_middle_of_a_frame_takes_nothing_with_it(
    world: World, server: str, name: str
) -> None:
    with world.join(server) as wire:
        wire.next_text()
        wire.send(frames.CUT_OFF[name])
        wire.end()
        assert wire.until_closed().code in (DROPPED, 1000, 1002, 1005, 1011)


# ── HTTP ─────────────────────────────────────────────────────────────────────────────────────────────────────────────
@each_server
@pytest.mark.parametrize("name", requests.REQUESTS)
def test_a_request_that_nobody_should_make_is_answered(world: World, server: str, name: str) -> None:
    case = requests.REQUESTS[name]
    if case.on(server) == requests.UNTRIED:
        pytest.skip("this server has no such limit")
    with Wire(world.servers[server].url) as wire:
        headers = {"Host": wire.host, "Connection": "close"}
        if case.signed_in:
            cookies = world.hermes.sign_in("admin" if case.as_admin else "alice", world.servers[server].url)
            if case.signed_in == "csrf":  # nobody's session, but a CSRF token that fits its cookie
                cookies = {"csrftoken": cookies["csrftoken"]}
            headers["Cookie"] = "; ".join(f"{cookie}={value}" for cookie, value in cookies.items())
            if case.signed_in != "cookie":
                headers["X-CSRFToken"] = cookies["csrftoken"]
        given = dict(case.headers)
        if case.signed_in == "csrf" and "Cookie" in given:
            headers["Cookie"] += f"; {given.pop('Cookie')}"
        lengths = {"content-length", "transfer-encoding"}
        if (case.body or case.line.startswith("POST")) and not lengths & {each.lower() for each in given}:
            headers["Content-Length"] = str(len(case.body))
        lines = [case.line, *(f"{header}: {value}" for header, value in (headers | given).items())]
        answer = wire.request("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + case.body)
    world.statuses.append((name, answer.status))
    assert answer.status == case.on(server)
    if case.error:
        assert json.loads(answer.body)["error"]["code"] == case.error


# ── And at the end ───────────────────────────────────────────────────────────────────────────────────────────────────
def test_there_are_at_least_300_of_them() -> None:
    lists: list[Any] = [
        bodies.REFUSED,
        tokens.REFUSED,
        handshakes.CREDENTIALS,
        handshakes.ORIGINS,
        handshakes.NO_HANDSHAKE,
        handshakes.POSITIONS,
        frames.ANSWERED,
        frames.ENDED,
        frames.CUT_OFF,
        requests.REQUESTS,
    ]
    assert sum(map(len, lists)) >= AT_LEAST
    assert len({body for body, _ in bodies.REFUSED.values()}) == len(bodies.REFUSED)


def test_no_answer_was_a_500(world: World) -> None:
    assert [(what, status) for what, status in world.statuses if status >= 500] == []


def test_alice_has_every_good_message_once_and_in_order(world: World) -> None:
    wait_until(lambda: len(world.alice.received) >= world.sent, 30, "every good message")
    assert world.alice.received == list(range(world.sent))
    assert in_order(world.alice.entries)
    assert world.alice.close_codes == []
    wait_until(lambda: world.hermes.queued(QUEUE) == 0, 30, "the queue is empty")
    assert world.hermes.dead_letters(DEAD) == []


def test_every_process_lives_and_no_log_holds_a_traceback_or_a_token(world: World) -> None:
    for name, process in world.hermes.processes.items():
        assert process.running, name
        assert process.pid == world.pids[name]
        log = process.log_text()
        assert "Traceback" not in log, log[log.index("Traceback") - 500 :][:3000]
        assert world.good.rpartition(".")[2] not in log
        assert world.forge.secret not in log
        assert world.forge.passcode not in log

"""The server of `manage.py serve`: raw writes, closing handshakes, stalled readers, draining, over real TCP."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import socket
import time
from collections.abc import Callable
from typing import Any

import pytest

from notifications.management.commands.serve import STOP_GRACE_SECONDS
from notifications.sockets import outbound, server
from notifications.sockets.server import DRAIN_VARIABLE, WebSocket
from notifications.sockets.tcp import USER_TIMEOUT_MS
from tests.sockets.scene import Serving, close_of, control, heard


async def until(predicate: Callable[[], Any], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not predicate():
        assert time.monotonic() < deadline, "it did not come about"
        await asyncio.sleep(0.01)


async def stalled_client(serving: Serving, token: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Open a WebSocket whose reader, with a small buffer, takes nothing more after the handshake."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, serving.address)
    reader, writer = await asyncio.open_connection(sock=sock, limit=1024)
    key = base64.b64encode(os.urandom(16)).decode()
    writer.write(
        f"GET /ws/development HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n"
        f"Sec-WebSocket-Protocol: hermes.v1, hermes.token.{token}\r\n\r\n".encode()
    )
    assert b"101" in await reader.readline()
    return reader, writer


async def test_entries_and_closing_handshakes_share_one_transport(serving: Serving) -> None:
    async with serving.connect(serving.token()) as alice:
        await control(alice, "hello")
        await serving.publish(*range(1, 51))
        assert [(await heard(alice))["seq"] for _ in range(50)] == list(range(1, 51))
        await alice.close(1000)
        assert alice.close_code == 1000
    hub = await serving.hubs.running()
    await until(lambda: not hub._connections)


async def test_a_reader_that_stalls_is_cut_and_its_neighbours_notice_nothing(
    serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbound, "STALL_SECONDS", 1.0)
    hub = await serving.hubs.running()
    async with serving.connect(serving.token("bob")) as bob:
        await control(bob, "hello")
        _, writer = await stalled_client(serving, serving.token("alice"))
        await until(lambda: len(hub._connections) == 2)
        (stalled,) = [each for each in hub._connections if each.user == "alice"]
        text = '"' + "x" * 50_000 + '"'
        received = 0
        for number in range(1, 41):
            await serving.publish(number, data=text)
            received = (await heard(bob))["seq"]
        assert received == 40
        await until(lambda: len(hub._connections) == 1)
        assert stalled.close_code == 4108
        writer.close()
        await serving.publish(41)
        assert (await heard(bob))["seq"] == 41


async def test_a_client_that_pings_without_end_is_told_that_it_sends_too_much(serving: Serving, settings: Any) -> None:
    settings.HERMES_CLIENT_RATE = 1
    hub = await serving.hubs.running()
    async with serving.connect(serving.token("bob")) as bob:
        await control(bob, "hello")
        for _ in range(10):
            await bob.ping()
        _, writer = await stalled_client(serving, serving.token("alice"))
        await until(lambda: len(hub._connections) == 2)
        (alice,) = [each for each in hub._connections if each.user == "alice"]
        writer.write((b"\x89\x80" + b"\0\0\0\0") * 10_000)  # six hundred of them take 1.8 ms of the loop
        await until(lambda: alice.is_closing)
        assert alice.close_code == 4129
        await serving.publish(1)
        assert (await heard(bob))["seq"] == 1
        writer.close()


async def test_a_reader_that_only_pings_is_cut_as_well(
    serving: Serving, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    """Its pongs must neither pile up nor pass for progress, whatever it may send."""
    settings.HERMES_CLIENT_BURST = settings.HERMES_CLIENT_RATE = 1_000_000
    monkeypatch.setattr(outbound, "STALL_SECONDS", 1.0)
    hub = await serving.hubs.running()
    _, writer = await stalled_client(serving, serving.token("alice"))
    await until(lambda: len(hub._connections) == 1)
    (stalled,) = hub._connections
    (protocol,) = serving.server.server_state.connections
    for number in range(1, 13):
        await serving.publish(number, data='"' + "x" * 50_000 + '"')
    ping = bytes((0x89, 0x80 | 125)) + b"\0\0\0\0" + b"p" * 125
    deadline = time.monotonic() + 20
    while hub._connections:
        assert time.monotonic() < deadline, "it was never cut"
        assert protocol.transport.get_write_buffer_size() < 2 * 1024 * 1024
        writer.write(ping * 100)
        await asyncio.sleep(0.01)
    assert stalled.close_code == 4108
    writer.close()


async def test_a_reader_that_is_slow_makes_progress_and_one_that_is_cut_is_reset(serving: Serving) -> None:
    hub = await serving.hubs.running()
    reader, writer = await stalled_client(serving, serving.token("alice"))
    await until(lambda: len(hub._connections) == 1)
    (protocol,) = serving.server.server_state.connections
    link = protocol.transport.get_extra_info("socket")

    def user_timeout() -> int:
        timeout: int = link.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
        return timeout

    for number in range(1, 13):
        await serving.publish(number, data='"' + "x" * 50_000 + '"')
    (alice,) = hub._connections
    await until(lambda: alice.outbound._written > 12 * 50_000)
    waiting = protocol.buffered()
    assert waiting > protocol.transport.get_write_buffer_size() + 50_000, "what the kernel has taken counts, too"
    assert user_timeout() == 0, "while we watch the kernel does not"
    read = 0
    while read < 30_000:  # less than makes the kernel take more
        read += len(await reader.read(10_000))
    await until(lambda: protocol.buffered() < waiting)
    while protocol.buffered():
        await reader.read(100_000)
    assert user_timeout() == USER_TIMEOUT_MS
    protocol.abort()
    with pytest.raises(ConnectionResetError):
        await reader.read()
    writer.close()


async def test_who_sends_without_end_is_read_in_slices_and_no_more_once_closed(serving: Serving) -> None:
    hub = await serving.hubs.running()
    async with serving.connect(serving.token("bob")) as bob:
        await control(bob, "hello")
        _, writer = await stalled_client(serving, serving.token("alice"))
        await until(lambda: len(hub._connections) == 2)
        (alice,) = [each for each in hub._connections if each.user == "alice"]
        frame = bytes((0x81, 0x80 | 2)) + b"\0\0\0\0" + b"{}"
        began = time.monotonic()
        with contextlib.suppress(ConnectionError):
            while time.monotonic() < began + 20:
                writer.write(frame * 1000)
                await writer.drain()
        assert alice.close_code == 4129
        assert hub._connections == {each for each in hub._connections if each.user == "bob"}
        await serving.publish(1)
        assert (await heard(bob))["seq"] == 1
        writer.close()


async def test_nothing_is_written_after_the_close_frame(serving: Serving) -> None:
    async with serving.connect(serving.token()) as alice:
        await control(alice, "hello")
        (connection,) = (await serving.hubs.running())._connections
        (protocol,) = serving.server.server_state.connections
        assert isinstance(protocol, WebSocket)
        protocol.close(4403, "revoked")
        protocol.close(4401, "the first reason counts")
        assert protocol.write(b"garbage") == 0
        connection.error("late", "nothing of this arrives")
        assert await close_of(alice) == (4403, "revoked")


async def test_a_stopping_process_says_goodbye_and_closes_each_connection_in_its_turn(
    serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(DRAIN_VARIABLE, "1.0")
    await serving.publish(1)
    sockets = [await serving.connect(serving.token(user)) for user in ("alice", "bob", "zoe")]
    for each in sockets:
        await control(each, "hello")
    stopping = asyncio.create_task(serving.server.shutdown(sockets=[]))
    for each in sockets:
        goodbye = await control(each, "goodbye")
        assert (goodbye["seq"], goodbye["id"]) == (1, "m1")
        assert 0 <= goodbye["retry_after_ms"] <= 1000
    assert [(await close_of(each))[0] for each in sockets] == [4112] * 3
    await stopping


async def test_a_client_that_answers_no_close_does_not_hold_a_stop_up(
    serving: Serving, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert server.STOP_CLOSE_SECONDS < STOP_GRACE_SECONDS, "uvicorn calls it an error if it takes longer"
    monkeypatch.setattr(server, "STOP_CLOSE_SECONDS", 0.5)
    monkeypatch.setenv(DRAIN_VARIABLE, "0.2")
    serving.server.config.timeout_graceful_shutdown = 5
    _, writer = await stalled_client(serving, serving.token("alice"))
    hub = await serving.hubs.running()
    await until(lambda: hub._connections)
    await serving.server.shutdown(sockets=[])
    assert "graceful shutdown exceeded" not in caplog.text
    assert not serving.server.server_state.connections
    writer.close()


async def test_a_connection_that_leaves_while_draining_is_not_closed_twice(
    serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(DRAIN_VARIABLE, "2.0")
    alice = await serving.connect(serving.token())
    await control(alice, "hello")
    stopping = asyncio.create_task(serving.server.shutdown(sockets=[]))
    await control(alice, "goodbye")
    await alice.close()
    await stopping
    assert not serving.server.server_state.connections


async def test_a_handshake_that_never_finished_is_ended_by_a_stop(serving: Serving) -> None:
    _, writer = await asyncio.open_connection(*serving.address)
    writer.write(b"GET /ws/development HTTP/1.1\r\n")
    await writer.drain()
    await serving.server.shutdown(sockets=[])
    writer.close()

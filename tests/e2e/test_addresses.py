"""A cap per address: who is believed about where a client comes from."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from hermes_site.engines import HOST, free_port
from tests.processes import START_DEADLINE, Hermes

CAP = 2


@asynccontextmanager
async def server(hermes: Hermes, trusted: str) -> AsyncIterator[str]:
    """A server that lets two connections of one address in; gives its socket's URL."""
    port = free_port()
    settings = {"HERMES_TRUSTED_PROXIES": trusted, "HERMES_CONNECTIONS_PER_ADDRESS": str(CAP)}
    name = f"capped-{trusted.replace('/', '-')}"
    process = hermes.child(name, "serve", "--host", HOST, "--port", str(port), port=port, **settings).start()
    try:
        url = f"http://{HOST}:{port}"
        await asyncio.to_thread(process.wait_until_ready, lambda: hermes.is_alive(url), START_DEADLINE)
        yield f"ws://{HOST}:{port}/ws/{hermes.stage}"
    finally:
        process.stop()


async def outcome(stack: AsyncExitStack, url: str, token: str, forwarded_for: str) -> str:
    """Come with this X-Forwarded-For and stay; return the kind of the first frame, or the code of the close."""
    socket: ClientConnection = await stack.enter_async_context(
        connect(
            url,
            subprotocols=["hermes.v1", f"hermes.token.{token}"],  # type: ignore[list-item]
            additional_headers={"X-Forwarded-For": forwarded_for},
            compression=None,
            proxy=None,
        )
    )
    try:
        text = await asyncio.wait_for(socket.recv(), 10)
    except ConnectionClosed as closed:
        return str(closed.rcvd.code if closed.rcvd else None)
    return "hello" if "hermes.hello" in str(text) else str(text)


@pytest.mark.parametrize(
    ("trusted", "forwarded", "expected"),
    [
        # Each client is behind a proxy that may say so; what a client claims left of that is its own invention.
        (
            HOST,
            ["192.0.2.1", "192.0.2.1", "192.0.2.1", "10.9.9.9, 192.0.2.1", "192.0.2.2", "192.0.2.1, 192.0.2.3"],
            ["hello", "hello", "4109", "4109", "hello", "hello"],
        ),
        # A chain of proxies that are all ours.
        (
            f"{HOST},10.0.0.0/8",
            ["192.0.2.1, 10.0.0.7", "192.0.2.1, 10.0.0.8", "192.0.2.1, 10.0.0.7", "192.0.2.2, 10.0.0.7"],
            ["hello", "hello", "4109", "hello"],
        ),
        # Nobody is believed: all come from here, whatever they say.
        ("direct", ["192.0.2.1", "192.0.2.2", "192.0.2.3"], ["hello", "hello", "4109"]),
        ("10.0.0.0/8", ["192.0.2.1", "192.0.2.2", "192.0.2.3"], ["hello", "hello", "4109"]),
    ],
    ids=["behind-a-proxy", "behind-two", "direct", "another-s-proxy"],
)
async def test_addresses_are_believed_of_trusted_proxies_only(
    hermes: Hermes, trusted: str, forwarded: list[str], expected: list[str]
) -> None:
    token = await asyncio.to_thread(hermes.token, "alice")
    async with server(hermes, trusted) as url, AsyncExitStack() as stack:
        found = [await outcome(stack, url, token, each) for each in forwarded]
    assert found == expected

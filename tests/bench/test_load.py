"""The load client, before servers that do not do what they should: sockets of its own, and nothing between."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection, serve

from bench import marks
from bench.load import Crowd

SOCKETS = 4
Tell = Callable[[list[ServerConnection]], Awaitable[None]]


def message(number: int) -> str:
    return marks.write(number, 1, 240)


async def judged(tmp_path: Path, tell: Tell, timed_every: int, *, upto: int = 4, deadline: float = 1.0) -> list[str]:
    """Return what the load client finds wrong with what a server tells its sockets."""
    there: list[ServerConnection] = []

    async def keep(connection: ServerConnection) -> None:
        there.append(connection)
        await connection.wait_closed()

    members = tmp_path / "members"
    members.write_text("".join(f"user-{at}\troom-0000\ttoken\n" for at in range(SOCKETS)))
    crowd = Crowd()
    async with serve(keep, "127.0.0.1", 0, compression=None) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        await crowd.gather({"members": str(members), "dialect": "nchan", "port": port, "books": "ledger"})
        assert (await crowd.open({"at_once": 10, "deadline": 5.0}))["open"] == SOCKETS
        await crowd.expect({"upto": upto, "timed_every": timed_every})
        telling = asyncio.create_task(tell(there))
        await crowd.wait({"deadline": deadline})
        found: dict[str, Any] = await crowd.report({})
        await telling
        await crowd.leave({"deadline": 1.0})
    wrong: list[str] = found["wrong"]
    return wrong


async def one_by_one(connections: list[ServerConnection], numbers: tuple[int, ...]) -> None:
    for number in numbers:
        for connection in connections:
            await connection.send(message(number))


async def in_one_piece(connection: ServerConnection, numbers: tuple[int, ...]) -> None:
    """Have several frames leave together."""
    frames = b""
    for number in numbers:
        payload = message(number).encode()
        frames += b"\x81\x7e" + len(payload).to_bytes(2, "big") + payload
    connection.transport.write(frames)


each_way = pytest.mark.parametrize("timed_every", [1, SOCKETS], ids=["frame by frame", "by pieces"])


@each_way
async def test_all_in_order_is_right(tmp_path: Path, timed_every: int) -> None:
    assert await judged(tmp_path, lambda there: one_by_one(there, (1, 2, 3, 4)), timed_every) == []


@each_way
async def test_a_ping_in_the_middle_is_answered_and_harms_nothing(tmp_path: Path, timed_every: int) -> None:
    async def tell(there: list[ServerConnection]) -> None:
        await one_by_one(there, (1, 2))
        for connection in there:
            async with asyncio.timeout(1):
                await (await connection.ping())
        await one_by_one(there, (3, 4))

    assert await judged(tmp_path, tell, timed_every) == []


@each_way
async def test_a_double_of_the_last_message_a_moment_later_is_wrong(tmp_path: Path, timed_every: int) -> None:
    async def tell(there: list[ServerConnection]) -> None:
        await one_by_one(there, (1, 2, 3, 4))
        await asyncio.sleep(0.05)
        await there[-1].send(message(4))

    wrong = await judged(tmp_path, tell, timed_every)
    assert wrong == ["4 came where 5 was due, after the last (1 sockets)"]


@each_way
@pytest.mark.parametrize(
    ("numbers", "wrong"),
    [((1, 3, 2, 4), "3 came where 2 was due"), ((1, 2, 2, 4), "2 came where 3 was due")],
    ids=["swapped", "one lost and one doubled"],
)
async def test_what_is_wrong_inside_of_one_piece_is_seen(
    tmp_path: Path, timed_every: int, numbers: tuple[int, ...], wrong: str
) -> None:
    async def tell(there: list[ServerConnection]) -> None:
        for connection in there[:-1]:
            await in_one_piece(connection, (1, 2, 3, 4))
        await in_one_piece(there[-1], numbers)

    assert await judged(tmp_path, tell, timed_every) == [f"{wrong} (1 sockets)"]


@each_way
async def test_what_does_not_come_is_said_with_how_far_it_got(tmp_path: Path, timed_every: int) -> None:
    async def tell(there: list[ServerConnection]) -> None:
        await one_by_one(there[:-1], (1, 2, 3, 4))
        await one_by_one(there[-1:], (1, 2))

    wrong = await judged(tmp_path, tell, timed_every, deadline=0.3)
    assert wrong == ["2 of 4 came in time (1 sockets)"]


@each_way
async def test_a_server_that_closes_a_socket_has_not_delivered(tmp_path: Path, timed_every: int) -> None:
    async def tell(there: list[ServerConnection]) -> None:
        await one_by_one(there, (1,))
        await there[-1].close(4000)
        await one_by_one(there[:-1], (2, 3, 4))

    wrong = await judged(tmp_path, tell, timed_every, deadline=0.3)
    assert wrong == ["1 of 4 came in time (1 sockets)"]

"""What callers can rely on of our Redis clients, on the event loop that the production server has."""

from __future__ import annotations

import asyncio
import socket

import pytest
import redis
import uvloop

from hermes_site.engines import Valkey
from notifications.stream.redis_client import USER_TIMEOUT_MS, async_client


async def test_a_write_to_a_connection_that_another_task_has_just_closed_is_a_failure_of_redis(valkey: Valkey) -> None:
    client = async_client()
    connection = await client.connection_pool.get_connection()
    write = connection._send_packed_command

    async def closed_meanwhile(command: object) -> None:
        await connection.disconnect()
        await write(command)

    connection._send_packed_command = closed_meanwhile
    try:
        with pytest.raises(redis.ConnectionError):
            await connection.send_command("PING")
    finally:
        del connection._send_packed_command
        await client.connection_pool.release(connection)
    assert await client.ping()
    await client.aclose()


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="the system has no such deadline")
async def test_the_kernel_ends_a_connection_that_nobody_acknowledges(valkey: Valkey) -> None:
    client = async_client()
    connection = await client.connection_pool.get_connection()
    sock = connection._writer.get_extra_info("socket")  # type: ignore[union-attr]
    assert sock.getsockopt(socket.SOL_TCP, socket.TCP_USER_TIMEOUT) == USER_TIMEOUT_MS
    await client.connection_pool.release(connection)
    await client.aclose()


def test_a_write_to_a_connection_that_has_just_broken_is_a_failure_of_redis_on_uvloop_too(valkey: Valkey) -> None:
    async def break_and_write() -> None:
        client = async_client()
        connection = await client.connection_pool.get_connection()
        try:
            # As when the other side resets it between the pool's own look and our write.
            connection._writer.transport.abort()
            await asyncio.sleep(0.05)
            with pytest.raises(redis.ConnectionError):
                await connection.send_command("PING")
        finally:
            await client.connection_pool.release(connection)
        assert await client.ping()
        await client.aclose()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(break_and_write())

"""`serve --workers 2`: one port, two processes, every member hears everything, and a stop loses nobody."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

from hermes_site.engines import HOST, free_port
from tests.e2e.client import Client
from tests.processes import START_DEADLINE, Hermes
from tests.waiting import eventually


async def test_two_workers_share_a_port_and_drain_in_order(hermes: Hermes) -> None:
    port = free_port()
    url = f"http://{HOST}:{port}"
    arguments = ("serve", "--host", HOST, "--port", str(port), "--workers", "2", "--drain-seconds", "1")
    server = hermes.child("workers", *arguments, port=port).start()
    hermes.processes["workers"] = server
    try:
        await asyncio.to_thread(server.wait_until_ready, lambda: hermes.is_alive(url), START_DEADLINE)
        token = await asyncio.to_thread(hermes.token, "alice")
        async with AsyncExitStack() as stack:
            clients = [Client(hermes, token=token, url=f"ws://{HOST}:{port}/ws/{hermes.stage}") for _ in range(18)]
            members = await asyncio.gather(*(stack.enter_async_context(client) for client in clients))
            ids = {(await member.hello())["connection_id"] for member in members}
            rows = await eventually(lambda: rows_of(hermes, ids), what="every connection has its row")
            assert len({row["server_id"]["S"] for row in rows}) == 2, "both workers have some"
            await asyncio.to_thread(hermes.send, "acme", {"type": "info", "data": "to both"})
            for member in members:
                await member.until(lambda member=member: member.received)  # type: ignore[misc]
            assert await asyncio.to_thread(server.stop, 20) == 0
            for member in members:
                await member.until(lambda member=member: member.close_codes)  # type: ignore[misc]
                assert member.close_codes == [4112]
                (goodbye,) = [
                    frame["data"]["data"]
                    for frame in member.frames
                    if "seq" not in frame and frame["data"]["type"] == "hermes.goodbye"
                ]
                assert 0 <= goodbye["retry_after_ms"] <= 1000
        assert not ids & hermes.live_rows(), "and they have closed their rows"
    finally:
        server.kill()


def rows_of(hermes: Hermes, ids: set[str]) -> list[dict[str, dict[str, str]]] | None:
    """Return the rows of these connections once all of them are there."""
    rows = [item for item in hermes.items() if item["connection_id"]["S"] in ids]
    return rows if len(rows) == len(ids) else None

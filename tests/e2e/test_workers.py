"""`serve --workers 2`: one port, two processes, every member hears everything, and a stop loses nobody."""

from __future__ import annotations

import asyncio
import os
import signal
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
            ws_url = f"ws://{HOST}:{port}/ws/{hermes.stage}"
            members = [await stack.enter_async_context(Client(hermes, token=token, url=ws_url)) for _ in range(3)]
            workers = await workers_of(hermes, members)
            if len(workers) == 1:  # whoever is quicker accepts; hold it for a moment, and the other one must
                os.kill(*workers, signal.SIGSTOP)
                try:
                    others = [Client(hermes, token=token, url=ws_url) for _ in range(3)]
                    members += [await stack.enter_async_context(other) for other in others]
                finally:
                    os.kill(*workers, signal.SIGCONT)
            assert len(await workers_of(hermes, members)) == 2
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
        ids = {(await member.hello())["connection_id"] for member in members}
        assert not ids & hermes.live_rows(), "and they have closed their rows"
    finally:
        server.kill()


async def workers_of(hermes: Hermes, members: list[Client]) -> set[int]:
    """Return the processes that have these connections, once all of them are in the connections table."""
    ids = {(await member.hello())["connection_id"] for member in members}

    def rows() -> list[dict[str, dict[str, str]]] | None:
        found = [item for item in hermes.items() if item["connection_id"]["S"] in ids]
        return found if len(found) == len(ids) else None

    found = await eventually(rows, what="every connection has its row")
    return {int(row["server_id"]["S"].rsplit("-", 2)[1]) for row in found}

"""`serve --workers 2`: one port, two processes, every member hears everything, and a stop loses nobody."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import AsyncExitStack
from pathlib import Path

from hermes_site.engines import HOST, free_port
from tests.e2e.client import Client, in_order
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
            members = await members_of_both_workers(hermes, stack, token, ws_url)
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


async def test_a_rolling_restart_under_load_loses_nothing(hermes: Hermes) -> None:
    """SIGHUP replaces one worker after the other, as a deployment does; members come and go as they are told to."""
    port = free_port()
    arguments = ("serve", "--host", HOST, "--port", str(port), "--workers", "2", "--drain-seconds", "1")
    server = hermes.child("rolling", *arguments, port=port).start()
    hermes.processes["rolling"] = server
    sent: list[int] = []
    enough = asyncio.Event()

    async def produce() -> None:
        while not enough.is_set():
            batch = list(range(len(sent), len(sent) + 10))
            await asyncio.to_thread(hermes.send_many, "acme", [{"type": "n", "data": n} for n in batch])
            sent.extend(batch)
            await asyncio.sleep(0.05)

    try:
        url = f"http://{HOST}:{port}"
        await asyncio.to_thread(server.wait_until_ready, lambda: hermes.is_alive(url), START_DEADLINE)
        token = await asyncio.to_thread(hermes.token, "alice")
        async with AsyncExitStack() as stack:
            ws_url = f"ws://{HOST}:{port}/ws/{hermes.stage}"
            members = [
                await stack.enter_async_context(Client(hermes, token=token, url=ws_url, stay=True)) for _ in range(12)
            ]
            for member in members:
                await member.hello()
            before = children_of(server.pid)
            producing = asyncio.create_task(produce())
            try:
                assert len(before) == 2
                os.kill(server.pid, signal.SIGHUP)
                await eventually(lambda: not before & children_of(server.pid), 60, "both workers are new")
                # The last to be replaced has sent its members away; they are all back, and hear what comes now.
                mark = len(sent)
                await eventually(lambda: len(sent) > mark + 50, 30, "it goes on")
            finally:
                enough.set()
                await producing
            for member in members:
                await member.until(lambda member=member: len(member.received) >= len(sent), 30)  # type: ignore[misc]
                numbers = [data["data"] for data in member.received]
                assert sorted(numbers) == sent, "each once"
                assert in_order(member.entries)
                assert member.close_codes[:1] == [4112]
                assert {hello["status"] for hello in member.control("hello")[1:]} == {"recovered"}
    finally:
        server.kill()


async def test_a_stop_amid_a_rolling_restart_does_not_wait_for_the_rest_of_it(hermes: Hermes) -> None:
    """Else whoever stops it, as systemd does after 45 s, would lose patience and kill it with its connections."""
    port = free_port()
    arguments = ("serve", "--host", HOST, "--port", str(port), "--workers", "2", "--drain-seconds", "1")
    server = hermes.child("stopped-amid", *arguments, port=port).start()
    hermes.processes["stopped-amid"] = server
    try:
        url = f"http://{HOST}:{port}"
        await asyncio.to_thread(server.wait_until_ready, lambda: hermes.is_alive(url), START_DEADLINE)
        before = children_of(server.pid)
        os.kill(server.pid, signal.SIGHUP)
        await eventually(lambda: children_of(server.pid) - before, 30, "the first successor is being started")
        assert await asyncio.to_thread(server.stop, 20) == 0
        assert "The server has stopped." in server.log_text()
        assert server.log_text().count("Started server process") <= 3, "the second worker got no successor"
    finally:
        server.kill()


def children_of(pid: int) -> set[int]:
    """Return the processes that this one has started to serve."""
    workers = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
            command = (stat.parent / "cmdline").read_bytes()
        except OSError:
            continue  # it has ended meanwhile
        if parent == pid and b"spawn_main" in command:
            workers.add(int(stat.parent.name))
    return workers


async def members_of_both_workers(hermes: Hermes, stack: AsyncExitStack, token: str, url: str) -> list[Client]:
    """Return members, entered into ``stack``, of whom each of the two workers behind ``url`` holds some."""
    members = [await stack.enter_async_context(Client(hermes, token=token, url=url)) for _ in range(3)]
    workers = await workers_of(hermes, members)
    if len(workers) == 1:  # whoever is quicker accepts; hold it for a moment, and the other one must
        os.kill(*workers, signal.SIGSTOP)
        try:
            others = [Client(hermes, token=token, url=url) for _ in range(3)]
            members += [await stack.enter_async_context(other) for other in others]
        finally:
            os.kill(*workers, signal.SIGCONT)
        workers = await workers_of(hermes, members)
    assert len(workers) == 2
    return members


async def workers_of(hermes: Hermes, members: list[Client]) -> set[int]:
    """Return the processes that have these connections, once all of them are in the connections table."""
    ids = {(await member.hello())["connection_id"] for member in members}

    def rows() -> list[dict[str, dict[str, str]]] | None:
        found = [item for item in hermes.items() if item["connection_id"]["S"] in ids]
        return found if len(found) == len(ids) else None

    found = await eventually(rows, what="every connection has its row")
    return {int(row["server_id"]["S"].rsplit("-", 2)[1]) for row in found}

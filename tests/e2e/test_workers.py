"""`serve --workers 2`: one port, two processes, every member hears everything, and a stop loses nobody."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
import websockets

from hermes_site.children import ChildProcess
from hermes_site.engines import HOST, free_port
from tests.e2e.client import Client, in_order
from tests.processes import START_DEADLINE, Hermes
from tests.waiting import eventually

MANY = 400  # connections, of which each of two workers gets 200, give or take 10
FEW = 60  # of which each of three gets some: without, by chance, once in ten thousand million times


@asynccontextmanager
async def serving(hermes: Hermes, name: str) -> AsyncIterator[tuple[ChildProcess, str]]:
    """Run two workers on a port of their own; yields the process that started them, and where members connect."""
    port = free_port()
    arguments = ("serve", "--host", HOST, "--port", str(port), "--workers", "2", "--drain-seconds", "1")
    server = hermes.child(name, *arguments, port=port, HERMES_CONNECTIONS_PER_USER=str(2 * MANY)).start()
    hermes.processes[name] = server
    try:
        url = f"http://{HOST}:{port}"
        await asyncio.to_thread(server.wait_until_ready, lambda: hermes.is_alive(url), START_DEADLINE)
        yield server, f"ws://{HOST}:{port}/ws/{hermes.stage}"
    finally:
        server.kill()
        del hermes.processes[name]


async def test_two_workers_share_a_port_and_drain_in_order(hermes: Hermes) -> None:
    async with serving(hermes, "workers") as (server, ws_url):
        token = await asyncio.to_thread(hermes.token, "alice")
        async with AsyncExitStack() as stack:
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


async def test_each_worker_gets_its_share_however_busy_it_is_also_after_a_rolling_restart(hermes: Hermes) -> None:
    async with serving(hermes, "shares") as (server, ws_url):
        token = await asyncio.to_thread(hermes.token, "alice")
        before = children_of(server.pid)
        shares = await shares_while_one_is_busy(hermes, token, ws_url, min(before))
        assert shares.keys() == before
        assert min(shares.values()) >= 0.35 * MANY, shares
        os.kill(server.pid, signal.SIGHUP)
        await eventually(lambda: is_new(server, before), 60, "both workers are new")
        after = children_of(server.pid)
        shares = await shares_while_one_is_busy(hermes, token, ws_url, min(after))
        assert shares.keys() == after
        assert min(shares.values()) >= 0.35 * MANY, shares


async def test_workers_come_and_go_by_signal_each_with_its_share(hermes: Hermes) -> None:
    async with serving(hermes, "more") as (server, ws_url):
        token = await asyncio.to_thread(hermes.token, "alice")
        two = children_of(server.pid)
        os.kill(server.pid, signal.SIGTTIN)
        await eventually(lambda: len(children_of(server.pid)) == 3, 30, "there is one more")
        three = await shares_of(hermes, token, ws_url, FEW)
        assert three.keys() == children_of(server.pid)
        os.kill(server.pid, signal.SIGTTOU)
        await eventually(lambda: children_of(server.pid) == two, 30, "the last that came has gone")
        assert (await shares_of(hermes, token, ws_url, FEW)).keys() == two


async def test_who_connects_while_a_worker_has_crashed_is_served_by_its_successor(hermes: Hermes) -> None:
    async with serving(hermes, "crashed") as (server, ws_url):
        token = await asyncio.to_thread(hermes.token, "alice")
        before = children_of(server.pid)
        os.kill(min(before), signal.SIGKILL)
        shares = await shares_of(hermes, token, ws_url, FEW)
        assert shares.keys() == children_of(server.pid)
        assert shares.keys() & before == {max(before)}


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_a_port_that_another_server_has_is_refused(hermes: Hermes, workers: str) -> None:
    async with serving(hermes, "first") as (_, ws_url):
        for port in (hermes.port, port_of(ws_url)):  # one worker has it, or two have
            arguments = ("serve", "--host", HOST, "--port", str(port), "--workers", workers)
            second = hermes.child(f"second-{port}", *arguments).start()
            await eventually(lambda second=second: not second.running, START_DEADLINE, "it gives up")  # type: ignore[misc]
            assert second.kill() == 1
            assert f"Cannot listen on {HOST}:{port}: Address already in use." in second.log_text()


async def test_who_comes_while_the_server_stops_is_refused(hermes: Hermes) -> None:
    async with serving(hermes, "refusing") as (server, ws_url):
        _, writer = await asyncio.open_connection(HOST, port_of(ws_url))
        writer.write(b"POST /sign-in/ HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nabc")
        await writer.drain()
        server.send_signal(signal.SIGTERM)
        await eventually(lambda: is_refused(port_of(ws_url)))
        assert server.running, "it waits for the request that it has begun to read"
        writer.close()
        assert await asyncio.to_thread(server.stop, 20) == 0


async def test_a_rolling_restart_under_load_loses_nothing_and_refuses_nobody(hermes: Hermes) -> None:
    """SIGHUP replaces one worker after the other, as a deployment does; members come and go as they are told to."""
    sent: list[int] = []
    enough = asyncio.Event()
    knocks: Counter[str] = Counter()

    async def produce() -> None:
        while not enough.is_set():
            batch = list(range(len(sent), len(sent) + 10))
            await asyncio.to_thread(hermes.send_many, "acme", [{"type": "n", "data": n} for n in batch])
            sent.extend(batch)
            await asyncio.sleep(0.05)

    async with serving(hermes, "rolling") as (server, ws_url):
        token = await asyncio.to_thread(hermes.token, "alice")

        async def knock() -> None:
            while not enough.is_set():
                knocks[await how_one_is_received(hermes, token, ws_url)] += 1
                knocks[await how_a_request_is_answered(ws_url)] += 1

        async with AsyncExitStack() as stack:
            members = [
                await stack.enter_async_context(Client(hermes, token=token, url=ws_url, stay=True)) for _ in range(12)
            ]
            for member in members:
                await member.hello()
            before = children_of(server.pid)
            load = [asyncio.create_task(produce()), *(asyncio.create_task(knock()) for _ in range(4))]
            try:
                assert len(before) == 2
                os.kill(server.pid, signal.SIGHUP)
                await eventually(lambda: not before & children_of(server.pid), 60, "both workers are new")
                # The last to be replaced has sent its members away; they are all back, and hear what comes now.
                mark = len(sent)
                await eventually(lambda: len(sent) > mark + 50, 30, "it goes on")
            finally:
                enough.set()
                await asyncio.gather(*load)
            for member in members:
                await member.until(lambda member=member: len(member.received) >= len(sent), 30)  # type: ignore[misc]
                numbers = [data["data"] for data in member.received]
                assert sorted(numbers) == sent, "each once"
                assert in_order(member.entries)
                assert member.close_codes[:1] == [4112]
                assert {hello["status"] for hello in member.control("hello")[1:]} == {"recovered"}
        assert knocks.keys() <= {"greeted", "told to come back", "200"}, knocks
        assert knocks["greeted"] > 100
        assert knocks["200"] > 100


async def test_a_stop_amid_a_rolling_restart_does_not_wait_for_the_rest_of_it(hermes: Hermes) -> None:
    """Else whoever stops it, as systemd does after 45 s, would lose patience and kill it with its connections."""
    async with serving(hermes, "stopped-amid") as (server, _):
        before = children_of(server.pid)
        os.kill(server.pid, signal.SIGHUP)
        successors = await eventually(lambda: children_of(server.pid) - before, 30, "the first is being started")
        stopping = asyncio.create_task(asyncio.to_thread(server.stop, 20))
        while not stopping.done():
            successors |= children_of(server.pid) - before
            await asyncio.sleep(0.02)
        assert await stopping == 0
        assert "The server has stopped." in server.log_text()
        assert len(successors) == 1, "the second worker got none"


async def test_a_worker_that_dies_amid_a_rolling_restart_is_replaced_before_that_goes_on(hermes: Hermes) -> None:
    """Its share of who connects waits for its successor, and the restart of the others takes a while."""
    async with serving(hermes, "died-amid") as (server, ws_url):
        token = await asyncio.to_thread(hermes.token, "alice")
        await shares_of(hermes, token, ws_url, FEW)  # both are up
        before = children_of(server.pid)
        first, second = sorted(before, key=started_at)
        os.kill(server.pid, signal.SIGHUP)
        await eventually(lambda: children_of(server.pid) - before, 30, "the first successor is being started")
        os.kill(second, signal.SIGKILL)
        await eventually(lambda: len(children_of(server.pid) - before) == 2, 30, "there is one for the dead one, too")
        assert first in children_of(server.pid), "the first has not been sent away yet"
        seen: set[int] = set()

        def is_over() -> bool:
            now = children_of(server.pid)
            seen.update(now - before)
            return len(seen) == 3 and len(now) == 2 and not now & before

        await eventually(
            is_over, 60, "the dead one's successor has one, too, and no worker is left that nobody knows of"
        )
        assert await asyncio.to_thread(server.stop, 20) == 0


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


def started_at(pid: int) -> tuple[int, int]:
    """Return what processes that were started one after the other are sorted by.

    A tick is 10 ms, in which two can be started; their ids, which begin anew when they are used up, tell those apart.
    """
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]), pid


def is_new(server: ChildProcess, before: set[int]) -> bool:
    """Return whether two others serve instead of these workers, of whom none is left."""
    workers = children_of(server.pid)
    return len(workers) == 2 and not workers & before


def port_of(ws_url: str) -> int:
    """Return the port of a server's address."""
    return int(ws_url.split("/")[2].partition(":")[2])


def is_refused(port: int) -> bool:
    """Return whether nobody listens there."""
    try:
        socket.create_connection((HOST, port), 1).close()
    except ConnectionRefusedError:
        return True
    except OSError:
        return False  # it was accepted, and reset at once
    return False


async def how_one_is_received(hermes: Hermes, token: str, ws_url: str) -> str:
    """Connect as a member does, and return what came of it."""
    try:
        async with Client(hermes, token=token, url=ws_url) as member:
            await member.until(lambda: member.frames or member.close_codes)
            if member.close_codes == [4112]:
                return "told to come back"
            return "greeted" if member.control("hello") else f"{member.frames} {member.close_codes}"
    except (OSError, websockets.WebSocketException) as error:
        return repr(error)


async def how_a_request_is_answered(ws_url: str) -> str:
    """Make a request on a connection of its own, and return the answer's status."""
    try:
        reader, writer = await asyncio.open_connection(HOST, port_of(ws_url))
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        answer = await reader.read()
        writer.close()
    except OSError as error:
        return repr(error)
    return answer.split(b" ")[1].decode() if answer else "no answer"


async def members_at(hermes: Hermes, stack: AsyncExitStack, token: str, url: str, count: int) -> list[Client]:
    """Return so many members, entered into ``stack``, that come at once and wait for a worker that starts."""
    members = [Client(hermes, token=token, url=url, open_seconds=START_DEADLINE) for _ in range(count)]
    await asyncio.gather(*(stack.enter_async_context(member) for member in members))
    return members


async def members_of_both_workers(hermes: Hermes, stack: AsyncExitStack, token: str, url: str) -> list[Client]:
    """Return members, entered into ``stack``, of whom each of the two workers behind ``url`` holds some."""
    members: list[Client] = []
    while len(await held_by(hermes, members)) < 2:
        assert len(members) < 18, "the kernel shares connections out as if by lot, and not like this"
        members += await members_at(hermes, stack, token, url, 3)
    return members


async def held_by(hermes: Hermes, members: list[Client]) -> Counter[int]:
    """Return how many of these connections each process has, once all of them are in the connections table."""
    ids = {(await member.hello())["connection_id"] for member in members}

    def rows() -> list[dict[str, dict[str, str]]] | None:
        found = [item for item in hermes.items() if item["connection_id"]["S"] in ids]
        return found if len(found) == len(ids) else None

    found = await eventually(lambda: asyncio.to_thread(rows), 30, "every connection has its row") if ids else []
    return Counter(int(row["server_id"]["S"].rsplit("-", 2)[1]) for row in found)


async def shares_while_one_is_busy(hermes: Hermes, token: str, url: str, busy: int) -> Counter[int]:
    """Connect many members, and hold this worker until the others have accepted all that they will."""
    members = [Client(hermes, token=token, url=url, open_seconds=START_DEADLINE) for _ in range(MANY)]

    def is_all_that_they_will() -> bool:
        waiting = waiting_at(port_of(url))
        return min(waiting) == 0 and sum(waiting) + sum(member.connected.is_set() for member in members) == MANY

    async with AsyncExitStack() as stack:
        os.kill(busy, signal.SIGSTOP)
        coming = asyncio.gather(*(stack.enter_async_context(member) for member in members))
        try:
            # For less than WORKER_SECONDS, after which it would be replaced.
            await eventually(is_all_that_they_will, 20, "the others have accepted what is theirs")
        finally:
            os.kill(busy, signal.SIGCONT)
            await coming
        return await held_by(hermes, members)


def waiting_at(port: int) -> list[int]:
    """Return how many connections wait to be accepted, by each socket that listens on a port."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    listening = [row for row in rows if row[3] == "0A" and row[1].endswith(f":{port:04X}")]
    return [int(row[4].partition(":")[2], 16) for row in listening]


async def shares_of(hermes: Hermes, token: str, url: str, count: int) -> Counter[int]:
    """Connect so many members for a moment; return how many of them each process got."""
    async with AsyncExitStack() as stack:
        return await held_by(hermes, await members_at(hermes, stack, token, url, count))

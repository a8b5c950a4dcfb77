"""Scene: Hermes on three hosts, with the fault suite's members, producer and checker. Called by test_partitions.

Server and relay are on host A, another server is on host B, Redis and PostgreSQL are on host C. SQS and DynamoDB, and
the members, are out there: on this machine's own end of the network.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import secrets
import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from hermes_site.children import ChildProcess
from hermes_site.engines import Valkey
from tests.environment import environment
from tests.faults.checker import Checker
from tests.faults.ledger import Ledger, load
from tests.faults.member import Member
from tests.faults.producer import Producer
from tests.faults.recorder import Recorder, read
from tests.faults.run import MEMBERS, TOKEN_SECONDS, UNEXPECTED
from tests.faults.settling import Settling
from tests.faults.tap import Tap
from tests.faults.times import SCALED
from tests.faults.world import PARTS, ROOMS, SERVERS, World
from tests.hosts.network import Host, Network
from tests.hosts.third import READY_SECONDS, Third
from tests.processes import PASSWORD, STOP_DEADLINE, Hermes
from tests.waiting import eventually

PORT = 8000


class Hosts(World):
    """One Hermes on three hosts.

    Args:
        directory: for its data and logs; PostgreSQL's user may go through it.
        network: with the hosts ``a``, ``b`` and ``c``.
        seed: of every choice.
    """

    def __init__(self, directory: Path, network: Network, seed: str) -> None:
        self.recorder = Recorder(directory / "history.jsonl")
        super().__init__(directory, self.recorder, random.Random(f"{seed}:aws"), SCALED)
        self.network = network
        self.host_of: dict[str, Host] = {
            part: network.hosts[name] for part, name in zip((*SERVERS, "relay"), "aba", strict=True)
        }
        self.addresses = {server: self.host_of[server].address for server in SERVERS}
        self.ports = dict.fromkeys(SERVERS, PORT)
        self.seed, self.password = seed, secrets.token_hex(16)
        self.third = Third(network.hosts["c"], directory, network.subnet, self.password)
        self.cut_off: set[str] = set()  # names of hosts
        self._rng = random.Random(f"{seed}:members")

    async def open(self) -> None:
        """Start all of it and wait until it is ready."""
        await asyncio.gather(asyncio.to_thread(self.third.__enter__), asyncio.to_thread(self.aws.start))
        self.aws_proxy.start(self.aws.port, self.network.address)
        self.database_url = self.third.postgres.url
        self.env = {
            **self._base,
            **environment(aws_url=self.aws_proxy.url, redis_url=self.third.redis_url, database_url=self.database_url),
            "DJANGO_SETTINGS_MODULE": "hermes_site.settings",
            "DJANGO_ALLOWED_HOSTS": ",".join(self.addresses.values()),
            "HERMES_DEMO_PASSWORD": PASSWORD,
            "HERMES_DURABILITY": "replica",
            "HERMES_DURABILITY_SECONDS": "1",
            "PYTHONUNBUFFERED": "1",
            "REDIS_CA_FILE": str(self.third.authority),
            "REDIS_SENTINEL_PASSWORD": self.password,
            **self._overrides,
        }
        await asyncio.to_thread(self.manage, "demo", "--prepare")
        await asyncio.gather(*(self.start_part(name) for name in PARTS))
        self.tap = Tap(self.third.primary.url, ROOMS, self.recorder)
        self.tap.start()
        self.members = [self._member(at, *who[:4]) for at, who in enumerate(MEMBERS)]
        self.producer = Producer(self, self.members, self.recorder, random.Random(f"{self.seed}:producer"))
        self.settling = Settling(self, self.members, self.producer, self.recorder)
        self.ledger = Ledger(self, self.members, self.recorder)
        for member in self.members:
            member.start()
        await self.settling.settle()
        self.producer.start()

    async def close(self) -> None:
        """Stop all of it."""
        for host in self.network.hosts.values():
            self.network.join(host)
        if hasattr(self, "members"):
            await self.producer.stop()
            for member in self.members:
                await member.stop()
            await self.tap.stop()
        await asyncio.gather(*(asyncio.to_thread(each.stop, STOP_DEADLINE) for each in self.processes.values()))
        await asyncio.to_thread(self.third.__exit__)
        await asyncio.to_thread(Hermes.stop, self)
        self.recorder.close()

    # ── Parts ────────────────────────────────────────────────────────────────────────────────────────────────────────
    def child(self, name: str, *arguments: str, port: int | None = None, **overrides: str) -> ChildProcess:
        """Return a `manage.py` command, on its host if it has one."""
        process = Hermes.child(self, name, *arguments, port=port, **overrides)
        if host := self.host_of.get(name):
            process.command = host.command(*process.command)
        return process

    async def start_part(self, name: str, *, wait: bool = True) -> None:
        """Start a server or the relay and wait until it works."""
        if name == "relay":
            process = self.child(name, "relay_sqs")
        else:
            where = ("--host", self.addresses[name], "--port", str(PORT))
            process = self.child(name, "serve", *where, "--drain-seconds", "1")
        self._log_began[name] = 0
        await asyncio.to_thread(process.start)
        self.processes[name] = process
        await self.until_ready(name)

    async def until_ready(self, name: str) -> None:
        """Wait until a part works."""

        def ready() -> bool:
            if name == "relay":
                return "Relaying" in self.processes[name].log_text()
            return self.readiness(name)[0] == 200

        await asyncio.to_thread(self.processes[name].wait_until_ready, ready, READY_SECONDS)

    def readiness(self, server: str) -> tuple[int, set[str]]:
        """Return what ``/readyz`` answers on its own host: the status, and what does not answer; blocks."""
        page = f"http://{self.addresses[server]}:{PORT}/readyz"
        asking = self.host_of[server].command("curl", "-s", "-m", "5", "-w", "\n%{http_code}", page)
        body, _, status = subprocess.run(asking, capture_output=True, text=True, check=False).stdout.rpartition("\n")
        if status in ("000", ""):
            return 0, set()
        checks = json.loads(body)["checks"]
        return int(status), {part.partition(".")[0] for part, check in checks.items() if not check["ok"]}

    def open_rows(self) -> dict[str, str]:
        """Return the connections that are open in SQL, each with its server."""
        with self.third.postgres.connect() as database:
            rows = database.execute(
                "SELECT connection_id, server_id FROM notifications_connection WHERE closed_at IS NULL"
            )
            return dict(rows.fetchall())

    def of_server(self, rows: dict[str, str], server: str) -> set[str]:
        """Return those connections that a server has."""
        return {each for each, where in rows.items() if f"-{self.processes[server].pid}-" in where}

    # ── Faults ───────────────────────────────────────────────────────────────────────────────────────────────────────
    @contextlib.asynccontextmanager
    async def partition(self, name: str) -> AsyncIterator[None]:
        """Cut a host off, and join it again at the end."""
        host, kind = self.network.hosts[name], f"host {name.upper()} cut off"
        self.recorder.write("fault", kind=kind, phase="begin")
        self.cut_off.add(host.name)
        await asyncio.to_thread(self.network.cut, host)
        try:
            yield
        finally:
            await asyncio.to_thread(self.network.join, host)
            self.cut_off.discard(host.name)
            self.recorder.write("fault", kind=kind, phase="end")

    async def lose_primary(self) -> None:
        """Kill Redis's primary, wait for the sentinels' next one, and have the old one come back as its replica."""
        third = self.third
        old, new = third.primary, third.replica
        self.recorder.write("fault", kind="Valkey primary dies", phase="begin")
        await asyncio.to_thread(old.kill)
        await self._learn_what_died(old, new)
        await eventually(lambda: self._is_primary(new), READY_SECONDS, "the sentinels name the replica")
        third.primary, third.replica = new, old
        await asyncio.to_thread(third.follow, old, new)
        await eventually(third.is_whole, READY_SECONDS, "the new primary has a replica, and the sentinels know both")
        self.recorder.write("fault", kind="Valkey primary dies", phase="end")

    async def _learn_what_died(self, old: Valkey, new: Valkey) -> None:
        """Read what the old primary held to its last moment, and where the new one begins, before it takes anything."""
        copy = Valkey(old.directory, persistent=True)
        await asyncio.to_thread(copy.start)
        await self.tap.move(copy.url)
        await self.tap.look()
        await self.tap.move(new.url)
        await asyncio.to_thread(copy.kill)
        await self.tap.new_life("promoted", is_durable=True)
        assert not await asyncio.to_thread(self._is_primary, new), "the sentinels were faster than this machine"

    def _is_primary(self, server: Any) -> bool:
        return bool(self.third.replication(server)["role"] == "master")

    # ── Judgement ────────────────────────────────────────────────────────────────────────────────────────────────────
    async def comes_right(self, after: str, since: float) -> None:
        """Wait until members and books are right; whether in time is written down.

        Args:
            after: after what.
            since: monotonic seconds from which the books' time counts.
        """
        async with asyncio.TaskGroup() as group:
            group.create_task(self.ledger.watch(after, since))
            group.create_task(self.settling.settle())

    def violations(self) -> list[str]:
        """Return what broke a guarantee until now."""
        self.write_deaths()
        for process in self.processes.values():
            for phrase in UNEXPECTED:
                if phrase in process.log_text():
                    self.recorder.write("unexpected", process=process.name, what=phrase, count=1)
        self.recorder.write("load", load=round(load(), 2))
        self.recorder.flush()
        return Checker().check(read(self.recorder.path)).violations

    def _member(self, at: int, name: str, stage: str, room: str, user: str) -> Member:
        return Member(
            name,
            stage,
            room,
            user,
            token=self.issue_token(stage, room, user, TOKEN_SECONDS),
            port=self._chooser(SERVERS[at % 2]),
            is_direct=True,
            recorder=self.recorder,
            rng=random.Random(f"{self.seed}:{name}"),
            addresses=self.addresses,
        )

    def _chooser(self, first: str) -> Callable[[], tuple[str, int]]:
        """Return what a balancer does: lead a member to one server unless its host cannot be reached."""
        (second,) = set(SERVERS) - {first}
        return lambda: (second if self.host_of[first].name in self.cut_off else first, PORT)

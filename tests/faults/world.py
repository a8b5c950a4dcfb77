"""World: Hermes as processes with a proxy before each part: two servers, one relay. Made by run, broken by faults."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import random
import secrets
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bcrypt
import jwt

from hermes_site.children import ChildProcess
from hermes_site.engines import HOST, free_port
from tests.environment import environment, without_foreign
from tests.environment import secrets as test_secrets
from tests.faults.aws import AwsChaos
from tests.faults.chaos import ChaosProxy
from tests.faults.member import Token
from tests.faults.pair import Pair
from tests.faults.recorder import Recorder
from tests.faults.tap import Tap
from tests.faults.times import SCALED, Times
from tests.processes import PASSWORD, START_DEADLINE, STOP_DEADLINE, Hermes
from tests.waiting import eventually

ROOMS = (("development", "acme"), ("development", "globex"), ("production", "acme"))
SERVERS = ("server-0", "server-1")
PARTS = (*SERVERS, "relay")
QUEUES = {"development": "hermes-messageQueue", "production": "hermes-messageQueue-production.fifo"}
# Whose messages must stay in order, each producer's of each room among themselves.
PRODUCERS = {"production": ("one", "other")}


class World(Hermes):
    """One Hermes of two servers, with chaos before every part of it.

    Args:
        directory: for its data and logs.
        recorder: learns what the proxies see.
        rng: for the AWS proxy's own choices.
        times: the constants of every process.
        clocks: the library that makes clocks false (libfaketime); None where there is none.
    """

    def __init__(
        self,
        directory: Path,
        recorder: Recorder,
        rng: random.Random,
        times: Times = SCALED,
        clocks: Path | None = None,
    ) -> None:
        overrides = {**times.settings, "HERMES_QUEUE_NAME_PRODUCTION": QUEUES["production"]}
        super().__init__(directory, without_foreign(dict(os.environ)), None, overrides)
        self.times = times
        self.redis_pair = Pair(directory)
        self.aws_proxy: AwsChaos = AwsChaos(recorder, rng)  # type: ignore[assignment]
        self.ports = dict(zip(SERVERS, (self.port, free_port()), strict=True))
        self.recorder = recorder
        self.redis_of: dict[str, ChaosProxy] = {}
        self.door_of: dict[str, ChaosProxy] = {}
        self.expected_down: set[str] = set()
        self._rows: set[tuple[str, str, str]] = set()
        self._revocations = 0
        self.has_false_clocks = clocks is not None
        self._clocks = clocks
        self._log_began: dict[str, int] = {}
        self._started: dict[str, float] = {}  # monotonic seconds
        self.tap: Tap

    async def open(self) -> None:
        """Start all of it and wait until it is ready."""
        await self.redis_pair.start()
        await asyncio.to_thread(self.aws.start)
        self.aws_proxy.start(self.aws.port)
        for name in PARTS:
            self.set_clock(name, "+0")
        for name in (*PARTS, "helper"):
            self.redis_of[name] = await ChaosProxy(self.redis_pair.primary.port).start()
        for name in SERVERS:
            self.door_of[name] = await ChaosProxy(self.ports[name]).start()
        self.env = {
            **self._base,
            **environment(
                aws_url=self.aws_proxy.url, redis_url=self.redis_pair.primary.url, database_url=self.database_url
            ),
            "DJANGO_SETTINGS_MODULE": "hermes_site.settings",
            "HERMES_DEMO_PASSWORD": PASSWORD,
            "PYTHONUNBUFFERED": "1",
            **self._overrides,
        }
        await asyncio.to_thread(self.manage, "demo", "--prepare")
        await asyncio.gather(*(self.start_part(name) for name in PARTS))
        self.tap = Tap(self.redis_pair.primary.url, ROOMS, self.recorder)
        self.tap.start()
        self.redis_pair.serve(self.redis_of.values(), self.tap)

    async def close(self) -> None:
        """Stop all of it."""
        for process in self.processes.values():
            process.resume()
        await asyncio.gather(*(asyncio.to_thread(p.stop, STOP_DEADLINE) for p in self.processes.values()))
        await self.tap.stop()
        for proxy in (*self.redis_of.values(), *self.door_of.values()):
            await proxy.stop()
        await self.redis_pair.stop()
        await asyncio.to_thread(super().stop)

    # ── Parts ────────────────────────────────────────────────────────────────────────────────────────────────────────
    def child(self, name: str, *arguments: str, port: int | None = None) -> ChildProcess:
        """Return a `manage.py` command that reaches Redis through its own proxy, if it has one."""
        process = super().child(name, *arguments, port=port)
        if name in self.redis_of:
            process.environment["REDIS_URL"] = f"redis://{HOST}:{self.redis_of[name].port}/0"
        if self._clocks is not None and name in PARTS:
            process.environment |= {
                "LD_PRELOAD": str(self._clocks),
                "FAKETIME_TIMESTAMP_FILE": str(self._clock_file(name)),
                "FAKETIME_CACHE_DURATION": "1",
                "DONT_FAKE_MONOTONIC": "1",
                # Its remedy for another libc has every timed wait on a monotonic condition end at once here: whoever
                # waits for the interpreter's lock then spins, which took a server of idle rooms half a core.
                "FAKETIME_FORCE_MONOTONIC_FIX": "0",
                "PYTHONPATH": str(Path(__file__).parent / "clock_site"),
            }
        return process

    def set_clock(self, name: str, offset: str) -> None:
        """Have a part's wall clock differ from ours by an offset, as ``+1h``; it notices within a second."""
        new = self._clock_file(name).with_suffix(".new")
        new.write_text(f"{offset}\n")
        new.rename(self._clock_file(name))

    def _clock_file(self, name: str) -> Path:
        return self.directory / f"clock-{name}"

    async def make_durable(self) -> None:
        """From now on a message counts as appended when a replica has it; starts every part again."""
        self.env["HERMES_DURABILITY"] = "replica"
        for name in PARTS:
            await self.stop_part(name)
            await self.start_part(name)
        self.redis_pair.is_durable = True

    async def start_part(self, name: str, *, wait: bool = True) -> None:
        """Start a server or the relay and wait until it works; ``wait=False`` does not wait for the relay."""
        if name == "relay":
            process = self.child("relay", "relay_sqs")
        else:
            process = self.child(name, "serve", "--host", HOST, "--port", str(self.ports[name]), "--drain-seconds", "1")
        self._log_began[name] = process.log.stat().st_size if process.log.exists() else 0
        self._started[name] = time.monotonic()
        await asyncio.to_thread(process.start)
        self.processes[name] = process
        self.expected_down.discard(name)
        if wait or name != "relay":
            await self.until_ready(name)

    async def until_ready(self, name: str) -> None:
        """Wait until a part works: a server answers, the relay says that it relays."""

        def ready() -> bool:
            if name == "relay":
                with self.processes[name].log.open("rb") as log:
                    log.seek(self._log_began[name])
                    return b"Relaying" in log.read()
            return self.is_alive(f"http://{HOST}:{self.ports[name]}")

        await asyncio.to_thread(self.processes[name].wait_until_ready, ready, START_DEADLINE)

    async def kill_part(self, name: str) -> None:
        """Kill a part as a crash would."""
        self.expected_down.add(name)
        await asyncio.to_thread(self.processes[name].kill)

    async def stop_part(self, name: str) -> None:
        """Stop a part in order."""
        self.expected_down.add(name)
        code = await asyncio.to_thread(self.processes[name].stop, STOP_DEADLINE)
        if code != 0:
            self.recorder.write("died", process=f"{name}, told to stop,", code=code)

    def write_deaths(self) -> None:
        """Write down which parts have ended though nobody killed them."""
        for name, process in self.processes.items():
            if name not in self.expected_down and not process.running:
                self.recorder.write("died", process=name, code=process.exit_code)
                self.expected_down.add(name)

    # ── Members and messages ─────────────────────────────────────────────────────────────────────────────────────────
    def issue_token(self, stage: str, room: str, user: str, seconds: float) -> Token:
        """Make a token and its row as another program would: the digest in the row, the token signed; blocks."""
        suffix = "" if stage == "development" else "_PRODUCTION"
        passcode, secret = (test_secrets()[f"HERMES_{name}{suffix}"] for name in ("PASSCODE", "JWT_SECRET"))
        digest = hashlib.sha256(f"{user}{passcode}{room}".encode()).hexdigest()
        if (stage, room, user) not in self._rows:
            hashed = bcrypt.hashpw(digest.encode(), bcrypt.gensalt(5)).decode()
            self.client("dynamodb").put_item(
                TableName="hermesTokens" if stage == "development" else "hermesTokens-production",
                Item={"user_id": {"S": user}, "room_id": {"S": room}, "token": {"S": hashed}},
            )
            self._rows.add((stage, room, user))
        now = int(time.time())
        exp = now + int(seconds)
        claims = {"user_id": user, "room_id": room, "token": digest, "iat": now, "exp": exp}
        return Token(jwt.encode({**claims, "jti": secrets.token_hex(8)}, secret, "HS512"), now, exp)

    async def revoke(self, stage: str, room: str, user: str) -> bool:
        """Revoke a member's tokens as the admin does; whether it was done is written down."""
        begin = time.time()
        code = f"from notifications.access.revocation import revoke; revoke({user!r}, {room!r}, [{stage!r}])"
        self._revocations += 1
        helper = self.child("helper", "shell", "--verbosity", "0", "-c", code)
        helper.log = helper.log.with_name(f"helper-{self._revocations}.log")
        await asyncio.to_thread(helper.start)
        await eventually(lambda: not helper.running, START_DEADLINE, "a revocation ends")
        done, told = helper.exit_code == 0, "are not told now" not in helper.log_text()
        end = time.time()
        about = {"stage": stage, "room": room, "user": user, "not_before": int(begin)}
        moments = {"begin": round(begin, 2), "end": round(end, 2)}
        self.recorder.write("revoked", done=done, told=told, **about, **moments)
        return done

    def port_chooser(self, rng: random.Random, *, direct: bool, only: str = "") -> Callable[[], tuple[str, int]]:
        """Return a function that picks a server, or ``only`` one, and its port: its own or its proxy's."""

        def choose() -> tuple[str, int]:
            name = only or rng.choice(SERVERS)
            return name, self.ports[name] if direct else self.door_of[name].port

        return choose

    def send_bodies(self, stage: str, bodies: list[tuple[str, str]]) -> list[str]:
        """Put at most ten bodies on a stage's queue, each with its group, if it has one; return their MessageIds."""
        entries: list[Any] = [{"Id": str(at), "MessageBody": body} for at, (body, _) in enumerate(bodies)]
        for entry, (_, group) in zip(entries, bodies, strict=True):
            if group:
                entry |= {"MessageGroupId": group, "MessageDeduplicationId": secrets.token_hex(16)}
        answer = self.client("sqs").send_message_batch(QueueUrl=self._url(QUEUES[stage]), Entries=entries)
        assert not answer.get("Failed"), answer
        return [sent["MessageId"] for sent in sorted(answer["Successful"], key=lambda sent: int(sent["Id"]))]

    def unfinished(self) -> int:
        """Return how many messages both queues hold."""
        return sum(self.queued(name) for name in QUEUES.values())

    def _url(self, name: str) -> str:
        return f"{self.aws.url}/000000000000/{name}"

    def queue_url(self, name: str = "hermes-messageQueue") -> str:
        """Return a queue's URL without asking for it."""
        return self._url(name)

    def open_rows(self) -> dict[str, str]:
        """Return the connections that are open in SQL, each with its server."""
        address = f"file:{self.directory / 'hermes.sqlite3'}?mode=ro"
        with contextlib.closing(sqlite3.connect(address, uri=True, timeout=10)) as database:
            rows = database.execute(
                "SELECT connection_id, server_id FROM notifications_connection WHERE closed_at IS NULL"
            )
            return dict(rows)

    def live_items(self) -> dict[str, str]:
        """Return the connections that the connections table holds, each with its server."""
        return {item["connection_id"]["S"]: item["server_id"]["S"] for item in self.items()}

    def audits(self) -> list[str]:
        """Return the connection of each item of the audit table."""
        return [item["connection_id"]["S"] for item in self.items("hermesAudit") if "connection_id" in item]

    def has_lived_since(self, server: str, moment: float) -> bool:
        """Return whether a server is still the process that it was at a moment, in monotonic seconds."""
        return self._started.get(server, float("inf")) <= moment and self.processes[server].running

    def server_pids(self) -> set[int]:
        """Return the processes of the servers that live."""
        return {self.processes[name].pid for name in SERVERS if self.processes[name].running}

    def dead_marks(self, mark: Callable[[str], str | None]) -> list[str]:
        """Empty the dead-letter queues; return the marks of what lay there."""
        bodies = [m["Body"] for name in QUEUES.values() for m in self.dead_letters(dead_of(name))]
        return [found for body in bodies if (found := mark(body))]

    def memory(self) -> dict[str, int]:
        """Return the resident MiB of each part that runs."""
        found = {}
        for name, process in self.processes.items():
            path = Path(f"/proc/{process.pid}/statm")
            if process.running and path.exists():
                found[name] = int(path.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 2**20
        return found


def dead_of(queue: str) -> str:
    """Return the name of a queue's dead-letter queue."""
    return queue.removesuffix(".fifo") + "-dead" + ".fifo" * queue.endswith(".fifo")


def false_clocks() -> Path | None:
    """Return the library that makes clocks false, of the Debian package ``faketime``; None without it."""
    return next(iter(sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))), None)

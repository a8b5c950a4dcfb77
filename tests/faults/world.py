"""World: Hermes as processes with a proxy before each part: two servers, one relay. Made by run, broken by faults."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import random
import secrets
import shutil
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

import bcrypt
import jwt

from hermes_site.children import ChildProcess
from hermes_site.engines import HOST, Valkey, free_port
from tests.environment import environment, without_foreign
from tests.environment import secrets as test_secrets
from tests.faults.aws import AwsChaos
from tests.faults.chaos import ChaosProxy
from tests.faults.recorder import Recorder
from tests.faults.tap import Tap
from tests.processes import PASSWORD, START_DEADLINE, STOP_DEADLINE, Hermes
from tests.waiting import eventually

ROOMS = (("development", "acme"), ("development", "globex"), ("production", "acme"))
SERVERS = ("server-0", "server-1")
QUEUES = {"development": "hermes-messageQueue", "production": "hermes-messageQueue-production"}
# Short enough for many kills; docs/settings.md has the bounds.
OVERRIDES = {
    "HERMES_LEASE_SECONDS": "3",
    "HERMES_PING_SECONDS": "2",
    "HERMES_WAIT_SECONDS": "1",
    "HERMES_VISIBILITY_SECONDS": "12",
    # Redelivery by so many faults must not look like a message that cannot be delivered.
    "HERMES_MAX_RECEIVES": "200",
}


class World(Hermes):
    """One Hermes of two servers, with chaos before every part of it.

    Args:
        directory: for its data and logs.
        recorder: learns what the proxies see.
        rng: for the AWS proxy's own choices.
    """

    def __init__(self, directory: Path, recorder: Recorder, rng: random.Random) -> None:
        super().__init__(directory, without_foreign(dict(os.environ)), None, OVERRIDES)
        # Synced at every write, so that a kill loses nothing that was confirmed; never rewritten, so that it can be
        # copied at any moment.
        options = ("--appendfsync", "always", "--auto-aof-rewrite-percentage", "0")
        self.valkey = Valkey(directory / "valkey", persistent=True, arguments=options)
        self.aws_proxy: AwsChaos = AwsChaos(recorder, rng)  # type: ignore[assignment]
        self.ports = dict(zip(SERVERS, (self.port, free_port()), strict=True))
        self.recorder = recorder
        self.redis_of: dict[str, ChaosProxy] = {}
        self.door_of: dict[str, ChaosProxy] = {}
        self.expected_down: set[str] = set()
        self._log_began: dict[str, int] = {}
        self.tap: Tap

    async def open(self) -> None:
        """Start all of it and wait until it is ready."""
        await asyncio.to_thread(self.valkey.start)
        await asyncio.to_thread(self.aws.start)
        self.aws_proxy.start(self.aws.port)
        for name in (*SERVERS, "relay"):
            self.redis_of[name] = await ChaosProxy(self.valkey.port).start()
        for name in SERVERS:
            self.door_of[name] = await ChaosProxy(self.ports[name]).start()
        self.env = {
            **self._base,
            **environment(aws_url=self.aws_proxy.url, redis_url=self.valkey.url, database_url=self.database_url),
            "DJANGO_SETTINGS_MODULE": "hermes_site.settings",
            "HERMES_DEMO_PASSWORD": PASSWORD,
            "PYTHONUNBUFFERED": "1",
            **self._overrides,
        }
        await asyncio.to_thread(self.manage, "demo", "--prepare")
        await asyncio.gather(*(self.start_part(name) for name in (*SERVERS, "relay")))
        self.tap = Tap(self.valkey.url, ROOMS, self.recorder)
        self.tap.start()

    async def close(self) -> None:
        """Stop all of it."""
        for process in self.processes.values():
            process.resume()
        await asyncio.gather(*(asyncio.to_thread(p.stop, STOP_DEADLINE) for p in self.processes.values()))
        await self.tap.stop()
        for proxy in (*self.redis_of.values(), *self.door_of.values()):
            await proxy.stop()
        await asyncio.to_thread(super().stop)

    # ── Parts ────────────────────────────────────────────────────────────────────────────────────────────────────────
    def child(self, name: str, *arguments: str, port: int | None = None) -> ChildProcess:
        """Return a `manage.py` command that reaches Redis through its own proxy, if it has one."""
        process = super().child(name, *arguments, port=port)
        if name in self.redis_of:
            process.environment["REDIS_URL"] = f"redis://{HOST}:{self.redis_of[name].port}/0"
        return process

    async def start_part(self, name: str, *, wait: bool = True) -> None:
        """Start a server or the relay and wait until it works; ``wait=False`` does not wait for the relay."""
        if name == "relay":
            process = self.child("relay", "relay_sqs")
        else:
            process = self.child(name, "serve", "--host", HOST, "--port", str(self.ports[name]), "--drain-seconds", "1")
        self._log_began[name] = process.log.stat().st_size if process.log.exists() else 0
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

    # ── Redis ────────────────────────────────────────────────────────────────────────────────────────────────────────
    async def restart_valkey(self, how: str) -> None:
        """Kill Valkey and start it with the ``same`` data, with ``none``, or with ``older`` data.

        Where data is lost, nobody can reach it any more and the tap has read all of it before.
        """
        data = self.valkey.directory / "appendonlydir"
        copy = self.valkey.directory / "older"
        if how == "older":
            shutil.rmtree(copy, ignore_errors=True)
            await asyncio.to_thread(shutil.copytree, data, copy)
            behind = self.tap.appended + 5
            with contextlib.suppress(AssertionError):  # the relay may be stopped just now; then less is lost
                await eventually(lambda: self.tap.appended >= behind, 5, "entries that will be lost")
        if how != "same":
            for proxy in self.redis_of.values():
                proxy.refuses = True
                proxy.cut()
            await asyncio.sleep(0.1)  # what was sent before the cut is still read and done
            await self.tap.look()
        await asyncio.to_thread(self.valkey.kill)
        if how != "same":
            shutil.rmtree(data)
        if how == "older":
            copy.rename(data)
        await asyncio.to_thread(self.valkey.start)
        await self.tap.new_life(how)
        for proxy in self.redis_of.values():
            proxy.refuses = False

    # ── Members and messages ─────────────────────────────────────────────────────────────────────────────────────────
    def issue_token(self, stage: str, room: str, user: str) -> str:
        """Make a token and its row as another program would: the digest in the row, the token signed."""
        suffix = "" if stage == "development" else "_PRODUCTION"
        passcode, secret = (test_secrets()[f"HERMES_{name}{suffix}"] for name in ("PASSCODE", "JWT_SECRET"))
        digest = hashlib.sha256(f"{user}{passcode}{room}".encode()).hexdigest()
        hashed = bcrypt.hashpw(digest.encode(), bcrypt.gensalt(5)).decode()
        self.client("dynamodb").put_item(
            TableName="hermesTokens" if stage == "development" else "hermesTokens-production",
            Item={"user_id": {"S": user}, "room_id": {"S": room}, "token": {"S": hashed}},
        )
        now = int(time.time())
        claims = {"user_id": user, "room_id": room, "token": digest, "iat": now, "exp": now + 4 * 3600}
        return jwt.encode({**claims, "jti": secrets.token_hex(8)}, secret, "HS512")

    def port_chooser(self, rng: random.Random, *, direct: bool) -> Callable[[], int]:
        """Return a function that picks a server, through its proxy or directly."""
        ports = list(self.ports.values()) if direct else [proxy.port for proxy in self.door_of.values()]
        return lambda: rng.choice(ports)

    def send_bodies(self, stage: str, bodies: list[str]) -> list[str]:
        """Put at most ten bodies on a stage's queue; return their MessageIds."""
        entries = [{"Id": str(at), "MessageBody": body} for at, body in enumerate(bodies)]
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

    def open_rows(self) -> set[str]:
        """Return the connections that are open in SQL."""
        address = f"file:{self.directory / 'hermes.sqlite3'}?mode=ro"
        with contextlib.closing(sqlite3.connect(address, uri=True, timeout=10)) as database:
            rows = database.execute("SELECT connection_id FROM notifications_connection WHERE closed_at IS NULL")
            return {row[0] for row in rows}

    def dead_marks(self, mark: Callable[[str], str | None]) -> list[str]:
        """Empty the dead-letter queues; return the marks of what lay there."""
        bodies = [m["Body"] for name in QUEUES.values() for m in self.dead_letters(f"{name}-dead")]
        return [found for body in bodies if (found := mark(body))]

    def memory(self) -> dict[str, int]:
        """Return the resident MiB of each part that runs."""
        found = {}
        for name, process in self.processes.items():
            path = Path(f"/proc/{process.pid}/statm")
            if process.running and path.exists():
                found[name] = int(path.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 2**20
        return found

"""Hermes as the product runs: `manage.py serve` with everything on, `manage.py relay_sqs`. One of the contestants.

Of its code only the door is used (by senders); members and tokens are made as docs/protocol.md tells any other issuer.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import bcrypt
import jwt

from bench.dialects import Member
from bench.ground import HOST, Ground
from bench.helper import ROOT
from bench.peers.contestant import Consumer
from hermes_site.children import wait_for

if TYPE_CHECKING:
    from bench.plans import Plan
    from bench.scenes.crew import Crew

QUEUE = "hermes-messageQueue"
TOKEN_SECONDS = 6 * 3600
COST = 4  # of bcrypt, as Hermes' own rows
_METRICS_TOKEN = secrets.token_hex(16)
_SECRET = "bench-only-secret-" * 4
_PASSCODE = "bench-only-passcode-" * 2
_CALM_SECONDS = 60.0
_RELAY = [sys.executable, str(ROOT / "manage.py"), "relay_sqs"]


class Hermes(Consumer):
    """The product."""

    name = "hermes"
    title = "Hermes"
    what = (
        "`manage.py serve`, one worker, as shipped: tokens (HS512) with a bcrypt row each, history in Redis, "
        "positions, registry in SQLite with its mirror in DynamoDB, back-pressure."
    )
    dialect = "hermes"
    entrance = "hermes"
    frame_overhead = 96
    resumes = True
    shape = "hermes"

    def __init__(self, ground: Ground) -> None:
        super().__init__(ground)
        self._written: set[tuple[str, str]] = set()

    def version(self) -> str:
        """Return the commit and what it serves with."""
        git = subprocess.run(
            ["git", "describe", "--always", "--dirty"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
            timeout=10,
        )
        import uvicorn

        return f"{git.stdout.strip() or 'unknown'} on uvicorn {uvicorn.__version__}"

    def environment(self) -> dict[str, str]:
        """Return the settings: secrets, and where everything is; all else as shipped."""
        return {
            **super().environment(),
            "DJANGO_SETTINGS_MODULE": "hermes_site.settings",
            "DJANGO_SECRET_KEY": "bench-only-django-" * 4,
            "HERMES_JWT_SECRET": _SECRET,
            "HERMES_PASSCODE": _PASSCODE,
            "HERMES_METRICS_TOKEN": _METRICS_TOKEN,
            "HERMES_ALLOWED_ORIGINS": f"http://{HOST}:{self.port}",  # the referee names one, our client does not
            "DATABASE_URL": f"sqlite:///{self.ground.directory / 'hermes.sqlite3'}",
        }

    def commands(self) -> dict[str, Sequence[str]]:
        """Return the server."""
        arguments = ("--host", HOST, "--port", str(self.port), "--drain-seconds", "1")
        return {"server": [sys.executable, str(ROOT / "manage.py"), "serve", *arguments]}

    def start_relay(self) -> None:
        """Start one relay."""
        self.start_process("relay", _RELAY)

    def start_consuming(self) -> None:
        """Start the server and a relay."""
        self.start(relay=_RELAY)

    def prepare(self) -> None:
        """Make tables and queues, once; each run gets a copy of the empty database."""
        for command in ("migrate", "provision"):
            subprocess.run(
                [sys.executable, str(ROOT / "manage.py"), command],
                env=self.environment(),
                check=True,
                timeout=120,
                stdout=subprocess.DEVNULL,
            )
        database = self.ground.directory / "hermes.sqlite3"
        shutil.copy(database, database.with_suffix(".empty"))

    def start(self, **extra: Sequence[str]) -> None:
        """Start with an empty registry."""
        self.empty_registry()
        super().start(**extra)

    def empty_registry(self) -> None:
        """Put the empty database in place; nobody uses it at this moment."""
        database = self.ground.directory / "hermes.sqlite3"
        for rest in self.ground.directory.glob("hermes.sqlite3-*"):
            rest.unlink()
        shutil.copy(database.with_suffix(".empty"), database)

    def restart(self) -> None:
        """Replace the server by a new process; Valkey, the registry and the mirror stay as they are."""
        self.stop()
        super().start()

    def answers(self) -> bool:
        """Return whether it is alive."""
        return self._get("/healthz")[0] == 200

    def calm(self) -> None:
        """Wait until registry and mirror have written what they know."""
        wait_for(self._has_written, _CALM_SECONDS)
        super().calm()

    def _has_written(self) -> bool:
        lines = self._get("/metrics")[1].splitlines()
        pending = [float(line.split()[-1]) for line in lines if line.startswith("hermes_registry_pending")]
        return bool(pending) and not any(pending)

    def _get(self, path: str) -> tuple[int, str]:
        connection = http.client.HTTPConnection(HOST, self.port, timeout=10)
        try:
            connection.request("GET", path, headers={"Authorization": f"Bearer {_METRICS_TOKEN}"})
            response = connection.getresponse()
            return response.status, response.read().decode()
        except OSError:
            return 0, ""
        finally:
            connection.close()

    # ── Members ──────────────────────────────────────────────────────────────────────────────────────────────────────
    def members(self, seats: Sequence[tuple[str, str]]) -> list[Member]:
        """Write the rows that are not there yet, and issue a token to each."""
        digests = [hashlib.sha256(f"{user}{_PASSCODE}{room}".encode()).hexdigest() for user, room in seats]
        self._write_rows(zip(seats, digests, strict=True))
        now = int(time.time())
        key_id = hashlib.sha256(b"hermes kid " + _SECRET.encode()).hexdigest()[:8]
        members = []
        for (user, room), digest in zip(seats, digests, strict=True):
            claims: dict[str, Any] = {"user_id": user, "room_id": room, "token": digest}
            claims |= {"exp": now + TOKEN_SECONDS, "iat": now, "jti": f".{secrets.token_hex(8)}"}
            members.append(Member(user, room, jwt.encode(claims, _SECRET, "HS512", headers={"kid": key_id})))
        return members

    def _write_rows(self, rows: Iterable[tuple[tuple[str, str], str]]) -> None:
        # Ten thousand hashes take a quarter of a minute, and are the same in every run.
        store = self.ground.directory.parent / "hashes.json"
        hashes: dict[str, str] = json.loads(store.read_text()) if store.exists() else {}
        known = len(hashes)
        new = [(seat, digest) for seat, digest in rows if seat not in self._written]
        if not new:
            return

        def put(chunk: list[tuple[tuple[str, str], str]]) -> None:
            requests = []
            for (user, room), digest in chunk:
                if digest not in hashes:
                    hashes[digest] = bcrypt.hashpw(digest.encode(), bcrypt.gensalt(COST)).decode()
                item = {"user_id": {"S": user}, "room_id": {"S": room}, "token": {"S": hashes[digest]}}
                requests.append({"PutRequest": {"Item": item}})
            client.batch_write_item(RequestItems={"hermesTokens": requests})

        client = self.ground.client("dynamodb")
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(put, [new[start : start + 25] for start in range(0, len(new), 25)]))
        client.close()
        self._written.update(seat for seat, _ in new)
        if len(hashes) > known:
            store.write_text(json.dumps(hashes))

    def kept(self, crew: Crew, plan: Plan) -> tuple[int, int]:
        """Ask each room for its recent entries, as a browser does: 200 at most, which bounds the relay's plan."""
        self.stop()
        self.start()
        crew.gather(plan, books="tally", sockets=plan.rooms)
        crew.open(plan)
        crew.load.ask("expect", 10.0, upto=plan.messages // plan.rooms, timed=False)
        crew.load.ask("say", 10.0, text='{"action":"recent","limit":200}')
        crew.load.ask("wait", 20.0)
        seen = crew.load.ask("seen", 10.0)
        return seen["numbers"], seen["different"]

    @property
    def queue(self) -> str:
        """The queue's URL."""
        client = self.ground.client("sqs")
        try:
            return str(client.get_queue_url(QueueName=QUEUE)["QueueUrl"])
        finally:
            client.close()

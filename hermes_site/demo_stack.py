"""The demo: engines, server and relay as children, wired by environment. Called by the demo command; over engines."""

from __future__ import annotations

import fcntl
import os
import secrets
import shlex
import signal
import socket
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Self

from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.hashers import check_password, make_password

from hermes_site.children import ChildError, ChildProcess
from hermes_site.engines import HOST, AwsEndpoint, Engine, Valkey, free_port
from notifications.conf import Environment
from notifications.models import Membership, Room

# Alice and Bob share a room; Charlie is there to show that what is theirs never reaches him.
MEMBERS = {"alice": "acme", "bob": "acme", "charlie": "globex"}
ROOMS = {"acme": "Acme", "globex": "Globex"}
ADMINISTRATOR = "admin"
_MANAGE = str(settings.BASE_DIR / "manage.py")
_PREPARE_SECONDS = 60.0
_READY_SECONDS = 30.0
_STOP_SECONDS = 5.0
# What goes into demo.env, in this order; `set -a; . var/demo.env` hands all of it to any AWS CLI or SDK.
_WRITTEN = (
    *("HERMES_URL", "AWS_ENDPOINT_URL", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ACCESS_KEY_ID"),
    *("AWS_SECRET_ACCESS_KEY", "REDIS_URL", "HERMES_DEMO_USER", "HERMES_DEMO_PASSWORD", "HERMES_DEMO_ROOM"),
    *("HERMES_JWT_SECRET", "HERMES_PASSCODE"),
)
# Kept from one start to the next, so that tokens and passwords go on working.
_KEPT = ("HERMES_DEMO_PASSWORD", "HERMES_JWT_SECRET", "HERMES_PASSCODE")


class DemoError(Exception):
    """The demo cannot start or go on; the message says why and what to do."""


def create_members(password: str) -> None:
    """Create the rooms, their members and an administrator, or set their password if it is another.

    Args:
        password: the same for all of them; it is a demo.
    """
    users = get_user_model().objects
    encoded = users.filter(username=ADMINISTRATOR).values_list("password", flat=True).first()
    if encoded is None or not check_password(password, encoded):
        # Hashed once for all, because hashing is slow on purpose.
        encoded = make_password(password)
    for code, name in ROOMS.items():
        Room.objects.get_or_create(code=code, defaults={"name": name})
    for username in (*MEMBERS, ADMINISTRATOR):
        is_administrator = username == ADMINISTRATOR
        user, _ = users.update_or_create(
            username=username,
            defaults={
                "password": encoded,
                "is_active": True,
                "is_staff": is_administrator,
                "is_superuser": is_administrator,
            },
        )
        if not is_administrator:
            Membership.objects.get_or_create(room=Room.objects.get(code=MEMBERS[username]), user=user)


def read_env(path: Path) -> dict[str, str]:
    """Return a dotenv file's variables as ``write_env`` wrote them; empty if there is none."""
    if not path.exists():
        return {}
    words = (shlex.split(line, comments=True) for line in path.read_text(encoding="utf-8").splitlines())
    return dict(line[0].split("=", 1) for line in words if line and "=" in line[0])


def write_env(path: Path, variables: Mapping[str, str]) -> None:
    """Write a dotenv file that a shell can read too, for its owner's eyes only."""
    lines = [f"{name}={shlex.quote(variables[name])}\n" for name in _WRITTEN if name in variables]
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.writelines(lines)


def choose_port(wanted: int) -> int:
    """Return ``wanted`` if nobody listens there, else a free port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, wanted))
        except OSError:
            return free_port()
    return wanted


def is_ready(url: str) -> bool:
    """Return whether ``/readyz`` says 200."""
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=3) as response:  # noqa: S310  http, our own
            return bool(response.status == 200)
    except (OSError, urllib.error.URLError):
        return False


class DemoStack:
    """Everything behind `make run`, started in order and stopped in the opposite one.

    Args:
        directory: ``var/``: data, logs and ``demo.env``.
        port: where the server listens on loopback; another is chosen if it is taken.
        environment: usually ``os.environ``; ``AWS_ENDPOINT_URL`` and ``REDIS_URL`` in it replace an engine.
        say: receives one line at a time for people to read.
        stopping: once set, `start` and `watch` return soon.
    """

    def __init__(
        self,
        directory: Path,
        port: int,
        environment: Mapping[str, str],
        say: Callable[[str], object],
        stopping: threading.Event,
    ) -> None:
        self.directory = directory
        self.port = choose_port(port)
        self.url = f"http://{HOST}:{self.port}"
        self.env_file = directory / "demo.env"
        self.environment = dict(environment)
        self.children: list[ChildProcess] = []
        self._wanted_port = port
        self._engines: list[Engine] = []
        self._say = say
        self._stopping = stopping
        self._lock: IO[str] | None = None

    def start(self) -> Self:
        """Start everything and wait until the server says that it is ready.

        Raises:
            DemoError: another demo uses the directory.
            ChildError: something did not start; the message quotes its log.
        """
        self._take_directory()
        if self.port != self._wanted_port:
            self._say(f"Port {self._wanted_port} is taken; using {self.port}.")
        self._start_engines()
        self._complete_environment()
        write_env(self.env_file, self.environment)
        if not self._stopping.is_set():
            self._prepare()
        if not self._stopping.is_set():
            self._serve()
        return self

    def watch(self) -> None:
        """Return when told to stop.

        Raises:
            ChildError: something ended by itself; the message names it and quotes the end of its log.
        """
        processes = [*self.children, *(engine.child for engine in self._engines)]
        while not self._stopping.wait(0.2):
            for process in processes:
                if not process.running:
                    raise ChildError(
                        f"{process.name} ended by itself with {process.exit_code}. "
                        f"Its log, {process.log}, ends:\n{process.log_tail()}"
                    )

    def stop(self) -> None:
        """Stop server and relay, then the engines; nothing is left behind. May be called at any time."""
        # Server and relay need each other for nothing: they end side by side.
        for process in self.children:
            process.send_signal(signal.SIGTERM)
        for process in self.children:
            process.stop(_STOP_SECONDS)
        for engine in reversed(self._engines):
            engine.stop(_STOP_SECONDS)
        if self._lock is not None:
            self._lock.close()

    def kill(self) -> None:
        """End everything at once; safe in a signal handler."""
        for process in [*self.children, *(engine.child for engine in self._engines if engine.running)]:
            process.signal_group(signal.SIGKILL)

    def _take_directory(self) -> None:
        # Two Valkeys that append to one file would destroy it.
        self.directory.mkdir(parents=True, exist_ok=True)
        lock = (self.directory / "demo.lock").open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            lock.close()
            raise DemoError(f"Another demo runs in {self.directory}: stop it first.") from error
        self._lock = lock

    def _start_engines(self) -> None:
        if not self.environment.get("REDIS_URL"):
            valkey = Valkey(self.directory / "valkey", persistent=True)
            self._engines.append(valkey)
            self.environment["REDIS_URL"] = valkey.start().url
        if not self.environment.get("AWS_ENDPOINT_URL"):
            aws = AwsEndpoint(self.directory / "aws")
            self._engines.append(aws)
            for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN"):
                self.environment.pop(name, None)
            # Never the owner's own keys, which would end up in demo.env.
            self.environment.update(AWS_ACCESS_KEY_ID="demo", AWS_SECRET_ACCESS_KEY="demo")  # noqa: S106
            self.environment["AWS_ENDPOINT_URL"] = aws.start().url

    def _complete_environment(self) -> None:
        mine, kept = self.environment, read_env(self.env_file)
        given = Environment(mine)
        for name in _KEPT:
            value = given.text(name) or kept.get(name) or secrets.token_urlsafe(12 if "PASSWORD" in name else 64)
            mine.pop(f"{name}_FILE", None)
            mine[name] = value
        mine["AWS_REGION"] = mine.get("AWS_REGION") or mine.get("AWS_DEFAULT_REGION") or "eu-west-1"
        mine["AWS_DEFAULT_REGION"] = mine["AWS_REGION"]
        mine["HERMES_URL"] = self.url
        mine["HERMES_DEMO_USER"], mine["HERMES_DEMO_ROOM"] = next(iter(MEMBERS.items()))
        origins = [self.url, f"http://localhost:{self.port}", *given.words("HERMES_ALLOWED_ORIGINS", [])]
        mine["HERMES_ALLOWED_ORIGINS"] = ",".join(origins)
        mine.setdefault("DATABASE_URL", f"sqlite:///{self.directory.resolve() / 'hermes.sqlite3'}")
        # A long poll delays the relay's end; on loopback polling costs nothing.
        mine.setdefault("HERMES_WAIT_SECONDS", "1")
        mine["PYTHONUNBUFFERED"] = "1"

    def _prepare(self) -> None:
        prepare = self._manage("prepare", "demo", "--prepare")
        self.children = [prepare.start()]
        prepare.wait_until_ended(_PREPARE_SECONDS, self._stopping)

    def _serve(self) -> None:
        server = self._manage("server", "serve", "--host", HOST, "--port", str(self.port), "--drain-seconds", "1")
        relay = self._manage("relay", "relay_sqs")
        self.children = [server.start(), relay.start()]
        server.wait_until_ready(
            lambda: self._stopping.is_set() or not relay.running or is_ready(self.url), _READY_SECONDS
        )

    def _manage(self, name: str, *arguments: str) -> ChildProcess:
        log = self.directory / "log" / f"{name}.log"
        log.unlink(missing_ok=True)
        return ChildProcess(name, [sys.executable, _MANAGE, *arguments], environment=self.environment, log=log)

"""Hermes as docs/operations.md installs it, in a test's directory. Called by conftest; rests on cloud and manual."""

from __future__ import annotations

import functools
import http.client
import os
import re
import shutil
import ssl
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import jmespath

from hermes_site.children import ChildProcess
from hermes_site.engines import free_port
from tests.deploy import manual
from tests.deploy.cloud import ROOT, Cloud, Pair, Stack
from tests.processes import PASSWORD, START_DEADLINE, Hermes
from tests.proxy import AwsProxy
from tests.waiting import wait_until

ROLES = ("web", "relay", "producer")
DOCTORS = {"web": "doctor of web", "relay": "doctor of relay"}
INSTALLED = ("hermes_site", "notifications", "static", "templates", "deploy", "manage.py")
# Both in one process, which takes as long to start as either takes.
PREPARE = f"""
from django.core.management import call_command
from hermes_site.demo_stack import create_members
call_command("migrate", interactive=False, verbosity=0)
create_members({PASSWORD!r})
"""
_TABLES = {
    "hermesConnections": "HERMES_CONNECTIONS_TABLE",
    "hermesTokens": "HERMES_TOKENS_TABLE",
    "hermesAudit": "HERMES_AUDIT_TABLE",
}
_QUEUES = {"hermes-messageQueue": "HERMES_QUEUE_NAME", "hermes-messageQueue-dead": "HERMES_DLQ_NAME"}


class Deployment(Hermes):
    """A Hermes whose queue and tables the template made, and whose settings are those that the page writes.

    Each role reaches AWS through a proxy of its own, which notes what the role's policy must allow.

    Args:
        directory: stands for the host's root.
        base: the environment to start from.
    """

    stage = "production"

    def __init__(self, directory: Path, base: Mapping[str, str]) -> None:
        # What is measured is the code where it lies, and not a copy of it.
        super().__init__(directory, {name: value for name, value in base.items() if not name.startswith("COVERAGE")})
        self.aws = self.cloud = Cloud(directory / "aws")
        self.root = directory / "root"
        self.opt, self.etc = self.root / "opt/hermes", self.root / "etc/hermes"
        self.calls: dict[str, set[Pair]] = {role: set() for role in (*ROLES, *DOCTORS.values())}
        self.proxies = {role: AwsProxy(functools.partial(self._note, role)) for role in self.calls}
        self.certificates: Path | None = None
        self.relay_metrics_port = free_port()
        self._noting = threading.Lock()

    def _note(self, role: str, target: str, body: bytes) -> None:
        pairs = self.stack.calls(target, body)
        with self._noting:
            self.calls[role] |= pairs

    def start(self) -> Self:
        """Install and start all of it, and wait until it is ready."""
        self.valkey.start()
        self.cloud.start()
        self.stack = Stack(self.cloud)
        self.cloud.complete()
        for proxy in self.proxies.values():
            proxy.start(self.cloud.port)
        self._install()
        self.env = self._environment()
        # What needs no SQL begins at once.
        collecting = self.child("collectstatic", "collectstatic", "--noinput", "--verbosity", "0").start()
        self.start_relay()
        self.manage("shell", "--verbosity", "0", "-c", PREPARE)
        wait_until(lambda: not collecting.running, START_DEADLINE, "static files are collected")
        assert collecting.kill() == 0, collecting.log_tail()
        self.start_server()
        wait_until(lambda: self.status("/readyz") == 200, START_DEADLINE, "/readyz says 200")
        return self

    def stop(self) -> None:
        """End all of it at once."""
        super().stop()
        for proxy in self.proxies.values():
            proxy.stop()

    def here(self, text: str) -> str:
        """Return a text with the test's own directory before every path of a host."""
        return re.sub(r"(?<!\w)/(etc|opt|var)\b", rf"{self.root}/\1", text)

    def run(self, command: str) -> str:
        """Run one of the page's commands here instead of on a host; return what it writes."""
        done = subprocess.run(
            ["/bin/sh", "-euc", self.here(command)],
            check=False,
            env={**os.environ, "HOST": "localhost"},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, (command, done.stdout, done.stderr)
        return done.stdout

    def _install(self) -> None:
        self.opt.mkdir(parents=True)
        for folder in ("var/lib/hermes", "var/backups", "var/log/nginx", "var/www/html", "etc/nginx/conf.d"):
            (self.root / folder).mkdir(parents=True)
        for name in INSTALLED:
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, self.opt / name)
            else:
                shutil.copy2(ROOT / name, self.opt / name)
        (self.etc / "secrets").mkdir(parents=True)
        self.run(manual.command("Install", "openssl rand"))
        # Of the AWS CLI only its answer's shape is needed: it prints what this expression finds.
        asks = manual.command("Install", "OutputKey=='Environment'")
        lines = jmespath.search(asks.split('--query "')[1].split('"')[0], self.stack.description)
        (self.etc / "hermes.env").write_text("\n".join(lines) + "\n", encoding="utf-8")
        self.run(manual.command("Install", "/opt/hermes/deploy/hermes.env"))
        settings = self.etc / "hermes.env"
        settings.write_text(self.here(settings.read_text(encoding="utf-8")), encoding="utf-8")

    def _environment(self) -> dict[str, str]:
        written = (self.etc / "hermes.env").read_text(encoding="utf-8")
        return {
            **self._base,
            **manual.variables(written),
            "DJANGO_SETTINGS_MODULE": "hermes_site.settings",
            "PYTHONUNBUFFERED": "1",
            # Where the engines are.
            "AWS_ENDPOINT_URL": self.proxies["web"].url,
            "AWS_ACCESS_KEY_ID": "tests",
            "AWS_SECRET_ACCESS_KEY": "tests",
            "AWS_CONFIG_FILE": "/dev/null",
            "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
            "AWS_EC2_METADATA_DISABLED": "true",
            "REDIS_URL": self.valkey.url,
            # So that a crash is dealt with, and a relay stops, within seconds.
            "HERMES_LEASE_SECONDS": "3",
            "HERMES_WAIT_SECONDS": "1",
            # A test's own, as the server's is: others may run beside it.
            "HERMES_RELAY_METRICS_PORT": str(self.relay_metrics_port),
        }

    # ── Where this Hermes differs from the tests' others ─────────────────────────────────────────────────────────────
    def child(self, name: str, *arguments: str, port: int | None = None, **overrides: str) -> ChildProcess:
        """Return a `manage.py` command of the installed copy as a child that is not started yet."""
        command = [sys.executable, str(self.opt / "manage.py"), *arguments]
        log = self.directory / "log" / f"{name}.log"
        return ChildProcess(name, command, environment={**self.env, **overrides}, log=log)

    def start_server(self) -> None:
        """Start the servers as their unit does, on the test's port."""
        server = self.child("server", *manual.arguments("hermes-web", port=str(self.port), drain_seconds="0.3"))
        self.processes["server"] = server.start()
        server.wait_until_ready(self.is_alive, START_DEADLINE)

    def start_relay(self) -> None:
        """Start the relay as its unit does, with a grace that a test can wait for."""
        arguments = manual.arguments("hermes-relay", grace_seconds="4")
        relay = self.child("relay", *arguments, AWS_ENDPOINT_URL=self.proxies["relay"].url)
        self.processes["relay"] = relay.start()

    def connection(self, url: str) -> http.client.HTTPConnection:
        """Return a connection, over TLS where the URL says so; close it."""
        if not url.startswith("https:"):
            return super().connection(url)
        context = ssl.create_default_context(cafile=str(self.certificates))
        return http.client.HTTPSConnection("localhost", int(url.rsplit(":", 1)[1]), timeout=10, context=context)

    def queue_url(self, name: str = "hermes-messageQueue") -> str:
        """Return a queue's URL."""
        return super().queue_url(self.env[_QUEUES[name]])

    def items(self, table: str = "hermesConnections") -> list[dict[str, Any]]:
        """Return every item of a table, in DynamoDB's notation."""
        return super().items(self.env[_TABLES[table]])

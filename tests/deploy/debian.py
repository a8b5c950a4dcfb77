"""A bare Debian by debootstrap, and the world that it installs from. Called by test_newcomer for `make operations`."""

from __future__ import annotations

import http.client
import json
import os
import secrets
import shutil
import socket
import subprocess
import threading
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.certificates import make_certificate
from tests.deploy.acme import URL, Authority
from tests.deploy.alerts import ALERTS
from tests.deploy.clean_root import CleanRoot, carry
from tests.deploy.newcomer import APT, Newcomer
from tests.waiting import wait_until

SUITE = "bookworm"
PROXY_PORT = 3128
BOOTSTRAP_SECONDS = 900.0
DATABASE_HOST, DATABASE_ADDRESS = "db.example.org", "10.0.0.5"
WATCH_SECONDS = 60.0  # Prometheus asks once in 15


class Debian:
    """What `debootstrap` makes of nothing: apt, and hardly more.

    Args:
        directory: where it is kept; one that is there is taken as it is.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._ends: list[Authority | Proxy] = []

    def bootstrap(self) -> Path:
        """Return the root, made if it is missing."""
        if not (self.directory / "etc/debian_version").exists() or (self.directory / "debootstrap").exists():
            shutil.rmtree(self.directory, ignore_errors=True)
            command = ["debootstrap", "--variant=minbase", SUITE, str(self.directory)]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=BOOTSTRAP_SECONDS)
        return self.directory

    def prepare(self, newcomer: Newcomer) -> None:
        """Give the host the way to its packages, and put AWS and the authority where its programs look for them."""
        root = newcomer.root
        self._ends.append(Proxy(root))
        proxy = f"http://127.0.0.1:{PROXY_PORT}"
        root.write("/etc/apt/apt.conf.d/90way-out", f'Acquire::http::Proxy "{proxy}";\n')
        # How this machine's pip reaches its index.
        settings = {"PIP_PROXY": proxy}
        for name, value in os.environ.items():
            if name.startswith("PIP_"):
                settings[name] = value
                if Path(value).is_file():
                    settings[name] = f"/run/{name}"
                    root.write(settings[name], Path(value).read_text(encoding="utf-8"))
        newcomer.variables = "export " + " ".join(f"{name}='{value}'" for name, value in settings.items())

        def installed() -> None:
            newcomer.trust_the_authority()
            # systemd would start them when they are installed.
            started = root.run("systemctl start nginx redis-server")
            assert started.returncode == 0, started.stdout
            # Debian's AWS CLI reads no endpoint from its environment.
            aws = f'#!/bin/sh\nexec /usr/bin/aws --endpoint-url {newcomer.aws_url} "$@"\n'
            root.write("/usr/local/bin/aws", aws, 0o755)
            # What certbot would ask at the terminal, and where the authority is.
            answers = f"server = {URL}/directory\nemail = admin@example.net\nagree-tos = true\nno-eff-email = true\n"
            # Where it is not asked by somebody at a terminal, it would wait for up to eight minutes before it renews.
            answers += "no-random-sleep-on-renew = true\n"
            with root.path("/etc/letsencrypt/cli.ini").open("a", encoding="utf-8") as file:
                file.write(answers)
            self._ends.append(Authority(root, newcomer.directory / "authority"))

        def watched() -> None:
            started = root.run("systemctl start prometheus")
            assert started.returncode == 0, started.stdout

        newcomer.after[f"{APT} adduser"] = installed
        newcomer.after[f"{APT} prometheus"] = watched
        newcomer.after[f"{APT} postgresql"] = lambda: become_the_database_s_host(newcomer)
        newcomer.after["promtool check config"] = lambda: sees_both_and_has_nothing_to_say(root)

    def close(self) -> None:
        """End what was begun."""
        for end in self._ends:
            end.close()


def become_the_database_s_host(newcomer: Newcomer) -> None:
    """Give the host the second name and address that the page's database has, and its certificate; done once.

    What a page cannot type is the administrator's: a name, a password, and whose authority signed what.
    """
    root = newcomer.root
    if root.path("/etc/postgresql/server.pem").exists():
        return
    address = f"ip addr add {DATABASE_ADDRESS}/8 dev lo"
    root.in_its_network(lambda: subprocess.run(address.split(), check=True))
    with root.path("/etc/hosts").open("a", encoding="utf-8") as file:
        file.write(f"{DATABASE_ADDRESS} {DATABASE_HOST}\n")
    folder = newcomer.directory / "database"
    authority = make_certificate(folder, "server.pem", "server.key", f"DNS:{DATABASE_HOST}")
    root.write("/root/hermes/postgresql-authority.pem", authority.read_text(encoding="utf-8"))
    for name in ("server.pem", "server.key"):
        root.write(f"/etc/postgresql/{name}", (folder / name).read_text(encoding="utf-8"), 0o600)
    begin = "chown postgres: /etc/postgresql/server.*; systemctl start postgresql"
    # In a file, as the newcomer's shell has it, and not on a command line.
    root.write("/run/password", f"export PASSWORD={secrets.token_hex(32)}\n", 0o600)
    done = root.run(f"{begin} && cat /run/password >> /run/shell")
    assert done.returncode == 0, done.stdout


def sees_both_and_has_nothing_to_say(root: CleanRoot) -> None:
    """Wait until the host's own Prometheus has asked server and relay, and judged every alert."""

    def asked(path: str) -> Any:
        done = root.run(f"curl --fail --silent --show-error http://127.0.0.1:9090/api/v1/{path}")
        return json.loads(done.stdout)["data"] if done.returncode == 0 else {}

    def both_answer() -> bool:
        targets = asked("targets").get("activeTargets", ())
        return {(each["labels"]["job"], each["health"]) for each in targets} == {
            ("hermes", "up"),
            ("hermes-relay", "up"),
        }

    def all_are_judged() -> list[str]:
        rules = [rule for group in asked("rules").get("groups", ()) for rule in group["rules"]]
        return [rule["state"] for rule in rules if rule["health"] == "ok"] if len(rules) == len(ALERTS) else []

    wait_until(both_answer, WATCH_SECONDS, "server and relay answer the host's Prometheus")
    wait_until(lambda: len(all_are_judged()) == len(ALERTS), WATCH_SECONDS, "every alert is judged")
    assert set(all_are_judged()) == {"inactive"}, asked("alerts")


class Proxy:
    """An HTTP proxy inside a root's network that fetches by this machine's own."""

    def __init__(self, root: CleanRoot) -> None:
        self._server = root.in_its_network(lambda: ThreadingHTTPServer(("127.0.0.1", PROXY_PORT), _Fetching))
        threading.Thread(target=self._server.serve_forever, args=(0.05,), name="proxy", daemon=True).start()

    def close(self) -> None:
        """Fetch nothing more."""
        self._server.shutdown()
        self._server.server_close()


class _Fetching(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        asked = urllib.parse.urlsplit(self.path)
        connection = http.client.HTTPConnection(asked.hostname or "", asked.port or 80, timeout=60)
        try:
            headers = {name: value for name, value in self.headers.items() if name.lower() != "proxy-connection"}
            connection.request("GET", asked._replace(scheme="", netloc="").geturl(), headers=headers)
            answer = connection.getresponse()
            body = answer.read()
        finally:
            connection.close()
        self.send_response_only(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in {"transfer-encoding", "connection", "content-length"}:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_CONNECT(self) -> None:
        host, _, port = self.path.rpartition(":")
        with socket.create_connection((host, int(port)), timeout=60) as server:
            self.send_response_only(200)
            self.end_headers()
            self.wfile.flush()
            server.settimeout(None)
            carry(self.connection, server)
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass

"""`manage.py demo`, behind `make run`: one command up, Ctrl-C down, nothing left behind."""

from __future__ import annotations

import fcntl
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest

from hermes_site.children import ChildError, ChildProcess
from hermes_site.demo_stack import (
    DemoError,
    DemoStack,
    choose_port,
    create_members,
    is_ready,
    read_env,
    write_env,
)
from hermes_site.engines import HOST, Valkey, free_port
from tests.conftest import Aws
from tests.environment import without_foreign
from tests.test_engines import is_gone
from tests.waiting import wait_until

ROOT = Path(__file__).parent.parent
# Where coverage is measured it is of the demo itself: what it starts would take three times as long to be ready.
UNMEASURED_BELOW = """
import os, runpy, sys
for name in [name for name in os.environ if name.startswith("COVERAGE")]:
    del os.environ[name]
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def descendants(pid: int) -> set[int]:
    """Return the ids of all processes below one."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
            except (FileNotFoundError, ProcessLookupError):
                continue
            parents.setdefault(parent, []).append(int(entry.name))
    found: set[int] = set()
    rest = [pid]
    while rest:
        children = parents.get(rest.pop(), [])
        found.update(children)
        rest.extend(children)
    return found


class Demo:
    """`manage.py demo` as a process, its data in a directory of the test's own."""

    def __init__(self, directory: Path, port: int) -> None:
        self.var = directory / "var"
        self.port = port
        variables = without_foreign(dict(os.environ))
        variables["DJANGO_SECRET_KEY"] = "a key for the demo's own tests"
        command = [sys.executable, "-c", UNMEASURED_BELOW, str(ROOT / "manage.py"), "demo"]
        command += ["--port", str(port), "--directory", str(self.var)]
        self.process = ChildProcess("demo", command, environment=variables, log=directory / "demo.log")

    def start(self) -> dict[str, str]:
        """Start it, wait until it says where it is, and return demo.env."""
        self.process.log.unlink(missing_ok=True)
        self.process.start()
        self.process.wait_until_ready(lambda: "Ctrl-C stops all of it." in self.process.log_text(), 60)
        return read_env(self.var / "demo.env")


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Demo]:
    """A demo that is not started yet."""
    demo = Demo(tmp_path, free_port())
    yield demo
    demo.process.stop()


def test_one_command_starts_everything_and_ctrl_c_leaves_nothing_behind(demo: Demo) -> None:
    variables = demo.start()
    assert variables["HERMES_URL"] == f"http://{HOST}:{demo.port}"
    assert is_ready(variables["HERMES_URL"])
    assert (demo.var / "demo.env").stat().st_mode & 0o777 == 0o600
    text = demo.process.log_text()
    assert variables["HERMES_URL"] in text
    assert variables["HERMES_DEMO_PASSWORD"] in text
    sqs = boto3.client(
        "sqs",
        endpoint_url=variables["AWS_ENDPOINT_URL"],
        region_name=variables["AWS_REGION"],
        aws_access_key_id=variables["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=variables["AWS_SECRET_ACCESS_KEY"],
    )
    assert sqs.get_queue_url(QueueName="hermes-messageQueue")["QueueUrl"].startswith(variables["AWS_ENDPOINT_URL"])
    sqs.close()
    below = descendants(demo.process.pid)
    assert len(below) >= 4
    demo.process.send_signal(signal.SIGINT)
    wait_until(lambda: not demo.process.running, 10, "the demo ends within seconds")
    assert demo.process.exit_code == 0
    wait_until(lambda: all(map(is_gone, below)), what="no process is left")


def test_a_second_start_keeps_password_secrets_and_histories_and_finds_another_port(demo: Demo, tmp_path: Path) -> None:
    first = demo.start()
    demo.process.stop(15)
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind((HOST, demo.port))
        other.listen()
        second = demo.start()
    assert f"Port {demo.port} is taken" in demo.process.log_text()
    assert second["HERMES_URL"] != first["HERMES_URL"]
    for name in ("HERMES_DEMO_PASSWORD", "HERMES_JWT_SECRET", "HERMES_PASSCODE"):
        assert second[name] == first[name]
    again = Demo(tmp_path, free_port())
    again.process.log = tmp_path / "again.log"
    again.process.start()
    wait_until(lambda: not again.process.running, 30)
    assert again.process.exit_code == 1
    assert "Another demo runs" in again.process.log_text()
    assert demo.process.running


def test_when_a_part_dies_the_demo_names_it_and_stops_everything(demo: Demo) -> None:
    demo.start()
    below = descendants(demo.process.pid)
    (relay,) = [pid for pid in below if b"relay_sqs" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    os.kill(relay, signal.SIGKILL)
    wait_until(lambda: not demo.process.running, 20)
    assert demo.process.exit_code == 1
    assert re.search(r"relay ended by itself with -9", demo.process.log_text())
    wait_until(lambda: all(map(is_gone, below)))


def test_a_second_signal_ends_it_at_once(demo: Demo) -> None:
    demo.start()
    below = descendants(demo.process.pid)
    (relay,) = [pid for pid in below if b"relay_sqs" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    os.kill(relay, signal.SIGSTOP)
    demo.process.send_signal(signal.SIGINT)
    wait_until(lambda: "Stopping." in demo.process.log_text())
    demo.process.send_signal(signal.SIGINT)
    wait_until(lambda: not demo.process.running, 3)
    assert demo.process.exit_code == 128 + signal.SIGINT
    wait_until(lambda: all(map(is_gone, below)))


def test_a_signal_during_the_start_stops_it(demo: Demo) -> None:
    demo.process.start()
    wait_until(lambda: (demo.var / "demo.env").exists(), 30)
    demo.process.send_signal(signal.SIGTERM)
    wait_until(lambda: not demo.process.running, 15)
    assert demo.process.exit_code == 0
    assert "Hermes runs at" not in demo.process.log_text()


def test_a_shell_reads_demo_env_whatever_its_values_hold(tmp_path: Path) -> None:
    path = tmp_path / "demo.env"
    variables = {"REDIS_URL": "redis://:a'b$c d#@host/0?x=1&y", "HERMES_DEMO_ROOM": "acme", "PATH": "never written"}
    write_env(path, variables)
    del variables["PATH"]
    assert read_env(path) == variables
    shown = subprocess.run(
        ["sh", "-c", f'set -a; . {shlex.quote(str(path))}; printf %s "$REDIS_URL"'],
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stdout == variables["REDIS_URL"]
    assert read_env(tmp_path / "none.env") == {}


def test_engines_that_the_environment_replaces_are_not_started(
    tmp_path: Path, valkey: Valkey, aws_endpoint: Aws
) -> None:
    environment = {"REDIS_URL": valkey.url, "AWS_ENDPOINT_URL": aws_endpoint.url, "AWS_ACCESS_KEY_ID": "mine"}
    stopping = threading.Event()
    stopping.set()
    stack = DemoStack(tmp_path, free_port(), environment, lambda _: None, stopping)
    try:
        stack.start()
        stack.watch()
        assert not list(tmp_path.glob("*/*.log"))
        written = read_env(tmp_path / "demo.env")
        assert written["REDIS_URL"] == valkey.url
        assert written["AWS_ENDPOINT_URL"] == aws_endpoint.url
        assert written["AWS_ACCESS_KEY_ID"] == "mine"
    finally:
        stack.stop()


def test_a_directory_in_use_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "demo.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(DemoError, match="Another demo"):
            DemoStack(tmp_path, free_port(), {}, lambda _: None, threading.Event()).start()


def test_a_preparation_that_fails_is_quoted(tmp_path: Path, valkey: Valkey) -> None:
    environment = {
        **without_foreign(dict(os.environ)),
        "REDIS_URL": valkey.url,
        "AWS_ENDPOINT_URL": f"http://{HOST}:{free_port()}",
        "DJANGO_SECRET_KEY": "x",
        "DATABASE_URL": f"sqlite:///{tmp_path}/nowhere/none.sqlite3",
    }
    stack = DemoStack(tmp_path, free_port(), environment, lambda _: None, threading.Event())
    try:
        with pytest.raises(ChildError, match=r"(?s)prepare ended with 1.*unable to open database file"):
            stack.start()
    finally:
        stack.stop()


def test_a_taken_port_is_replaced_by_a_free_one() -> None:
    with socket.socket() as other:
        other.bind((HOST, 0))
        other.listen()
        taken = other.getsockname()[1]
        assert choose_port(taken) != taken
    assert choose_port(taken) == taken


def test_nobody_is_ready_where_nobody_listens() -> None:
    assert not is_ready(f"http://{HOST}:{free_port()}")


@pytest.mark.django_db
def test_the_members_are_made_once_and_get_the_password_back() -> None:
    from django.contrib.auth import authenticate, get_user_model

    from notifications.models import Membership

    create_members("first password")
    create_members("first password")
    create_members("second password")
    assert {str(membership) for membership in Membership.objects.all()} == {
        "alice in Acme",
        "bob in Acme",
        "charlie in Globex",
    }
    assert authenticate(username="bob", password="second password")
    assert not authenticate(username="bob", password="first password")
    assert get_user_model().objects.get(username="admin").is_superuser

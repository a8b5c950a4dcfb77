"""The image: built by buildah from a bare Debian as the Dockerfile says, and the main job run in it. `make image`.

Debian's mirror and the package index are asked, so `make test` leaves it alone. buildah needs no daemon and no
registry: what the Dockerfile begins from is what debootstrap makes.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from hermes_site.engines import Valkey
from tests.deploy.conftest import need
from tests.deploy.debian import Debian
from tests.documents import ROOT
from tests.environment import environment
from tests.waiting import wait_until

BASE = "debian:bookworm-slim"
PYTHON = "/opt/hermes/.venv/bin/python"
BUILD_SECONDS = 900


class Image:
    """What was built, and one container of it.

    Args:
        directory: where buildah keeps what it makes.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._command = ["buildah", "--storage-driver", "vfs"]
        self._command += ["--root", str(directory / "root"), "--runroot", str(directory / "run")]
        self.container = ""

    def buildah(self, *arguments: str, seconds: float = 120) -> str:
        """Run buildah; return what it prints."""
        done = subprocess.run(
            [*self._command, *arguments],
            env={**os.environ, "BUILDAH_ISOLATION": "chroot"},
            capture_output=True,
            text=True,
            timeout=seconds,
        )
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
        return done.stdout.strip()

    def build(self) -> None:
        """Make what the Dockerfile begins from, and then the image."""
        base = Debian(ROOT / "var/debian").bootstrap()
        container = self.buildah("from", "scratch")
        mounted = self.buildah("mount", container)
        subprocess.run(["cp", "--archive", f"{base}/.", mounted], check=True, timeout=300)
        self.buildah("umount", container)
        self.buildah("commit", "--rm", container, BASE, seconds=300)
        shown = [argument for path in self._way_to_the_index() for argument in ("--volume", path)]
        self.buildah("bud", "--pull-never", *shown, "--tag", "hermes", str(ROOT), seconds=BUILD_SECONDS)
        self.container = self.buildah("from", "--pull-never", "hermes")

    def _way_to_the_index(self) -> list[str]:
        """Return what of this machine the build sees, so that pip reaches the index by this machine's own way."""
        lines, shown = ["[global]"], []
        for name, value in os.environ.items():
            option = name.removeprefix("PIP_").lower().replace("_", "-")
            if name == "PIP_CERT":
                shown.append(f"{value}:/run/{name}:ro")
                lines.append(f"{option} = /run/{name}")
            elif name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_TRUSTED_HOST", "PIP_PROXY"):
                lines.append(f"{option} = {value}")
        file = self._directory / "pip.conf"
        file.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return [*shown, f"{file}:/etc/pip.conf:ro"]

    def command(self, *arguments: str, **variables: str) -> list[str]:
        """Return what runs a program in the container, as the image's own user."""
        given = [argument for name, value in variables.items() for argument in ("--env", f"{name}={value}")]
        return [*self._command, "run", "--isolation", "chroot", *given, self.container, "--", *arguments]

    def run(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a program in the container to its end."""
        return subprocess.run(self.command(*arguments, **variables), capture_output=True, text=True, timeout=120)

    def remove(self) -> None:
        """Forget all of it."""
        self.buildah("rm", "--all")
        self.buildah("rmi", "--all", "--force")
        shutil.rmtree(self._directory, ignore_errors=True)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    for program in ("buildah", "debootstrap"):
        need(program)
    image = Image(tmp_path_factory.mktemp("image"))
    signal.alarm(0)  # a mirror takes what it likes
    try:
        image.build()
        yield image
    finally:
        image.remove()


@pytest.fixture
def variables(valkey: Valkey, aws: Any) -> dict[str, str]:
    """A stage of the tests' own, whose SQL is inside the container."""
    own = environment(
        aws_url=os.environ["AWS_ENDPOINT_URL"],
        redis_url=valkey.url,
        database_url=f"sqlite:////var/lib/hermes/{secrets.token_hex(4)}.sqlite3",
    )
    return {**own, "HERMES_HASHED_STATIC": "true", "DJANGO_ALLOWED_HOSTS": "127.0.0.1", "HERMES_STAGES": "development"}


def test_it_runs_a_server_as_a_user_of_its_own(image: Image) -> None:
    config: dict[str, Any] = json.loads(image.buildah("inspect", "--type", "image", "hermes"))["OCIv1"]["config"]
    assert config["User"] == "990"
    assert config["Entrypoint"] == [PYTHON, "manage.py"]
    assert config["Cmd"][0] == "serve"


def test_its_user_changes_nothing_of_it(image: Image) -> None:
    done = image.run("sh", "-c", "id -un; find /opt /etc /usr -writable -not -type l -print -quit")
    assert done.stdout == "hermes\n"


def test_no_test_no_secret_and_no_history_is_in_it(image: Image) -> None:
    done = image.run("ls", "-A", "/opt/hermes")
    kept = {".venv", "hermes_site", "manage.py", "notifications", "requirements.txt", "static", "templates", "var"}
    assert set(done.stdout.split()) == kept


def test_the_main_job_runs_in_it(image: Image, variables: dict[str, str]) -> None:
    for command in (("check",), ("migrate", "--verbosity", "0"), ("provision",)):
        done = image.run(PYTHON, "manage.py", *command, **variables)
        assert done.returncode == 0, done.stdout + done.stderr
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    with running(image, "serve", "--port", port, "--workers", "2", "--drain-seconds", "1", **variables) as server:
        wait_until(lambda: answer(f"http://127.0.0.1:{port}/readyz") == 200, 60, "the server is ready")
        page = urllib.request.urlopen(f"http://127.0.0.1:{port}/sign-in/", timeout=10).read().decode()
        assert 'src="/static/' in page or 'href="/static/' in page
        with running(image, "relay_sqs", "--pollers", "1", "--grace-seconds", "2", **variables) as relay:
            done = image.run(PYTHON, "manage.py", "send", "acme", '{"type": "success", "data": "up"}', **variables)
            assert done.returncode == 0, done.stdout + done.stderr
            entries = (
                "from notifications.stream import glance; print(len(glance.last_entries('development', 'acme', 10)[1]))"
            )
            wait_until(lambda: shell(image, entries, variables) == "1", 60, "the message is in its history")
        assert relay.returncode == 0
    assert server.returncode == 0


@contextmanager
def running(image: Image, *command: str, **variables: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a service in the container, and stop it as a host does."""
    process = subprocess.Popen(image.command(PYTHON, "manage.py", *command, **variables), start_new_session=True)
    try:
        yield process
        stop(command[0])
        process.wait(60)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def stop(service: str) -> None:
    """Send SIGTERM to the first process of a service, of those that run from the image's own Python."""
    wanted = [PYTHON.encode(), b"manage.py", service.encode()]
    found = [
        int(path.parent.name)
        for path in Path("/proc").glob("[0-9]*/cmdline")
        if path.read_bytes().split(b"\0")[:3] == wanted
    ]
    os.kill(min(found), signal.SIGTERM)


def shell(image: Image, code: str, variables: dict[str, str]) -> str:
    done = image.run(PYTHON, "manage.py", "shell", "--verbosity", "0", "-c", code, **variables)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def answer(url: str) -> int:
    try:
        return int(urllib.request.urlopen(url, timeout=5).status)  # noqa: S310  our own address
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0

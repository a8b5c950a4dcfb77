"""One Hermes as docs/operations.md installs it, for all tests of this folder, and nginx in front of it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest

from tests.deploy.deployment import Deployment
from tests.deploy.front import Front
from tests.environment import without_foreign

# It asks Debian's mirror and the package index: `make image` runs it.
collect_ignore = [] if os.environ.get("IMAGE") == "build" else ["test_image.py"]
_LEFT_OUT: set[str] = set()


def need(program: str) -> None:
    """Leave a test out, loudly, where the machine has not what it runs; where CI=true it fails."""
    # nginx and systemd-analyze may be where only root's path leads.
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
    if shutil.which(program, path=path) is None:
        leave_out(program)


def leave_out(what: str, *, can_be_installed: bool = True) -> NoReturn:
    """Leave a test out for want of something; where CI=true it fails, because CI installs what it can."""
    if os.environ.get("CI") == "true" and can_be_installed:
        pytest.fail(f"CI leaves no test out, and there is no {what}")
    _LEFT_OUT.add(what)
    pytest.skip(f"no {what} on this machine")


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say loudly what was left out."""
    for program in sorted(_LEFT_OUT):
        terminalreporter.section(f"LEFT OUT: tests that run {program}", sep="!", red=True, bold=True)


@pytest.fixture
def host(tmp_path: Path) -> Callable[..., str]:
    """Return a function that runs a command there, with `/etc`, `/var` and `/run` in the test's directory."""
    for folder in ("etc/hermes/secrets", "var/backups", "var/lib/hermes", "run", "root"):
        (tmp_path / folder).mkdir(parents=True)

    def run(command: str, **environment: str) -> str:
        done = subprocess.run(
            ["/bin/sh", "-euc", re.sub(r"(?<![\w.$}])/(etc|var|run)\b", rf"{tmp_path}/\1", command)],
            cwd=tmp_path / "root",
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, (command, done.stdout, done.stderr)
        return done.stdout

    return run


@pytest.fixture(scope="session")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """The template's queue and tables, and server and relay on them."""
    need("openssl")
    deployment = Deployment(tmp_path_factory.mktemp("deployed"), without_foreign(dict(os.environ)))
    try:
        yield deployment.start()
    finally:
        deployment.stop()


@pytest.fixture(scope="session")
def front(deployed: Deployment) -> Iterator[Front]:
    """nginx before it, with a certificate of a local authority."""
    need("nginx")
    front = Front(deployed, deployed.directory / "front", deployed.port)
    deployed.certificates = front.authority
    try:
        yield front.start()
    finally:
        front.stop()

"""What `make bench` installs: what is missing, what has another version than the pin, and nothing else."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

PEERS = Path(__file__).parents[2] / "bench" / "peers"
NPM = "mkdir -p node_modules && echo {} >node_modules/.package-lock.json"
GO = 'touch "$GOBIN/centrifugo" && chmod +x "$GOBIN/centrifugo"'


class Machine:
    """One that has the programs that a test gives it, and on which nobody is root."""

    def __init__(self, root: Path) -> None:
        self.root, self.tools, self.called = root, root / "tools", root / "called"
        (root / "bench").mkdir()
        shutil.copytree(PEERS, root / "bench" / "peers", ignore=shutil.ignore_patterns("node_modules"))
        self.tools.mkdir()
        for name in ("sh", "sed", "cat", "mkdir", "touch", "chmod", "dirname", "ls", "timeout", "pwd"):
            if path := shutil.which(name):
                (self.tools / name).symlink_to(path)
        self.has("id", "echo 1000")

    def has(self, name: str, does: str) -> None:
        """Give it a program, which notes that it was called."""
        program = self.tools / name
        program.write_text(f'#!/bin/sh\necho "{name} $*" >>"{self.called}"\n{does}\n')
        program.chmod(0o755)

    def install(self) -> tuple[list[str], str]:
        """Return what was called with which arguments, and what was said."""
        self.called.unlink(missing_ok=True)
        script = self.root / "bench" / "peers" / "install"
        done = subprocess.run(
            ["sh", str(script)], env={"PATH": str(self.tools)}, capture_output=True, text=True, check=True, timeout=30
        )
        calls = self.called.read_text().splitlines() if self.called.exists() else []
        return [call for call in calls if not call.startswith("id ")], done.stdout + done.stderr


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_a_machine_without_tools_installs_nothing_and_does_not_fail(machine: Machine) -> None:
    assert machine.install() == ([], "")


def test_what_is_there_is_left_alone_and_what_is_not_says_that_it_takes_its_time(machine: Machine) -> None:
    machine.has("npm", NPM)
    machine.has("go", GO)
    calls, said = machine.install()
    assert [call.split()[0] for call in calls] == ["npm", "go"]
    assert "no part of what the benchmark takes" in said
    assert machine.install() == ([], "")


def test_a_tool_that_comes_later_is_used_and_what_failed_is_tried_again(machine: Machine) -> None:
    machine.has("npm", "exit 1")
    assert "Socket.IO is not installed" in machine.install()[1]
    machine.has("npm", NPM)
    machine.has("go", "echo no network >&2; exit 1")
    calls, said = machine.install()
    assert [call.split()[0] for call in calls] == ["npm", "go"]
    assert "no network" in said
    machine.has("go", GO)
    assert [call.split()[0] for call in machine.install()[0]] == ["go"]


def test_another_pin_is_built(machine: Machine) -> None:
    machine.has("go", GO)
    machine.install()
    source = machine.root / "bench" / "peers" / "centrifugo.py"
    pinned = next(line for line in source.read_text().splitlines() if line.startswith("PINNED = "))
    source.write_text(source.read_text().replace(pinned, 'PINNED = "v6.99.0"'))
    (call,) = machine.install()[0]
    assert call.endswith("centrifugo/v6@v6.99.0")
    assert machine.install() == ([], "")


def test_another_lock_file_is_installed(machine: Machine) -> None:
    machine.has("npm", NPM)
    machine.install()
    lock = machine.root / "bench" / "peers" / "socketio" / "package-lock.json"
    later = lock.with_name("node_modules").joinpath(".package-lock.json").stat().st_mtime + 5
    os.utime(lock, (later, later))
    assert [call.split()[0] for call in machine.install()[0]] == ["npm"]

"""PostgreSQL as a child process, for the leg of the tests that runs on it. Called by conftest, on top of engines."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

from hermes_site.engines import HOST, Engine


def binaries() -> Path | None:
    """Return the directory of PostgreSQL's programs, or None: Debian keeps them off the PATH."""
    if found := shutil.which("initdb"):
        return Path(found).parent
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return versions[-1].parent if versions else None


class Postgres(Engine):
    """A PostgreSQL cluster of its own, thrown away with its directory; nothing in it is synced to disk."""

    name = "postgres"
    superuser = "hermes"

    def __init__(self, directory: Path, port: int = 0) -> None:
        super().__init__(directory, port)
        found = binaries()
        assert found, "PostgreSQL's programs are missing: apt-get install postgresql, or set TEST_DATABASE_URL."
        self.binaries = found

    @property
    def data(self) -> Path:
        """Where the cluster is."""
        return self.directory / "data"

    @property
    def url(self) -> str:
        """What DATABASE_URL must be."""
        return f"postgres://hermes@{HOST}:{self.port}/postgres"

    def user(self) -> str | None:
        """PostgreSQL refuses to run as root."""
        return "postgres" if os.geteuid() == 0 else None

    def environment(self) -> Mapping[str, str]:
        """Return its environment, in a language that its messages can be searched in."""
        return {**super().environment(), "LC_ALL": "C.UTF-8"}

    def start(self) -> Self:
        """Make the cluster at the first start, then start it."""
        if not self.data.exists():
            self.directory.mkdir(parents=True, exist_ok=True)
            if user := self.user():
                shutil.chown(self.directory, user)
                # The run's directory is private to root, and this one is inside it.
                self.directory.parent.chmod(0o711)
            subprocess.run(
                [
                    self.binaries / "initdb",
                    "-D",
                    self.data,
                    "-U",
                    self.superuser,
                    "--auth=trust",
                    "-E",
                    "UTF8",
                    "--no-sync",
                ],
                check=True,
                capture_output=True,
                env=self.environment(),
                user=self.user(),
                cwd=self.directory,
            )
        return super().start()

    def command(self) -> Sequence[str]:
        """Return the server's command line."""
        options = {
            "listen_addresses": HOST,
            "unix_socket_directories": "",
            "fsync": "off",
            "max_connections": "200",
        }
        settings = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        return [str(self.binaries / "postgres"), "-D", str(self.data), "-p", str(self.port), *settings]

    def answers(self) -> bool:
        """Return whether it lets clients in: an SSL request is answered once it does."""
        try:
            with socket.create_connection((HOST, self.port), timeout=1) as connection:
                connection.sendall(b"\x00\x00\x00\x08\x04\xd2\x16\x2f")
                return connection.recv(1) in (b"S", b"N")
        except OSError:
            return False

    def stop(self, deadline: float = 5.0) -> None:
        """Stop it without waiting for its clients."""
        self.kill()

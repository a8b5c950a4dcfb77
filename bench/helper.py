"""Helper: a process of the benchmark's own that does what it is told, a line of JSON at a time. load and talk are such.

The conductor starts it, asks, and waits for the answer until a deadline; it dies with the conductor.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import sys
import tempfile
import traceback
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Self

from hermes_site.children import ChildProcess

ROOT = Path(__file__).resolve().parent.parent
Commands = Mapping[str, Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]]
_START_SECONDS = 20.0
_LINE_BYTES = 1 << 26  # the arrivals of a run are one line


class HelperError(Exception):
    """A helper did not do what it was told; the message says what it knows."""


class Helper:
    """The conductor's side.

    Args:
        module: what to run, e.g. ``bench.load``.
        environment: all of its environment.
        log: where its output goes.
    """

    def __init__(self, module: str, environment: Mapping[str, str], log: Path) -> None:
        self.module = module
        self._directory = tempfile.TemporaryDirectory(prefix="hermes-bench-")
        self._path = str(Path(self._directory.name) / "control")
        self.child = ChildProcess(module, [sys.executable, "-m", module, self._path], environment=environment, log=log)
        self._connection: socket.socket | None = None
        self._rest = b""

    def start(self) -> Self:
        """Start it; `join` waits for it, so that several can come up at once."""
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self._path)
        self._listener.listen(1)
        self._listener.settimeout(_START_SECONDS)
        self.child.start()
        return self

    def join(self) -> None:
        """Wait until it listens to us."""
        try:
            self._connection, _ = self._listener.accept()
        except TimeoutError:
            raise HelperError(f"{self.module} did not start. Its log ends:\n{self.child.log_tail()}") from None
        finally:
            self._listener.close()

    def tell(self, name: str, **arguments: Any) -> None:
        """Tell it to do something; `answer` waits for it."""
        assert self._connection is not None  # noqa: S101  started
        self._connection.sendall(json.dumps({"do": name, **arguments}).encode() + b"\n")

    def answer(self, deadline: float) -> dict[str, Any]:
        """Return its answer.

        Args:
            deadline: seconds to wait at most.

        Raises:
            HelperError: it failed, died, or does not answer in time.
        """
        assert self._connection is not None  # noqa: S101
        self._connection.settimeout(deadline)
        pieces = [self._rest]
        while b"\n" not in pieces[-1]:
            try:
                piece = self._connection.recv(1 << 20)
            except TimeoutError:
                raise HelperError(f"{self.module} did not answer within {deadline:g} s") from None
            if not piece:
                raise HelperError(f"{self.module} has ended. Its log ends:\n{self.child.log_tail()}")
            pieces.append(piece)
        line, _, self._rest = b"".join(pieces).partition(b"\n")
        said: dict[str, Any] = json.loads(line)
        if "failed" in said:
            raise HelperError(f"{self.module}: {said['failed']}")
        return said

    def ask(self, name: str, deadline: float, **arguments: Any) -> dict[str, Any]:
        """Tell it, and return its answer; ``deadline`` is passed on, and ten seconds more are allowed for the way."""
        self.tell(name, deadline=deadline, **arguments)
        return self.answer(deadline + 10)

    def stop(self) -> None:
        """End it."""
        if self._connection is not None:
            self._connection.close()
        self.child.stop(2.0)
        self._directory.cleanup()


async def obey(path: str, commands: Commands) -> None:
    """Be a helper: do one command after the other until the conductor is gone.

    Args:
        path: of the control socket.
        commands: by name.
    """
    reader, writer = await asyncio.open_unix_connection(path, limit=_LINE_BYTES)
    while line := await reader.readline():
        command = json.loads(line)
        try:
            answer = await commands[command["do"]](command)
        except Exception as error:
            traceback.print_exc()
            answer = {"failed": f"{type(error).__name__}: {error}"}
        writer.write(json.dumps(answer).encode() + b"\n")
        await writer.drain()
    with contextlib.suppress(OSError):
        writer.close()

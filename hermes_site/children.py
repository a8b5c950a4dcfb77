"""Children: one child process that dies with its parent. Called by engines and demo_stack; knows nothing of Hermes."""

from __future__ import annotations

import atexit
import contextlib
import errno
import os
import shutil
import signal
import subprocess  # starting processes is this module's purpose
import sys
import threading
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self

# util-linux's setpriv has the kernel end a child whose parent is gone, however that went. A preexec_fn could ask for it
# as well, but it is Python between fork and exec: with a second thread and a signal at that moment both may hang.
_SETPRIV = shutil.which("setpriv") if sys.platform == "linux" else None
# Linux sends the parent-death signal when the *thread* that forked ends, so every child is forked by this one, which
# lives as long as the process.
_FORKER = ThreadPoolExecutor(max_workers=1, thread_name_prefix="forker")
_POLL_SECONDS = 0.02


class ChildError(Exception):
    """The child did not do what it was started for; the message names it and quotes the end of its log."""


def wait_for(predicate: Callable[[], bool], deadline: float) -> bool:
    """Poll ``predicate`` until it holds.

    Args:
        predicate: called about fifty times a second; what it raises is raised.
        deadline: seconds to wait at most.

    Returns:
        Whether it held in time.
    """
    end = time.monotonic() + deadline
    while not predicate():
        if time.monotonic() > end:
            return False
        time.sleep(_POLL_SECONDS)
    return True


class ChildProcess:
    """A command run as a child in a session of its own, its output in a file.

    In a session of its own a Ctrl-C in the terminal reaches only the parent, which then stops its children in order.

    Args:
        name: what people call it, in messages.
        command: the program and its arguments.
        environment: all of its environment.
        log: the file that receives its standard output and error; appended to.
        user: run as this user (root only); None means as ourselves.
    """

    def __init__(
        self, name: str, command: Sequence[str], *, environment: Mapping[str, str], log: Path, user: str | None = None
    ) -> None:
        self.name = name
        self.command = list(command)
        self.environment = dict(environment)
        self.log = log
        self.user = user
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Self:
        """Start it; it runs, but is not necessarily ready.

        Raises:
            ChildError: it runs already.
            OSError: the program cannot be started.
        """
        if self.running:
            raise ChildError(f"{self.name} runs already, as process {self.pid}.")
        self._process = _FORKER.submit(self._spawn).result()
        _CHILDREN.add(self)
        return self

    def _spawn(self) -> subprocess.Popen[bytes]:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        if shutil.which(self.command[0]) is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), self.command[0])
        with self.log.open("ab") as output:
            return subprocess.Popen(  # noqa: S603  the commands are our own
                [*_dying_with_parent(), *self.command],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                user=self.user,
                group=self.user,
                extra_groups=None if self.user is None else [],
            )

    @property
    def pid(self) -> int:
        """The process id; 0 before the first start."""
        return self._process.pid if self._process else 0

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended; a suspended one runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def exit_code(self) -> int | None:
        """What it ended with (negative: the signal's number), or None while it runs or before it started."""
        return self._process.poll() if self._process else None

    def send_signal(self, number: signal.Signals) -> None:
        """Send one signal to the process alone; an ended one is left in peace."""
        if self.running:
            os.kill(self.pid, number)

    def suspend(self) -> None:
        """Stop it and its own children in mid-air (SIGSTOP): they keep their sockets and answer nobody."""
        self.signal_group(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a suspended one go on."""
        self.signal_group(signal.SIGCONT)

    def stop(self, deadline: float = 5.0) -> int | None:
        """Ask it to end (SIGTERM), wait, then kill it and whatever it started.

        Args:
            deadline: seconds it may take to end by itself.

        Returns:
            Its exit code, or None if it never ran.
        """
        self.resume()
        self.send_signal(signal.SIGTERM)
        wait_for(lambda: not self.running, deadline)
        return self.kill()

    def kill(self) -> int | None:
        """Kill it and whatever it started, at once (SIGKILL).

        Returns:
            Its exit code, or None if it never ran.
        """
        if self._process is None:
            return None
        self.signal_group(signal.SIGKILL)
        _CHILDREN.discard(self)
        return self._process.wait()

    def signal_group(self, number: signal.Signals) -> None:
        """Send one signal to the process and whatever it started; waits for nothing, so a signal handler may."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, number)

    def log_text(self) -> str:
        """Return all that it wrote."""
        return self.log.read_text(encoding="utf-8", errors="replace") if self.log.exists() else ""

    def log_tail(self, lines: int = 15) -> str:
        """Return the last ``lines`` lines that it wrote."""
        return "\n".join(self.log_text().splitlines()[-lines:])

    def wait_until_ended(self, deadline: float, stopping: threading.Event) -> None:
        """Wait until it has done its work.

        Args:
            deadline: seconds it may take.
            stopping: once set, nobody waits any longer.

        Raises:
            ChildError: it ended with anything but 0, or is not done in time.
        """
        if not wait_for(lambda: stopping.is_set() or not self.running, deadline):
            raise ChildError(f"{self.name} was not done after {deadline:g} s. Its log ends:\n{self.log_tail()}")
        if self.exit_code:
            raise ChildError(f"{self.name} ended with {self.exit_code}. Its log ends:\n{self.log_tail()}")

    def wait_until_ready(self, ready: Callable[[], bool], deadline: float) -> None:
        """Wait until ``ready`` holds.

        Args:
            ready: a probe of what it is started for.
            deadline: seconds to wait at most.

        Raises:
            ChildError: it ended, or is not ready in time.
        """
        in_time = wait_for(lambda: not self.running or ready(), deadline)
        if not self.running:
            raise ChildError(f"{self.name} ended with {self.exit_code} at its start. Its log ends:\n{self.log_tail()}")
        if not in_time:
            raise ChildError(f"{self.name} was not ready after {deadline:g} s. Its log ends:\n{self.log_tail()}")


_CHILDREN: weakref.WeakSet[ChildProcess] = weakref.WeakSet()


def _dying_with_parent() -> list[str]:
    return [_SETPRIV, "--pdeathsig", "TERM", "--"] if _SETPRIV else []


@atexit.register
def _kill_what_is_left() -> None:
    for child in list(_CHILDREN):
        child.kill()

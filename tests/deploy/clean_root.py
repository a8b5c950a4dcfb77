"""A root of its own for a test: files, processes and network of a host on which nothing was done yet. Linux, as root.

Called by newcomer. What lies below it is only read: whatever is written goes with the test, and no port of the machine
is touched. The one way out of its network is a `Door`.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import pty
import secrets
import select
import shlex
import shutil
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self, TypeVar

from tests.waiting import wait_until

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_CLONE_NEWNET = 0x40000000
_SIOCSIFFLAGS, _IFF_UP = 0x8914, 1
_NAMESPACES = ("--mount", "--net", "--pid", "--ipc", "--uts")
# PID 1 of the root: it takes in what daemons leave behind.
_INIT = "mount -t proc proc /proc; touch {mark}; while :; do sleep 0.2; done"
T = TypeVar("T")


def may_be_made() -> bool:
    """Return whether this machine lets us have namespaces and an overlay."""
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        return False
    probe = (
        "mount -t tmpfs none /mnt && mkdir /mnt/upper /mnt/work /mnt/root && "
        "mount -t overlay none -o lowerdir=/,upperdir=/mnt/upper,workdir=/mnt/work /mnt/root"
    )
    done = subprocess.run(["unshare", *_NAMESPACES, "--fork", "/bin/sh", "-c", probe], capture_output=True)
    return done.returncode == 0


class CleanRoot:
    """A mount, process and network namespace, whose root is an overlay that forgets.

    Args:
        below: the root that it begins as; nothing is written to it.
        directory: an empty one, where it is mounted inside its own namespace.
        shown: paths of this machine that it sees under the same names, to read.
    """

    def __init__(self, below: Path, directory: Path, shown: Sequence[Path] = ()) -> None:
        self._below, self._directory, self._shown = below, directory, shown
        self._mark = f"/run/clean-root-{secrets.token_hex(8)}"  # nothing of that name is on the machine itself
        self._holder: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        layers = self._directory
        layers.mkdir(parents=True, exist_ok=True)
        root = layers / "root"
        lines = [
            "set -e",
            f"mount -t tmpfs -o mode=0755 layers {layers}",
            f"mkdir {layers}/upper {layers}/work {root}",
            f"mount -t overlay root -o lowerdir={self._below},upperdir={layers}/upper,workdir={layers}/work {root}",
            f"mount --rbind /dev {root}/dev",
            f"mount -t tmpfs -o mode=0755 run {root}/run",
        ]
        for path in self._shown:
            lines += [f"mkdir -p {root}{path}", f"mount --bind {path} {root}{path}"]
            lines += [f"mount -o remount,bind,ro {root}{path}"]
        lines += [f"exec chroot {root} /bin/sh -c {shlex.quote(_INIT.format(mark=self._mark))}"]
        making = ["--fork", "--kill-child", "--propagation", "private", "/bin/sh", "-c", "\n".join(lines)]
        self._holder = subprocess.Popen(
            ["unshare", *_NAMESPACES, *making],
            stdin=subprocess.DEVNULL,
        )
        wait_until(self._is_there, what="the root is there")
        self.in_its_network(_raise_loopback)
        return self

    def __exit__(self, *_: object) -> None:
        """End everything that runs in it; with the last process all that was written goes."""
        assert self._holder is not None
        self._holder.kill()
        self._holder.wait()

    @property
    def _first(self) -> int:
        """Its PID 1, as this machine counts; 0 before there is one."""
        assert self._holder is not None
        assert self._holder.poll() is None, "the root could not be made"
        path = Path(f"/proc/{self._holder.pid}/task/{self._holder.pid}/children")
        return int((path.read_text().split() or ["0"])[0])

    def _is_there(self) -> bool:
        first = self._first
        return first != 0 and Path(f"/proc/{first}/root{self._mark}").exists()

    def path(self, path: str) -> Path:
        """Return where this machine finds one of its files."""
        return Path(f"/proc/{self._first}/root{path}")

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """Write one of its files."""
        file = self.path(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        file.chmod(mode)

    def _command(self, script: str) -> list[str]:
        enter = ["nsenter", "--target", str(self._first), *_NAMESPACES, "--root", "--wdns=/root"]
        return [*enter, "/usr/bin/env", "-i", f"PATH={PATH}", "HOME=/root", "LANG=C.UTF-8", "/bin/sh", "-c", script]

    def run(self, script: str, deadline: float = 60.0) -> subprocess.CompletedProcess[str]:
        """Run a script in it, as root; a daemon that it starts may stay."""
        with (self._directory.parent / "output").open("w+") as output:
            # In a file: a daemon would keep a pipe open for ever.
            done = subprocess.run(
                self._command(script),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=deadline,
                check=False,
            )
            output.seek(0)
            return subprocess.CompletedProcess(script, done.returncode, output.read(), "")

    def start(self, script: str) -> subprocess.Popen[str]:
        """Start a script in it, with pipes to its input and output."""
        pipe = subprocess.PIPE
        return subprocess.Popen(self._command(script), stdin=pipe, stdout=pipe, stderr=subprocess.STDOUT, text=True)

    def answer(self, script: str, answers: Sequence[tuple[str, str]], deadline: float = 60.0) -> tuple[int, str]:
        """Run a script at a terminal.

        Args:
            script: what to run.
            answers: what it asks, in order, and what is typed then.
            deadline: seconds in all.

        Returns:
            Its exit status, and what the terminal showed.
        """
        ours, theirs = pty.openpty()
        process = subprocess.Popen(
            ["setsid", "--ctty", "--wait", *self._command(script)], stdin=theirs, stdout=theirs, stderr=theirs
        )
        os.close(theirs)
        shown, waiting, end = "", list(answers), time.monotonic() + deadline
        since = 0
        try:
            while time.monotonic() < end:
                if select.select([ours], [], [], 0.1)[0]:
                    try:
                        shown += os.read(ours, 65536).decode(errors="replace")
                    except OSError:  # nobody is at the other end any more
                        break
                if waiting and (at := shown.find(waiting[0][0], since)) >= 0:
                    os.write(ours, f"{waiting[0][1]}\n".encode())
                    since = at + len(waiting.pop(0)[0])
            return process.wait(max(0.1, end - time.monotonic())), shown
        finally:
            process.kill()
            os.close(ours)

    def in_its_network(self, function: Callable[[], T]) -> T:
        """Call a function in a thread whose sockets, and whose threads' sockets, are those of the root's network."""
        found: list[T] = []
        failed: list[BaseException] = []

        def enter() -> None:
            try:
                libc = ctypes.CDLL(None, use_errno=True)
                with Path(f"/proc/{self._first}/ns/net").open() as namespace:
                    if libc.setns(namespace.fileno(), _CLONE_NEWNET) != 0:
                        raise OSError(ctypes.get_errno(), "setns")
                found.append(function())
            except BaseException as error:  # raised below, where it is waited for
                failed.append(error)

        thread = threading.Thread(target=enter, name="in-the-root")
        thread.start()
        thread.join()
        if failed:
            raise failed[0]
        return found[0]


def _raise_loopback() -> None:
    """Bring this thread's loopback up, as every host's is."""
    with socket.socket() as any_socket:
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sh", b"lo", _IFF_UP).ljust(40, b"\0"))


class Door:
    """A port inside a root's network that leads to a port of this machine.

    Args:
        root: where it is; it runs.
        inside: the port in there.
        outside: the port out here.
    """

    def __init__(self, root: CleanRoot, inside: int, outside: int) -> None:
        self._outside = outside
        self._listener = root.in_its_network(lambda: socket.create_server(("127.0.0.1", inside)))
        self._accepting = threading.Thread(target=self._accept, name="door", daemon=True)
        self._accepting.start()

    def close(self) -> None:
        """Let nobody in any more; what is under way ends with the root."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._accepting.join(5)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._carry, args=(client,), name="door-carrying", daemon=True).start()

    def _carry(self, client: socket.socket) -> None:
        with client:
            try:
                with socket.create_connection(("127.0.0.1", self._outside)) as server:
                    carry(client, server)
            except OSError:
                return  # whoever was to answer is gone, and so is the client's connection


def carry(one: socket.socket, other: socket.socket) -> None:
    """Copy bytes between two sockets until either ends."""
    while True:
        for readable in select.select([one, other], [], [])[0]:
            data = readable.recv(65536)
            if not data:
                return
            (other if readable is one else one).sendall(data)

"""Neighbours: which servers of this machine have ended, as the kernel knows it. Used by connections, rows, mirror.

A server holds a name that ends with its process, however it ends. Another one on this machine that has found the name
there, and finds it no more, knows that the server is dead, and need not wait until its silence proves it. Names of
servers on other machines, or in other network namespaces, are never there: nothing is known of them; silence counts.
"""

from __future__ import annotations

import errno
import logging
import socket
import sys
from collections.abc import Iterable

from notifications.registry.records import SILENCE, SILENCE_HERE

logger = logging.getLogger(__name__)

# The kernel is asked so many times in a lease, three times as often as the stores: it costs some microseconds.
LOOKS = 30
LEAST_LOOK_SECONDS, MOST_LOOK_SECONDS = 0.05, 1.0


class Presence:
    """The name that tells this machine that a server lives. It ends with `give_up`, or with the process.

    Args:
        server_id: this process.
    """

    def __init__(self, server_id: str) -> None:
        self._name = _name(server_id)
        self._socket: socket.socket | None = None

    def hold(self) -> None:
        """Take the name; a second time does nothing."""
        if self._socket is not None or not sys.platform.startswith("linux"):
            return  # no other system has abstract names, which need no file that would stay behind
        held = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            held.bind(self._name)
            held.shutdown(socket.SHUT_RD)  # nobody has anything to say to it
        except OSError as error:
            held.close()
            logger.warning("The servers of this machine are not told that this one lives: %s", error.strerror)
            return
        self._socket = held

    def give_up(self) -> None:
        """Let go of the name."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


class Neighbours:
    """What one thread knows of the servers of this machine. It asks the kernel, and waits for nobody."""

    def __init__(self) -> None:
        self._here: frozenset[str] = frozenset()
        self._ended: frozenset[str] = frozenset()

    def ended(self, server_ids: Iterable[str]) -> frozenset[str]:
        """Return those of some servers that have lived on this machine and are dead.

        Args:
            server_ids: all that anything is asked of; whoever is not among them is forgotten.
        """
        asked = frozenset(server_ids)
        here = frozenset(each for each in asked if _is_here(each))
        self._ended, self._here = (self._here | self._ended) & asked - here, here
        return self._ended

    def silence(self, server_id: str) -> float:
        """Return for how much of a lease a server that `ended` was asked of must be silent to be dead."""
        return SILENCE_HERE if server_id in self._here else SILENCE

    def misses_one(self) -> bool:
        """Tell whether a server has ended that `ended` found on this machine; from whatever thread."""
        try:
            return not all(_is_here(each) for each in self._here)
        except OSError:  # there is no socket left to ask with; `ended` says so where it is noticed
            return False


def look_seconds(lease_seconds: float) -> float:
    """Return how long to wait between two looks at who has ended, in seconds."""
    return min(MOST_LOOK_SECONDS, max(LEAST_LOOK_SECONDS, lease_seconds / LOOKS))


def _is_here(server_id: str) -> bool:
    if not sys.platform.startswith("linux"):
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as asking:
        asking.setblocking(False)
        # Any other error than a refusal says that there is somebody.
        return asking.connect_ex(_name(server_id)) not in (errno.ECONNREFUSED, errno.ENOENT)


def _name(server_id: str) -> str:
    return f"\0hermes-server-{server_id}"

"""TCP: what the kernel is asked: listening sockets for serve and workers, and for server what is unacknowledged."""

from __future__ import annotations

import asyncio
import fcntl
import socket
import struct
import sys
import termios
from typing import Any

USER_TIMEOUT_MS = 10_000  # without an acknowledgement a peer is gone: guarantee 7 has this deadline for all that stalls
SEND_BUFFER = 128 * 1024  # bytes in the kernel per socket; without a limit Linux lets it grow to megabytes
RECEIVE_BUFFER = 64 * 1024  # the same for what a client sends and we do not read; it grew to 1.5 MB
ACCEPTED = 8  # connections in one turn of the loop
# Whether the kernel shares connections out to all who listen on a port: macOS knows SO_REUSEPORT and does not.
SHARES = sys.platform == "linux"


def listening_socket(host: str, port: int, backlog: int = 2048) -> socket.socket:
    """Bind a socket whose connections inherit our limits.

    Args:
        host: a name or address; port: 0 for any.
        backlog: how many may wait to be accepted.

    Returns:
        The socket; nobody else may listen on its port.

    Raises:
        OSError: the address is taken or not ours.
    """
    addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, kind, number, _, address = addresses[0]
    return _listening(socket.socket(family, kind, number), address, backlog)


def open_to_others(listener: socket.socket) -> None:
    """Let sockets of `listening_beside` listen on its port, too.

    A socket that asks for that before it is bound would listen beside another server that was started by mistake, and
    take half of its clients. So a port is taken for oneself first, and opened then: who comes later and wants it for
    itself is refused as ever.
    """
    if SHARES:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)


def listening_beside(listener: socket.socket, backlog: int = 2048) -> socket.socket:
    """Return one more socket on the port of one that is open to others; the kernel gives each as many connections.

    Where the kernel does not do so, it is the same socket once more, and whoever is quicker accepts.

    Raises:
        OSError: there is no such socket to be had.
    """
    if not SHARES:
        return listener.dup()
    other = socket.socket(listener.family, listener.type, listener.proto)
    other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    return _listening(other, listener.getsockname(), backlog)


def accepting(listener: socket.socket) -> list[socket.socket]:
    """Return a socket as often as one process listens to it.

    uvloop accepts one connection in a turn of the loop and socket: ten thousand would be ten thousand turns.
    """
    return [listener, *(listener.dup() for _ in range(ACCEPTED - 1))]


def _listening(listener: socket.socket, address: Any, backlog: int) -> socket.socket:
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT_MS)
        listener.bind(address)
        listener.listen(backlog)
        listener.set_inheritable(True)
    except OSError:
        listener.close()
        raise
    return listener


def unacknowledged(transport: asyncio.Transport) -> int:
    """Bytes that the kernel has taken and the client has not acknowledged; 0 where the system does not say."""
    connection = transport.get_extra_info("socket")
    if sys.platform != "linux" or connection is None:
        return 0
    try:
        return int.from_bytes(fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, bytes(4)), sys.byteorder)
    except OSError:
        return 0


def set_user_timeout(transport: asyncio.Transport, milliseconds: int) -> None:
    """Say how long a write may go unacknowledged; 0 for as long as it takes."""
    connection = transport.get_extra_info("socket")
    if connection is not None and hasattr(socket, "TCP_USER_TIMEOUT"):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)


def reset(transport: asyncio.Transport) -> None:
    """Drop a connection and what waits in its buffers; without a reset the kernel would keep its own."""
    connection = transport.get_extra_info("socket")
    if connection is not None and not transport.is_closing():
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # on, for no time
    transport.abort()

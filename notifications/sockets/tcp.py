"""TCP: what the kernel is asked: a listening socket for `manage.py serve`, and for server what is unacknowledged."""

from __future__ import annotations

import asyncio
import fcntl
import socket
import struct
import sys
import termios

USER_TIMEOUT_MS = 10_000  # without an acknowledgement a peer is gone: guarantee 7 has this deadline for all that stalls
SEND_BUFFER = 128 * 1024  # bytes in the kernel per socket; without a limit Linux lets it grow to megabytes
RECEIVE_BUFFER = 64 * 1024  # the same for what a client sends and we do not read; it grew to 1.5 MB


def listening_socket(host: str, port: int, backlog: int = 2048) -> socket.socket:
    """Bind a socket whose connections inherit our limits.

    Args:
        host: a name or address; port: 0 for any.

    Returns:
        The socket, to be shared by the workers.

    Raises:
        OSError: the address is taken or not ours.
    """
    addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, kind, number, _, address = addresses[0]
    listener = socket.socket(family, kind, number)
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

"""TLS before a server that speaks none, as stunnel does it. Called by test_redis_tls: the wheel's Valkey has no TLS."""

from __future__ import annotations

import select
import socket
import ssl
import threading
from contextlib import suppress
from pathlib import Path
from typing import Self

from hermes_site.engines import HOST

_LOOK_SECONDS = 0.2  # how late a connection may hear that it is over


class TlsEnd:
    """Ends TLS on a port of its own and hands the bytes on, in a thread for each connection.

    Args:
        upstream: the port of the server behind it.
        certificate: what it shows.
        key: its key.
    """

    def __init__(self, upstream: int, certificate: Path, key: Path) -> None:
        self._upstream = upstream
        self._context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._context.load_cert_chain(certificate, key)
        self._listener = socket.create_server((HOST, 0))
        self.port: int = self._listener.getsockname()[1]
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._accept, name="tls-end")]

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:  # the first one adds to them, and has ended when the second is waited for
            thread.join(10)
            assert not thread.is_alive()
        self._listener.close()

    def _accept(self) -> None:
        while not self._stopping.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._carry, args=(connection,), name="tls-end-connection")
            self._threads.append(thread)
            thread.start()

    def _carry(self, connection: socket.socket) -> None:
        connection.settimeout(5)
        # Who does not trust the certificate ends the handshake; that is what the test is about.
        with (
            connection,
            suppress(OSError),
            self._context.wrap_socket(connection, server_side=True) as client,
            socket.create_connection((HOST, self._upstream)) as server,
        ):
            while not self._stopping.is_set():
                # What TLS has read already, the kernel knows nothing of.
                readable = [client] if client.pending() else select.select([client, server], [], [], _LOOK_SECONDS)[0]
                for one in readable:
                    if not (data := one.recv(65536)):
                        return
                    (server if one is client else client).sendall(data)

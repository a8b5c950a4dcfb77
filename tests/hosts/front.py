"""TLS before the servers of one host, which speak none, as stunnel does it. Started by third, as a process there.

Each port of the host's own address leads to the same port of its loopback. Who comes from another host must speak TLS;
the host's own servers, which find each other by that address too, speak as they can.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import sys

from hermes_site.engines import HOST

_SIZE = 65_536


async def serve(address: str, context: ssl.SSLContext, ports: list[int]) -> None:
    """Listen on these ports of an address, for ever."""
    async with asyncio.TaskGroup() as group:
        for port in ports:
            listener = socket.create_server((address, port), backlog=512)
            listener.setblocking(False)
            group.create_task(_accept(listener, address, port, context), name=f"front-{port}")
        sys.stdout.write("Listening\n")
        sys.stdout.flush()


async def _accept(listener: socket.socket, address: str, port: int, context: ssl.SSLContext) -> None:
    loop = asyncio.get_running_loop()
    async with asyncio.TaskGroup() as group:
        while True:
            connection, (peer, _) = await loop.sock_accept(listener)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            group.create_task(_carry(connection, port, None if peer == address else context), name="front-connection")


async def _carry(connection: socket.socket, port: int, context: ssl.SSLContext | None) -> None:
    """Carry one connection until either side ends it; then it is over for both."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    protocol = asyncio.StreamReaderProtocol(reader)
    writers = []
    try:
        async with asyncio.timeout(10):
            transport, _ = await loop.connect_accepted_socket(lambda: protocol, connection, ssl=context)
            writers.append(asyncio.StreamWriter(transport, protocol, reader, loop))
            behind, writer = await asyncio.open_connection(HOST, port)
            writers.append(writer)
        ways = [asyncio.ensure_future(_pump(*way)) for way in ((reader, writers[1]), (behind, writers[0]))]
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
    except (OSError, TimeoutError, ssl.SSLError):
        pass  # who breaks off a handshake, or finds nobody behind it, sees that
    finally:
        for writer in writers:
            writer.transport.abort()
        connection.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(_SIZE):
            writer.write(data)
            await writer.drain()


if __name__ == "__main__":
    _address, _certificate, _key, *_ports = sys.argv[1:]
    _context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    _context.load_cert_chain(_certificate, _key)
    asyncio.run(serve(_address, _context, [int(port) for port in _ports]))

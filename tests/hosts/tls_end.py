"""TLS before a server that speaks none, as stunnel does it. Called by test_redis_tls: the wheel's Valkey has no TLS."""

from __future__ import annotations

import asyncio
import ssl
import threading
from pathlib import Path
from typing import Self

from hermes_site.engines import HOST


class TlsEnd:
    """Ends TLS on a port of its own and hands the bytes on, in a thread of its own.

    Args:
        upstream: the port of the server behind it.
        certificate: what it shows.
        key: its key.
    """

    def __init__(self, upstream: int, certificate: Path, key: Path) -> None:
        self.port = 0
        self._upstream = upstream
        self._context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._context.load_cert_chain(certificate, key)
        self._loop = asyncio.new_event_loop()
        self._stopping = asyncio.Event()
        self._ready = threading.Event()
        self._carriers: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._run, name="tls-end")

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(10)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        # Who does not trust the certificate ends the handshake; that is what the test is about.
        self._loop.set_exception_handler(lambda *_: None)
        server = await asyncio.start_server(self._carry, HOST, 0, ssl=self._context)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stopping.wait()
        server.close()
        for carrier in self._carriers:
            carrier.cancel()
        await asyncio.gather(*self._carriers, return_exceptions=True)
        for _ in range(10):  # an abandoned transport closes its socket some turns later
            await asyncio.sleep(0)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        carrier = asyncio.current_task()
        assert carrier is not None
        self._carriers.add(carrier)
        carrier.add_done_callback(self._carriers.discard)
        try:
            upward, downward = await asyncio.open_connection(HOST, self._upstream)
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(_pump(reader, downward))
                    group.create_task(_pump(upward, writer))
            finally:
                downward.transport.abort()
        except* OSError:
            pass
        finally:
            writer.transport.abort()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    raise ConnectionResetError("That side has ended.")  # and so does the other

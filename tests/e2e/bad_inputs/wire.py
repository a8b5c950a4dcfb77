"""One connection, byte by byte: what no well-behaved client would send can be sent. Called by test_bad_inputs."""

from __future__ import annotations

import base64
import contextlib
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self

SECONDS = 15.0  # for any answer; only a failing test waits for as long
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
DROPPED = 1006  # what a client says of a connection that ended without a close frame
Header = tuple[str, str | bytes]


def frame(
    payload: bytes | str = b"", opcode: int = TEXT, *, fin: bool = True, rsv: int = 0, mask: bool = True, wide: int = 0
) -> bytes:
    """Return a client's frame as RFC 6455 has it, or not.

    Args:
        rsv: the three reserved bits, 0 to 7.
        wide: write the length in 2 or in 8 bytes, however short it is.
    """
    payload = payload.encode() if isinstance(payload, str) else payload
    first = bytes([fin << 7 | rsv << 4 | opcode])
    length = len(payload)
    if wide == 8 or length > 0xFFFF:
        size = bytes([mask << 7 | 127]) + length.to_bytes(8, "big")
    elif wide == 2 or length > 125:
        size = bytes([mask << 7 | 126]) + length.to_bytes(2, "big")
    else:
        size = bytes([mask << 7 | length])
    if not mask:
        return first + size + payload
    key = b"\x37\xfa\x21\x3d"
    masked = bytes(byte ^ key[at % 4] for at, byte in enumerate(payload))
    return first + size + key + masked


@dataclass
class Answer:
    """What a server said until it had nothing more to say.

    Args:
        status: of HTTP; 0 where it closed the connection without a word.
        texts: of the text frames.
        code: of its close frame, or 1006; None while it is open.
        reason: of its close frame.
    """

    status: int
    body: str = ""
    texts: list[str] = field(default_factory=list)
    code: int | None = None
    reason: str = ""
    pongs: int = 0


class Wire:
    """A TCP connection to a server; a context that closes it.

    Args:
        url: the server's, ``http://host:port``.
    """

    def __init__(self, url: str) -> None:
        host, port = url.removeprefix("http://").split(":")
        self.host = f"{host}:{port}"
        self._socket = socket.create_connection((host, int(port)), SECONDS)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._read = b""
        self.answer = Answer(0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def send(self, data: bytes) -> None:
        """Send bytes; a server that has closed already has answered already."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._socket.sendall(data)

    def end(self) -> None:
        """Say that nothing more will be sent."""
        self._socket.shutdown(socket.SHUT_WR)

    def request(self, data: bytes) -> Answer:
        """Send one HTTP request and return the answer; the connection is not used again."""
        self.send(data)
        self._head(b"HEAD " in data[:5])
        return self.answer

    def handshake(
        self, path: str, *, headers: Sequence[Header] = (), without: Sequence[str] = (), method: str = "GET"
    ) -> Answer:
        """Ask for a WebSocket.

        Args:
            headers: besides those that make a handshake.
            without: names of those that are left out.
        """
        usual: list[Header] = [
            ("Host", self.host),
            ("Connection", "Upgrade"),
            ("Upgrade", "websocket"),
            ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Key", base64.b64encode(os.urandom(16)).decode()),
        ]
        given = [(name, value) for name, value in usual if name not in without] + list(headers)
        lines = [name.encode() + b": " + (v.encode() if isinstance(v, str) else v) for name, v in given]
        self.send(f"{method} {path} HTTP/1.1\r\n".encode("latin-1") + b"\r\n".join(lines) + b"\r\n\r\n")
        self._head(False)
        return self.answer

    def until_closed(self) -> Answer:
        """Read until the server closes, answer its close frame, and return all of it."""
        while self.next_frame():
            pass
        return self.answer

    def next_text(self) -> str:
        """Return the next text frame; fail if the connection ends first."""
        before = len(self.answer.texts)
        while len(self.answer.texts) == before:
            assert self.next_frame(), f"closed with {self.answer.code} {self.answer.reason!r}"
        return self.answer.texts[-1]

    def next_frame(self) -> bool:
        """Read one frame into the answer; return whether there may be more."""
        if self.answer.code is not None:
            return False
        head = self._exactly(2)
        if head is None:
            self.answer.code = DROPPED
            return False
        length = head[1] & 0x7F
        if length > 125:
            length = int.from_bytes(self._exactly(2 if length == 126 else 8) or b"", "big")
        payload = self._exactly(length)
        if payload is None:
            self.answer.code = DROPPED
            return False
        opcode = head[0] & 0x0F
        if opcode == TEXT:
            self.answer.texts.append(payload.decode())
        elif opcode == PONG:
            self.answer.pongs += 1
        elif opcode == PING:
            self.send(frame(payload, PONG))
        elif opcode == CLOSE:
            self.answer.code = int.from_bytes(payload[:2], "big") if payload else 1005
            self.answer.reason = payload[2:].decode()
            self.send(frame(payload[:2], CLOSE))
            return False
        return True

    def _head(self, is_head: bool) -> None:
        head = self._until(b"\r\n\r\n")
        if head is None:
            return
        lines = head.decode("latin-1").split("\r\n")
        self.answer.status = int(lines[0].split()[1])
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
        if self.answer.status == 101 or is_head:
            return
        if "content-length" in headers:
            self.answer.body = (self._exactly(int(headers["content-length"])) or b"").decode("utf-8", "replace")

    def _more(self) -> bool:
        try:
            data = self._socket.recv(65_536)
        except ConnectionResetError:
            data = b""
        self._read += data
        return bool(data)

    def _exactly(self, length: int) -> bytes | None:
        while len(self._read) < length:
            if not self._more():
                return None
        found, self._read = self._read[:length], self._read[length:]
        return found

    def _until(self, mark: bytes) -> bytes | None:
        while mark not in self._read:
            if not self._more():
                return None
        found, _, self._read = self._read.partition(mark)
        return found

"""Wire: a WebSocket client's bytes, with nothing that ten thousand of them in one process cannot afford. Used by swarm.

Pure. Handshakes are text with the same key for everybody, frames to the server are masked with zeros (RFC 6455 lets the
client choose), and frames from the server are cut out of what came without being copied twice.
"""

from __future__ import annotations

import struct
import urllib.parse

TEXT, CLOSE, PING = 1, 8, 9
_KEY = "dGhlIHNhbXBsZSBub25jZQ=="  # RFC 6455's own example


def handshake(host: str, path: str, token: str, position: tuple[str, int, str] | None = None) -> bytes:
    """Return the request that opens a hermes.v1 connection.

    Args:
        host: with its port.
        path: e.g. ``/ws/development``.
        token: the JWT.
        position: epoch, seq and id to resume from.
    """
    if position is not None:
        path += "?" + urllib.parse.urlencode(dict(zip(("epoch", "seq", "id"), position, strict=True)))
    lines = [
        f"GET {path} HTTP/1.1",
        f"Host: {host}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {_KEY}",
        "Sec-WebSocket-Version: 13",
        f"Sec-WebSocket-Protocol: hermes.v1, hermes.token.{token}",
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def client_frame(payload: bytes, opcode: int = TEXT) -> bytes:
    """Return a masked frame; at most 65,535 bytes."""
    size = len(payload)
    head = bytes([0x80 | opcode, 0x80 | size]) if size < 126 else struct.pack("!BBH", 0x80 | opcode, 0x80 | 126, size)
    return head + b"\0\0\0\0" + payload


def close_frame(code: int) -> bytes:
    """Return a client's close frame."""
    return client_frame(struct.pack("!H", code), CLOSE)


class Frames:
    """Cuts a server's frames out of a stream of bytes."""

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """Return opcode and payload of each whole frame; what is left waits for more."""
        if self._rest:
            data = self._rest + data
        at, end, frames = 0, len(data), []
        while end - at >= 2:
            size, start = data[at + 1], at + 2
            if size == 126:
                if end - at < 4:
                    break
                size, start = int.from_bytes(data[at + 2 : at + 4], "big"), at + 4
            elif size == 127:
                if end - at < 10:
                    break
                size, start = int.from_bytes(data[at + 2 : at + 10], "big"), at + 10
            if end - start < size:
                break
            frames.append((data[at] & 15, data[start : start + size]))
            at = start + size
        self._rest = data[at:]
        return frames

"""Dialects: how a client of each contestant speaks. Used by load, which knows nothing of any of them. Pure.

A dialect says what a client asks for, what it answers, when it is in, and from where it goes on when it comes back.
"""

from __future__ import annotations

import json
import urllib.parse
from dataclasses import dataclass, field
from typing import Any

# Control frames are shorter than that, and messages are longer.
LEAST = 200
Position = tuple[str, int, str]


@dataclass(frozen=True, slots=True)
class Member:
    """One client.

    Args:
        user, room: who it is.
        token: what shows it.
    """

    user: str
    room: str
    token: str


@dataclass(slots=True)
class Heard:
    """What a control frame meant.

    Args:
        is_open: the client is in, from now on messages come.
        reply: a frame to send.
        position: where the client stands.
        wrong: what must not happen, and makes the run count as nothing.
        counts: messages that came with it.
    """

    is_open: bool = False
    reply: bytes | None = None
    position: Position | None = None
    wrong: str = ""
    counts: list[bytes] = field(default_factory=list)


class Dialect:
    """A WebSocket that needs no words: open as soon as it is accepted. Nchan's."""

    is_open_at_once = True
    has_many_in_a_frame = False  # a frame may carry several messages, one a line

    def path(self, member: Member, position: Position | None) -> str:
        """Return path and query of the handshake."""
        return f"/sub/{member.room}"

    def headers(self, member: Member) -> dict[str, str]:
        """Return more headers of the handshake."""
        return {}

    def first(self, member: Member, position: Position | None) -> bytes | None:
        """Return what the client says before anything else."""
        return None

    def hear(self, payload: bytes, member: Member) -> Heard:
        """Understand a control frame."""
        return Heard()

    def position(self, payload: bytes) -> Position | None:
        """Return the position of a message's frame."""
        return None


class Hermes(Dialect):
    """hermes.v1: hello, entries, pings with positions."""

    is_open_at_once = False

    def path(self, member: Member, position: Position | None) -> str:
        """Return the stage's path, with the position."""
        if position is None:
            return "/ws/development"
        return "/ws/development?" + urllib.parse.urlencode(dict(zip(("epoch", "seq", "id"), position, strict=True)))

    def headers(self, member: Member) -> dict[str, str]:
        """Return the subprotocols, which carry the token."""
        return {"Sec-WebSocket-Protocol": f"hermes.v1, hermes.token.{member.token}"}

    def hear(self, payload: bytes, member: Member) -> Heard:
        """Understand hello and ping; lost and gap are losses."""
        frame = json.loads(payload)["data"]
        kind, data = frame["type"], frame["data"]
        heard = Heard(is_open=kind == "hermes.hello")
        if data and data.get("epoch"):
            heard.position = (data["epoch"], data["seq"], data["id"])
        if kind in ("hermes.lost", "hermes.gap") or data.get("status") == "lost":
            heard.wrong = f"{kind}({data['reason']})"
        return heard

    def position(self, payload: bytes) -> Position | None:
        """Return epoch, seq and id."""
        entry = json.loads(payload)
        return (entry["epoch"], entry["seq"], entry["id"])


class Channels(Dialect):
    """The plain consumer of channels_app: the room is in the path, and joined before the socket is accepted."""

    def path(self, member: Member, position: Position | None) -> str:
        """Return the room's path."""
        return f"/ws/{member.room}"


class SocketIo(Dialect):
    """Socket.IO 4 over Engine.IO 4, WebSocket from the start."""

    is_open_at_once = False

    def path(self, member: Member, position: Position | None) -> str:
        """Return Engine.IO's path."""
        return "/socket.io/?EIO=4&transport=websocket"

    def hear(self, payload: bytes, member: Member) -> Heard:
        """Understand open (0), ping (2), connect (40) and connect error (44)."""
        if payload.startswith(b"0"):
            return Heard(reply=b"40" + json.dumps({"token": member.token}).encode())
        if payload == b"2":
            return Heard(reply=b"3")
        if payload.startswith(b"44"):
            return Heard(wrong=payload.decode())
        return Heard(is_open=payload.startswith(b"40"))


class Centrifugo(Dialect):
    """Centrifugo's bidirectional JSON protocol, with the subscription that the token grants."""

    is_open_at_once = False
    has_many_in_a_frame = True

    def path(self, member: Member, position: Position | None) -> str:
        """Return the bidirectional endpoint."""
        return "/connection/websocket"

    def first(self, member: Member, position: Position | None) -> bytes | None:
        """Return the connect command, with the position to recover from."""
        connect: dict[str, Any] = {"token": member.token}
        if position is not None:
            connect["subs"] = {member.room: {"recover": True, "epoch": position[0], "offset": position[1]}}
        return json.dumps({"id": 1, "connect": connect}).encode()

    def hear(self, payload: bytes, member: Member) -> Heard:
        """Understand the reply to connect, with what was recovered, and pings."""
        if payload == b"{}":
            return Heard(reply=b"{}")
        reply = json.loads(payload)
        if "error" in reply:
            return Heard(wrong=json.dumps(reply["error"]))
        if "connect" not in reply:
            return Heard()
        sub = reply["connect"].get("subs", {}).get(member.room, {})
        missed = sub.get("publications", [])
        offset = missed[-1]["offset"] if missed else sub.get("offset", 0)  # as its own client counts
        heard = Heard(is_open=True, position=(sub.get("epoch", ""), offset, ""))
        if sub.get("was_recovering") and not sub.get("recovered"):
            heard.wrong = "not recovered"
        compact = (json.dumps(one["data"], separators=(",", ":")).encode() for one in missed)
        heard.counts = list(compact)
        return heard

    def position(self, payload: bytes) -> Position | None:
        """Return the offset; the epoch is the one of the connect reply."""
        return ("", json.loads(payload)["push"]["pub"]["offset"], "")


DIALECTS: dict[str, Dialect] = {
    "nchan": Dialect(),
    "hermes": Hermes(),
    "channels": Channels(),
    "socketio": SocketIo(),
    "centrifugo": Centrifugo(),
}

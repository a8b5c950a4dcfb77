"""Protocol: the frames between Hermes and a browser, as docs/protocol.md tells them. Used by connection and consumer.

Pure. Entries are framed by stream.entry; here are control frames, what clients may say, close codes, and the bytes of
WebSocket itself.
"""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from notifications.exceptions import ClientError, MessageRefused
from notifications.stream.message import encode_data, load_json
from notifications.stream.position import Lost, Position, Resume

MAX_RECENT = 200
MAX_REFRESH = 8192  # characters of a `refresh` that may overtake other frames; a token has 4,096
MAX_REF = 64  # characters: an id and a count fit; what is echoed should not be a payload
PING_FRAME = b"\x89\x00"  # WebSocket's own ping, for clients that know nothing of hermes.v1


class Close(IntEnum):
    """Why Hermes closes a connection. 41xx: come back; 44xx: not with this token; any other code: come back."""

    SLOW = 4108  # its reader does not keep up
    TOO_MANY = 4109  # this member has too many connections
    DISCONNECTED = 4110  # an operator closed it; nothing is wrong with its token
    DRAINING = 4112  # this process is going away; the `goodbye` before it names a return slot
    UNAVAILABLE = 4113  # a part that joining needs does not answer
    RATE = 4129  # it sends too much
    BAD_REQUEST = 4400  # no such stage
    TOKEN = 4401  # the token is missing, false or expired
    REVOKED = 4403  # the token was valid and has been revoked


@dataclass(frozen=True, slots=True)
class SendMessage:
    """``{"action": "sendMessage", "data": …}``: to the sender's own room, in the sender's own name.

    Args:
        data: the payload as JSON text.
        ref: echoed in the answer; empty for none, here and below.
    """

    data: str
    ref: str = ""


@dataclass(frozen=True, slots=True)
class Refresh:
    """``{"action": "refresh", "token": …}``: stay, with a token that expires later."""

    token: str
    ref: str = ""


@dataclass(frozen=True, slots=True)
class Recent:
    """``{"action": "recent", "limit": 50}``: the room's last entries."""

    limit: int
    ref: str = ""


def parse_client_frame(text: str) -> SendMessage | Refresh | Recent:
    """Read what a client says.

    Args:
        text: the frame; the server has checked its size.

    Raises:
        ClientError: with the code and the sentence to answer, and the frame's `ref`.
    """
    ref = ""
    try:
        frame = load_json(text)
        if not isinstance(frame, dict):
            raise ClientError("not_an_object", "A frame must be a JSON object with an action.")
        ref = _ref(frame)
        match frame.get("action"):
            case "sendMessage":
                if "data" not in frame:
                    raise ClientError("no_data", "sendMessage needs data.", ref)
                return SendMessage(encode_data(frame["data"]), ref)
            case "refresh":
                if not isinstance(frame.get("token"), str):
                    raise ClientError("no_token", "refresh needs a token.", ref)
                return Refresh(frame["token"], ref)
            case "recent":
                limit = frame.get("limit", 50)
                if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= MAX_RECENT:
                    raise ClientError("bad_limit", f"recent needs a limit from 1 to {MAX_RECENT}.", ref)
                return Recent(limit, ref)
            case _:
                raise ClientError("unknown_action", "The action must be sendMessage, refresh or recent.", ref)
    except MessageRefused as error:
        raise ClientError(error.code, error.detail, ref) from error


def is_refresh(text: str) -> bool:
    """Whether a client asks to stay; a look at the text is enough for nearly everything else that it says."""
    if '"refresh"' not in text or len(text) > MAX_REFRESH:
        return False
    try:
        return isinstance(parse_client_frame(text), Refresh)
    except ClientError:
        return False


def _ref(frame: dict[str, Any]) -> str:
    ref = frame.get("ref")
    return ref if isinstance(ref, str) and len(ref) <= MAX_REF else ""


def echo(ref: str) -> dict[str, str]:
    """What an answer carries of the frame that it answers: its `ref`, if it has one."""
    return {"ref": ref} if ref else {}


def control(kind: str, data: dict[str, Any]) -> bytes:
    """Make a control frame's text: ``{"data": {"type": "hermes.<kind>", "data": {…}}}``.

    It has the article's shape, so that the article's handler finds no subscriber for it and goes on.
    """
    return json.dumps(
        {"data": {"type": f"hermes.{kind}", "data": data}}, ensure_ascii=False, separators=(",", ":")
    ).encode()


def place(position: Position) -> dict[str, Any]:
    """A position as control frames carry it."""
    return {"epoch": position.epoch, "seq": position.seq, "id": position.id}


@functools.lru_cache(4096)  # a quiet room's position stays, and some of its members are due every second
def ping(position: Position) -> bytes:
    """A `ping` frame: the room's position, behind the entries that it counts."""
    return control("ping", place(position))


def goodbye(position: Position, retry_after_ms: int) -> bytes:
    """A `goodbye` frame: the process goes away.

    Args:
        position: the room's, from which the client will resume.
        retry_after_ms: the client's own return slot.
    """
    return b"%b%d}}}" % (_goodbye(position), retry_after_ms)


@functools.lru_cache(4096)  # ten thousand are said at once, and only the slots differ in a room
def _goodbye(position: Position) -> bytes:
    return control("goodbye", {**place(position), "retry_after_ms": 0}).removesuffix(b"0}}}")


def hello(resume: Resume, position: Position, replayed: int, **about: Any) -> bytes:
    """The first frame of a hermes.v1 connection.

    Args:
        resume: how it goes on.
        position: after which its entries follow.
        replayed: how many follow at once.
        about: `ping_s`, `expires_in_s`, `connection_id`, `user_id`, `room_id`.
    """
    data: dict[str, Any] = {"status": resume.status, **place(position), "replayed": replayed, **about}
    if resume.lost:
        data["reason"] = resume.lost.value
    return control("hello", data)


def missing(kind: str, reason: Lost, first: int, last: int, position: Position) -> bytes:
    """A `lost` or `gap` frame.

    Args:
        kind: `lost` when the client's position means nothing any more, `gap` when entries between two are gone.
        first, last: the seqs that could not be delivered; ``last < first`` when nobody knows how many.
        position: after which delivery goes on; the client adopts it even where it is lower.
    """
    return control(kind, {"reason": reason.value, "from": first, "to": last, **place(position)})


def error(code: str, message: str, ref: str = "") -> bytes:
    """An `error` frame; the connection stays open."""
    return control("error", {"code": code, "message": message, **echo(ref)})


def recent(frames: list[bytes], ref: str = "") -> bytes:
    """A `recent` frame: entries as they were delivered, for a list to show, not for dispatch."""
    echoed = b'"ref":%b,' % json.dumps(ref).encode() if ref else b""
    return b'{"data":{"type":"hermes.recent","data":{%b"entries":[%b]}}}' % (echoed, b",".join(frames))


def text_frame(payload: bytes) -> bytes:
    """Frame a text for WebSocket, from server to client: final, unmasked (RFC 6455, section 5.2)."""
    length = len(payload)
    if length < 126:
        return bytes((0x81, length)) + payload
    if length < 65_536:
        return b"\x81\x7e" + length.to_bytes(2, "big") + payload
    return b"\x81\x7f" + length.to_bytes(8, "big") + payload


def close_frame(code: int, reason: str) -> bytes:
    """A close frame for WebSocket, from server to client, for a reason of at most 123 bytes."""
    payload = int(code).to_bytes(2, "big") + reason.encode()
    return bytes((0x88, len(payload))) + payload

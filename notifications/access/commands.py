"""Commands: what every server is told to do with open connections. Made by revocation, obeyed by sockets.guard.

Pure. A command travels as an entry of its stage's control room, so that it is ordered, kept and found again when its
hint is lost; it is about members and connections, and holds no token.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Revoke:
    """Close a member's connections whose tokens were issued at a moment or earlier.

    Args:
        user_id, room_id: the member and the room.
        not_before: unix seconds.
    """

    user_id: str
    room_id: str
    not_before: int


@dataclass(frozen=True, slots=True)
class SignOut:
    """Close the connections of one session.

    Args:
        session: from `tokens.session_tag`.
    """

    session: str


@dataclass(frozen=True, slots=True)
class Disconnect:
    """Close one connection; its client may come back.

    Args:
        connection_id: as the registry has it.
    """

    connection_id: str


Command = Revoke | SignOut | Disconnect
_KINDS: dict[str, type[Command]] = {"revoke": Revoke, "sign_out": SignOut, "disconnect": Disconnect}


def encode(command: Command) -> str:
    """Return a command as the payload of a control entry: JSON text."""
    kind = next(name for name, each in _KINDS.items() if isinstance(command, each))
    return json.dumps({"kind": kind, **asdict(command)})


def decode(payload: Any) -> Command:
    """Read a control entry's payload; the inverse of `encode`, after JSON.

    Raises:
        ValueError: another release's command; it is not for this process to guess.
    """
    try:
        fields = dict(payload)
        return _KINDS[fields.pop("kind")](**fields)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError("not a command of this release") from error

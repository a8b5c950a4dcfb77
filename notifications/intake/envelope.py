"""Envelope: an SQS body becomes a Message, or is refused with a reason. Called by relay and hermes.notify.

Pure. The rules that hold for every payload are stream.message's; here is what only a queue's body has.
"""

from __future__ import annotations

import json
import math
from typing import Any

from notifications.exceptions import MessageRefused
from notifications.stream.message import MAX_ADDRESSEES, MAX_DEPTH, Message, encode_data, identifier, load_json


def decode(body: str, message_id: str, *, max_bytes: int, sent_at: int = 0, trace: str = "") -> Message:
    """Read an SQS body, as the article's Ruby and anybody else sends it.

    Args:
        body: the text.
        message_id: the SQS MessageId, the idempotency key of a message that names none.
        max_bytes: the largest body, in bytes of UTF-8.
        sent_at, trace: the message's, which are not in its body.

    Returns:
        The message.

    Raises:
        MessageRefused: it can never be delivered as it is.
    """
    if len(body) > max_bytes or len(body.encode("utf-8", "surrogatepass")) > max_bytes:
        raise MessageRefused("too_large", f"The body has more than {max_bytes} bytes.")
    fields = load_json(body)
    if not isinstance(fields, dict):
        raise MessageRefused("not_an_object", "The body must be a JSON object.")
    for name in ("user_id", "room_id", "data"):
        if name not in fields:
            raise MessageRefused("missing_field", f"The body needs {name}.")
    identifier(fields["user_id"], "user_id")
    return Message(
        id=identifier(fields["id"], "id") if fields.get("id") is not None else message_id,
        user_id=fields["user_id"],
        room_id=identifier(fields["room_id"], "room_id"),
        data=encode_data(fields["data"]),
        to=_addressees(fields.get("to")),
        expires_at=_expiry(fields.get("expires_at")),
        sent_at=sent_at,
        trace=trace,
    )


def encode(
    user_id: str | int, room_id: str, data: Any, *, to: list[str | int] | None = None, id: str | None = None
) -> str:
    """Make an SQS body.

    Returns:
        JSON text that `decode` reads.

    Raises:
        MessageRefused: data is nested far deeper than a message may be.
        TypeError: data is nothing that JSON can say.
        ValueError: data holds a number that JSON cannot say.
    """
    fields: dict[str, Any] = {"user_id": user_id, "room_id": room_id, "data": data}
    if to is not None:
        fields["to"] = to
    if id is not None:
        fields["id"] = id
    try:
        return json.dumps(fields, ensure_ascii=False, allow_nan=False)
    except RecursionError as error:
        raise MessageRefused("too_deep", f"It is nested deeper than {MAX_DEPTH}.") from error


def _addressees(to: Any) -> tuple[str, ...] | None:
    if to is None:
        return None
    if not isinstance(to, list) or not to:
        raise MessageRefused(
            "bad_field", "to must be a list of user ids, and not empty; leave it out for the whole room."
        )
    if len(to) > MAX_ADDRESSEES:
        raise MessageRefused("bad_field", f"to names more than {MAX_ADDRESSEES} members.")
    return tuple(dict.fromkeys(identifier(user, "to") for user in to))


def _expiry(expires_at: Any) -> int | None:
    if expires_at is None:
        return None
    if isinstance(expires_at, bool) or not isinstance(expires_at, (int, float)) or not 0 < expires_at < 2**53:
        raise MessageRefused("bad_field", "expires_at must be unix seconds.")
    return math.floor(expires_at)

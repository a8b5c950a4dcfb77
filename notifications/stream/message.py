"""Message: what a producer put on SQS, checked and encoded once. Made by intake.envelope and sockets, taken by publish.

Pure. The rules of docs/protocol.md that hold for every payload live here, so that the queue and the browser's
`sendMessage` cannot differ in what they let in.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from typing import Any, NoReturn

from notifications.exceptions import MessageRefused

MAX_DEPTH = 32  # docs/protocol.md; a browser's JSON.parse recurses too
MAX_IDENTIFIER = 128  # characters; a DynamoDB sort key holds 1,024 bytes and gets a prefix
MAX_ADDRESSEES = 1_000
RESERVED_TYPE = "hermes."  # a producer that could use it could forge control frames

# A string or a bracket; a string that never ends runs to the end of the text, so that no text is scanned twice.
_STRING_OR_BRACKET = re.compile(r'"(?:[^"\\]|\\.)*+"?|[\[\]{}]', re.DOTALL)
_CONTROL_CHARACTER = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Message:
    """A message that may be delivered.

    Args:
        id: the idempotency key: the producer's, else the SQS MessageId; at most 128 characters.
        user_id: who it is from, of the type the producer gave it.
        room_id: the room, as a string.
        data: the payload as JSON text, encoded once for history and wire.
        to: the members who may see it, as strings; ``None`` means the whole room.
        expires_at: unix seconds after which nobody gets it; ``None`` means never.
        sent_at: unix milliseconds at which SQS took it, by SQS's clock; 0 where it did not come by SQS.
        trace: its `traceparent`, from `trace.parse`; empty for none.
    """

    id: str
    user_id: str | int
    room_id: str
    data: str
    to: tuple[str, ...] | None = None
    expires_at: int | None = None
    sent_at: int = 0
    trace: str = ""


def load_json(text: str) -> Any:
    """Parse JSON and refuse what parsers disagree on.

    Args:
        text: at most some MiB; the caller has checked its size.

    Returns:
        The value.

    Raises:
        MessageRefused: not JSON, nested deeper than 32, a repeated key, a number that is not finite or too long.
    """
    check_depth(text)
    try:
        return _DECODER.decode(text)
    except json.JSONDecodeError as error:
        raise MessageRefused("not_json", f"This is not JSON: {error.msg} at character {error.pos}.") from error


def check_depth(text: str) -> None:
    """Refuse nesting deeper than 32 before any parser recurses into it; linear in the text's length.

    Raises:
        MessageRefused: it is deeper.
    """
    if text.count("[") + text.count("{") <= MAX_DEPTH:
        return  # however they stand; few messages have more
    depth = 0
    for match in _STRING_OR_BRACKET.finditer(text):
        bracket = match[0]
        if bracket in "[{":
            depth += 1
            if depth > MAX_DEPTH:
                raise MessageRefused("too_deep", f"It is nested deeper than {MAX_DEPTH}.")
        elif bracket in "]}":
            depth -= 1


def encode_data(data: Any) -> str:
    """Encode a payload as compact JSON text.

    Args:
        data: any value that `load_json` returned.

    Returns:
        The text, valid UTF-8 when encoded.

    Raises:
        MessageRefused: it holds a lone surrogate, which no UTF-8 can carry, or claims a reserved type.
    """
    if isinstance(data, dict):
        kind = data.get("type")
        if isinstance(kind, str) and kind.startswith(RESERVED_TYPE):
            raise MessageRefused(
                "reserved_type", f"data.type begins with {RESERVED_TYPE!r}, which only Hermes may use."
            )
    text = _ENCODER.encode(data)
    require_unicode(text)
    return text


def require_unicode(text: str) -> None:
    """Refuse text that UTF-8 cannot carry.

    Raises:
        MessageRefused: it holds a lone surrogate.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise MessageRefused("lone_surrogate", "It holds half of a surrogate pair.") from error


def identifier(value: Any, field: str) -> str:
    """Return an id as the string it is compared as.

    Args:
        value: what the producer sent: a string or a whole number.
        field: its name, for the message.

    Raises:
        MessageRefused: another type, empty, longer than 128 characters, or with control characters.
    """
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise MessageRefused("bad_field", f"{field} must be a string or a whole number.")
    text = str(value)
    if not text or len(text) > MAX_IDENTIFIER:
        raise MessageRefused("bad_field", f"{field} must have 1 to {MAX_IDENTIFIER} characters.")
    if _CONTROL_CHARACTER.search(text):
        raise MessageRefused("bad_field", f"{field} holds a control character.")
    require_unicode(text)
    return text


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise MessageRefused("duplicate_key", "An object repeats a key, and parsers disagree on which counts.")
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise MessageRefused("not_finite", f"{name} is not JSON.")


def _float(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise MessageRefused("not_finite", "A number is too large to be a finite one.")
    return number


def _integer(text: str) -> int:
    try:
        return int(text)
    except ValueError as error:  # Python's own guard against quadratic conversion, at 4,300 digits
        raise MessageRefused("number_too_long", "A whole number has more than 4,300 digits.") from error


# Made once: `json.loads` and `json.dumps` make one for each call that wants anything special.
_DECODER = json.JSONDecoder(
    object_pairs_hook=_object, parse_constant=_refuse_constant, parse_float=_float, parse_int=_integer
)
_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))

"""Received: one message in flight, and what becomes of it as a dead letter. Made by queue, carried by relay.

Pure.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

MAX_ATTRIBUTES = 10  # of a message; the eleventh is refused
MAX_BYTES = 1024 * 1024  # body and attributes together
ERROR_ATTRIBUTE = "hermes-error"


@dataclass(frozen=True, slots=True)
class Received:
    """One message in flight.

    Args:
        id: the SQS MessageId.
        receipt: what deletes or releases it.
        body: the text; never logged.
        group: its MessageGroupId, where it has one.
        attributes: its message attributes, as boto3 gives them.
        sent_at: unix milliseconds at which SQS took it; 0 if it does not say.
    """

    id: str
    receipt: str
    body: str = field(repr=False)
    group: str | None = None
    attributes: dict[str, Any] = field(default_factory=dict, repr=False)
    sent_at: int = 0


def dead_letter_attributes(message: Received, reason: str) -> dict[str, Any]:
    """Return a message's attributes with the reason among them, within SQS's limits.

    Args:
        message: as received; ten attributes leave no place for ours, so the last by name gives way and is named.
        reason: a short word and a sentence, without the payload.
    """
    kept = {name: _attribute(value) for name, value in sorted(message.attributes.items()) if name != ERROR_ATTRIBUTE}
    dropped: list[str] = []

    def size() -> int:
        values = (value.get("StringValue", "").encode() + value.get("BinaryValue", b"") for value in kept.values())
        names = sum(len(name.encode()) + len(value["DataType"]) for name, value in kept.items())
        body = len(message.body.encode("utf-8", "surrogatepass"))
        return body + names + sum(map(len, values)) + 1_024  # ours and its name

    while kept and (len(kept) >= MAX_ATTRIBUTES or size() > MAX_BYTES):
        dropped.append(kept.popitem()[0][:40])
    text = (reason + (f" Dropped attributes: {', '.join(dropped)}." if dropped else ""))[:900]
    if size() > MAX_BYTES:  # a body of a full mebibyte leaves room for nothing, and the body is what must be kept
        return {}
    return {**kept, ERROR_ATTRIBUTE: {"DataType": "String", "StringValue": text}}


def _attribute(value: dict[str, Any]) -> dict[str, Any]:
    """An attribute as SQS takes it: what it gave, without the empty lists that boto3 adds."""
    return {key: value[key] for key in ("DataType", "StringValue", "BinaryValue") if key in value}

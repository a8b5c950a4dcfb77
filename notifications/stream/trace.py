"""Trace: a W3C `traceparent`, by which one message is found in every log. Read by intake, carried by entry, logged.

What is malformed is ignored, as the standard asks for: a message is never refused for its trace.
"""

from __future__ import annotations

import logging
import re
from typing import Protocol

# https://www.w3.org/TR/trace-context/: version, trace id, parent id, flags; later versions may append fields.
_TRACEPARENT = re.compile(
    r"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.{0,100})?"
)
_SAMPLED = 1
ATTRIBUTE = "traceparent"  # of an SQS message


class Traced(Protocol):
    """What has a place in a history and may have a trace: an entry."""

    @property
    def id(self) -> str:
        """The message's id."""

    @property
    def seq(self) -> int:
        """Its place."""

    @property
    def trace(self) -> str:
        """Its `traceparent`, or nothing."""


def parse(text: object) -> str:
    """Return the first four fields of a `traceparent`; empty where there is none, or none that the standard allows."""
    found = _TRACEPARENT.fullmatch(text) if isinstance(text, str) else None
    if found is None or (found[1] == "00" and found[5]):
        return ""
    return "-".join(found.groups()[:4])


def level(traceparent: str) -> int:
    """Return at which level a message is logged: INFO if who began its trace records it, else DEBUG.

    So producers choose which messages are worth lines of their own.
    """
    return logging.INFO if traceparent and int(traceparent[-2:], 16) & _SAMPLED else logging.DEBUG


def fields(traceparent: str) -> dict[str, str]:
    """Return a trace as fields of a log line; none where there is no trace."""
    if not traceparent:
        return {}
    _, trace_id, span_id, _ = traceparent.split("-")
    return {"trace_id": trace_id, "span_id": span_id}


def log(logger: logging.Logger, event: str, stage: str, room_id: str, traced: Traced, **more: object) -> None:
    """Log what became of an entry that has a trace, and nothing for others.

    Args:
        logger: of the module where it happened.
        event: a word or two.
        stage, room_id: where.
        traced: the entry.
        more: further fields; never a payload.
    """
    if traced.trace:
        where = {"stage": stage, "room_id": room_id, "message_id": traced.id, "seq": traced.seq}
        logger.log(level(traced.trace), event, extra={**where, **more, **fields(traced.trace)})

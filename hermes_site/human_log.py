"""Human log: a line that people read, with the ids of what it is about. A formatter that settings puts on."""

from __future__ import annotations

import logging

# What our own lines give as extra, in this order; docs/metrics.md tells each.
FIELDS = (
    "request_id",
    "stage",
    "room_id",
    "connection_id",
    "message_id",
    "sqs_message_id",
    "seq",
    "outcome",
    "connections",
    "code",
    "reason",
    "trace_id",
    "span_id",
)
# A line break in what somebody has sent must not begin a line of its own, which would look like one of ours.
_BREAKS = {ord(character): repr(character)[1:-1] for character in "\r\n\v\f\x1c\x1d\x1e\x85\u2028\u2029\x1b"}


class HumanFormatter(logging.Formatter):
    """One line an event, with ``name=value`` for each id at its end; a traceback follows on lines of its own."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  logging's name
        """Return the line."""
        fields = [f"{name}={getattr(record, name)}" for name in FIELDS if hasattr(record, name)]
        return " ".join([super().formatMessage(record), *fields]).translate(_BREAKS)

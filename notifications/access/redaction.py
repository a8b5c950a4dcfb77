"""Redaction: no token reaches a log, whoever logs it. A filter that hermes_site.settings puts on every handler."""

from __future__ import annotations

import logging
import re

# The article's clients carry the token in the query string, and servers log query strings.
_SECRETS = re.compile(
    r"(?P<parameter>(?<![A-Za-z0-9])token=)[^&\s'\"\])}>]+"
    r"|hermes\.token\.[A-Za-z0-9_.~+/=-]+"
    r"|eyJ[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]*\.?[A-Za-z0-9_-]*"
)
_STANDARD = frozenset(vars(logging.LogRecord("", 0, "", 0, "", (), None))) | {"message", "asctime", "taskName"}


def redact(text: str) -> str:
    """Return text with every token replaced.

    >>> redact('GET /ws/development?token=abc&epoch=1')
    'GET /ws/development?token=[redacted]&epoch=1'
    """
    return _SECRETS.sub(lambda match: (match["parameter"] or "") + "[redacted]", text)


class RedactTokens(logging.Filter):
    """Rewrites each record before a handler formats it: message, traceback, stack, and what was given as extra."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Redact the record; always lets it through."""
        try:
            text = record.getMessage()
        except (TypeError, ValueError, KeyError):
            # A handler forgives arguments that do not fit the text; a filter that raised would hit the caller.
            text = f"{record.msg} {record.args}"
            record.msg, record.args = text, ()
        clean = redact(text)
        if clean != text:
            record.msg, record.args = clean, ()
        self._redact_traceback(record)
        self._redact_extra(record)
        return True

    def _redact_traceback(self, record: logging.LogRecord) -> None:
        if record.exc_info or record.exc_text:
            text = record.exc_text or logging.Formatter().formatException(record.exc_info)  # type: ignore[arg-type]
            clean = redact(text)
            if clean != text:  # a formatter that has the exception would format it again
                record.exc_text, record.exc_info = clean, None
        if record.stack_info:
            record.stack_info = redact(record.stack_info)

    def _redact_extra(self, record: logging.LogRecord) -> None:
        """Django gives the request, whose text holds its query string; the JSON formatter writes it."""
        for name, value in list(vars(record).items()):
            if name in _STANDARD or isinstance(value, (int, float, type(None))):
                continue
            text = str(value)
            if (clean := redact(text)) != text:
                setattr(record, name, clean)

"""Redaction: no token reaches a log, whoever logs it. A filter that hermes_site.settings puts on every handler."""

from __future__ import annotations

import logging
import re

# The article's clients carry the token in the query string, and servers log query strings.
_SECRETS = re.compile(
    r"(?P<parameter>[?&;\s'\"](?:token)=)[^&\s'\"\]]+"
    r"|hermes\.token\.[A-Za-z0-9_.~+/=-]+"
    r"|eyJ[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]*\.?[A-Za-z0-9_-]*"
)


def redact(text: str) -> str:
    """Return text with every token replaced.

    >>> redact('GET /ws/development?token=abc&epoch=1')
    'GET /ws/development?token=[redacted]&epoch=1'
    """
    return _SECRETS.sub(lambda match: (match["parameter"] or "") + "[redacted]", text)


class RedactTokens(logging.Filter):
    """Rewrites each record, its traceback included, before a handler formats it."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Redact the record; always lets it through."""
        text = record.getMessage()
        clean = redact(text)
        if clean != text:
            record.msg, record.args = clean, ()
        if record.exc_info and not record.exc_text:
            record.exc_text = redact(logging.Formatter().formatException(record.exc_info))
        return True

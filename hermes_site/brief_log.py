"""Brief log: a request that is a client's mistake is logged without a traceback. A filter that settings puts on."""

from __future__ import annotations

import logging

from django.core.exceptions import BadRequest, PermissionDenied, SuspiciousOperation
from django.http.multipartparser import MultiPartParserError

# Django answers each with 400 or 403 and logs where it was raised: thirty lines of ours for one of an attacker's.
_CLIENTS_MISTAKES = (BadRequest, PermissionDenied, SuspiciousOperation, MultiPartParserError)


class BriefBadRequests(logging.Filter):
    """Takes the traceback from records about requests that Django refuses; what they say stays."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Shorten the record; always lets it through."""
        if record.exc_info and isinstance(record.exc_info[1], _CLIENTS_MISTAKES):
            record.exc_info = record.exc_text = None
        return True

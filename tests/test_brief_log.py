"""A client's mistake is one line in the log, and a mistake of ours keeps its traceback."""

from __future__ import annotations

import logging
import sys

import pytest
from django.conf import settings
from django.core.exceptions import BadRequest, DisallowedHost, PermissionDenied, RequestDataTooBig
from django.http.multipartparser import MultiPartParserError

from hermes_site.brief_log import BriefBadRequests


def logged(error: Exception) -> logging.LogRecord:
    """Return what the filter makes of a record about an exception."""
    try:
        raise error
    except type(error):
        record = logging.LogRecord("django.request", logging.ERROR, "", 0, "It is said", (), sys.exc_info())
    assert BriefBadRequests().filter(record)
    return record


@pytest.mark.parametrize(
    "error", [DisallowedHost(), RequestDataTooBig(), BadRequest(), PermissionDenied(), MultiPartParserError()]
)
def test_a_clients_mistake_is_logged_without_a_traceback(error: Exception) -> None:
    record = logged(error)
    assert record.exc_info is None
    assert record.getMessage() == "It is said"


def test_a_mistake_of_ours_keeps_its_traceback() -> None:
    assert logged(ValueError()).exc_info


def test_a_record_without_an_exception_is_left_as_it_is() -> None:
    record = logging.LogRecord("hermes", logging.INFO, "", 0, "fine", (), None)
    assert BriefBadRequests().filter(record)
    assert record.getMessage() == "fine"


def test_every_handler_of_the_settings_is_brief_before_it_redacts() -> None:
    assert all(each["filters"] == ["request", "brief", "redact"] for each in settings.LOGGING["handlers"].values())

"""No token reaches a log: whatever its shape, wherever it stands in the record, in both formats."""

from __future__ import annotations

import io
import json
import logging
import logging.config
from collections.abc import Iterator
from typing import Any

import jwt
import pytest
from django.conf import settings
from django.test import RequestFactory

from notifications.access.redaction import redact

TOKEN = jwt.encode({"user_id": 42, "exp": 1}, "k" * 64, "HS512")


class Log:
    """A handler as the settings make it, and what it writes."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.stream = io.StringIO()
        configuration = {**settings.LOGGING, "handlers": {}, "loggers": {}, "root": {}}
        configuration["handlers"] = {
            "here": {**settings.LOGGING["handlers"]["stderr"], "formatter": kind, "stream": self.stream}
        }
        configuration["loggers"] = {"redaction": {"handlers": ["here"], "level": "DEBUG", "propagate": False}}
        configuration.pop("root")
        logging.config.dictConfig(configuration)
        self.logger = logging.getLogger("redaction")

    @property
    def text(self) -> str:
        """Everything written; a JSON log must be JSON."""
        text = self.stream.getvalue()
        if self.kind == "json":
            assert all(isinstance(json.loads(line), dict) for line in text.splitlines())
        return text


@pytest.fixture(params=["human", "json"])
def log(request: pytest.FixtureRequest) -> Iterator[Log]:
    """A log in each format."""
    log = Log(request.param)
    yield log
    log.logger.handlers.clear()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("GET /ws/development?token=abc&epoch=1", "GET /ws/development?token=[redacted]&epoch=1"),
        ("GET /ws/development?epoch=1&token=abc HTTP/1.1", "GET /ws/development?epoch=1&token=[redacted] HTTP/1.1"),
        ("GET /ws/development?token=%65yJhbGciOi", "GET /ws/development?token=[redacted]"),
        ("token=abc", "token=[redacted]"),
        ("b'token=abc'", "b'token=[redacted]'"),
        ('query_string="token=abc"', 'query_string="token=[redacted]"'),
        ("(token=abc)", "(token=[redacted])"),
        ("['hermes.v1', 'hermes.token.a.b-c_d']", "['hermes.v1', '[redacted]']"),
        ("Sec-WebSocket-Protocol: hermes.v1, hermes.token.abc", "Sec-WebSocket-Protocol: hermes.v1, [redacted]"),
        (f"Bearer {TOKEN}", "Bearer [redacted]"),
        (f'{{"action": "refresh", "token": "{TOKEN}"}}', '{"action": "refresh", "token": "[redacted]"}'),
        (TOKEN[:-20], "[redacted]"),
        (TOKEN + "\n" + TOKEN, "[redacted]\n[redacted]"),
    ],
)
def test_a_token_is_replaced_whatever_its_shape(text: str, expected: str) -> None:
    assert redact(text) == expected


@pytest.mark.parametrize(
    "text", ["", "tokens=3", "no token here", "hermesTokens", "eye", "a token: 3", "token_store.read"]
)
def test_what_is_no_token_stays(text: str) -> None:
    assert redact(text) == text


def test_the_message_and_its_arguments_are_redacted(log: Log) -> None:
    log.logger.info("GET %s %d", f"/ws/development?token={TOKEN}", 101)
    assert TOKEN not in log.text
    assert "/ws/development?token=[redacted] 101" in log.text


def test_a_message_without_a_token_is_left_alone(log: Log) -> None:
    log.logger.info("Room %s has %d members", "acme", 2)
    assert "Room acme has 2 members" in log.text


def test_a_traceback_is_redacted(log: Log) -> None:
    try:
        try:
            raise ValueError(f"cannot read {TOKEN}")
        except ValueError as error:
            raise RuntimeError("no use") from error
    except RuntimeError:
        log.logger.exception("It failed")
    assert TOKEN not in log.text
    assert "cannot read [redacted]" in log.text
    assert "RuntimeError: no use" in log.text


def test_a_traceback_without_a_token_is_left_alone(log: Log) -> None:
    try:
        raise ValueError("nothing secret")
    except ValueError:
        log.logger.exception("It failed")
    assert log.text.count("ValueError: nothing secret") == 1


def test_a_traceback_that_another_handler_has_formatted_is_redacted(log: Log) -> None:
    record = log.logger.makeRecord("redaction", logging.ERROR, "", 0, "It failed", (), None)
    record.exc_text = f"ValueError: {TOKEN}"
    log.logger.handle(record)
    assert TOKEN not in log.text
    assert "ValueError: [redacted]" in log.text


def test_a_stack_is_redacted(log: Log) -> None:
    record = log.logger.makeRecord("redaction", logging.ERROR, "", 0, "Here", (), None, sinfo=f"join('{TOKEN}')")
    log.logger.handle(record)
    assert TOKEN not in log.text
    assert "join('[redacted]')" in log.text


@pytest.mark.parametrize("value", [TOKEN, {"token": TOKEN}, [TOKEN], RequestFactory().get(f"/nowhere?token={TOKEN}")])
def test_what_is_given_as_extra_is_redacted(log: Log, value: Any) -> None:
    log.logger.warning("Not Found", extra={"request": value, "status_code": 404})
    assert TOKEN not in log.text
    assert "Not Found" in log.text


def test_extra_without_a_token_keeps_its_type() -> None:
    log = Log("json")
    log.logger.warning("Done", extra={"rooms": ["acme"], "took": 1.5})
    assert json.loads(log.text)["rooms"] == ["acme"]
    assert json.loads(log.text)["took"] == 1.5
    log.logger.handlers.clear()


@pytest.mark.parametrize("arguments", [("x",), (1, 2), (f"?token={TOKEN}", 2)])
def test_arguments_that_do_not_fit_hit_nobody_but_the_log(log: Log, arguments: tuple[Any, ...]) -> None:
    log.logger.info("%d members", *arguments)
    assert "%d members" in log.text
    assert TOKEN not in log.text


def test_every_handler_of_the_settings_redacts() -> None:
    assert all("redact" in handler["filters"] for handler in settings.LOGGING["handlers"].values())
    assert all(not logger.get("handlers") for logger in settings.LOGGING["loggers"].values())


def test_an_id_that_is_a_token_is_redacted_where_lines_name_ids(log: Log) -> None:
    """A client picks a room's name and a message's id, and may put anything there."""
    log.logger.info("joined", extra={"stage": "development", "room_id": TOKEN, "message_id": f"hermes.token.{TOKEN}"})
    assert TOKEN not in log.text
    assert "development" in log.text
    assert log.text.count("[redacted]") == 2

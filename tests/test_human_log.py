"""A line for people has the ids of what it is about, and nobody who is logged can begin a line of their own."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from hermes_site.human_log import FIELDS, HumanFormatter
from tests.documents import names, rows, section


def line(text: str, *arguments: Any, **extra: Any) -> str:
    record = logging.getLogger("tests").makeRecord("tests", logging.INFO, "", 0, text, arguments, None, extra=extra)
    return HumanFormatter("{levelname} {name}: {message}", style="{").format(record)


def test_the_ids_stand_at_the_end() -> None:
    said = line("joined", connection_id="c1", room_id="acme", stage="development")
    assert said == "INFO tests: joined stage=development room_id=acme connection_id=c1"


def test_what_is_no_id_is_left_out() -> None:
    assert line("Not Found: %s", "/nowhere", request=object(), status_code=404) == "INFO tests: Not Found: /nowhere"


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n", "\v", "\f", "\x1c", "\x85", "\u2028", "\u2029"])
def test_a_line_break_in_what_somebody_sent_begins_no_line(end: str) -> None:
    said = line("Room %s", f"acme{end}ERROR hermes: a line of somebody else's", room_id=f"acme{end}x")
    assert len(said.splitlines()) == 1
    assert "acme\\" in said


def test_what_a_terminal_would_obey_is_written_out() -> None:
    assert line("Room %s", "\x1b[2J") == "INFO tests: Room \\x1b[2J"


def test_a_traceback_follows_on_lines_of_its_own() -> None:
    try:
        raise ValueError("no use")
    except ValueError as error:
        record = logging.LogRecord("tests", logging.ERROR, "", 0, "It failed", (), (type(error), error, None))
    said = HumanFormatter("{message}", style="{").format(record).splitlines()
    assert (said[0], said[-1]) == ("It failed", "ValueError: no use")


def test_every_field_is_documented_and_no_other() -> None:
    assert {name for cells in rows(section("docs/metrics.md", "## Logs")) for name in names(cells[0])} == set(FIELDS)

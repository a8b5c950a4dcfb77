"""Marks: the number and the time that every message carries. Written by talk, read by load through ledger.

Pure. A mark stands at the front of the payload and has always the same length, so that a reader finds the next one by
comparing a few bytes at a place that it knows. Behind it is the same time as `referee` reads it, in Unix seconds.
"""

from __future__ import annotations

import re
import time

_FIELD = b'"mark":"#'
_NUMBER, _STAMP = 7, 19  # digits
_ALL = re.compile(rb'"mark":"#(\d{7})@(\d{19})')
_EPOCH = time.time_ns() - time.monotonic_ns()
_tags: list[bytes] = []


def write(number: int, at: int, size: int) -> str:
    """Return a payload as JSON text.

    Args:
        number: 1 for the first message of a room.
        at: monotonic nanoseconds.
        size: how many bytes it shall have; it has at least 97.
    """
    unix = (at + _EPOCH) / 1e9
    head = f'{{"mark":"#{number:0{_NUMBER}d}@{at:0{_STAMP}d}","t":{unix:.6f},"type":"info","data":"'
    return f'{head}{"x" * (size - len(head) - 2)}"}}'


def tags(highest: int) -> list[bytes]:
    """Return what the marks of the numbers from 0 begin with, at least up to ``highest`` and one beyond."""
    _tags.extend(b"#%07d@" % number for number in range(len(_tags), highest + 2))
    return _tags


def find(payload: bytes) -> int:
    """Return where a mark begins; -1 where there is none."""
    at = payload.find(_FIELD)
    return at + len(_FIELD) - 1 if at >= 0 else -1


def number(payload: bytes, at: int) -> int:
    """Return the number of the mark that begins at ``at``."""
    return int(payload[at + 1 : at + 1 + _NUMBER])


def stamp(payload: bytes, at: int) -> int:
    """Return the time of the mark that begins at ``at``."""
    return int(payload[at + 9 : at + 28])


def find_all(payload: bytes) -> list[tuple[int, int]]:
    """Return number and time of each mark in a payload."""
    return [(int(number_), int(at)) for number_, at in _ALL.findall(payload)]

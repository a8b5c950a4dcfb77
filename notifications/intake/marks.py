"""Marks: where in a body its error is, and what its fields say, also where no parser gets through. Used by letter.

Pure.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from notifications.exceptions import MessageRefused
from notifications.stream.message import MAX_DEPTH

Span = tuple[int, int]

# A string that never ends runs to the end of the text; possessive, so that no text is scanned twice.
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*+"?|[{}\[\]:,]|[^\s{}\[\]:,"]++', re.DOTALL)
_WORD = re.compile(r'[^\s{}\[\]:,"]++')
_HALF_PAIR = re.compile(
    r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    r"|(?P<half>\\u[dD][89a-fA-F][0-9a-fA-F]{2}|[\ud800-\udfff])|\\.",
    re.DOTALL,
)
_DEEPEST_PATH = 2  # nothing deeper has a rule of its own, and a path for each token would cost the depth squared
_LONGEST_INTEGER = 4_300  # digits; Python's own limit


@dataclass(slots=True)
class _Level:
    """An object or a list that is open."""

    is_object: bool
    wants_key: bool
    key: str = ""
    keys: set[str] | None = None


class _Token(NamedTuple):
    """A key, a value without parts, or the begin or end of an object or list.

    Args:
        kind: ``key``, ``value``, ``open`` or ``close``.
        span: where it is.
        depth: how many objects and lists are open around it.
        path: the keys that lead to it, ``None`` deep inside; of a list's elements the list's.
        is_repeated: whether its object has had this key.
    """

    kind: str
    span: Span
    depth: int
    path: tuple[str, ...] | None
    is_repeated: bool = False


def locate(body: str, refusal: MessageRefused, *, max_bytes: int) -> Span | None:
    """Find what a body was refused for.

    Args:
        body: the text that ``envelope.decode`` refused.
        refusal: how.
        max_bytes: the largest body, in bytes of UTF-8.

    Returns:
        Its first and last character (the last not included); empty where something is missing at the end; None where
        nothing in it is to blame.
    """
    if refusal.code == "too_large":
        return len(body.encode("utf-8", "replace")[:max_bytes].decode("utf-8", "ignore")), len(body)
    if refusal.code == "not_json":
        error = refusal.__cause__
        return _word(body, error.pos) if isinstance(error, json.JSONDecodeError) else None
    if refusal.code == "not_an_object":
        return len(body) - len(body.lstrip()), len(body.rstrip())
    if refusal.code == "lone_surrogate":
        halves = (match.span("half") for match in _HALF_PAIR.finditer(body) if match["half"])
        return next(halves, None)
    if refusal.code == "bad_field":
        return find(body, refusal.detail.split()[0])
    if refusal.code == "reserved_type":
        return find(body, "data", "type")
    return _first(body, refusal.code)


def find(body: str, *path: str) -> Span | None:
    """Return where the value is to which these keys lead from the outermost object; None where there is none."""
    start: int | None = None
    for token in _tokens(body):
        # Of a list the elements have its path, and are deeper.
        if token.path != path or token.depth != len(path) or token.kind == "key":
            continue
        if token.kind == "value":
            return token.span
        if token.kind == "open":
            start = token.span[0]
        elif start is not None:
            return start, token.span[1]
    return None if start is None else (start, len(body))


def read(body: str, name: str) -> str:
    """Return what an outermost field says, as text; empty where it is not a string or a number that can be read."""
    span = find(body, name)
    if span is None or body[span[0]] in "{[":
        return ""
    text = body[span[0] : span[1]]
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return ""
    return str(value) if isinstance(value, (str, int, float)) and not isinstance(value, bool) else ""


def _word(body: str, start: int) -> Span:
    """Return the word that begins there, or the one character that is none."""
    word = _WORD.match(body, start)
    return start, word.end() if word else min(start + 1, len(body))


def _first(body: str, code: str) -> Span | None:
    depth = 0
    for token in _tokens(body):
        text = body[token.span[0] : token.span[1]] if token.kind == "value" else ""
        depth += (token.kind == "open") - (token.kind == "close")
        if (
            (code == "missing_field" and token.kind == "open")
            or (code == "too_deep" and depth > MAX_DEPTH)
            or (code == "duplicate_key" and token.is_repeated)
            or (code == "not_finite" and _is_infinite(text))
            or (code == "number_too_long" and text.lstrip("-").isdigit() and len(text) > _LONGEST_INTEGER)
        ):
            return token.span
    return None


def _is_infinite(text: str) -> bool:
    if text.startswith('"') or text.lstrip("-").isdigit():
        return False
    try:
        return not math.isfinite(float(text))
    except ValueError:
        return False


def _tokens(body: str) -> Iterator[_Token]:
    """Read a text as JSON as far as that goes, and never raise."""
    levels: list[_Level] = []

    def path() -> tuple[str, ...] | None:
        return tuple(level.key for level in levels if level.is_object) if len(levels) <= _DEEPEST_PATH else None

    for match in _TOKEN.finditer(body):
        text, level = match[0], levels[-1] if levels else None
        if text in ("{", "["):
            yield _Token("open", match.span(), len(levels), path())
            levels.append(_Level(is_object=text == "{", wants_key=text == "{"))
        elif text in ("}", "]"):
            if levels:
                levels.pop()
            yield _Token("close", match.span(), len(levels), path())
        elif text in (",", ":"):
            if level is not None:
                level.wants_key = level.is_object and text == ","
        elif level is not None and level.wants_key:
            level.key = _unquoted(text)
            yield _Token("key", match.span(), len(levels), path(), level.key in (level.keys or ()))
            level.keys = {level.key} if level.keys is None else level.keys
            level.keys.add(level.key)
        else:
            yield _Token("value", match.span(), len(levels), path())


def _unquoted(text: str) -> str:
    try:
        return str(json.loads(text))
    except ValueError:
        return text

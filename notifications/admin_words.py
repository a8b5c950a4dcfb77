"""Words: what the admin's pages call codes, sizes and times, and the lines of their small plots. Pure; used by them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from django.utils import timezone

from notifications.sockets.protocol import Close

# The height and width of a plot, in its own units; the page stretches it.
WIDTH, HEIGHT, MARGIN = 240.0, 48.0, 3.0

_REASONS = {
    1000: "closed by the page",
    1001: "the page went away",
    1005: "closed without a code",
    1006: "broke off, or its server died",
    1009: "a frame was too large",
    1011: "the server failed",
    1012: "the server restarted",
    Close.SLOW: "its reader did not keep up",
    Close.TOO_MANY: "too many connections",
    Close.DISCONNECTED: "disconnected by an operator",
    Close.DRAINING: "the server went away in order",
    Close.UNAVAILABLE: "a part did not answer",
    Close.RATE: "it sent too much",
    Close.BAD_REQUEST: "no such stage",
    Close.TOKEN: "its token ended",
    Close.REVOKED: "its token was revoked",
}


def reason(code: int | None) -> str:
    """Say why a connection was closed.

    Args:
        code: the WebSocket close code, ``None`` where none was seen.
    """
    return "not known" if code is None else _REASONS.get(code, "a code of the client's own")


def number(value: int) -> str:
    """Write a number with its thousands apart."""
    return f"{value:,}".replace(",", "\u202f")


def frames(count: int) -> str:
    """Write a number of frames, on one line."""
    return f"{number(count)}\u00a0frame{'' if count == 1 else 's'}"


def size(count: int) -> str:
    """Write a number of bytes as people say it."""
    amount = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024 or unit == "GiB":
            break
        amount /= 1024
    return f"{amount:.0f}\u00a0{unit}" if unit == "B" or amount >= 100 else f"{amount:.1f}\u00a0{unit}"


def moment(when: datetime) -> str:
    """Write a moment to the second, on one line; rows are kept for days, so it has no year."""
    return timezone.localtime(when).strftime("%d\u00a0%b\u00a0%H:%M:%S")


def moment_of_a_year(when: datetime) -> str:
    """Write a moment to the second, on one line, with its year."""
    return timezone.localtime(when).strftime("%d\u00a0%b\u00a0%Y\u00a0%H:%M:%S")


def duration(milliseconds: float) -> str:
    """Write a time as people say it."""
    seconds = milliseconds / 1000
    if milliseconds < 1000:
        return f"{milliseconds:.0f} ms"
    if seconds < 120:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"


def line(values: Sequence[int | None], top: int) -> str:
    """Draw values as an SVG path; where one is not known, the line has a gap.

    Args:
        values: oldest first.
        top: the largest of the plot.

    Returns:
        What the ``d`` of a path holds: letters, digits, points and blanks.
    """
    step = WIDTH / max(len(values) - 1, 1)
    scale = (HEIGHT - 2 * MARGIN) / max(top, 1)
    parts, is_drawn = [], False
    for index, value in enumerate(values):
        if value is None:
            is_drawn = False
            continue
        point = f"{index * step:.1f} {HEIGHT - MARGIN - value * scale:.1f}"
        # A point of its own has no length; with a round end it is seen all the same.
        parts.append(f"L{point}" if is_drawn else f"M{point}h.01")
        is_drawn = True
    return "".join(parts)

"""Tiles: the dashboard's figures, those of a stage from SQS to its histories. Made for dashboard, in admin_words."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from notifications.admin_words import duration, line, number
from notifications.conf import Stage
from notifications.dashboard_looks import SILENT, Refused

FIGURES = ("depth", "dead", "lag")  # that are kept by the minute
LATE_MS = 10_000  # of the alert HermesRelayLate
DEEP = 1_000  # messages that wait
# A queue that grows is told before it is deep: beyond so many, and twice as many as so long ago.
GROWING_FROM, GROWTH_MINUTES = 100, 5


@dataclass(frozen=True, slots=True)
class Tile:
    """One figure.

    Args:
        key: what the page knows it by.
        title, value, note: what it says.
        state: ``ok``, ``warn``, ``bad``, or ``unknown`` where nobody answers.
        lines: paths of its plot, the main one first.
        rounds: the largest value of the plot, for people who cannot see it.
        letters: the stage whose dead letters it counts, for a link to them.
    """

    key: str
    title: str
    value: str
    note: str = ""
    state: str = "ok"
    lines: tuple[str, ...] = ()
    rounds: str = ""
    letters: str = ""


@dataclass(frozen=True, slots=True)
class Past:
    """What is known of a stage's queue from before.

    Args:
        since_empty: how many seconds ago a relay found nothing waiting; ``None`` where nobody knows.
        hours: each of `FIGURES` in each minute of the last hour.
    """

    since_empty: float | None
    hours: Mapping[str, list[int | None]]


def flow(stage: Stage, pace: Any, relays: Any, queue: Any, dead: Any, past: Any) -> list[Tile]:
    """Return the tiles of one stage, from SQS to the histories.

    Args:
        stage: which.
        pace, relays, queue, dead, past: what is known of each, or `Refused`.
    """
    key = stage.name
    known = Past(None, {}) if isinstance(past, Refused) else past
    return [
        _entries(key, pace),
        _depth(key, queue, known),
        _age(key, queue, relays, known),
        _dead(key, dead, known),
        _lag(key, relays, known),
    ]


def _entries(key: str, told: Any) -> Tile:
    title = "Entries a minute"
    if isinstance(told, Refused):
        return _silent(f"entries-{key}", title, told)
    last = told.minutes[-1]
    now = "nothing counted yet" if told.now is None else f"{number(told.now)} since the minute began"
    state = "unknown" if last is None else "ok"
    tile = Tile(f"entries-{key}", title, "not known yet" if last is None else number(last), now, state)
    return plot(tile, told.minutes)


def _depth(key: str, told: Any, past: Past) -> Tile:
    title = "In the queue"
    if isinstance(told, Refused):
        return _silent(f"queue-{key}", title, told)
    if not told:
        return Tile(f"queue-{key}", title, "no such queue", "manage.py provision makes it", "bad")
    waiting, flying, delayed = counts(told)
    note = f"{number(flying)} in flight" + (f", {number(delayed)} delayed" if delayed else "")
    before = past.hours.get("depth", [])[-1 - GROWTH_MINUTES : -GROWTH_MINUTES]
    grows = waiting > GROWING_FROM and any(each is not None and waiting >= 2 * each for each in before)
    if grows:
        note += f"; twice as many as {GROWTH_MINUTES} min ago"
    state = "warn" if grows or waiting > DEEP else "ok"
    return plot(Tile(f"queue-{key}", title, number(waiting), note, state), past.hours.get("depth", []))


def _age(key: str, told: Any, relays: Any, past: Past) -> Tile:
    """How old the oldest message is, as far as anybody but SQS can know.

    What a relay holds has an age. What waits came after a relay had last found nothing waiting, but for what was in
    flight at that moment and comes again.
    """
    title, name = "Oldest message", f"age-{key}"
    if isinstance(told, Refused):
        return _silent(name, title, told)
    beats = [] if isinstance(relays, Refused) else relays
    waited = [beat.tally.waited_ms for beat in beats if beat.tally.waited_ms is not None]
    last = f"the last batch had waited {duration(max(waited))}" if waited else ""
    if told and not sum(counts(told)):
        return Tile(name, title, "none", last)
    in_hand = max((beat.tally.in_hand_ms for beat in beats if beat.tally.in_hand_ms is not None), default=None)
    state = "warn" if in_hand is not None and in_hand > LATE_MS else "ok"
    if past.since_empty is None:
        if in_hand is None:
            return Tile(name, title, "not known", "no relay has seen this queue empty", "unknown")
        return Tile(name, title, f"at least {duration(in_hand)}", "a relay has it in hand", state)
    bound = past.since_empty * 1000
    if in_hand is not None and in_hand >= bound:
        return Tile(name, title, duration(in_hand), "a relay has it in hand", state)
    note = "nothing waited then; what comes again may be older" + (f"; {last}" if last else "")
    return Tile(name, title, f"at most {duration(bound)}", note, state)


def _dead(key: str, told: Any, past: Past) -> Tile:
    title, name = "Dead letters", f"dead-{key}"
    if isinstance(told, Refused):
        return _silent(name, title, told)
    if not told:
        return Tile(name, title, "no such queue", "refused messages stay in the queue", "warn")
    count = sum(counts(told))
    note, state = ("wait for somebody", "bad") if count else ("", "ok")
    tile = Tile(name, title, number(count), note, state, letters=key)
    return plot(tile, past.hours.get("dead", []))


def _lag(key: str, told: Any, past: Past) -> Tile:
    title, name = "Relay lag", f"lag-{key}"
    if isinstance(told, Refused):
        return _silent(name, title, told)
    if not told:
        return Tile(name, title, "no relay", "manage.py relay_sqs runs one", "bad")
    lags = [beat.tally.worst_ms for beat in told if beat.tally.worst_ms is not None]
    relays = f"{len(told)} relay{'' if len(told) == 1 else 's'}"
    is_stuck = any((beat.tally.in_hand_ms or 0) > LATE_MS for beat in told)
    note = f"{relays}, one has had it in hand for as long" if is_stuck else f"{relays}, the slowest counts"
    state = "warn" if lags and max(lags) > LATE_MS else "ok"
    tile = Tile(name, title, duration(max(lags)) if lags else "nothing yet", note, state)
    return plot(tile, past.hours.get("lag", []), say=duration)


def counts(attributes: Mapping[str, str]) -> tuple[int, int, int]:
    """Return how many messages wait, are in flight and are delayed, about."""
    names = ("", "NotVisible", "Delayed")
    waiting, flying, delayed = (int(attributes.get(f"ApproximateNumberOfMessages{name}", "0")) for name in names)
    return waiting, flying, delayed


def _silent(key: str, title: str, told: Refused) -> Tile:
    return Tile(key, title, SILENT, "" if told.reason == SILENT else told.reason, "unknown")


def plot(tile: Tile, values: Sequence[int | None], top: int | None = None, say: Callable[[int], str] = number) -> Tile:
    """Return a tile with a line of what it was in the last hour.

    Args:
        tile: without one.
        values: oldest first; ``None`` where nobody knows.
        top: the largest of the plot, where several share a scale.
        say: words a value.
    """
    most = max((value for value in values if value is not None), default=0)
    lines = (line(values, most if top is None else top),)
    return replace(tile, lines=lines, rounds=f"the last hour, {say(most)} at most")

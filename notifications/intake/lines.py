"""Lines: which messages of a batch must follow one another. Made and emptied by relay. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from notifications.intake.received import Received
from notifications.stream.message import Message


@dataclass(eq=False, slots=True)
class Line:
    """Messages that go to the histories one after another.

    Args:
        rest: those that are not there yet.
        refusals: how often Redis has refused the first of them while it took others.
    """

    rest: deque[tuple[Received, Message]]
    refusals: int = 0

    @property
    def received(self) -> list[Received]:
        """What SQS calls the rest."""
        return [received for received, _ in self.rest]


def lines(accepted: Sequence[tuple[Received, Message]], *, is_fifo: bool) -> list[Line]:
    """Part a batch into lines.

    Args:
        accepted: in the order received.
        is_fifo: whether a group means order; on a standard queue each message stands alone, whatever its group.
    """
    if not is_fifo:
        return [Line(deque([pair])) for pair in accepted]
    groups: dict[str | None, Line] = {}
    for pair in accepted:
        groups.setdefault(pair[0].group, Line(deque())).rest.append(pair)
    return list(groups.values())

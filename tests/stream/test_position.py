"""How a client that comes back goes on: the rules of stream.position, without I/O."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifications.stream.position import MAX_SEQ, Lost, Position, Resume, parse_position, resume

HEAD = Position("e1", 5, "m5")
IDS = {seq: f"m{seq}" for seq in range(1, 6)} | {0: ""}


def go_on(client: Position | None, oldest: int = 1, head: Position = HEAD) -> Resume:
    return resume(client, head, oldest, IDS.get)


def test_a_client_without_a_position_gets_what_comes_from_now_on() -> None:
    assert go_on(None) == Resume(after=5, fresh=True)
    assert go_on(None).status == "fresh"


def test_a_client_gets_exactly_what_it_missed() -> None:
    assert go_on(Position("e1", 3, "m3")) == Resume(after=3)
    assert go_on(Position("e1", 3, "m3")).status == "recovered"


def test_a_client_that_missed_nothing_gets_nothing() -> None:
    assert go_on(HEAD) == Resume(after=5)


def test_a_client_from_before_the_first_entry_gets_all_of_them() -> None:
    assert go_on(Position("e1", 0, "")) == Resume(after=0)


def test_another_epoch_is_lost_and_all_that_is_retained_follows() -> None:
    assert go_on(Position("e0", 3, "m3"), oldest=2) == Resume(after=1, lost=Lost.EPOCH)
    assert go_on(Position("e0", 3, "m3")).status == "lost"


def test_what_was_trimmed_is_lost_and_the_rest_follows() -> None:
    assert go_on(Position("e1", 1, "m1"), oldest=3) == Resume(after=2, lost=Lost.TRIMMED)


def test_the_entry_before_the_oldest_one_is_known_from_the_chain() -> None:
    assert go_on(Position("e1", 2, "m2"), oldest=3) == Resume(after=2)
    assert go_on(Position("e1", 2, "other"), oldest=3) == Resume(after=2, lost=Lost.FORK)


def test_the_same_seq_with_another_id_is_a_fork() -> None:
    assert go_on(Position("e1", 4, "other")) == Resume(after=0, lost=Lost.FORK)


def test_a_client_ahead_of_the_history_is_on_a_fork() -> None:
    assert go_on(Position("e1", 6, "m6")) == Resume(after=0, lost=Lost.FORK)


@pytest.mark.parametrize(
    ("query", "position"),
    [
        ((None, None, None), None),
        (("e1", "0", None), Position("e1", 0, "")),
        (("e1", "0", ""), Position("e1", 0, "")),
        (("e1", "7", "m7"), Position("e1", 7, "m7")),
        (("e1", str(MAX_SEQ), "m"), Position("e1", MAX_SEQ, "m")),
    ],
)
def test_a_position_is_read_from_a_query(query: tuple[str | None, ...], position: Position | None) -> None:
    assert parse_position(*query) == position


@pytest.mark.parametrize(
    "query",
    [
        ("e1", None, None),
        (None, "1", "m1"),
        ("e1", "1", None),
        ("e1", "0", "m1"),
        ("e1", "-1", "m1"),
        ("e1", "1.5", "m1"),
        ("e1", "٣", "m1"),
        ("e1", "9" * 17, "m1"),
        ("e1", str(MAX_SEQ + 1), "m1"),
        ("", "1", "m1"),
        (None, None, "m1"),
    ],
)
def test_a_malformed_position_is_refused(query: tuple[str | None, ...]) -> None:
    with pytest.raises(ValueError, match="position"):
        parse_position(*query)


@given(st.text(max_size=8), st.text(max_size=20), st.text(max_size=8))
def test_no_query_raises_anything_but_value_error(epoch: str, seq: str, last_id: str) -> None:
    try:
        position = parse_position(epoch, seq, last_id)
    except ValueError:
        return
    assert position == Position(epoch, int(seq), last_id)


@given(
    st.integers(0, 30),
    st.integers(1, 31),
    st.builds(Position, st.sampled_from(["e1", "e2"]), st.integers(0, 40), st.sampled_from(["", "x"])),
)
def test_a_recovery_is_whole_or_is_called_lost(head_seq: int, oldest: int, client: Position) -> None:
    """Whatever the client says it has seen: if nothing is called lost, then every entry after it is still there."""
    oldest = min(oldest, head_seq + 1)
    how = resume(client, Position("e1", head_seq, "x" if head_seq else ""), oldest, lambda seq: "x" if seq else "")
    assert oldest - 1 <= how.after <= head_seq
    if how.lost is None:
        assert how.after == client.seq

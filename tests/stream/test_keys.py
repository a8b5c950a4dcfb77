"""Keys and groups: one slot per script, and no two rooms with one name."""

from __future__ import annotations

import re

import pytest
from channels.layers import BaseChannelLayer
from hypothesis import assume, given
from hypothesis import strategies as st
from redis.crc import key_slot

from notifications.exceptions import MessageRefused
from notifications.stream import keys
from notifications.stream.message import identifier

rooms = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=128)


@given(rooms, rooms)
def test_all_keys_of_a_script_are_in_one_slot(room: str, message_id: str) -> None:
    names = [
        keys.head_key("development", room),
        keys.log_key("development", room),
        keys.once_key("development", room, message_id),
        keys.activity_key("development", keys.partition(room)),
    ]
    assert len({key_slot(name.encode()) for name in names}) == 1
    assert len(set(names)) == 4


@given(rooms)
def test_a_group_name_is_one_that_channels_accepts(room: str) -> None:
    name = keys.group_name("a-stage-of-20-letters"[:20], room)
    assert BaseChannelLayer().require_valid_group_name(name)
    assert re.fullmatch(r"[a-zA-Z0-9_.-]{1,99}", name)


@given(rooms, rooms)
def test_two_rooms_have_two_groups_and_two_histories(one: str, other: str) -> None:
    assume(one != other)
    assert keys.group_name("development", one) != keys.group_name("development", other)
    assert keys.head_key("development", one) != keys.head_key("development", other)


@given(rooms, rooms, rooms, rooms)
def test_two_ids_never_share_a_key(room: str, message_id: str, other_room: str, other_id: str) -> None:
    assume((room, message_id) != (other_room, other_id))
    one, other = keys.once_key("s", room, message_id), keys.once_key("s", other_room, other_id)
    assert one != other


def test_stages_share_nothing() -> None:
    assert keys.head_key("development", "acme") != keys.head_key("production", "acme")
    assert keys.group_name("development", "acme") != keys.group_name("production", "acme")


@given(rooms)
def test_a_room_keeps_its_partition(room: str) -> None:
    assert 0 <= keys.partition(room) < keys.PARTITIONS
    assert keys.partitions([room, room]) == {keys.partition(room)}


def test_the_partition_of_acme_has_not_changed_since_the_first_release() -> None:
    assert keys.partition("acme") == 62
    assert keys.partition("globex") == 58


def test_no_message_can_name_the_control_room() -> None:
    with pytest.raises(MessageRefused):
        identifier(keys.CONTROL_ROOM, "room_id")

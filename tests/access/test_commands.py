"""What every server is told to do with open connections, on its way through a control room."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifications.access.commands import Command, Disconnect, Revoke, SignOut, decode, encode


@pytest.mark.parametrize("command", [Revoke("42", "acme", 1_800_000_000), SignOut("tag"), Disconnect("connection-1")])
def test_a_command_comes_back_as_it_was(command: Command) -> None:
    assert decode(json.loads(encode(command))) == command


@pytest.mark.parametrize(
    "payload",
    [
        None,
        1,
        "text",
        [],
        [1, 2],
        {},
        {"kind": "dance"},
        {"kind": []},
        {"kind": "sign_out"},
        {"kind": "sign_out", "session": "tag", "more": 1},
    ],
)
def test_a_command_of_another_release_is_a_value_error(payload: Any) -> None:
    with pytest.raises(ValueError, match="not a command of this release"):
        decode(payload)


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


@given(
    st.builds(Revoke, texts, texts, st.integers(0, 2**53)) | st.builds(SignOut, texts) | st.builds(Disconnect, texts)
)
def test_any_command_comes_back_as_it_was(command: Command) -> None:
    assert decode(json.loads(encode(command))) == command

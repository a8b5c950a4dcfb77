"""Crowd: what counts for a cap and what does not."""

from __future__ import annotations

from typing import Any

import pytest

from notifications.sockets.crowd import Crowd, TooManyConnections, subscriber_of
from notifications.sockets.protocol import Close
from tests.sockets.scene import Connect


def fill(crowd: Crowd, *connections: Any) -> None:
    """Let all of them come."""
    for connection in connections:
        crowd.admit(connection)
        crowd.add(connection)


def test_a_user_is_counted_over_all_rooms_and_not_over_stages(connect: Connect, settings: Any) -> None:
    settings.HERMES_CONNECTIONS_PER_USER = 2
    crowd = Crowd()
    fill(crowd, connect("alice"), connect("alice", room="globex"), connect("alice", stage="production"))
    with pytest.raises(TooManyConnections, match="user"):
        crowd.admit(connect("alice"))
    crowd.admit(connect("bob"))


def test_only_live_connections_count(connect: Connect, settings: Any) -> None:
    settings.HERMES_CONNECTIONS_PER_USER = 1
    crowd, first = Crowd(), connect("alice")
    fill(crowd, first)
    first.close(Close.REVOKED, "revoked")
    crowd.admit(connect("alice"))


def test_an_address_is_counted_whoever_comes_from_it(connect: Connect, settings: Any) -> None:
    settings.HERMES_CONNECTIONS_PER_ADDRESS = 2
    crowd, alice = Crowd(), connect("alice", address="192.0.2.1")
    fill(crowd, alice, connect("bob", address="192.0.2.1"))
    with pytest.raises(TooManyConnections, match="address"):
        crowd.admit(connect("charlie", address="192.0.2.1"))
    crowd.admit(connect("charlie", address="192.0.2.2"))
    crowd.remove(alice)
    crowd.admit(connect("charlie", address="192.0.2.1"))


def test_an_unknown_address_is_not_counted(connect: Connect, settings: Any) -> None:
    settings.HERMES_CONNECTIONS_PER_ADDRESS = 1
    crowd = Crowd()
    fill(crowd, connect("alice"), connect("bob"))


def test_who_has_left_leaves_nothing_behind(connect: Connect, settings: Any) -> None:
    settings.HERMES_CONNECTIONS_PER_ADDRESS = 1
    crowd, alice = Crowd(), connect("alice", address="192.0.2.1")
    fill(crowd, alice)
    crowd.remove(alice)
    crowd.remove(alice)
    assert not crowd._of


@pytest.mark.parametrize(
    ("host", "counts_as"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::9", "2001:db8:1:2::/64"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("unix:", ""),
        ("", ""),
    ],
)
def test_what_an_address_counts_as(host: str, counts_as: str) -> None:
    assert subscriber_of(host) == counts_as

"""Crowd: how many connections this process holds of each user and of each address. Asked by hub before a join.

A cap keeps one page gone wild, or one machine, from taking the place of everybody else.
"""

from __future__ import annotations

import ipaddress

from django.conf import settings

from notifications.exceptions import HermesError
from notifications.sockets.connection import Connection

IPV6_PREFIX = 64  # what one subscriber is given at least (RFC 6177); within it addresses cost nothing

Key = tuple[str, str]


class TooManyConnections(HermesError):
    """A user or an address has as many connections as one may have; the new one is refused with 4109."""


class Crowd:
    """The connections of one process by user, in all rooms of a stage, and by address."""

    def __init__(self) -> None:
        self._of: dict[Key, set[Connection]] = {}

    def admit(self, connection: Connection) -> None:
        """Judge whether one more may come.

        Raises:
            TooManyConnections: its user or its address has as many as one may have, not counting those that close.
        """
        for key, cap in _caps(connection):
            there = self._of.get(key, ())
            # Who is closing is looked for only where it matters: an address may have thousands.
            if len(there) >= cap and sum(not each.is_closing for each in there) >= cap:
                raise TooManyConnections(f"{cap} connections of this {'user' if key[0] else 'address'} are open")

    def add(self, connection: Connection) -> None:
        """Count one that has joined."""
        for key, _ in _caps(connection):
            self._of.setdefault(key, set()).add(connection)

    def remove(self, connection: Connection) -> None:
        """Count one no more."""
        for key, _ in _caps(connection):
            there = self._of.get(key)
            if there is not None:
                there.discard(connection)
                if not there:
                    del self._of[key]


def _caps(connection: Connection) -> list[tuple[Key, int]]:
    """What a connection counts for, and how many there may be: its user in its stage, and its address if known."""
    caps = [((connection.grant.stage, connection.user), settings.HERMES_CONNECTIONS_PER_USER)]
    if connection.address and settings.HERMES_CONNECTIONS_PER_ADDRESS:
        caps.append((("", connection.address), settings.HERMES_CONNECTIONS_PER_ADDRESS))
    return caps


def subscriber_of(host: str) -> str:
    """Return what stands for a client's address in the count: an IPv4 address whole, an IPv6 address by its network.

    Args:
        host: as the server gives it.

    Returns:
        The address or network; empty if it is neither, which is not counted (a socket of this machine, for example).
    """
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return ""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((address, IPV6_PREFIX), strict=False))
    return str(address)

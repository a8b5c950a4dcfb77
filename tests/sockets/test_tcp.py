"""Listening sockets: what accepted ones inherit, who may listen on a port, and who gets its connections."""

from __future__ import annotations

import itertools
import os
import socket
from contextlib import ExitStack

import pytest

from notifications.sockets import tcp
from notifications.sockets.tcp import listening_socket


def test_accepted_sockets_inherit_our_limits() -> None:
    listener = listening_socket("127.0.0.1", 0)
    with listener, socket.create_connection(listener.getsockname()) as client:
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) == 2 * 128 * 1024  # Linux doubles it
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 10_000
            assert client.getpeername() == listener.getsockname()


def test_a_taken_address_is_an_error_and_leaks_no_socket() -> None:
    with listening_socket("127.0.0.1", 0) as listener, pytest.raises(OSError, match="in use"):
        listening_socket("127.0.0.1", listener.getsockname()[1])


def test_the_kernel_shares_connections_out_to_all_who_listen_on_a_port() -> None:
    with listening_socket("127.0.0.1", 0) as first:
        tcp.open_to_others(first)
        with tcp.listening_beside(first) as second, ExitStack() as stack:
            for _ in range(200):
                stack.enter_context(socket.create_connection(first.getsockname()))
            shares = [accept_all(first, stack), accept_all(second, stack)]
    assert sum(shares) == 200
    assert min(shares) >= 0.3 * 200, shares


def test_a_port_that_is_open_to_our_own_is_taken_for_everybody_else() -> None:
    with listening_socket("127.0.0.1", 0) as listener:
        tcp.open_to_others(listener)
        with tcp.listening_beside(listener), pytest.raises(OSError, match="in use"):
            listening_socket("127.0.0.1", listener.getsockname()[1])


def test_where_the_kernel_does_not_share_connections_out_all_listen_to_one_socket(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tcp, "SHARES", False)
    with listening_socket("127.0.0.1", 0) as first:
        tcp.open_to_others(first)
        assert not first.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT)
        with tcp.listening_beside(first) as second:
            assert os.fstat(second.fileno()).st_ino == os.fstat(first.fileno()).st_ino


def accept_all(listener: socket.socket, stack: ExitStack) -> int:
    """Accept what waits, for as long as ``stack`` lasts; return how many there were."""
    listener.setblocking(False)
    for count in itertools.count():
        try:
            stack.enter_context(listener.accept()[0])
        except BlockingIOError:
            return count
    raise AssertionError

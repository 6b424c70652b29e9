"""Whose connection it is."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from chaos.sockets import Owners, listed


@pytest.fixture
def owners() -> Iterator[Owners]:
    made = Owners()
    yield made
    made.close()


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening


def dial(server: socket.socket, family: socket.AddressFamily) -> socket.socket:
    client = socket.socket(family, socket.SOCK_STREAM)
    host = "127.0.0.1" if family is socket.AF_INET else "::ffff:127.0.0.1"
    client.connect((host, server.getsockname()[1]))
    return client


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6], ids=["IPv4", "mapped"])
def test_the_process_that_dialled_is_named(server: socket.socket, owners: Owners, family: socket.AddressFamily) -> None:
    with dial(server, family) as client, server.accept()[0] as accepted:
        ends = accepted.getpeername(), accepted.getsockname()
        assert listed(*ends) == os.fstat(client.fileno()).st_ino
        assert owners.of(*ends, {1: "other", os.getpid(): "own"}) == "own"
        assert owners.of(*ends, {2**22 - 1: "ended"}) is None


def test_without_sock_diag_the_tables_are_read(
    server: socket.socket, owners: Owners, monkeypatch: pytest.MonkeyPatch
) -> None:
    owners.close()
    monkeypatch.setattr(owners, "_netlink", None)
    with dial(server, socket.AF_INET), server.accept()[0] as accepted:
        assert owners.of(accepted.getpeername(), accepted.getsockname(), {os.getpid(): "own"}) == "own"


def test_another_process_is_told_from_this_one(server: socket.socket, owners: Owners) -> None:
    script = f"import socket, sys; c = socket.create_connection(('127.0.0.1', {server.getsockname()[1]})); c.recv(1)"
    with subprocess.Popen([sys.executable, "-c", script]) as child:
        with server.accept()[0] as accepted:
            ends = accepted.getpeername(), accepted.getsockname()
            assert owners.of(*ends, {os.getpid(): "own", child.pid: "child"}) == "child"
        assert child.wait(10) == 0
        assert owners.of(*ends, {os.getpid(): "own", child.pid: "child"}) is None

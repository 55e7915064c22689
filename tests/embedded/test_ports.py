"""Ports that are chosen are free, and stay so for the server they were chosen for."""

from __future__ import annotations

import socket

import pytest

from chitram.platform.embedded import ports
from chitram.platform.embedded.ports import ReservedPort, check_free


def bind(port: int, *, reuse: bool) -> socket.socket:
    server = socket.socket()
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, reuse)
    try:
        server.bind(("127.0.0.1", port))
    except OSError:
        server.close()
        raise
    return server


def test_a_port_that_is_listened_on_is_not_free() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, pytest.raises(OSError, match="in use"):
        check_free("127.0.0.1", server.getsockname()[1])


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0"])  # noqa: S104 - never listens for others
def test_a_reserved_port_is_open_to_a_server_and_to_nobody_else(host: str) -> None:
    reserved = ReservedPort(host)
    check_free(host, reserved.number)
    with pytest.raises(OSError, match="in use"):
        bind(reserved.number, reuse=False)
    for _ in range(2):
        with bind(reserved.number, reuse=True) as server:
            server.listen()
            socket.create_connection(("127.0.0.1", reserved.number)).close()


def test_nothing_answers_on_a_reserved_port() -> None:
    reserved = ReservedPort()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", reserved.number))


def test_a_reservation_ends_with_its_holder() -> None:
    reserved = ReservedPort()
    port = reserved.number
    del reserved
    bind(port, reuse=False).close()


def test_a_host_whose_ports_are_all_taken_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    reserved = ReservedPort()
    monkeypatch.setattr(ports, "_PORTS", [reserved.number] * 100)
    with pytest.raises(OSError, match="are all in use"):
        ReservedPort()


def test_a_host_of_another_machine_is_an_error() -> None:
    with pytest.raises(OSError, match="assign"):
        ReservedPort("192.0.2.1")

"""No fuzz reaches out of this process: whoever is connected to would get random requests."""

import socket
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def contacts(monkeypatch) -> Iterator[list[object]]:
    """What was looked up or connected to, in vain; a test that ends with any has failed."""
    asked: list[object] = []

    def refuse(*address: object, **_: object) -> None:
        asked.append(address)
        raise ConnectionRefusedError("not in a fuzz")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    yield asked
    assert not asked

"""The handshakes of a server, in memory: who comes through, who does not, and how long that may take."""

from __future__ import annotations

import asyncio
import logging
import ssl

import pytest
from certificates import Pair
from fakes import FakeTransport
from tls_ends import SOON, Client, Room, run


def test_each_connection_is_counted_when_it_begins(pair: Pair, context: ssl.SSLContext) -> None:
    class Socket:
        def fileno(self) -> int:
            return 7

    async def test() -> None:
        room = Room(context)
        transport = room.handshakes.new()
        transport.connection_made(FakeTransport(transport, {"socket": Socket()}))
        assert room.accepted == [7]

    run(test)


def test_what_is_not_tls_is_closed(
    context: ssl.SSLContext, caplog: pytest.LogCaptureFixture
) -> None:
    async def test() -> None:
        room = Room(context)
        transport = room.handshakes.new()
        plain = FakeTransport(transport)
        transport.connection_made(plain)
        transport.data_received(b"GET / HTTP/1.1\r\n\r\n")
        assert plain.is_closed
        assert not plain.is_aborted  # so that an alert arrives
        transport.data_received(b"Host: a\r\n\r\n")
        transport.connection_lost(None)
        assert len(room.handshakes) == 0
        assert room.inner.told == []

    caplog.set_level(logging.INFO)
    run(test)
    assert caplog.messages == []


def test_a_client_that_is_refused_is_told_why(pair: Pair, context: ssl.SSLContext) -> None:
    old = pair.client()
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    old.set_ciphers("aRSA")

    async def test() -> None:
        client = Client(Room(context).handshakes, old)
        with pytest.raises(ssl.SSLError, match=r"(?i)handshake.failure"):
            client.shake_hands()
        assert client.plain.is_closed

    run(test)


def test_a_handshake_that_takes_too_long_is_cut_off(context: ssl.SSLContext) -> None:
    async def test() -> None:
        room = Room(context, timeout=0.01)
        transport = room.handshakes.new()
        plain = FakeTransport(transport)
        transport.connection_made(plain)
        transport.data_received(b"\x16\x03\x01")
        deadline = asyncio.get_running_loop().time() + SOON
        while not plain.is_aborted:
            assert asyncio.get_running_loop().time() < deadline
            await asyncio.sleep(0.001)
        transport.connection_lost(None)
        assert len(room.handshakes) == 0

    run(test)


def test_whoever_has_come_through_is_not(pair: Pair, context: ssl.SSLContext) -> None:
    async def test() -> None:
        client = Client(Room(context, timeout=0.001).handshakes, pair.client()).shake_hands()
        await asyncio.sleep(0.02)
        assert not client.plain.is_closed

    run(test)


def test_handshakes_are_aborted_and_waited_for(pair: Pair, context: ssl.SSLContext) -> None:
    async def test() -> None:
        room = Room(context)
        through = Client(room.handshakes, pair.client()).shake_hands()
        await room.handshakes.abort()  # there are none
        begun = [Client(room.handshakes, pair.client()) for _ in range(3)]
        aborting = asyncio.ensure_future(room.handshakes.abort())
        await asyncio.sleep(0)
        assert all(client.plain.is_aborted for client in begun)
        assert not through.plain.is_closed
        for client in begun:
            assert not aborting.done()
            client.server.connection_lost(None)
        await aborting
        assert room.inner.told == ["made"]

    run(test)


def test_a_client_that_leaves_in_the_handshake(context: ssl.SSLContext) -> None:
    async def test() -> None:
        room = Room(context)
        transport = room.handshakes.new()
        plain = FakeTransport(transport)
        transport.connection_made(plain)
        transport.eof_received()
        assert plain.is_closed
        transport.connection_lost(None)
        assert (len(room.handshakes), room.inner.told) == (0, [])
        transport.pause_writing()
        transport.resume_writing()

    run(test)

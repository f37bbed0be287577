"""What leaves by a TLS connection that is large: in memory, a turn of the loop at a time, for a real client's end."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import Any

import pytest
from certificates import Pair
from tls_ends import Client, Room, run

from bunpy.server import tls_outgoing

PIECE = tls_outgoing._PIECE
LARGE = b"".join(number.to_bytes(4, "big") for number in range(5 * PIECE // 4 + 100))


async def received(client: Client, size: int) -> bytes:
    """What comes within the turns of the loop that ``size`` bytes may take."""
    data = client.receive()
    for _ in range(size // PIECE):
        await asyncio.sleep(0)
        data += client.receive()
    return data


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_it_is_encrypted_a_piece_a_turn_and_in_order(
    pair: Pair, context: ssl.SSLContext, kind: Callable[[bytes], Any]
) -> None:
    async def test() -> None:
        room = Room(context)
        client = Client(room.handshakes, pair.client()).shake_hands()
        client.server.write(b"first")
        client.server.write(kind(LARGE))
        client.server.write(b"last")
        assert room.inner.told == ["made", "pause"]
        assert client.receive() == b"first" + LARGE[:PIECE]
        waiting = client.server.get_write_buffer_size()
        assert waiting == len(LARGE) - PIECE + len(b"last")
        await asyncio.sleep(0)
        assert client.receive() == LARGE[PIECE : 2 * PIECE]
        assert client.server.get_write_buffer_size() == waiting - PIECE
        assert await received(client, len(LARGE)) == LARGE[2 * PIECE :] + b"last"
        assert client.server.get_write_buffer_size() == 0
        assert room.inner.told == ["made", "pause", "resume"]

    run(test)


def test_what_was_written_from_a_buffer_is_what_it_held_then(
    pair: Pair, context: ssl.SSLContext
) -> None:
    async def test() -> None:
        client = Client(Room(context).handshakes, pair.client()).shake_hands()
        buf = bytearray(LARGE)
        client.server.write(memoryview(buf))
        buf[:] = bytes(len(buf))
        assert await received(client, len(LARGE)) == LARGE

    run(test)


def test_it_waits_as_it_is_for_a_peer_that_takes_nothing(
    pair: Pair, context: ssl.SSLContext
) -> None:
    async def test() -> None:
        room = Room(context)
        client = Client(room.handshakes, pair.client()).shake_hands()
        client.plain.is_stuck = True
        client.server.write(LARGE)
        for _ in range(10):
            await asyncio.sleep(0)
        assert PIECE < client.plain.get_write_buffer_size() < 1.1 * PIECE
        assert client.server.get_write_buffer_size() > len(LARGE)
        assert room.inner.told == ["made", "pause"]
        client.plain.resume()
        assert await received(client, len(LARGE)) == LARGE
        assert room.inner.told == ["made", "pause", "resume"]

    run(test)


@pytest.mark.parametrize("end", ["close", "write_eof", "both"])
def test_it_goes_out_before_the_end(pair: Pair, context: ssl.SSLContext, end: str) -> None:
    async def test() -> None:
        client = Client(Room(context).handshakes, pair.client()).shake_hands()
        server, plain = client.server, client.plain
        server.write(LARGE)
        if end != "close":
            server.write_eof()
            assert not server.is_closing()
        if end != "write_eof":
            server.close()
            assert server.is_closing()
            assert not plain.is_reading()
        server.write(b"too late")
        assert (plain.has_sent_eof, plain.is_closed) == (False, False)
        assert not client.has_eof
        assert await received(client, len(LARGE)) == LARGE
        assert client.has_eof
        assert (plain.has_sent_eof, plain.is_closed) == (end == "write_eof", end != "write_eof")
        assert not plain.is_aborted

    run(test)


@pytest.mark.parametrize("says_so", [True, False], ids=["close_notify", "FIN alone"])
def test_it_goes_out_to_who_has_closed_its_side(
    pair: Pair, context: ssl.SSLContext, says_so: bool
) -> None:
    async def test() -> None:
        room = Room(context)
        room.inner.keeps_open = True
        client = Client(room.handshakes, pair.client()).shake_hands()
        client.server.write(LARGE)
        if says_so:
            client.shut()
            client.exchange()
        assert client.server.eof_received()
        assert client.server.is_closing() is not says_so
        data = client.receive() + await received(client, len(LARGE))
        assert data[-len(LARGE) + PIECE :] == LARGE[PIECE:]
        assert client.plain.is_closed is not says_so

    run(test)


@pytest.mark.parametrize("end", ["abort", "lost"])
def test_it_is_let_go_of_with_the_connection(pair: Pair, context: ssl.SSLContext, end: str) -> None:
    async def test() -> None:
        room = Room(context)
        client = Client(room.handshakes, pair.client()).shake_hands()
        client.server.write(LARGE)
        client.plain.clear()
        if end == "abort":
            client.server.abort()
        else:
            client.plain.abort()
            client.server.connection_lost(None)
        assert client.server.get_write_buffer_size() == 0
        await asyncio.sleep(0)
        assert client.plain.sent == b""

    run(test)

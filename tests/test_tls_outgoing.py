"""What leaves by a TLS connection that is large: in memory, a turn of the loop at a time, for a real client's end."""

from __future__ import annotations

import asyncio
import errno
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
        assert await received(client, len(LARGE)) == LARGE
        assert client.plain.is_closed is not says_so

    run(test)


def test_the_memory_of_what_has_left_is_given_back(pair: Pair, context: ssl.SSLContext) -> None:
    """A BIO keeps that of the most that it has held: thousands of connections would, each for its largest answer."""

    class Records:
        """The BIO, with what it has held at the most."""

        def __init__(self, bio: ssl.MemoryBIO) -> None:
            self.most = 0
            self._bio = bio

        @property
        def pending(self) -> int:
            return self._bio.pending

        def read(self) -> bytes:
            self.most = max(self.most, self._bio.pending)
            return self._bio.read()

    async def test() -> None:
        client = Client(Room(context).handshakes, pair.client()).shake_hands()
        outgoing = client.server._outgoing
        records = Records(outgoing._records)
        outgoing._records = records  # type: ignore[assignment]
        client.server.write(LARGE)
        client.server.write(LARGE[:PIECE])
        assert await received(client, 2 * len(LARGE)) == LARGE + LARGE[:PIECE]
        assert 16_000 < records.most < 17_000

    run(test)


def test_a_transport_that_cannot_close_by_halves(pair: Pair, context: ssl.SSLContext) -> None:
    """asyncio's tells what the kernel does of a connection that was reset, and that nobody has looked at since."""

    def write_eof() -> None:
        raise OSError(errno.ENOTCONN, "Transport endpoint is not connected")

    async def test() -> None:
        client = Client(Room(context).handshakes, pair.client()).shake_hands()
        client.plain.write_eof = write_eof  # type: ignore[method-assign]
        client.server.write_eof()
        assert client.plain.is_aborted

    run(test)


@pytest.mark.parametrize("is_ending", [False, True])
def test_nothing_is_closed_or_told_while_the_transport_below_tells_that_it_has_room(
    pair: Pair, context: ssl.SSLContext, is_ending: bool
) -> None:
    """asyncio's loses one twice that is closed then."""

    async def test() -> None:
        room = Room(context)
        client = Client(room.handshakes, pair.client()).shake_hands()
        client.plain.is_stuck = True
        client.server.write(LARGE[: PIECE + 10])
        if is_ending:
            client.server.close()
        for _ in range(3):
            client.plain.resume()
            assert not client.plain.is_closed
            assert room.inner.told == ["made", "pause"]
        await asyncio.sleep(0)
        assert client.plain.is_closed is is_ending
        assert room.inner.told == ["made", "pause", "resume"]

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

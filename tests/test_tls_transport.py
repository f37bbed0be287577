"""TLS between a transport and a protocol, in memory: a real client's end of TLS, no sockets."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import ssl
from weakref import ref

import pytest
from certificates import Pair
from tls_ends import Client, Inner, Room, run


@pytest.mark.parametrize("piece", [1, 7, 1 << 20])
def test_bytes_there_and_back(pair: Pair, context: ssl.SSLContext, piece: int) -> None:
    async def test() -> None:
        room = Room(context)
        client = Client(room.handshakes, pair.client(), piece=piece)
        assert (len(room.handshakes), room.inner.told) == (1, [])
        client.shake_hands()
        assert (len(room.handshakes), room.inner.told) == (0, ["made"])
        assert room.inner.transport is client.server
        client.send(b"question")
        assert room.inner.data == b"question"
        client.server.write(b"ans")
        client.server.write(bytearray(b"w"))
        client.server.write(b"")
        client.server.writelines([b"e", memoryview(b"r")])
        assert client.receive() == b"answer"
        assert not client.has_eof

    run(test)


def test_what_comes_with_the_end_of_the_handshake_comes_after_connection_made(
    pair: Pair, context: ssl.SSLContext
) -> None:
    async def test() -> None:
        room = Room(context)
        client = Client(room.handshakes, pair.client())
        with contextlib.suppress(ssl.SSLWantReadError):
            client.tls.do_handshake()
        client.exchange()
        client.tls.do_handshake()
        client.tls.write(b"at once")
        client.shut()
        client.exchange()
        assert room.inner.told == ["made", "eof"]
        assert room.inner.data == b"at once"

    run(test)


def test_many_records_at_once_are_one_piece(pair: Pair, context: ssl.SSLContext) -> None:
    async def test() -> None:
        room = Room(context)
        client = Client(room.handshakes, pair.client()).shake_hands()
        for count in range(100):
            client.tls.write(b"%2d" % count)
        client.send(b"x" * 200_000)
        assert room.inner.pieces == 1
        assert len(room.inner.data) == 200_200

    run(test)


def test_what_is_known_of_a_connection(pair: Pair, context: ssl.SSLContext) -> None:
    async def test() -> None:
        room = Room(context)
        client = Client(room.handshakes, pair.client()).shake_hands()
        info = client.server.get_extra_info
        assert info("sslcontext") is context
        assert info("ssl_object").version() == "TLSv1.3"
        assert info("peername") == ("192.0.2.1", 5)
        assert (info("socket"), info("nothing", 3)) == (None, 3)

    run(test)


# Ends


@pytest.mark.parametrize("keeps_open", [True, False])
def test_close_notify_is_told_once(pair: Pair, context: ssl.SSLContext, keeps_open: bool) -> None:
    async def test() -> None:
        room = Room(context)
        room.inner.keeps_open = keeps_open
        client = Client(room.handshakes, pair.client()).shake_hands()
        client.tls.write(b"last words")
        client.shut()
        client.exchange()
        assert room.inner.data == b"last words"
        assert room.inner.told == ["made", "eof"]
        assert client.plain.is_closed is not keeps_open
        if keeps_open:
            client.server.write(b"answer")
            assert client.receive() == b"answer"
            client.server.eof_received()  # FIN after it says nothing new
            assert not client.plain.is_closed
            assert room.inner.told == ["made", "eof"]
            client.server.close()
        assert client.receive() == b""
        assert client.has_eof
        client.server.eof_received()
        client.server.connection_lost(None)
        assert room.inner.told == ["made", "eof", "lost"]

    run(test)


def test_what_comes_after_close_notify_is_not_kept(pair: Pair, context: ssl.SSLContext) -> None:
    async def test() -> None:
        room = Room(context)
        room.inner.keeps_open = True
        client = Client(room.handshakes, pair.client()).shake_hands()
        client.shut()
        client.exchange()
        for _ in range(10):
            client.server.data_received(bytes(100_000))
        assert client.server._incoming.pending == 0
        assert not client.plain.is_closed
        client.server.write(b"answer")
        assert client.receive() == b"answer"

    run(test)


def test_it_leaves_no_cycle(pair: Pair, context: ssl.SSLContext) -> None:
    async def test() -> None:
        room = Room(context)
        client = Client(room.handshakes, pair.client()).shake_hands()
        client.server.write(b"x")
        client.server.connection_lost(None)
        inner, room.inner = ref(room.inner), Inner()
        del client
        assert inner() is None

    gc.disable()
    try:
        run(test)
    finally:
        gc.enable()


def test_fin_without_close_notify_is_the_end(pair: Pair, context: ssl.SSLContext) -> None:
    async def test() -> None:
        room = Room(context)
        room.inner.keeps_open = True
        client = Client(room.handshakes, pair.client()).shake_hands()
        client.server.eof_received()
        assert client.plain.is_closed
        error = ConnectionResetError()
        client.server.connection_lost(error)
        assert room.inner.told == ["made", "lost"]
        assert room.inner.lost_for is error
        assert client.server.is_closing()

    run(test)


@pytest.mark.parametrize("times", [1, 2])
def test_close_says_close_notify_after_all_that_was_written(
    pair: Pair, context: ssl.SSLContext, times: int
) -> None:
    async def test() -> None:
        client = Client(Room(context).handshakes, pair.client()).shake_hands()
        client.server.write(b"last")
        for _ in range(times):
            client.server.close()
        assert client.server.is_closing()
        client.server.write(b"too late")
        assert client.receive() == b"last"
        assert client.has_eof
        assert client.plain.is_closed
        assert not client.plain.is_aborted

    run(test)


def test_write_eof_says_close_notify_and_goes_on_reading(
    pair: Pair, context: ssl.SSLContext
) -> None:
    async def test() -> None:
        room = Room(context)
        client = Client(room.handshakes, pair.client()).shake_hands()
        assert client.server.can_write_eof()
        client.server.write(b"last")
        client.server.write_eof()
        client.server.write(b"too late")
        assert client.plain.has_sent_eof
        assert not client.server.is_closing()
        assert client.receive() == b"last"
        assert client.has_eof
        client.send(b"more")
        assert room.inner.data == b"more"
        client.server.close()
        assert client.plain.sent == b""

    run(test)


def test_abort_says_nothing(pair: Pair, context: ssl.SSLContext) -> None:
    async def test() -> None:
        client = Client(Room(context).handshakes, pair.client()).shake_hands()
        client.server.abort()
        assert client.plain.is_aborted
        assert client.plain.sent == b""
        assert client.server.is_closing()

    run(test)


def test_a_record_that_was_tampered_with_is_the_end(pair: Pair, context: ssl.SSLContext) -> None:
    async def test() -> None:
        room = Room(context)
        client = Client(room.handshakes, pair.client()).shake_hands()
        client.tls.write(b"question")
        record = bytearray(client.outgoing.read())
        record[-1] ^= 1
        client.server.data_received(bytes(record))
        assert client.plain.is_aborted
        assert room.inner.data == b""
        with pytest.raises(ssl.SSLError, match=r"(?i)bad.record.mac"):
            client.receive()

    run(test)


def test_a_protocol_that_closes_is_told_no_more(pair: Pair, context: ssl.SSLContext) -> None:
    async def test() -> None:
        room = Room(context)
        client = Client(room.handshakes, pair.client()).shake_hands()
        room.inner.on_data = client.server.close
        client.tls.write(b"question")
        client.shut()
        client.exchange()
        assert room.inner.told == ["made"]
        client.server.data_received(b"whatever")
        assert room.inner.data == b"question"

    run(test)


# Flow


def test_what_waits_below_is_what_waits(pair: Pair, context: ssl.SSLContext) -> None:
    async def test() -> None:
        room = Room(context)
        client = Client(room.handshakes, pair.client()).shake_hands()
        client.plain.is_stuck = True
        client.server.write(bytes(100_000))
        assert client.server.get_write_buffer_size() > 100_000
        assert room.inner.told == ["made", "pause"]
        client.plain.resume()
        assert client.server.get_write_buffer_size() == 0
        assert room.inner.told == ["made", "pause"]
        await asyncio.sleep(0)
        assert room.inner.told == ["made", "pause", "resume"]
        client.server.set_write_buffer_limits(high=1000)
        assert client.server.get_write_buffer_limits() == (250, 1000)

    run(test)


def test_reading_is_paused_and_resumed(pair: Pair, context: ssl.SSLContext) -> None:
    async def test() -> None:
        room = Room(context)
        client = Client(room.handshakes, pair.client()).shake_hands()
        client.server.pause_reading()
        assert not client.plain.is_reading()
        assert not client.server.is_reading()
        client.tls.write(b"later")
        client.shut()
        client.exchange()  # what a loop had read already
        assert (room.inner.data, room.inner.told) == (b"", ["made"])
        client.server.resume_reading()
        client.server.resume_reading()
        assert client.plain.is_reading()
        assert client.server.is_reading()
        await asyncio.sleep(0)
        assert (room.inner.data, room.inner.told) == (b"later", ["made", "eof"])
        assert not client.server.is_reading()
        client.server.resume_reading()

    run(test)


def test_reading_that_is_paused_by_what_was_read_stays_so(
    pair: Pair, context: ssl.SSLContext
) -> None:
    async def test() -> None:
        room = Room(context)
        client = Client(room.handshakes, pair.client()).shake_hands()
        room.inner.on_data = client.server.pause_reading
        client.send(b"one")
        client.send(b"two")
        assert room.inner.data == b"one"

    run(test)


def test_another_protocol(pair: Pair, context: ssl.SSLContext) -> None:
    async def test() -> None:
        room = Room(context)
        client = Client(room.handshakes, pair.client()).shake_hands()
        assert client.server.get_protocol() is room.inner
        other = Inner()
        client.server.set_protocol(other)
        client.send(b"x")
        assert (room.inner.data, other.data) == (b"", b"x")

    run(test)

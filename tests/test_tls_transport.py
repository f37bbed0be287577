"""TLS between a transport and a protocol, in memory: a real client's end of TLS, no sockets."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from certificates import Pair
from fakes import FakeTransport

from bunpy.server.tls_transport import Handshakes

SOON = 5.0  # seconds: what should come at once has surely come
NEVER = 60.0  # seconds: what is not waited for


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return Pair.made_in(tmp_path_factory.mktemp("pair"))


@pytest.fixture(scope="module")
def context(pair: Pair) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pair.cert, pair.key)
    return context


class Inner(asyncio.Protocol):
    """The protocol inside: it keeps what it is told."""

    def __init__(self, *, keeps_open: bool = False) -> None:
        self.told: list[str] = []
        self.data = b""
        self.pieces = 0
        self.keeps_open = keeps_open
        self.lost_for: Exception | None = None
        self.on_data: Callable[[], object] = lambda: None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.told.append("made")

    def data_received(self, data: bytes) -> None:
        self.data += data
        self.pieces += 1
        self.on_data()

    def eof_received(self) -> bool:
        self.told.append("eof")
        return self.keeps_open

    def pause_writing(self) -> None:
        self.told.append("pause")

    def resume_writing(self) -> None:
        self.told.append("resume")

    def connection_lost(self, exc: Exception | None) -> None:
        self.told.append("lost")
        self.lost_for = exc


class Client:
    """A client's end, and the wire between: ``exchange`` carries what there is, in both directions."""

    def __init__(self, handshakes: Handshakes, context: ssl.SSLContext, *, piece: int = 1 << 20):
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname="localhost")
        self.server = handshakes.new()
        self.plain = FakeTransport(self.server, {"peername": ("192.0.2.1", 5)})
        self.piece = piece
        self.data = b""
        self.has_eof = False
        self.server.connection_made(self.plain)

    def exchange(self) -> None:
        sent = self.outgoing.read()
        for start in range(0, len(sent), self.piece):
            if not self.plain.is_closed:
                self.server.data_received(sent[start : start + self.piece])
        self.incoming.write(self.plain.sent)
        self.plain.clear()

    def shake_hands(self) -> Client:
        while True:
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                self.exchange()
            else:
                break
        self.exchange()
        return self

    def send(self, data: bytes) -> None:
        self.tls.write(data)
        self.exchange()

    def receive(self) -> bytes:
        """What has come since the last time; ``has_eof`` after the server's close_notify."""
        self.exchange()
        data = b""
        with contextlib.suppress(ssl.SSLWantReadError):
            try:
                while piece := self.tls.read(65536):
                    data += piece
            except ssl.SSLZeroReturnError:
                pass
            self.has_eof = True
        return data

    def shut(self) -> None:
        with contextlib.suppress(ssl.SSLWantReadError):
            self.tls.unwrap()


class Room:
    """One server's handshakes, and the protocols that came of them."""

    def __init__(self, context: ssl.SSLContext, **options: Any) -> None:
        self.inner = Inner()
        self.accepted: list[int] = []
        options = {"timeout": NEVER, "on_accepted": self.accepted.append, **options}
        self.handshakes = Handshakes(lambda: self.inner, context, **options)


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), SOON))


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
        client.server.write(b"y" * 3_000_000)
        assert client.receive() == b"y" * 3_000_000

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


# The handshake


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
        transport.connection_made(FakeTransport(transport))
        assert not transport.eof_received()
        transport.connection_lost(None)
        assert (len(room.handshakes), room.inner.told) == (0, [])
        transport.pause_writing()
        transport.resume_writing()

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
            assert client.server.eof_received()  # FIN after it says nothing new
            assert room.inner.told == ["made", "eof"]
            client.server.close()
        assert client.receive() == b""
        assert client.has_eof
        assert not client.server.eof_received()
        client.server.connection_lost(None)
        assert room.inner.told == ["made", "eof", "lost"]

    run(test)


def test_fin_without_close_notify_is_the_end(pair: Pair, context: ssl.SSLContext) -> None:
    async def test() -> None:
        room = Room(context)
        room.inner.keeps_open = True
        client = Client(room.handshakes, pair.client()).shake_hands()
        assert not client.server.eof_received()
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
        client.server.write(bytes(1_000_000))
        assert client.server.get_write_buffer_size() > 1_000_000
        assert room.inner.told == ["made", "pause"]
        client.plain.resume()
        assert client.server.get_write_buffer_size() == 0
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

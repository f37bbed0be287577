"""The outlet twins: framing over the fake transport, and real sockets filled, emptied and reset."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import importlib.util
import select
import socket
import struct
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import PURE, twins
from fakes import FakeTransport
from hypothesis import given, settings
from hypothesis import strategies as st

from bunpy._speedups import IMPLEMENTATION

PAIR = (
    [twins("python")] if PURE or IMPLEMENTATION == "python" else [twins("python"), twins("cython")]
)
DEADLINE = 10.0  # seconds
HEAD = b"HTTP/1.1 200 OK\r\n\r\n"

#: Chunk sizes around every digit's end, as RFC 9112 section 7.1 writes them.
SIZES = {
    1: b"1",
    9: b"9",
    10: b"a",
    15: b"f",
    16: b"10",
    255: b"ff",
    256: b"100",
    4095: b"fff",
    4096: b"1000",
    65535: b"ffff",
    65536: b"10000",
    81920: b"14000",
    1048575: b"fffff",
    1048576: b"100000",
    1048577: b"100001",
    5000000: b"4c4b40",
}
#: The C twin puts a head of up to 494 bytes in front of the buffer's, in the same memory.
HEAD_SIZES = [0, 1, 493, 494, 495, 511, 512, 513, 530, 5000, 100_000]


@functools.cache
def body_of(size: int) -> bytes:
    """Bytes that differ everywhere, so that a piece lost or doubled shows."""
    numbers = b"".join(struct.pack(">I", n) for n in range(size // 4 + 1))
    return numbers[:size]


class Way:
    """An outlet of one twin, its buffer and its transport."""

    def __init__(
        self, speedups: SimpleNamespace, transport: FakeTransport | None = None, fd: int = -1
    ) -> None:
        self.transport = FakeTransport() if transport is None else transport
        self.outlet = speedups.Outlet(self.transport, fd)
        self.buffer = speedups.BytesBuffer()

    def flush(self, body: bytes, last: bool = False) -> None:
        self.buffer.append(body)
        self.outlet.flush(self.buffer, last)

    def flushed(self, body: bytes, last: bool = False) -> list[bytes]:
        """What the transport was given for it."""
        self.transport.clear()
        self.flush(body, last)
        assert len(self.buffer) == 0
        return self.transport.writes


@pytest.fixture
def way(speedups: SimpleNamespace) -> Way:
    return Way(speedups)


class TestFraming:
    def test_begins_with_nothing(self, way: Way) -> None:
        outlet = way.outlet
        assert outlet.transport is way.transport
        assert (outlet.fd, outlet.head, outlet.bytes_sent, outlet.last_sent) == (-1, None, 0, 0.0)
        assert not outlet.is_chunked
        assert not outlet.is_paused
        assert not outlet.is_closed

    @pytest.mark.parametrize("size", SIZES)
    def test_chunk_is_marked_with_its_size(self, way: Way, size: int) -> None:
        body = body_of(size)
        way.outlet.is_chunked = True
        assert way.flushed(body) == [SIZES[size] + b"\r\n" + body + b"\r\n"]
        assert way.flushed(body, True) == [SIZES[size] + b"\r\n" + body + b"\r\n0\r\n\r\n"]
        way.transport.clear()
        way.outlet.write(body)
        assert way.transport.writes == [SIZES[size] + b"\r\n" + body + b"\r\n"]

    @pytest.mark.parametrize("size", SIZES)
    def test_not_chunked_is_the_body_alone(self, way: Way, size: int) -> None:
        body = body_of(size)
        assert way.flushed(body) == [body]
        assert way.flushed(body, True) == [body]
        way.transport.clear()
        way.outlet.write(body)
        assert way.transport.writes == [body]

    def test_nothing_to_flush_is_no_chunk(self, way: Way) -> None:
        """A chunk of size 0 would end the body (RFC 9112 section 7.1)."""
        way.outlet.is_chunked = True
        assert way.flushed(b"") == []
        way.outlet.write(b"")
        assert way.transport.writes == []
        assert way.outlet.bytes_sent == 0
        assert way.flushed(b"", True) == [b"0\r\n\r\n"]

    def test_nothing_to_flush_not_chunked(self, way: Way) -> None:
        assert way.flushed(b"") == []
        assert way.flushed(b"", True) == []
        way.outlet.write(b"")
        assert way.transport.writes == []
        assert (way.outlet.bytes_sent, way.outlet.last_sent) == (0, 0.0)

    @pytest.mark.parametrize("size", HEAD_SIZES)
    @pytest.mark.parametrize("body_size", [1, 300, 65536, 2_000_000])
    @pytest.mark.parametrize("last", [False, True])
    def test_head_leaves_with_the_first_bytes(
        self, way: Way, size: int, body_size: int, last: bool
    ) -> None:
        head, body = body_of(size)[::-1], body_of(body_size)
        way.outlet.is_chunked = True
        way.outlet.head = head
        assert way.flushed(b"") == []
        assert way.outlet.head == head
        mark = b"%x\r\n" % body_size
        end = b"0\r\n\r\n" if last else b""
        assert way.flushed(body, last) == [head + mark + body + b"\r\n" + end]
        assert way.outlet.head is None
        assert way.flushed(b"ab") == [b"2\r\nab\r\n"]
        assert way.outlet.bytes_sent == size + len(mark) + body_size + 2 + len(end) + 7

    @pytest.mark.parametrize("size", HEAD_SIZES)
    @pytest.mark.parametrize("body_size", [1, 300, 65536])
    def test_head_of_a_body_that_is_not_chunked(self, way: Way, size: int, body_size: int) -> None:
        head, body = body_of(size)[::-1], body_of(body_size)
        way.outlet.head = head
        assert way.flushed(body) == [head + body]
        assert way.flushed(b"ab") == [b"ab"]

    @pytest.mark.parametrize("size", HEAD_SIZES[1:])
    @pytest.mark.parametrize("is_chunked", [False, True])
    def test_head_leaves_with_the_end(self, way: Way, size: int, is_chunked: bool) -> None:
        way.outlet.is_chunked = is_chunked
        way.outlet.head = head = body_of(size)
        assert way.flushed(b"", True) == [head + (b"0\r\n\r\n" if is_chunked else b"")]
        assert way.outlet.head is None

    @pytest.mark.parametrize("frame", [b"", b":\n\n"])
    @pytest.mark.parametrize("size", HEAD_SIZES[1:])
    def test_head_leaves_with_a_write(self, way: Way, size: int, frame: bytes) -> None:
        """Also with one of nothing: that is how a head is sent when the first event keeps the client waiting."""
        way.outlet.is_chunked = True
        way.outlet.head = head = body_of(size)
        way.outlet.write(frame)
        assert way.transport.writes == [head + (b"3\r\n:\n\n\r\n" if frame else b"")]
        assert way.outlet.head is None
        way.outlet.write(b"ab")
        assert way.transport.sent.endswith(b"2\r\nab\r\n")

    def test_one_outlet_serves_one_response_after_another(self, way: Way) -> None:
        for is_chunked in (True, False, True):
            way.outlet.head = HEAD
            way.outlet.is_chunked = is_chunked
            first = way.flushed(b"ab")
            assert first == [HEAD + (b"2\r\nab\r\n" if is_chunked else b"ab")]
            assert way.flushed(b"", True) == ([b"0\r\n\r\n"] if is_chunked else [])

    def test_write_leaves_the_buffer_alone(self, way: Way) -> None:
        way.buffer.append(b"later")
        way.outlet.write(b"now")
        assert way.transport.writes == [b"now"]
        assert way.buffer.take() == b"later"

    def test_transport_is_given_bytes_that_nobody_changes(self, speedups: SimpleNamespace) -> None:
        """A transport keeps a view of what it could not send."""

        class Keeper(FakeTransport):
            def __init__(self) -> None:
                super().__init__()
                self.kept: list[Any] = []

            def write(self, data: Any) -> None:
                self.kept.append(data)

        transport = Keeper()
        way = Way(speedups, transport)
        way.outlet.is_chunked = True
        way.outlet.head = HEAD
        for char in b"abc":
            way.flush(bytes([char]) * 1000)
        assert [type(data) for data in transport.kept] == [bytes] * 3
        bodies = [b"3e8\r\n" + bytes([char]) * 1000 + b"\r\n" for char in b"abc"]
        assert transport.kept == [HEAD + bodies[0], *bodies[1:]]

    def test_counters(self, way: Way) -> None:
        way.outlet.is_chunked = True
        way.outlet.head = HEAD
        before = time.monotonic()
        way.flush(b"abc")
        after = time.monotonic()
        # The C twin multiplies nanoseconds: the last digit may differ.
        assert before - 1e-6 <= way.outlet.last_sent <= after + 1e-6
        assert way.outlet.bytes_sent == len(HEAD) + 8
        way.outlet.write(b"ab")
        assert way.outlet.bytes_sent == len(HEAD) + 15
        sent_at = way.outlet.last_sent
        assert sent_at >= before
        way.flush(b"")
        assert (way.outlet.bytes_sent, way.outlet.last_sent) == (len(HEAD) + 15, sent_at)
        way.flush(b"", True)
        assert way.outlet.bytes_sent == len(HEAD) + 20


class TestDropping:
    """Nothing that comes too late is sent, kept, or raised."""

    @pytest.mark.parametrize("end", ["close", "transport.close", "transport.abort"])
    @pytest.mark.parametrize("head", [None, HEAD, b"x" * 5000])
    def test_what_comes_after_the_end(
        self, speedups: SimpleNamespace, pair: socket.socket, end: str, head: bytes | None
    ) -> None:
        way = Way(speedups, fd=pair.fileno())
        way.outlet.is_chunked = True
        way.outlet.head = head
        if end == "close":
            way.outlet.close()
        elif end == "transport.close":
            way.transport.close()
        else:
            way.transport.abort()
        way.flush(b"a" * 100_000)
        way.flush(b"", True)
        way.outlet.write(b"b")
        assert len(way.buffer) == 0
        assert way.transport.writes == []
        assert way.outlet.bytes_sent == 0
        assert way.outlet.last_sent == 0.0
        assert waiting(pair) is None

    def test_close_lets_go_of_the_transport(self, speedups: SimpleNamespace) -> None:
        way = Way(speedups, fd=5)
        way.outlet.close()
        assert way.outlet.transport is None
        assert way.outlet.fd == -1
        assert way.outlet.is_closed
        way.outlet.close()
        assert way.outlet.is_closed


@pytest.fixture
def pair() -> Iterator[socket.socket]:
    """One end of a connection whose peer takes nothing until it is asked to (``received``)."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        theirs.setblocking(False)
        PEERS[ours.fileno()] = theirs
        yield ours


#: The other end of a ``pair``, by descriptor.
PEERS: dict[int, socket.socket] = {}


def waiting(ours: socket.socket) -> bytes | None:
    """What the peer can read now, None for nothing."""
    parts = []
    with contextlib.suppress(BlockingIOError):
        while part := PEERS[ours.fileno()].recv(1 << 20):
            parts.append(part)
    return b"".join(parts) or None


def filled(ours: socket.socket) -> bytes:
    """Send until the kernel takes no more; gives what was sent."""
    sent = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            sent += ours.send(b"#" * 65536)
    with contextlib.suppress(BlockingIOError):
        while True:
            sent += ours.send(b"#")
    return b"#" * sent


class TestSocket:
    def test_bytes_go_straight_to_the_socket(
        self, speedups: SimpleNamespace, pair: socket.socket
    ) -> None:
        way = Way(speedups, fd=pair.fileno())
        way.outlet.is_chunked = True
        way.outlet.head = HEAD
        way.flush(b"abc")
        assert waiting(pair) == HEAD + b"3\r\nabc\r\n"
        way.outlet.write(b"de")
        assert waiting(pair) == b"2\r\nde\r\n"
        way.flush(b"f", True)
        assert waiting(pair) == b"1\r\nf\r\n0\r\n\r\n"
        assert way.transport.writes == []
        assert way.outlet.bytes_sent == len(HEAD) + 8 + 7 + 6 + 5

    @pytest.mark.parametrize("is_writing", [False, True], ids=["flush", "write"])
    def test_what_the_kernel_does_not_take_goes_to_the_transport(
        self, speedups: SimpleNamespace, pair: socket.socket, is_writing: bool
    ) -> None:
        pair.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16384)
        transport = FakeTransport(is_stuck=True)
        way = Way(speedups, transport, pair.fileno())
        body = body_of(1_000_000)
        if is_writing:
            way.outlet.write(body)
        else:
            way.flush(body)
        taken = waiting(pair)
        assert taken is not None
        assert 0 < len(taken) < len(body)
        assert len(transport.writes) == 1
        assert taken + transport.sent == body
        assert way.outlet.bytes_sent == len(body)
        # What follows queues behind it, although the socket would take it now.
        way.flush(b"next")
        way.outlet.write(b"last")
        assert waiting(pair) is None
        assert transport.writes[1:] == [b"next", b"last"]
        # And once that is gone, straight again.
        transport.resume()
        way.flush(b"straight")
        assert waiting(pair) == b"straight"
        assert len(transport.writes) == 3

    def test_a_full_socket_takes_nothing(
        self, speedups: SimpleNamespace, pair: socket.socket
    ) -> None:
        before = filled(pair)
        way = Way(speedups, fd=pair.fileno())
        way.flush(b"abc")
        way.outlet.write(b"def")
        assert way.transport.writes == [b"abc", b"def"]
        assert waiting(pair) == before
        assert not way.transport.is_aborted

    def test_peer_has_gone(self, speedups: SimpleNamespace, pair: socket.socket) -> None:
        """EPIPE, without a signal: the transport is aborted and tells its protocol in its own time."""
        PEERS[pair.fileno()].close()
        way = Way(speedups, fd=pair.fileno())
        way.outlet.is_chunked = True
        way.outlet.head = b"x" * 600
        way.flush(b"abc")
        assert way.transport.is_aborted
        assert way.transport.writes == []
        assert len(way.buffer) == 0
        sent = way.outlet.bytes_sent
        way.flush(b"abc")
        way.outlet.write(b"def")
        assert way.transport.writes == []
        assert way.outlet.bytes_sent == sent

    def test_peer_has_gone_while_a_frame_is_written(
        self, speedups: SimpleNamespace, pair: socket.socket
    ) -> None:
        PEERS[pair.fileno()].close()
        way = Way(speedups, fd=pair.fileno())
        way.outlet.write(b"abc")
        assert way.transport.is_aborted
        assert way.transport.writes == []

    def test_descriptor_that_is_no_more(self, speedups: SimpleNamespace) -> None:
        """EBADF is the end of the connection too."""
        ours, theirs = socket.socketpair()
        ours.close()
        theirs.close()
        way = Way(speedups, fd=999_999)
        way.flush(b"abc")
        assert way.transport.is_aborted

    def test_an_error_of_the_transport_comes_out_once(self, speedups: SimpleNamespace) -> None:
        """What the transport raises is not the outlet's to hide; the buffer counts as sent."""

        class Failing(FakeTransport):
            def write(self, data: Any) -> None:
                raise RuntimeError("the transport is broken")

        way = Way(speedups, Failing())
        for head in (HEAD, b"x" * 5000):
            way.outlet.head = head
            with pytest.raises(RuntimeError, match="the transport is broken"):
                way.flush(b"abc")
            assert len(way.buffer) == 0
            assert way.buffer.take() == b""


# Real transports, of both loops


LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"asyncio": asyncio.new_event_loop}
if importlib.util.find_spec("uvloop") is not None:
    import uvloop

    LOOPS["uvloop"] = uvloop.new_event_loop


def connected(family: socket.AddressFamily) -> tuple[socket.socket, socket.socket]:
    """A connection over the loopback: the server's end and the client's, both without blocking."""
    if family != socket.AF_INET:
        ours, theirs = socket.socketpair()
    else:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            theirs = socket.create_connection(listener.getsockname())
            ours, _ = listener.accept()
    ours.setblocking(False)
    theirs.setblocking(False)
    return ours, theirs


class Connection(asyncio.Protocol):
    """The server's end, which keeps the outlet as the real protocol does."""

    transport: asyncio.Transport
    outlet: Any

    def __init__(self, speedups: SimpleNamespace, fd: int) -> None:
        self.speedups = speedups
        self.fd = fd
        self.buffer = speedups.BytesBuffer()
        self.lost: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
        self.resumed = asyncio.Event()
        self.resumed.set()
        self.pauses = 0

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.outlet = self.speedups.Outlet(transport, self.fd)

    def pause_writing(self) -> None:
        self.pauses += 1
        self.outlet.is_paused = True
        self.resumed.clear()

    def resume_writing(self) -> None:
        self.outlet.is_paused = False
        self.resumed.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.outlet.close()
        self.lost.set_result(exc)

    def flush(self, body: bytes, last: bool = False) -> None:
        self.buffer.append(body)
        self.outlet.flush(self.buffer, last)


@pytest.fixture(params=LOOPS)
def run(request: pytest.FixtureRequest) -> Callable[[Any], Any]:
    """Run a coroutine on each loop, with a deadline."""

    def call(main: Any) -> Any:
        loop = LOOPS[request.param]()
        try:
            return loop.run_until_complete(asyncio.wait_for(main, DEADLINE))
        finally:
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.close()

    return call


async def serve(
    speedups: SimpleNamespace, family: socket.AddressFamily
) -> tuple[Connection, socket.socket]:
    ours, theirs = connected(family)
    loop = asyncio.get_running_loop()
    _, connection = await loop.connect_accepted_socket(
        lambda: Connection(speedups, ours.fileno()), ours
    )
    return connection, theirs


async def read_all(theirs: socket.socket) -> bytes:
    loop = asyncio.get_running_loop()
    parts = []
    while part := await loop.sock_recv(theirs, 1 << 18):
        parts.append(part)
    return b"".join(parts)


FAMILIES = pytest.mark.parametrize(
    "family", [socket.AF_INET, socket.AF_UNIX], ids=lambda family: family.name
)


@FAMILIES
def test_own_writes_of_the_transport_keep_their_place(
    speedups: SimpleNamespace, run: Callable[[Any], Any], family: socket.AddressFamily
) -> None:
    """What the transport queues in this turn of the loop (uvloop sends it at the end) leaves first."""

    async def main() -> bytes:
        connection, theirs = await serve(speedups, family)
        with theirs:
            connection.flush(b"1")
            connection.transport.write(b"2")
            connection.flush(b"3")
            connection.outlet.write(b"4")
            await asyncio.sleep(0)
            connection.flush(b"5")
            connection.transport.writelines([b"6", b"7"])
            connection.flush(b"8")
            connection.transport.close()
            return await read_all(theirs)

    assert run(main()) == b"12345678"


@FAMILIES
def test_every_byte_arrives_in_order(
    speedups: SimpleNamespace, run: Callable[[Any], Any], family: socket.AddressFamily
) -> None:
    """The socket is filled until the kernel says EAGAIN, drained, and filled again; then the reader looks."""
    bodies = [body_of(size) for size in (1, 100, 3_000_000, 7, 65536, 1 << 20, 12, 300_000) * 2]

    async def main() -> tuple[bytes, int]:
        connection, theirs = await serve(speedups, family)
        with theirs:
            connection.outlet.is_chunked = True
            connection.outlet.head = HEAD
            reader: asyncio.Task[bytes] | None = None
            for body in bodies:
                connection.flush(body)
                connection.outlet.write(b"!")
                if reader is None and connection.outlet.is_paused:
                    assert connection.transport.get_write_buffer_size() > 0
                    reader = asyncio.ensure_future(read_all(theirs))
                if reader is not None and len(body) > 1000:
                    await connection.resumed.wait()
            connection.flush(b"", True)
            connection.transport.close()
            assert reader is not None
            received = await reader
            assert await connection.lost is None
            return received, connection.pauses

    received, pauses = run(main())
    frames = [b"%x\r\n%b\r\n1\r\n!\r\n" % (len(body), body) for body in bodies]
    assert received == HEAD + b"".join(frames) + b"0\r\n\r\n"
    assert pauses >= 1


def test_reset_by_the_peer(speedups: SimpleNamespace, run: Callable[[Any], Any]) -> None:
    """The kernel says so at the send, before the loop has seen it: abort, and nothing raised."""

    async def main() -> int | None:
        connection, theirs = await serve(speedups, socket.AF_INET)
        connection.flush(b"unread")
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        theirs.close()
        # No await from here: the loop has not looked at the socket, though the kernel knows.
        poll = select.poll()
        poll.register(connection.fd, 0)
        assert poll.poll(5000)
        assert not connection.transport.is_closing()
        connection.flush(b"a" * 100)
        assert connection.transport.is_closing()
        sent = connection.outlet.bytes_sent
        connection.flush(b"b")
        connection.outlet.write(b"c")
        assert connection.outlet.bytes_sent == sent
        exc = await connection.lost
        connection.flush(b"d", True)
        connection.outlet.write(b"e")
        assert connection.outlet.transport is None
        return exc.errno if isinstance(exc, OSError) else None

    assert run(main()) in (None, errno.ECONNRESET, errno.EPIPE)


def test_reset_by_the_peer_while_the_transport_is_full(
    speedups: SimpleNamespace, run: Callable[[Any], Any]
) -> None:
    async def main() -> None:
        connection, theirs = await serve(speedups, socket.AF_INET)
        while not connection.outlet.is_paused:
            connection.flush(b"x" * 500_000)
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        theirs.close()
        connection.flush(b"more")
        await connection.lost
        connection.flush(b"too late")
        assert len(connection.buffer) == 0

    run(main())


# Both twins do the same

STEPS = st.one_of(
    st.tuples(st.just("flush"), st.binary(max_size=40), st.booleans()),
    st.tuples(st.just("flush"), st.integers(0, 70_000).map(bytes), st.booleans()),
    st.tuples(st.just("write"), st.binary(max_size=40)),
    st.tuples(
        st.just("head"),
        st.one_of(st.none(), st.binary(max_size=30), st.integers(480, 520).map(bytes)),
    ),
    st.tuples(st.just("chunked"), st.booleans()),
    st.tuples(st.sampled_from(["stick", "resume", "abort", "close"])),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(STEPS, max_size=12), st.booleans())
def test_twins_send_the_same(steps: list[tuple[Any, ...]], is_direct: bool) -> None:
    seen = []
    for twin in PAIR:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.setblocking(False)
            theirs.setblocking(False)
            way = Way(twin, fd=ours.fileno() if is_direct else -1)
            log: list[Any] = []
            for name, *arguments in steps:
                if name == "flush":
                    way.flush(*arguments)
                elif name == "write":
                    way.outlet.write(*arguments)
                elif name == "head":
                    way.outlet.head = arguments[0]
                elif name == "chunked":
                    way.outlet.is_chunked = arguments[0]
                elif name == "stick":
                    way.transport.is_stuck = True
                elif name == "resume":
                    way.transport.resume()
                elif name == "abort":
                    way.transport.abort()
                else:
                    way.outlet.close()
                received = b""
                with contextlib.suppress(BlockingIOError):
                    while part := theirs.recv(1 << 20):
                        received += part
                log.append((received, list(way.transport.writes), way.outlet.bytes_sent))
                log.append((way.outlet.head, way.outlet.is_closed, len(way.buffer)))
                assert (way.outlet.last_sent > 0) == (way.outlet.bytes_sent > 0)
            seen.append(log)
    assert seen.count(seen[0]) == len(PAIR)

"""Accepting, and not accepting while there is no room: on both loops, then in processes with few descriptors."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import selectors
import socket
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import uvloop
from script import Script, Scripts
from watching import Log

from bunpy.server import acceptor
from bunpy.server.acceptor import EXCESS, RESERVE, Acceptor, descriptors
from bunpy.testing import Connection

# What is logged, a test takes; nothing else may be.
pytestmark = pytest.mark.usefixtures("log")

SOON = 5.0  # seconds: what should come at once has surely come
LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "uvloop": uvloop.new_event_loop,
    "asyncio": asyncio.new_event_loop,
}


# The descriptors


def test_descriptors() -> None:
    """The limit, and the lowest number that is free: what is opened next gets it."""
    limit, taken = descriptors()
    assert limit == resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    with open(os.devnull) as file:
        assert file.fileno() == taken
        assert descriptors()[1] > taken
    assert descriptors()[1] == taken


def test_no_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    infinite = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    monkeypatch.setattr(resource, "getrlimit", lambda _: infinite)
    assert descriptors()[0] > 2**31


# On a loop


class Accepted(asyncio.Protocol):
    """Keeps its connection, and says so."""

    def __init__(self, case: Case) -> None:
        self._case = case

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._case.transports.append(cast(asyncio.Transport, transport))
        if self._case.is_over:
            transport.abort()  # type: ignore[attr-defined]
            return
        sock = transport.get_extra_info("socket")
        self._case.acceptor.accepted(sock.fileno())
        for future in self._case.waiting:
            if not future.done():
                future.set_result(None)


class Case:
    """An acceptor on a running loop, its listener, and its clients."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=100)
        self.listener.setblocking(False)
        self.port = self.listener.getsockname()[1]
        self.excess = 0
        self.free = 3  # the lowest number that is free, for the acceptor
        self.transports: list[asyncio.Transport] = []
        self.waiting: list[asyncio.Future[None]] = []
        self.clients: list[socket.socket] = []
        self.is_over = False
        monkeypatch.setattr(acceptor, "_next_descriptor", lambda *_: self.free)
        monkeypatch.setattr(acceptor, "_AGAIN", 60.0)  # it looks when a test lets it
        self.acceptor = Acceptor(
            [self.listener], lambda: Accepted(self), lambda: self.excess, backlog=100
        )

    def connect(self, count: int = 1) -> None:
        """Connect, which the kernel does by itself: nobody has to accept."""
        for _ in range(count):
            self.clients.append(socket.create_connection(("127.0.0.1", self.port), SOON))

    async def has_accepted(self, count: int) -> None:
        """Wait until so many connections have been accepted."""
        while len(self.transports) < count:
            future = asyncio.get_running_loop().create_future()
            self.waiting.append(future)
            await asyncio.wait_for(future, SOON)
        assert len(self.transports) == count

    async def accepts_nobody(self) -> None:
        """What the loop has to do for others is done, several times over, and nobody was accepted."""
        before = len(self.transports)
        for _ in range(10):
            await asyncio.sleep(0)
        with socket.create_server(("127.0.0.1", 0)) as other:
            # An event of the kernel's, which the loop hears of together with those that wait.
            other.setblocking(False)
            heard: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            server = await asyncio.get_running_loop().create_server(
                lambda: Heard(heard), sock=other.dup()
            )
            with socket.create_connection(other.getsockname()):
                await asyncio.wait_for(heard, SOON)
            server.close()
        await asyncio.sleep(0)
        assert len(self.transports) == before

    def close(self) -> None:
        self.is_over = True
        self.acceptor.close()
        for transport in self.transports:
            transport.abort()
        for client in self.clients:
            client.close()
        self.listener.close()


class Heard(asyncio.Protocol):
    def __init__(self, future: asyncio.Future[None]) -> None:
        self._future = future

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast(asyncio.Transport, transport).abort()
        self._future.set_result(None)


Test = Callable[[Case], Awaitable[None]]


@pytest.fixture(params=LOOPS)
def run(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[[Test], None]:
    """Run a test on each loop, under a deadline; nothing may be left on the loop."""

    def run(test: Test) -> None:
        loop = LOOPS[request.param]()
        left: list[dict[str, Any]] = []
        loop.set_exception_handler(lambda _, context: left.append(context))

        async def main() -> None:
            case = Case(monkeypatch)
            try:
                await asyncio.wait_for(test(case), 4 * SOON)
            finally:
                case.close()
            for _ in range(5):
                await asyncio.sleep(0)

        try:
            loop.run_until_complete(main())
        finally:
            loop.close()
        assert left == []

    return run


Run = Callable[[Test], None]


def test_it_accepts(run: Run) -> None:
    async def test(case: Case) -> None:
        case.connect(3)  # who came before it opened waits for it
        await case.acceptor.open()
        case.connect(3)
        await case.has_accepted(6)

    run(test)


def test_it_pauses_at_the_excess_and_resumes(run: Run, log: Log) -> None:
    async def test(case: Case) -> None:
        await case.acceptor.open()
        case.excess = EXCESS - 1
        case.connect()
        await case.has_accepted(1)
        case.connect()
        await case.has_accepted(2)
        case.excess = EXCESS
        case.connect()
        await case.has_accepted(3)  # the last
        case.connect(5)
        await case.accepts_nobody()
        case.acceptor.look()
        await case.accepts_nobody()
        case.excess = EXCESS - 1
        await case.accepts_nobody()  # before it looks
        case.acceptor.look()
        await case.has_accepted(8)

    run(test)
    record = log.take()
    assert record.levelname == "WARNING"
    assert record.getMessage() == (
        "no connections are accepted for now: there are more of them than max_connections"
    )


def test_it_pauses_when_descriptors_run_out_and_resumes(run: Run, log: Log) -> None:
    async def test(case: Case) -> None:
        limit, _ = descriptors()
        case.acceptor._mark = 10**9
        await case.acceptor.open()
        case.connect()
        await case.has_accepted(1)
        case.acceptor._mark = 1
        case.connect()
        await case.has_accepted(2)  # the last
        case.connect(5)
        await case.accepts_nobody()
        case.free = limit
        case.acceptor._mark = limit - RESERVE // 2
        case.acceptor.look()
        await case.accepts_nobody()
        case.free = 10
        case.acceptor.look()
        await case.has_accepted(7)

    run(test)
    assert log.take().getMessage() == (
        "no connections are accepted for now: the descriptors are used up; raise the limit (ulimit -n)"
    )


def test_the_mark() -> None:
    """Below the limit, with room for the program and for whoever is told that there is none."""
    assert 0 < RESERVE // 2 < RESERVE
    limit, _ = descriptors()
    made = Acceptor([], asyncio.Protocol, lambda: 0, backlog=1)
    assert made._mark == limit - RESERVE // 2


def test_it_is_said_once_a_minute(run: Run, log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(now=5.0)
    monkeypatch.setattr(acceptor, "time", SimpleNamespace(monotonic=lambda: clock.now))

    async def pause_and_resume(case: Case) -> None:
        case.excess = EXCESS
        case.connect()
        await case.has_accepted(len(case.clients))
        await case.accepts_nobody()
        case.excess = 0
        case.acceptor.look()

    async def test(case: Case) -> None:
        await case.acceptor.open()
        for _ in range(4):
            await pause_and_resume(case)
            clock.now += 15
        assert len(log.messages) == 1
        await pause_and_resume(case)
        assert len(log.messages) == 2
        log.records.clear()

    run(test)


def test_a_connection_before_it_is_open_pauses_nothing(run: Run) -> None:
    async def test(case: Case) -> None:
        case.acceptor.accepted(10**9)
        await case.acceptor.open()
        case.connect()
        await case.has_accepted(1)

    run(test)


def test_looking_while_it_accepts_changes_nothing(run: Run) -> None:
    async def test(case: Case) -> None:
        await case.acceptor.open()
        case.acceptor.look()
        await case.accepts_nobody()
        case.connect()
        await case.has_accepted(1)
        await closes(case)

    run(test)


def test_looking_twice_opens_once(run: Run, log: Log) -> None:
    async def test(case: Case) -> None:
        await paused(case)
        case.acceptor.look()
        case.acceptor.look()
        case.connect()
        await case.has_accepted(2)
        await closes(case)

    run(test)
    log.take()


async def paused(case: Case) -> None:
    """Bring it there, with room again."""
    await case.acceptor.open()
    case.excess = EXCESS
    case.connect()
    await case.has_accepted(1)
    case.excess = 0


async def closes(case: Case) -> None:
    """Whether nothing of it is left once it is closed: another copy of its listener would go on."""
    case.acceptor.close()
    case.connect()
    await case.accepts_nobody()
    case.listener.close()
    assert not is_listening(case)


def is_listening(case: Case) -> bool:
    """Whether there is a listening socket on its port."""
    with contextlib.suppress(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", case.port), SOON).close()
        return True
    return False


def test_closing(run: Run) -> None:
    """For good; the listener is left to whoever made it."""

    async def test(case: Case) -> None:
        await case.acceptor.open()
        case.acceptor.close()
        case.connect()
        await case.accepts_nobody()
        case.acceptor.look()
        await case.accepts_nobody()
        case.acceptor.close()
        assert is_listening(case)
        case.listener.close()
        assert not is_listening(case)

    run(test)


def test_closing_while_it_pauses(run: Run, log: Log) -> None:
    async def test(case: Case) -> None:
        await paused(case)
        case.acceptor.close()
        case.acceptor.look()
        case.connect()
        await case.accepts_nobody()
        case.listener.close()
        assert not is_listening(case)

    run(test)
    log.take()


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_closing_while_it_opens(run: Run, turns: int, log: Log) -> None:
    """However far that has come: nothing of it is left, and nobody is accepted."""

    async def test(case: Case) -> None:
        await paused(case)
        case.acceptor.look()
        for _ in range(turns):
            await asyncio.sleep(0)
        case.acceptor.close()
        before = len(case.transports)
        case.connect()
        await case.accepts_nobody()
        case.listener.close()
        assert not is_listening(case)
        assert len(case.transports) == before

    run(test)
    log.take()


@pytest.mark.parametrize("turns", [0, 1, 2])
def test_closing_while_it_opens_for_the_first_time(run: Run, turns: int) -> None:
    async def test(case: Case) -> None:
        opening = asyncio.ensure_future(case.acceptor.open())
        for _ in range(turns):
            await asyncio.sleep(0)
        case.acceptor.close()
        await opening
        case.connect()
        await case.accepts_nobody()
        case.listener.close()
        assert not is_listening(case)

    run(test)


class Refusing:
    """A loop that makes no servers, which is what no descriptors are to one."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.asked = 0

    async def create_server(self, *arguments: Any, sock: socket.socket, **options: Any) -> Any:
        self.asked += 1
        sock.close()
        raise OSError(24, "Too many open files")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)


def test_a_program_that_uses_up_the_descriptors(run: Run, log: Log) -> None:
    """No connection tells of that: it is seen at a look, before who connects is reset for it."""

    async def test(case: Case) -> None:
        await case.acceptor.open()
        case.acceptor.look()
        case.connect()
        await case.has_accepted(1)
        case.free = sys.maxsize
        case.acceptor.look()
        assert "the descriptors are used up" in log.take().getMessage()
        case.connect()
        await case.accepts_nobody()
        case.acceptor.look()
        await case.accepts_nobody()
        case.free = 3
        case.acceptor.look()
        await case.has_accepted(2)

    run(test)


def test_one_that_has_paused_looks_again_soon_by_itself(
    run: Run, monkeypatch: pytest.MonkeyPatch, log: Log
) -> None:
    async def test(case: Case) -> None:
        monkeypatch.setattr(acceptor, "_AGAIN", 0.01)
        # There is room again as soon as it has paused.
        case.acceptor._excess = lambda: EXCESS if case.acceptor._is_open else 0
        await case.acceptor.open()
        case.connect()
        await case.has_accepted(1)
        case.connect()
        await case.has_accepted(2)

    run(test)
    log.take()


def test_a_loop_that_cannot_open(run: Run, monkeypatch: pytest.MonkeyPatch, log: Log) -> None:
    """It is logged, and tried again at the next look."""

    async def test(case: Case) -> None:
        loop = asyncio.get_running_loop()
        refusing = Refusing(loop)
        await paused(case)
        log.take()
        for number in range(1, 3):
            with monkeypatch.context() as patch:
                patch.setattr(asyncio, "get_running_loop", lambda: refusing)
                case.acceptor.look()
                while case.acceptor._opening is not None:
                    await asyncio.wait_for(asyncio.sleep(0), SOON)
            assert refusing.asked == number
            assert str(log.take_error()) == "[Errno 24] Too many open files"
        case.connect()
        await case.accepts_nobody()
        case.acceptor.look()
        await case.has_accepted(2)

    run(test)


def test_a_loop_that_cannot_open_at_first(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then there is no server: whoever opens it hears of that."""

    async def test(case: Case) -> None:
        refusing = Refusing(asyncio.get_running_loop())
        with monkeypatch.context() as patch:
            patch.setattr(asyncio, "get_running_loop", lambda: refusing)
            with pytest.raises(OSError, match="Too many open files"):
                await case.acceptor.open()

    run(test)


@pytest.mark.parametrize("run", ["uvloop"], indirect=True)
def test_no_descriptor_for_the_copy(run: Run, monkeypatch: pytest.MonkeyPatch, log: Log) -> None:
    """Of two listeners the first was opened: neither accepts, until both do."""

    class Bare:
        def dup(self) -> socket.socket:
            raise OSError(24, "Too many open files")

    async def test(case: Case) -> None:
        await paused(case)
        log.take()
        case.acceptor._listeners = [case.listener, Bare()]  # type: ignore[list-item]
        case.acceptor.look()
        while case.acceptor._opening is not None:
            await asyncio.wait_for(asyncio.sleep(0), SOON)
        log.take_error()
        case.connect()
        await case.accepts_nobody()
        case.acceptor._listeners = [case.listener]
        case.acceptor.look()
        await case.has_accepted(2)

    run(test)


def test_several_listeners(run: Run, log: Log) -> None:
    """All of them pause, and all go on."""

    async def test(case: Case) -> None:
        with socket.create_server(("127.0.0.1", 0), backlog=100) as other, ExitStack() as stack:
            other.setblocking(False)
            case.acceptor._listeners = [case.listener, other]

            def connect_other() -> None:
                stack.enter_context(socket.create_connection(other.getsockname(), SOON))

            await case.acceptor.open()
            case.connect()
            connect_other()
            await case.has_accepted(2)
            case.excess = EXCESS
            case.connect()
            await case.has_accepted(3)
            case.connect()
            connect_other()
            await case.accepts_nobody()
            case.excess = 0
            case.acceptor.look()
            await case.has_accepted(5)

    run(test)
    log.take()


# In a process of its own

PROGRAM = """
import asyncio, json, os, resource, sys
from bunpy.serve import SSEResponse, serve
from bunpy.server import residence

resource.setrlimit(resource.RLIMIT_NOFILE, (128, 128))
if sys.argv[1] == "asyncio":
    residence.new_loop = asyncio.new_event_loop

opened = []

async def ticks():
    number = 0
    while True:
        yield f"{number}"
        number += 1
        await asyncio.sleep(0.5)

def handler(req):
    if req.path == "/events":
        return SSEResponse(ticks())
    if req.path.startswith("/fill"):
        leave = int(req.query.get("leave", 0))
        try:
            while True:
                opened.append(os.open(os.devnull, os.O_RDONLY))
        except OSError as exc:
            for _ in range(leave):
                os.close(opened.pop())
            return f"{exc.errno} {len(opened)}"
    if req.path == "/free":
        while opened:
            os.close(opened.pop())
        return "freed"
    return f"{len(os.listdir('/proc/self/fd'))}"

serve(handler, port=0, **json.loads(sys.argv[2]))
"""


def cpu_seconds(process: int) -> float:
    """What the process has used so far, by /proc/PID/stat (proc(5)): utime and stime."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Crowd:
    """Many clients of one server, without threads: each a socket, what it has received, and whether it has ended."""

    def __init__(self, url: str) -> None:
        self._port = int(url.rpartition(":")[2])
        self._selector = selectors.DefaultSelector()
        self.members: list[SimpleNamespace] = []

    def __enter__(self) -> Crowd:
        return self

    def __exit__(self, *_: object) -> None:
        self.leave(self.members)
        self._selector.close()

    def join(self, count: int, request: bytes | None = None) -> list[SimpleNamespace]:
        """So many more connect, and ask for events, or nothing (b"")."""
        if request is None:
            request = (
                b"GET /events HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n"
            )
        joined = []
        for _ in range(count):
            sock = socket.create_connection(("127.0.0.1", self._port), SOON)
            sock.sendall(request)
            sock.setblocking(False)
            member = SimpleNamespace(sock=sock, data=b"", has_ended=False)
            self._selector.register(sock, selectors.EVENT_READ, member)
            joined.append(member)
        self.members += joined
        return joined

    def leave(self, members: list[SimpleNamespace]) -> None:
        for member in list(members):
            if not member.has_ended:
                self._selector.unregister(member.sock)
            member.sock.close()
            self.members.remove(member)

    def read_until(self, condition: Callable[[], bool], timeout: float) -> bool:
        """Receive what comes until the condition, or the time; which of them."""
        deadline = time.monotonic() + timeout
        while not condition():
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            for key, _ in self._selector.select(left):
                member = key.data
                try:
                    data = member.sock.recv(65536)
                except ConnectionError:
                    data = b""
                member.data += data
                if not data:
                    member.has_ended = True
                    self._selector.unregister(member.sock)
        return True

    def read_for(self, seconds: float) -> None:
        self.read_until(lambda: False, seconds)


def is_live(member: SimpleNamespace) -> bool:
    return b"data: 0\n\n" in member.data


def is_turned_away(member: SimpleNamespace) -> bool:
    return (
        member.has_ended and member.data.startswith(b"HTTP/1.1 200") and b"retry: " in member.data
    )


def events(members: list[SimpleNamespace]) -> list[int]:
    return [member.data.count(b"data: ") for member in members]


def start(scripts: Scripts, loop: str, **options: int) -> Script:
    """A server that may have 128 descriptors."""
    path = scripts.write(PROGRAM, prelude="")
    script = scripts.command(str(path), loop, json.dumps(options))
    assert script.url  # it answers
    return script


@pytest.fixture(params=LOOPS)
def script(request: pytest.FixtureRequest, scripts: Scripts) -> Script:
    return start(scripts, request.param)


@pytest.fixture
def crowd(script: Script) -> Iterator[Crowd]:
    with Crowd(script.url) as crowd:
        yield crowd


def check_served(crowd: Crowd) -> None:
    """Before long, whoever connects gets a stream; those that come before that are told to come back."""
    deadline = time.monotonic() + SOON
    member = None
    while member is None or not is_live(member):
        (member,) = crowd.join(1)
        left = deadline - time.monotonic()
        assert crowd.read_until(lambda: is_live(member) or member.has_ended, left), member  # noqa: B023


def check_rest(script: Script, crowd: Crowd, live: list[SimpleNamespace]) -> None:
    """For three seconds: the process does next to nothing, and each live stream gets its events."""
    crowd.read_for(0.0)
    before = events(live)
    used = cpu_seconds(script.process.pid)
    crowd.read_for(3.0)
    used = cpu_seconds(script.process.pid) - used
    assert not any(member.has_ended for member in live)
    gained = [after - was for after, was in zip(events(live), before, strict=True)]
    assert min(gained) >= 3, sorted(gained)
    assert used < 0.3


def test_three_hundred_event_sources_where_there_is_room_for_fewer(
    script: Script, crowd: Crowd
) -> None:
    members = crowd.join(300)
    assert crowd.read_until(
        lambda: all(is_live(member) or member.has_ended for member in members), 30
    ), f"{sum(map(is_live, members))} live, {sum(map(is_turned_away, members))} turned away"
    live = [member for member in members if is_live(member)]
    others = [member for member in members if not is_live(member)]
    assert 60 <= len(live) < 128
    lost = [member.data for member in others if not is_turned_away(member)]
    assert lost == [], f"{len(lost)} of {len(others)} were closed without an answer"
    assert "Traceback" not in script.said
    check_rest(script, crowd, live)
    crowd.leave(live[:20])
    check_served(crowd)


def test_connections_that_wait_to_be_accepted(script: Script, crowd: Crowd) -> None:
    """Live streams in all places, and many more connections, which ask for nothing: those wait in the kernel."""
    live = crowd.join(60)
    assert crowd.read_until(lambda: all(map(is_live, live)), 10)
    silent = crowd.join(200, b"")
    check_rest(script, crowd, live)
    assert script.said.count("no connections are accepted for now") == 1
    assert "Traceback" not in script.said
    crowd.leave(silent)
    check_served(crowd)


@pytest.mark.parametrize("loop", LOOPS)
def test_more_connections_are_allowed_than_there_are_descriptors(
    scripts: Scripts, loop: str
) -> None:
    """Those for whom there is none wait in the kernel, and none is reset: they are served when others have gone."""
    script = start(scripts, loop, max_connections=100_000)
    with Crowd(script.url) as crowd:
        members = crowd.join(200)
        assert crowd.read_until(lambda: sum(map(is_live, members)) > 90, SOON)
        crowd.read_for(1.5)  # three looks of the server's
        live = [member for member in members if is_live(member)]
        assert not any(member.has_ended for member in members)
        assert len(live) < 128
        crowd.leave(live)
        waiting = list(crowd.members)
        assert crowd.read_until(lambda: all(map(is_live, waiting)), SOON)
        assert script.said.count("the descriptors are used up") == 1


@pytest.mark.parametrize("leave", [0, 1, 5, 12])
def test_a_program_that_has_opened_files_until_none_is_left(
    script: Script, crowd: Crowd, leave: int
) -> None:
    """Or but a few: no connection can be accepted. Once it closes them, clients are served again."""
    with Connection(script.url) as control:
        live = crowd.join(20)
        assert crowd.read_until(lambda: all(map(is_live, live)), 10)
        control.send(b"GET /fill?leave=%d HTTP/1.1\r\nHost: localhost\r\n\r\n" % leave)
        answer = control.receive_until(b"24 ")
        assert answer.startswith(b"HTTP/1.1 200")
        control.receive()
        crowd.join(50)
        check_rest(script, crowd, live)
        control.send(b"GET /free HTTP/1.1\r\nHost: localhost\r\n\r\n")
        control.receive_until(b"freed")
        check_served(crowd)
        crowd.read_for(0.0)
        assert not any(member.has_ended for member in live)
    # What is wrong is said, and not again and again.
    assert len(script.err.splitlines()) < 100, script.err[:4000]


def test_descriptors_that_run_out_again_and_again(script: Script, crowd: Crowd) -> None:
    for _ in range(3):
        members = crowd.join(150)
        assert crowd.read_until(
            lambda: all(is_live(member) or member.has_ended for member in members),  # noqa: B023
            20,
        )
        crowd.leave(members)
    check_served(crowd)
    # Nothing is kept open for those that have gone.
    deadline = time.monotonic() + SOON
    count = b""
    while not count.isdigit() or int(count) >= 40:
        assert time.monotonic() < deadline, count
        (member,) = crowd.join(1, b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert crowd.read_until(lambda: member.has_ended, SOON)  # noqa: B023
        count = member.data.rpartition(b"\r\n")[2]

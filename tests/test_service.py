"""What connections share, over real sockets: they enter and leave, and what becomes of each when the server stops."""

from __future__ import annotations

import asyncio
import email.utils
import threading
import time
from collections.abc import AsyncIterator, Iterator

import pytest
from heads import head
from watching import Gate, connections, is_refused, local, service_of, until

from bunpy.http.host import HostList
from bunpy.http.protocol import HTTPProtocol
from bunpy.http.service import Service
from bunpy.serve import Request, Response, Server, SSEResponse
from bunpy.server.config import Config
from bunpy.sse import stream
from bunpy.testing import (
    Connection,
    EventClient,
    IncompleteAnswer,
    exchange,
    parse_answers,
    request,
    serving,
)

pytestmark = pytest.mark.usefixtures("log")

SOON = 5.0  # seconds: what should come at once has surely come
NEVER = 60.0  # seconds: what is not waited for


# The service by itself


def test_a_service_begins_empty() -> None:
    loop = asyncio.new_event_loop()
    try:
        hosts = HostList(None, [])
        service = Service(str, Config(heartbeat=3), loop, hosts)
        assert service.connections == set()
        assert not service.is_stopping
        assert (len(service.events), len(service.pieces)) == (0, 0)
        assert service.events is not service.pieces
        assert (service.handler, service.config.heartbeat) == (str, 3)
        assert (service.loop, service.hosts) == (loop, hosts)
        service.on_idle()  # nobody is told
    finally:
        loop.close()


def test_the_date_is_the_present_second_and_is_kept_so() -> None:
    with serving(lambda req: "x") as server, Connection(server) as client:
        seen: set[float] = set()
        began = time.time()
        while len(seen) < 2:
            before = time.time()
            client.send(head())
            (answer,) = parse_answers(client.receive_until(b"\r\n\r\nx"))
            date = email.utils.parsedate_to_datetime(answer.headers["date"]).timestamp()
            assert before - 2 < date <= time.time()
            seen.add(date)
            assert time.time() - began < SOON
            client.socket.settimeout(0.1)
            with pytest.raises(TimeoutError):
                client.socket.recv(1)


# Connections enter and leave


def test_connections_enter_when_they_come_and_leave_when_they_go() -> None:
    with serving(lambda req: "x") as server:
        service = service_of(server)
        clients = [Connection(server) for _ in range(10)]
        until(lambda: len(service.connections) == 10)
        for client in clients[:5]:
            client.drop()
        until(lambda: len(service.connections) == 5)
        for client in clients[5:]:
            client.drop(reset=True)
        until(lambda: not service.connections)


def test_a_connection_stays_until_its_generator_is_closed() -> None:
    gate = Gate()

    async def source() -> AsyncIterator[str]:
        try:
            yield "x"
            await asyncio.sleep(NEVER)
        finally:
            await gate.passed()

    with serving(lambda req: SSEResponse(source())) as server:
        with EventClient(server) as client:
            client.read(1)
        until(lambda: gate.waiting == 1)
        (connection,) = service_of(server).connections
        assert connection._is_lost
        gate.open()
        until(lambda: not service_of(server).connections)


def test_nobody_is_told_of_the_last_that_leaves_unless_the_server_stops() -> None:
    told: list[bool] = []
    with serving(lambda req: "x") as server:
        service = service_of(server)
        service.on_idle = lambda: told.append(True)
        request(server)
        until(lambda: not service.connections)
        assert told == []
        with Connection(server) as first, Connection(server) as second:
            until(lambda: len(service.connections) == 2)
            service.is_stopping = True
            first.drop()
            until(lambda: len(service.connections) == 1)
            assert told == []
            second.drop()
            until(lambda: told == [True])
        service.is_stopping = False


def test_a_new_handler_answers_the_next_request_of_a_connection() -> None:
    with serving(lambda req: "old") as server, Connection(server) as client:
        client.send(head())
        client.receive_until(b"old")
        server.reload(lambda req: "new")
        client.send(head())
        client.receive_until(b"new")


def test_a_new_handler_leaves_a_stream_alone() -> None:
    gate = Gate()

    async def source() -> AsyncIterator[str]:
        yield "before"
        await gate.passed()
        yield "after"

    with serving(lambda req: SSEResponse(source())) as server, EventClient(server) as client:
        server.reload(lambda req: "new")
        gate.open()
        assert [event.data for event in client.read_all()] == ["before", "after"]
        assert request(server).text() == "new"


# The server stops: each kind of connection, and what its client sees


class Stopping:
    """``server.stop(grace)`` in a thread, since it returns only when the server has stopped."""

    def __init__(self, server: Server, grace: float = NEVER) -> None:
        self._thread = threading.Thread(target=server.stop, args=(grace,))
        self._began = time.monotonic()
        self._server = server
        self._thread.start()

    def join(self) -> float:
        """Wait until it has stopped with nothing pending; how long it took, in seconds."""
        self._thread.join(2 * SOON)
        assert not self._thread.is_alive()
        took = time.monotonic() - self._began
        loop = local(self._server)._loop
        assert loop is not None
        until(loop.is_closed)
        until(lambda: f"bunpy-{self._server.port}" not in [t.name for t in threading.enumerate()])
        assert asyncio.all_tasks(loop) == set()
        assert service_of(self._server).connections == set()
        until(lambda: is_refused(self._server))
        return took


def test_a_server_without_connections_stops_at_once() -> None:
    with serving(lambda req: "x") as server:
        assert Stopping(server).join() < SOON


@pytest.mark.parametrize(
    "data",
    [b"", b"GET / HT", head() + head()[:9], b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n"],
)
def test_connections_that_wait_for_nothing_are_closed(data: bytes) -> None:
    with serving(lambda req: "x") as server, Connection(server) as client:
        until(lambda: len(service_of(server).connections) == 1)
        client.send(data)
        if data.startswith(head()):
            client.receive_until(b"\r\n\r\nx")
        assert Stopping(server).join() < SOON
        assert client.receive_to_end() == b""
        assert client.end == "closed"


def test_an_answer_that_is_being_made_is_given_and_is_the_last() -> None:
    gate = Gate()

    async def handler(req: Request) -> str:
        await gate.passed()
        return "in the end"

    with serving(handler) as server, Connection(server) as client:
        client.send(head() + head())
        until(lambda: gate.waiting == 1)
        stopping = Stopping(server)
        until(lambda: service_of(server).is_stopping)
        gate.open()
        (answer,) = parse_answers(client.receive_to_end())
        assert (answer.text(), answer.headers["connection"]) == ("in the end", "close")
        assert stopping.join() < SOON


def test_an_answer_that_takes_longer_than_the_grace_is_cut_off() -> None:
    ended: list[str] = []

    async def handler(req: Request) -> str:
        try:
            await asyncio.sleep(NEVER)
        finally:
            ended.append("cancelled")
        return "never"

    with serving(handler) as server, Connection(server) as client:
        client.send(head())
        until(lambda: len(service_of(server).connections) == 1)
        assert (
            0.198 <= Stopping(server, 0.2).join() < SOON
        )  # by uvloop's clock of whole milliseconds
        assert client.receive_to_end() == b""
    assert ended in ([], ["cancelled"])


def test_a_large_answer_is_given_to_its_end() -> None:
    body = b"x" * 8 * 1024 * 1024
    with serving(lambda req: body) as server, Connection(server, receive_buffer=8192) as client:
        client.send(head())
        received = client.receive_until(b"\r\n\r\n")
        stopping = Stopping(server)
        until(lambda: service_of(server).is_stopping)
        received += client.receive_to_end()
        assert parse_answers(received)[0].body == body
        assert stopping.join() < SOON


class Watched:
    """Streams of every kind, and how each has ended."""

    def __init__(self) -> None:
        self.ended: list[str] = []
        self.is_there = threading.Event()
        self.go_on = threading.Event()

    async def sleeping(self) -> AsyncIterator[str]:
        try:
            yield "first"
            self.is_there.set()
            await asyncio.sleep(NEVER)
        finally:
            self.ended.append("finally")

    async def before_its_first_event(self) -> AsyncIterator[str]:
        try:
            self.is_there.set()
            await asyncio.sleep(NEVER)
            yield "never"
        finally:
            self.ended.append("finally")

    async def never_suspending(self) -> AsyncIterator[str]:
        try:
            while True:
                self.is_there.set()
                yield "x" * 100
        finally:
            self.ended.append("finally")

    async def ticking(self) -> AsyncIterator[str]:
        try:
            while True:
                yield "x"
                self.is_there.set()
                await asyncio.sleep(0.001)
        finally:
            self.ended.append("finally")

    async def swallowing(self) -> AsyncIterator[str]:
        try:
            while True:
                try:
                    yield "x"
                    self.is_there.set()
                    await asyncio.sleep(NEVER)
                except asyncio.CancelledError:
                    pass
        finally:
            self.ended.append("finally")

    async def cleaning_up(self) -> AsyncIterator[str]:
        try:
            yield "first"
            self.is_there.set()
            await asyncio.sleep(NEVER)
        finally:
            await asyncio.sleep(0.1)
            self.ended.append("finally")

    async def saying_goodbye(self) -> AsyncIterator[str]:
        try:
            yield "first"
            self.is_there.set()
            await asyncio.sleep(NEVER)
        except asyncio.CancelledError:
            self.ended.append("finally")
            yield "goodbye"

    def plain(self) -> Iterator[str]:
        try:
            yield "first"
            self.is_there.set()
            self.go_on.wait(SOON)
            yield "second"
        finally:
            self.ended.append("finally")

    def stopping(self, server: Server) -> Stopping:
        """Let the server stop, and what waits in a thread go on, when it is its end and not the stream's."""
        streams = [connection._exchange.stream for connection in connections(server)]
        stopping = Stopping(server)
        until(lambda: all(one is None or one.reason is not None for one in streams))
        self.go_on.set()
        return stopping

    def plain_ticking(self) -> Iterator[str]:
        try:
            while True:
                yield "x"
                self.is_there.set()
                time.sleep(0.001)
        finally:
            self.ended.append("finally")


STREAMS = [
    "sleeping",
    "before_its_first_event",
    "never_suspending",
    "ticking",
    "swallowing",
    "cleaning_up",
    "saying_goodbye",
    "plain",
    "plain_ticking",
]


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_ends_cleanly_and_tells_its_client_when_to_come_back(name: str) -> None:
    watched = Watched()
    with (
        serving(lambda req: SSEResponse(getattr(watched, name)())) as server,
        EventClient(server) as client,
    ):
        assert watched.is_there.wait(SOON)
        stopping = watched.stopping(server)
        events = client.read_all()
        assert client.retry is not None
        assert 0 <= client.retry < stream.RETURN_TIME
        assert client.ended_cleanly
        if name == "saying_goodbye":
            assert [event.data for event in events] == ["first", "goodbye"]
        assert stopping.join() < SOON
    assert watched.ended == ["finally"]


@pytest.mark.parametrize("name", STREAMS)
def test_a_streamed_body_is_cut_off(name: str) -> None:
    """It is not complete, and must not look so."""
    watched = Watched()
    with (
        serving(lambda req: Response(getattr(watched, name)())) as server,
        EventClient(server) as client,
    ):
        assert watched.is_there.wait(SOON)
        stopping = watched.stopping(server)
        with pytest.raises(IncompleteAnswer):
            client.body()
        assert stopping.join() < SOON
    assert watched.ended == ["finally"]


def test_a_streamed_body_before_its_head_becomes_503() -> None:
    watched = Watched()
    with (
        serving(lambda req: Response(watched.before_its_first_event()), head_delay=NEVER) as server,
        Connection(server) as client,
    ):
        client.send(head())
        assert watched.is_there.wait(SOON)
        stopping = Stopping(server)
        (answer,) = parse_answers(client.receive_to_end())
        assert (answer.status, answer.closes) == (503, True)
        assert stopping.join() < SOON
    assert watched.ended == ["finally"]


def test_a_streamed_body_to_http_1_0_is_reset() -> None:
    """Where the end of the connection is the end of the body, only an RST says that it is none."""
    watched = Watched()
    with serving(lambda req: Response(watched.sleeping())) as server, Connection(server) as client:
        client.send(b"GET / HTTP/1.0\r\n\r\n")
        client.receive_until(b"first")
        stopping = Stopping(server)
        client.receive_to_end()
        assert client.end == "reset"
        assert stopping.join() < SOON
    assert watched.ended == ["finally"]


def test_a_stream_to_http_1_0_ends_with_its_connection() -> None:
    watched = Watched()
    with (
        serving(lambda req: SSEResponse(watched.sleeping())) as server,
        Connection(server) as client,
    ):
        client.send(b"GET / HTTP/1.0\r\n\r\n")
        client.receive_until(b"data: first\n\n")
        stopping = Stopping(server)
        assert client.receive_to_end().startswith(b"retry: ")
        assert client.end == "closed"
        assert stopping.join() < SOON


def test_a_stream_before_its_head_becomes_one_that_ends_at_once() -> None:
    watched = Watched()
    with (
        serving(
            lambda req: SSEResponse(watched.before_its_first_event()), head_delay=NEVER
        ) as server,
        Connection(server) as client,
    ):
        client.send(head())
        assert watched.is_there.wait(SOON)
        stopping = Stopping(server)
        (answer,) = parse_answers(client.receive_to_end())
        assert (answer.status, answer.body[:7]) == (200, b"retry: ")
        assert stopping.join() < SOON


def test_clients_are_not_all_told_the_same_time() -> None:
    watched = Watched()
    with serving(lambda req: SSEResponse(watched.sleeping())) as server:
        clients = [EventClient(server) for _ in range(20)]
        for client in clients:
            client.read(1)
        stopping = Stopping(server)
        for client in clients:
            client.read_all()
            client.drop()
        assert stopping.join() < SOON
    assert len({client.retry for client in clients}) > 10


@pytest.mark.parametrize("name", ["sleeping", "never_suspending", "plain_ticking"])
def test_a_client_that_takes_nothing_holds_nobody_up(name: str) -> None:
    watched = Watched()
    with (
        serving(lambda req: SSEResponse(getattr(watched, name)())) as server,
        EventClient(server, receive_buffer=4096),
    ):
        assert watched.is_there.wait(SOON)
        assert Stopping(server, 0.3).join() < SOON
    until(lambda: watched.ended == ["finally"])


def test_many_streams_end_one_after_the_other_although_some_clients_leave_meanwhile() -> None:
    """Stopping goes from one to the next over some time, in which any of them may go by itself."""
    watched = Watched()
    with serving(lambda req: SSEResponse(watched.sleeping())) as server:
        clients = [EventClient(server) for _ in range(60)]
        for client in clients:
            client.read(1)
        (service, loop) = (service_of(server), local(server)._loop)
        assert loop is not None
        ordered = list(service.connections)
        by_port = {client.socket.getsockname()[1]: client for client in clients}
        last = by_port[ordered[-1]._peer._client[1]]  # type: ignore[index]
        ended: list[int] = []

        def leave() -> None:
            """On the loop, while it still has to come to the last: that one's client resets."""
            last.drop(reset=True)

        original = HTTPProtocol.stop

        def stop(connection: HTTPProtocol) -> None:
            if not ended:
                leave()
            ended.append(1)
            original(connection)

        patch = pytest.MonkeyPatch()
        with patch.context() as context:
            context.setattr(HTTPProtocol, "stop", stop)
            stopping = Stopping(server)
            for client in clients:
                if client is not last:
                    client.read_all()
                    assert client.retry is not None
                client.drop()
            assert stopping.join() < SOON
    assert watched.ended == ["finally"] * 60


def test_a_second_stop_with_less_grace_takes_effect() -> None:
    ended: list[str] = []

    async def handler(req: Request) -> str:
        try:
            await asyncio.sleep(NEVER)
        finally:
            ended.append("cancelled")
        return "never"

    with serving(handler) as server, Connection(server) as client:
        client.send(head())
        until(lambda: len(service_of(server).connections) == 1)
        stopping = Stopping(server, NEVER)
        until(lambda: service_of(server).is_stopping)
        server.stop(grace=0)
        assert stopping.join() < SOON
        client.receive_to_end()


def test_a_request_that_comes_while_the_server_stops_is_not_taken() -> None:
    gate = Gate()
    seen: list[str] = []

    async def handler(req: Request) -> str:
        seen.append(req.path)
        await gate.passed()
        return req.path

    with serving(handler) as server, Connection(server) as client:
        client.send(head("/1"))
        until(lambda: gate.waiting == 1)
        stopping = Stopping(server)
        until(lambda: service_of(server).is_stopping)
        client.send(head("/2"))
        gate.open()
        assert [answer.text() for answer in parse_answers(client.receive_to_end())] == ["/1"]
        stopping.join()
    assert seen == ["/1"]


def test_a_server_on_a_running_loop_serves_and_stops_there() -> None:
    async def main() -> list[str]:
        watched = Watched()
        loop = asyncio.get_running_loop()
        with serving(lambda req: SSEResponse(watched.sleeping())) as server:
            assert local(server)._loop in (None, loop)
            client = await asyncio.to_thread(EventClient, server)
            await asyncio.to_thread(client.read, 1)
        assert await asyncio.to_thread(client.read_all) == []
        client.drop()
        await server.wait_closed()
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return watched.ended

    assert asyncio.run(main()) == ["finally"]


def test_answers_of_one_server_do_not_know_another() -> None:
    with serving(lambda req: "one") as one, serving(lambda req: "two") as two:
        assert (request(one).text(), request(two).text()) == ("one", "two")
        one.stop()
        assert exchange(two, head("/", "Connection: close")).answers[0].text() == "two"
        assert service_of(one) is not service_of(two)

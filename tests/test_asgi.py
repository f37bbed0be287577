"""``bunpy.asgi`` on real servers, with Starlette and FastAPI, and alone with an ASGI client that a test plays."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import inspect
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sse_starlette
import uvloop
from conftest import ROOT
from ports import reserved
from watching import SOON, Log, until

from bunpy.asgi import EventSourceResponse, JSONServerSentEvent, ServerSentEvent, end_streams
from bunpy.errors import HTTPError, InvalidEvent, InvalidResponse
from bunpy.testing import Decoder, EventClient, IncompleteAnswer, request

START = 60.0  # seconds: six servers start at once, on a machine that may be busy
BIN = Path(sys.executable).parent
COMMANDS = {
    "uvicorn": ["uvicorn", "asgi_app:app", "--log-level", "warning", "--port"],
    "granian": ["granian", "--interface", "asgi", "asgi_app:app", "--port"],
    "hypercorn": ["hypercorn", "asgi_app:app", "--workers", "0", "--bind"],
}


class Program:
    """A server of one kind, in a session of its own, so that nothing of it outlives the test."""

    def __init__(self, name: str) -> None:
        self._resources = contextlib.ExitStack()
        self.port = self._resources.enter_context(reserved())
        self.url = f"http://127.0.0.1:{self.port}"
        self.output = tempfile.TemporaryFile("w+")  # noqa: SIM115 -- closed by kill
        program, *arguments = COMMANDS[name]
        address = f"127.0.0.1:{self.port}" if name == "hypercorn" else str(self.port)
        self.process = subprocess.Popen(
            [str(BIN / program), *arguments, address],
            cwd=ROOT / "tests",
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(
                    [str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")]
                ),
                "ASGI_APP_PID": str(os.getpid()),
            },
            stdout=self.output,
            stderr=self.output,
            start_new_session=True,
        )

    def ready(self) -> Program:
        until(self._answers, START)
        return self

    def _answers(self) -> bool:
        assert self.process.poll() is None, self.said()
        try:
            return request(self.url, "GET", "/log", timeout=SOON).status == 200
        except OSError:
            return False

    def said(self) -> str:
        self.output.seek(0)
        return self.output.read()

    def state(self) -> dict[str, Any]:
        state: dict[str, Any] = request(self.url, "GET", "/log").json()
        return state

    def log(self, path: str) -> list[str]:
        return [what for where, what in self.state()["log"] if where == path]

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.output.close()
        self._resources.close()


@pytest.fixture(scope="module")
def programs() -> Iterator[dict[str, list[Program]]]:
    """Two of each: one that is asked, and one that is stopped. They start side by side."""
    programs: dict[str, list[Program]] = {name: [] for name in COMMANDS}
    try:
        for name, found in programs.items():
            found += [Program(name), Program(name)]
        yield programs
    finally:
        for found in programs.values():
            for program in found:
                program.kill()


@pytest.fixture(params=list(COMMANDS))
def server(request: pytest.FixtureRequest, programs: dict[str, list[Program]]) -> Program:
    return programs[request.param][0].ready()


@pytest.fixture(params=list(COMMANDS))
def doomed(request: pytest.FixtureRequest, programs: dict[str, list[Program]]) -> Program:
    return programs[request.param][1].ready()


# On real servers


def test_events_arrive_as_they_were_meant(server: Program) -> None:
    with EventClient(server.url, "/events") as client:
        assert client.status == 200
        assert client.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert client.headers["cache-control"] == "no-store"
        assert client.headers["x-accel-buffering"] == "no"
        assert [(event.event, event.data, event.id) for event in client.read_all()] == [
            ("greeting", "two\nlines\nthree", "1"),
            ("message", '{"näme":1}', "2"),
            ("message", "text", "2"),
            ("message", "both", "2"),
            ("message", "together", "3"),
        ]
        assert client.retry == 3000
        assert client.comments == 1
    until(lambda: server.log("/events") == ["finished"])


def test_a_burst_arrives_whole(server: Program) -> None:
    with EventClient(server.url, "/burst", timeout=20) as client:
        assert [event.id for event in client.read_all()] == [str(number) for number in range(5000)]


def test_who_leaves_has_its_generator_closed_once_and_at_once(server: Program) -> None:
    with EventClient(server.url, "/waiting") as client:
        assert [event.data for event in client.read(2)] == ["first", "second"]
        client.drop()
        left = time.monotonic()
        until(lambda: "client" in server.log("/waiting"))
        assert time.monotonic() - left < SOON
    assert server.log("/waiting") == ["finally in its task", "client"]


def test_silence_is_broken_by_comments(server: Program) -> None:
    with EventClient(server.url, "/pinging") as client:
        client.wait_until(lambda: client.comments >= 3)
        assert len(client.read(2)) == 2


@pytest.mark.parametrize(
    ("path", "status", "body"),
    [
        ("/refusing", 418, "a teapot"),
        ("/busy", 409, "busy"),
        ("/failing", 500, "Internal Server Error"),
    ],
)
def test_an_error_before_the_first_event_is_a_status(
    server: Program, path: str, status: int, body: str
) -> None:
    answer = request(server.url, "GET", path)
    assert (answer.status, answer.body.decode()) == (status, body)
    assert answer.headers.get("retry-after") == ("7" if path == "/busy" else None)
    assert server.log(path) == ["error"]


def test_an_error_after_that_cuts_the_response_off(server: Program) -> None:
    with EventClient(server.url, "/breaking") as client:
        assert [event.data for event in client.read(3)] == ["one", "two", "three"]
        with pytest.raises(IncompleteAnswer):
            client.read_all()
    assert server.log("/breaking") == ["error"]


def test_a_plain_generator_runs_in_a_thread(server: Program) -> None:
    with EventClient(server.url, "/plain") as client:
        events = client.read_all()
    assert [event.id for event in events] == ["0", "1", "2"]
    assert {event.data for event in events} == {"bunpy-generator"}
    assert server.log("/plain") == ["closed in bunpy-generator", "finished"]


def test_an_event_leaves_before_its_generator_holds_the_loop(
    server: Program, tmp_path: Path
) -> None:
    flag = tmp_path / "flag"
    with EventClient(server.url, f"/blocking?until={flag}") as client:
        assert [event.data for event in client.read(2)] == ["first", "second"]
        flag.touch()
        assert [event.data for event in client.read_all()] == ["third"]


def test_a_reader_that_is_slow_holds_its_generator_back(server: Program) -> None:
    made: list[int] = []

    def has_stopped() -> bool:
        time.sleep(0.1)
        made.append(server.state()["made"]["/flood"])
        return len(made) > 2 and made[-3] == made[-1]

    with EventClient(server.url, "/flood", receive_buffer=4096) as client:
        until(has_stopped, 20)
        assert 0 < made[-1] < 20_000  # 20 MB, most of it the kernel's
        client.read(made[-1] + 1000, timeout=20)
    until(lambda: server.log("/flood")[-2:] == ["finally", "client"])


def test_head_is_answered_with_the_head(server: Program) -> None:
    before = len(server.log("/waiting"))
    answer = request(server.url, "HEAD", "/waiting")
    assert (answer.status, answer.body) == (200, b"")
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    until(lambda: server.log("/waiting")[before:] == ["finished"])


def test_fastapi_sends_it_as_it_is(server: Program) -> None:
    with EventClient(server.url, "/fast/events?name=you") as client:
        assert client.headers["x-custom"] == "yes"
        assert client.headers["x-later"] == "also"
        assert client.headers["set-cookie"].startswith("seen=1;")
        assert [event.data for event in client.read_all()] == ['{"hello":"you"}']
    with EventClient(server.url, "/fast/plain") as client:
        assert client.status == 203
        assert [event.data for event in client.read_all()] == ["a", "b"]


def test_behind_middleware_of_starlette_s(server: Program) -> None:
    with EventClient(server.url, "/wrapped/events") as client:
        assert [event.data for event in client.read_all()][-2:] == ["both", "together"]
    assert request(server.url, "GET", "/wrapped/refusing").status == 418
    with EventClient(server.url, "/wrapped/pinging") as client:
        assert [event.data for event in client.read(2)] == ["first", "second"]
        client.wait_until(lambda: client.comments >= 2)
        client.drop()
        until(lambda: server.log("/wrapped/pinging") == ["client"])


def test_a_server_that_stops_ends_its_streams(doomed: Program) -> None:
    with EventClient(doomed.url, "/waiting", timeout=20) as client:
        client.read(2)
        stopped = time.monotonic()
        doomed.process.send_signal(signal.SIGTERM)
        assert client.read_all() == []
        assert client.retry is not None
    doomed.process.wait(20)
    assert time.monotonic() - stopped < 20


# Played


Send = Callable[[dict[str, Any]], Awaitable[None]]


class Played:
    """An ASGI server's side of one request: ``messages`` are those that were sent."""

    def __init__(self, method: str = "GET", **scope: Any) -> None:
        self.scope = {"type": "http", "method": method, "path": "/", "headers": [], **scope}
        self.messages: list[Any] = []
        self.is_open = asyncio.Event()
        self.is_open.set()
        self.has_left = asyncio.Event()
        self.error: Exception | None = None

    async def receive(self) -> dict[str, Any]:
        await self.has_left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        await self.is_open.wait()
        if self.error is not None:
            raise self.error
        self.messages.append(message)

    async def run(self, response: EventSourceResponse) -> None:
        await response(self.scope, self.receive, self.send)

    @property
    def bodies(self) -> list[bytes]:
        return [message["body"] for message in self.messages[1:]]

    @property
    def events(self) -> list[str]:
        decoder = Decoder("")
        return [event.data for event in decoder.feed(b"".join(self.bodies))]

    async def until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + SOON
        while not condition():
            assert time.monotonic() < deadline
            await asyncio.sleep(0.001)


async def play(response: EventSourceResponse, method: str = "GET") -> Played:
    played = Played(method)
    await played.run(response)
    return played


async def some(*items: Any) -> AsyncIterator[Any]:
    for item in items:
        yield item


async def forever(ends: list[str], *items: Any) -> AsyncIterator[Any]:
    try:
        for item in items:
            yield item
        await asyncio.sleep(3600)
    finally:
        ends.append("finally")


def test_events_that_follow_each_other_leave_together() -> None:
    for _ in range(100):  # where a step is held up for 50 µs, its event leaves alone
        played = asyncio.run(play(EventSourceResponse(some(*"abcd"))))
        assert played.events == [*"abcd"]
        if len(played.bodies) == 2:
            break
    assert played.bodies == [b"data: a\n\n", b"data: b\n\ndata: c\n\ndata: d\n\n"]
    assert [message["more_body"] for message in played.messages[1:]] == [True, False]


def test_no_event_is_a_whole_response_too() -> None:
    played = asyncio.run(play(EventSourceResponse(some())))
    assert played.messages[0]["status"] == 200
    assert played.messages[1:] == [{"type": "http.response.body", "body": b"", "more_body": False}]


def test_what_is_made_leaves_before_the_source_waits() -> None:
    async def main() -> None:
        played = Played()
        seen: list[list[str]] = []

        async def source() -> AsyncIterator[str]:
            yield "a"
            yield "b"
            asyncio.get_running_loop().call_soon(lambda: seen.append(played.events))
            await asyncio.sleep(0.01)
            yield "c"

        await played.run(EventSourceResponse(source()))
        assert seen == [["a", "b"]]
        assert played.events == ["a", "b", "c"]

    asyncio.run(main())


def test_a_long_burst_leaves_in_pieces_and_lets_others_have_their_turn() -> None:
    async def main() -> None:
        played = Played()
        made = 0

        async def source() -> AsyncIterator[str]:
            nonlocal made
            while made < 1000:
                made += 1
                yield "x" * 1000

        played.is_open.clear()
        task = asyncio.create_task(played.run(EventSourceResponse(source())))
        await played.until(lambda: made == 1)  # the first is held up, and with it all others
        played.is_open.set()
        turns = 0
        while not task.done():
            await asyncio.sleep(0)
            turns += 1
        await task
        assert len(played.events) == 1000
        assert max(map(len, played.bodies)) < 70_000
        assert turns > 10

    asyncio.run(main())


@pytest.mark.parametrize("separator", ["\n", "\r\n", "\r"])
def test_lines_end_as_they_are_asked_to(separator: str) -> None:
    response = EventSourceResponse(some({"data": "a\nb", "id": 1}, "c"), sep=separator)
    played = asyncio.run(play(response))
    expected = "id: 1\ndata: a\ndata: b\n\ndata: c\n\n".replace("\n", separator)
    assert b"".join(played.bodies).decode() == expected
    assert played.events == ["a\nb", "c"]


def test_the_head_does_not_wait_for_the_first_event_for_long() -> None:
    async def main() -> None:
        played = Played()
        task = asyncio.create_task(played.run(EventSourceResponse(forever([]))))
        await played.until(lambda: len(played.messages) == 2)
        assert played.messages[0]["type"] == "http.response.start"
        assert played.messages[1]["body"] == b""
        played.has_left.set()
        await task

    asyncio.run(main())


def test_a_stream_that_has_ended_leaves_nothing_to_the_collector() -> None:
    async def main() -> None:
        async def source() -> AsyncIterator[str]:
            yield "a"
            await asyncio.sleep(0.001)
            yield "b"

        await play(EventSourceResponse(source()))
        gc.collect()
        gc.disable()
        try:
            played = await play(EventSourceResponse(source()))
            assert gc.collect() == 0
        finally:
            gc.enable()
        assert played.events == ["a", "b"]

    asyncio.run(main())


def test_a_client_that_leaves_is_told_of_once() -> None:
    async def main() -> None:
        ends: list[str] = []

        async def note(message: Any) -> None:
            ends.append(message["type"])

        async def background() -> None:
            ends.append("background")

        played = Played()
        response = EventSourceResponse(
            forever(ends, "a"),
            client_close_handler_callable=note,
            background=background,
            on_close=ends.append,
        )
        task = asyncio.create_task(played.run(response))
        await played.until(lambda: played.events == ["a"])
        played.has_left.set()
        await task
        assert ends == ["finally", "client", "http.disconnect", "background"]
        assert all(message.get("more_body", True) for message in played.messages)

    asyncio.run(main())


def test_a_connection_that_is_gone_is_a_client_that_has_left() -> None:
    ends: list[str] = []

    async def main() -> None:
        played = Played()
        played.error = BrokenPipeError()
        await played.run(EventSourceResponse(forever(ends, "a", "b"), on_close=ends.append))

    asyncio.run(main())
    assert ends == ["finally", "client"]


def test_a_send_that_fails_otherwise_is_raised() -> None:
    ends: list[str] = []

    async def main() -> None:
        played = Played()
        played.error = RuntimeError("no such message")
        await played.run(EventSourceResponse(forever(ends, "a", "b"), on_close=ends.append))

    with pytest.raises(RuntimeError, match="no such message"):
        asyncio.run(main())
    assert ends == ["finally", "error"]


@pytest.mark.parametrize("items", [["a"], ["a", "b"], []], ids=["event", "burst", "head"])
def test_a_client_that_takes_nothing_is_given_up(items: list[str]) -> None:
    ends: list[str] = []

    async def main() -> None:
        played = Played()
        played.is_open.clear()
        source = forever(ends, *items)
        await played.run(EventSourceResponse(source, send_timeout=0.2, on_close=ends.append))

    with pytest.raises(TimeoutError, match=r"GET /: the client took nothing for 0\.2 s"):
        asyncio.run(main())
    assert ends == ["finally", "slow"]


def test_a_client_that_does_not_take_the_end_is_given_up_too() -> None:
    async def main() -> None:
        played = Played()

        async def source() -> AsyncIterator[str]:
            yield "a"
            yield "b"
            played.is_open.clear()

        await played.run(EventSourceResponse(source(), send_timeout=0.1))

    with pytest.raises(TimeoutError):
        asyncio.run(main())


def test_what_a_source_waits_for_is_cancelled_though_its_events_still_wait() -> None:
    """The client leaves while what came before a suspension is being sent."""

    async def main() -> None:
        ends: list[str] = []
        played = Played()
        inner: list[asyncio.Task[None]] = []

        async def source() -> AsyncIterator[str]:
            yield "a"
            yield "b"
            played.is_open.clear()
            inner.append(asyncio.create_task(asyncio.sleep(3600)))
            try:
                await inner[0]
            except asyncio.CancelledError:
                ends.append("cancelled")
                raise
            finally:
                ends.append("finally")

        task = asyncio.create_task(played.run(EventSourceResponse(source())))
        await played.until(lambda: bool(inner))
        await asyncio.sleep(0)
        played.has_left.set()
        await task
        assert ends == ["cancelled", "finally"]
        assert inner[0].cancelled()

    asyncio.run(main())


async def begun(ends: list[str]) -> tuple[Played, asyncio.Task[None]]:
    """A call whose first event has left, and that has no end of its own."""
    played = Played()
    response = EventSourceResponse(forever(ends, "a"), on_close=ends.append)
    task = asyncio.create_task(played.run(response))
    await played.until(lambda: played.events == ["a"])
    return played, task


def test_a_call_that_is_cancelled_closes_its_source_and_stays_cancelled() -> None:
    async def main() -> None:
        ends: list[str] = []
        _, task = await begun(ends)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert ends == ["finally", "shutdown"]

    asyncio.run(main())


def test_an_event_that_is_none_is_refused_at_its_yield() -> None:
    refused: list[str] = []

    async def source() -> AsyncIterator[Any]:
        try:
            yield 17
        except InvalidEvent as exc:
            refused.append(str(exc))
        yield "good"

    assert asyncio.run(play(EventSourceResponse(source()))).events == ["good"]
    assert refused == ["an event is a dict, a str, an Event or a list of them, not 17 (int)"]


def test_pings_are_what_the_factory_makes() -> None:
    class Foreign:
        def encode(self) -> bytes:
            return b": theirs\n\n"

    async def main() -> None:
        made: Iterator[Any] = iter(
            [{"comment": "ours"}, ServerSentEvent(event="ping", data="now"), Foreign()]
        )
        played = Played()
        response = EventSourceResponse(
            forever([]), ping=0.06, ping_message_factory=lambda: next(made)
        )
        task = asyncio.create_task(played.run(response))
        await played.until(lambda: len(played.bodies) == 4)
        assert played.bodies == [
            b"",
            b": ours\n\n",
            b"event: ping\ndata: now\n\n",
            b": theirs\n\n",
        ]
        with pytest.raises(RuntimeError, match="StopIteration"):
            await task

    asyncio.run(main())


def test_ping_0_is_none() -> None:
    async def main() -> None:
        played = Played()
        response = EventSourceResponse(
            forever([], "a"), ping=0, ping_message_factory=lambda: pytest.fail("a ping was made")
        )
        task = asyncio.create_task(played.run(response))
        await played.until(lambda: played.events == ["a"])
        await asyncio.sleep(0.1)
        assert len(played.bodies) == 1
        played.has_left.set()
        await task

    asyncio.run(main())


def test_a_data_sender_runs_beside_its_stream() -> None:
    async def main() -> None:
        queue: asyncio.Queue[str] = asyncio.Queue()
        ends: list[str] = []

        async def feed() -> None:
            try:
                for word in ("a", "b", "end"):
                    await queue.put(word)
                await asyncio.sleep(3600)
            finally:
                ends.append("feed")

        async def source() -> AsyncIterator[str]:
            while (word := await queue.get()) != "end":
                yield word

        played = await play(EventSourceResponse(source(), data_sender_callable=feed))
        assert played.events == ["a", "b"]
        assert ends == ["feed"]

    asyncio.run(main())


def test_a_data_sender_that_fails_ends_its_stream() -> None:
    ends: list[str] = []

    async def feed() -> None:
        raise LookupError("nothing to send")

    with pytest.raises(LookupError, match="nothing to send"):
        asyncio.run(play(EventSourceResponse(forever(ends), data_sender_callable=feed)))
    assert ends == ["finally"]


def test_a_source_that_raises_generator_exit_is_closed_and_told_of() -> None:
    ends: list[str] = []

    async def source() -> AsyncIterator[str]:
        try:
            yield "a"
            await asyncio.sleep(0)
            raise GeneratorExit
        finally:
            ends.append("finally")

    with pytest.raises(GeneratorExit):
        asyncio.run(play(EventSourceResponse(source(), on_close=ends.append)))
    assert ends == ["finally", "error"]


def test_streams_end_when_they_are_told_to() -> None:
    async def main() -> None:
        ends: list[str] = []
        played, task = await begun(ends)
        await asyncio.to_thread(end_streams)
        await task
        assert ends == ["finally", "shutdown"]
        assert played.bodies[-1].startswith(b"retry: ")
        assert played.messages[-1]["more_body"] is False

    asyncio.run(main())


def test_a_source_may_say_goodbye_when_the_server_stops() -> None:
    async def main() -> None:
        stops = asyncio.Event()

        async def source() -> AsyncIterator[str]:
            yield "a"
            await stops.wait()
            yield "goodbye"

        played = Played()
        response = EventSourceResponse(source(), shutdown_event=stops, shutdown_grace_period=20)
        task = asyncio.create_task(played.run(response))
        await played.until(lambda: played.events == ["a"])
        end_streams()
        await task
        assert played.events == ["a", "goodbye"]

    asyncio.run(main())


def test_a_source_that_does_not_is_ended_after_its_grace() -> None:
    async def main() -> None:
        ends: list[str] = []
        played = Played()
        stops = asyncio.Event()
        response = EventSourceResponse(
            forever(ends, "a"), shutdown_event=stops, shutdown_grace_period=0.1
        )
        task = asyncio.create_task(played.run(response))
        await played.until(lambda: played.events == ["a"])
        end_streams()
        await task
        assert stops.is_set()
        assert ends == ["finally"]

    asyncio.run(main())


def test_a_client_that_takes_nothing_does_not_keep_its_server_from_stopping() -> None:
    async def main() -> None:
        ends: list[str] = []
        played = Played()
        response = EventSourceResponse(
            forever(ends, "a"), send_timeout=None, cleanup_timeout=0.1, on_close=ends.append
        )
        task = asyncio.create_task(played.run(response))
        await played.until(lambda: played.events == ["a"])
        played.is_open.clear()
        end_streams()
        await task
        assert ends == ["finally", "shutdown"]

    asyncio.run(main())


@pytest.mark.parametrize("timeout", [0, 0.1])
def test_a_source_that_does_not_end_is_given_up_and_named(timeout: float, log: Log) -> None:
    async def main() -> None:
        async def source() -> AsyncIterator[str]:
            try:
                yield "a"
                await asyncio.sleep(3600)
            finally:
                await asyncio.sleep(3600)

        played = Played()
        task = asyncio.create_task(
            played.run(EventSourceResponse(source(), cleanup_timeout=timeout))
        )
        await played.until(lambda: played.events == ["a"])
        played.has_left.set()
        await task

    asyncio.run(main())
    assert "GET /: the generator still runs" in log.take().getMessage()


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_source_may_have_all_the_time_it_needs(
    new_loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    async def main() -> None:
        ends: list[str] = []

        async def source() -> AsyncIterator[str]:
            try:
                yield "a"
                await asyncio.sleep(3600)
            finally:
                await asyncio.sleep(0.05)
                ends.append("finally")

        played = Played()
        response = EventSourceResponse(source(), cleanup_timeout=None, send_timeout=None)
        task = asyncio.create_task(played.run(response))
        await played.until(lambda: played.events == ["a"])
        played.has_left.set()
        await task
        assert ends == ["finally"]

    loop = new_loop()
    try:
        loop.run_until_complete(main())
    finally:
        loop.close()


def test_an_http_error_without_starlette_s_handlers_is_answered() -> None:
    async def busy() -> AsyncIterator[Any]:
        raise HTTPError(503, "later", {"Retry-After": "1"})
        yield

    played = asyncio.run(play(EventSourceResponse(busy())))
    assert played.messages[0]["status"] == 503
    assert dict(played.messages[0]["headers"])[b"retry-after"] == b"1"
    assert played.bodies == [b"later"]


def test_a_source_that_cancels_itself_is_no_cancelled_call() -> None:
    async def source() -> AsyncIterator[Any]:
        raise asyncio.CancelledError
        yield

    with pytest.raises(RuntimeError, match="cancelled itself"):
        asyncio.run(play(EventSourceResponse(source())))


def test_a_response_answers_http_only() -> None:
    response = EventSourceResponse(some("a"))
    with pytest.raises(RuntimeError, match="HTTP requests, not websocket"):
        asyncio.run(Played(type="websocket").run(response))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"content": some}, "call it"),
        ({"content": "text"}, "not 'text'"),
        ({"sep": "\t"}, r"sep is '\\t'"),
        ({"ping": -1}, "ping is -1"),
        ({"ping": "15"}, "ping is '15'"),
        ({"send_timeout": -1}, "send_timeout is -1"),
        ({"shutdown_grace_period": True}, "shutdown_grace_period is True"),
        ({"cleanup_timeout": -0.5}, r"cleanup_timeout is -0\.5"),
    ],
)
def test_arguments_that_make_no_sense(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidResponse, match=message):
        EventSourceResponse(**{"content": [], **options})


def test_headers_of_the_user_s_replace_the_defaults() -> None:
    headers = {"Cache-Control": "public", "X-Accel-Buffering": "yes", "X-Own": "1"}
    response = EventSourceResponse(some(), headers=headers, media_type="text/plain")
    assert dict(response.raw_headers) == {
        b"cache-control": b"public",
        b"x-accel-buffering": b"yes",
        b"x-own": b"1",
        b"content-type": b"text/plain; charset=utf-8",
    }


def test_server_sent_events_are_events() -> None:
    assert ServerSentEvent("a", event="b", id="c", retry=1, comment="d") == {
        "data": "a",
        "event": "b",
        "id": "c",
        "retry": 1,
        "comment": "d",
    }
    assert ServerSentEvent(comment="only") == {"comment": "only"}
    assert JSONServerSentEvent("a", id="1") == {"data": '"a"', "id": "1"}
    assert JSONServerSentEvent({"a": 1}) == {"data": {"a": 1}}
    with pytest.raises(InvalidEvent):
        ServerSentEvent()


def test_it_works_without_starlette() -> None:
    script = """
import asyncio, sys
sys.modules["starlette"] = sys.modules["starlette.responses"] = None
from bunpy.asgi import EventSourceResponse
async def send(message):
    print(message)
async def main():
    await EventSourceResponse(iter("ab"))({"type": "http", "method": "GET", "path": "/"}, asyncio.Event().wait, send)
asyncio.run(main())
"""
    run = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=True
    )
    lines = run.stdout.splitlines()
    assert "text/event-stream; charset=utf-8" in lines[0]
    assert "data: b" in "".join(lines)
    assert run.stderr == ""


# The documentation


DOCUMENT = (ROOT / "docs" / "asgi.md").read_text(encoding="utf-8")
PROGRAMS = re.findall(r"^```python\n(.*?)^```$", DOCUMENT, re.DOTALL | re.MULTILINE)


def test_the_document_has_two_programs() -> None:
    assert len(PROGRAMS) == 2


@pytest.mark.parametrize("source", PROGRAMS, ids=["starlette", "fastapi"])
def test_the_programs_of_the_document_run(source: str) -> None:
    """The first event of each, then the client leaves."""
    namespace: dict[str, Any] = {}
    exec(compile(source, "docs/asgi.md", "exec"), namespace)

    async def main() -> list[str]:
        played = Played(query_string=b"", root_path="", client=None, server=("localhost", 80))
        played.scope["app"] = namespace["app"]
        task = asyncio.create_task(namespace["app"](played.scope, played.receive, played.send))
        await played.until(lambda: bool(played.events))
        played.has_left.set()
        await task
        return played.events

    assert asyncio.run(main()) in (['{"count":0}'], ["Hello, you"])


def test_the_document_names_every_argument() -> None:
    """The arguments are sse-starlette's, and ``on_close``; whose default is another's is in the table."""
    ours = inspect.signature(EventSourceResponse).parameters
    theirs = inspect.signature(sse_starlette.EventSourceResponse).parameters
    assert [name for name in ours if name in theirs] == list(theirs)
    changed = {name for name in theirs if ours[name].default != theirs[name].default}
    changed.add("cleanup_timeout")  # which the last release for CPython 3.10 does not know
    assert changed == {"media_type", "send_timeout", "cleanup_timeout"}
    assert all(f"`{name}`" in DOCUMENT for name in changed - {"media_type"})

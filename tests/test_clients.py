"""Foreign clients read our streams: Chromium, Node's eventsource, httpx-sse and curl, judged by ``bunpy.testing``.

What they are sent is a catalogue of awkward events; where one of them is known to read it in another way than the
standard says, the test says so.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import httpx_sse
import pytest
from browser import Browser, Page
from conftest import missing

from bunpy.serve import Request, Server, SSEResponse
from bunpy.testing import DecodedEvent, Decoder, EventClient, request, serving

NODE_MODULES = Path(__file__).parent.parent / ".venv" / "node" / "node_modules"
SOON = 10.0  # seconds: what should come at once has surely come, on any machine

END = "the end"  # the type of the event by which a client knows that it has seen all

#: Events that carry data, so that each of them is dispatched.
CATALOGUE: dict[str, dict[str, Any] | str] = {
    "the first, no id yet": {"data": "first"},
    "a str": "just text",
    "empty data": {"data": ""},
    "one line feed": {"data": "\n"},
    "only line ends": {"data": "\r\n\r\r\n\n"},
    "lines of every kind": {"data": "a\nb\r\nc\rd\n\re\n"},
    "empty lines around": {"data": "\n\na\n\nb\n\n"},
    "what other splitters take for line ends": {
        "data": "a\x0bb\x0cc\x1cd\x1de\x1ef\x85g\u2028h\u2029i"
    },
    "controls": {"data": "\0\x01\t\x07\x1b[31m\x7f"},
    "leading and trailing blanks": {"data": "  two before, two after  "},
    "only a blank": {"data": " "},
    "leading colon": {"data": ": no comment"},
    "fields in the data": {"data": "data: x\nevent: y\nid: z\nretry: 1\n: c\n\nid: forged"},
    "astral": {"data": "😀👩‍👩‍👧‍👦 \U0001d518 \U0010ffff"},
    "many scripts": {"data": "größer 東京 العربية हिन्दी é"},
    "a byte order mark": {"data": "\ufeffmarked\ufeff"},
    "noncharacters and the replacement": {"data": "\ufffd\ufffe\uffff\ud7ff\ue000"},
    "three bytes, then four, at many offsets": {
        "data": "".join("x" * n + "€😀" for n in range(64))
    },
    "json object": {"data": {"a": [1, 2.5, None, True], "ü": "\n\u2028😀"}},
    "json list": {"data": []},
    "json null": {"data": None},
    "json number": {"data": 0},
    "json false": {"data": False},
    "long": {"data": "0123456789abcdef" * 16384},
    "many lines": {"data": "\n".join(map(str, range(5000)))},
    "an id": {"id": "one", "data": "has an id"},
    "no id, so that of before": {"data": "has none"},
    "an int id": {"id": 0, "data": "zero"},
    "an id with blanks and colons": {"id": " a: b ", "data": "x"},
    "an id beyond latin-1": {"id": "ключ-😀", "data": "x"},
    "an empty id": {"id": "", "data": "no id any more"},
    "a name": {"event": "update", "data": "x"},
    "the usual name": {"event": "message", "data": "x"},
    "an empty name": {"event": "", "data": "x"},
    "a name with blanks and colons": {"event": " a: b ", "data": "x"},
    "a name beyond latin-1": {"event": "имя-😀", "data": "x"},
    "everything": {"comment": "a\nb", "event": "all", "id": "42", "retry": 3000, "data": "1\n2"},
    "a comment with data": {"comment": "event: forged\n\ndata: forged", "data": "x"},
}
#: Events without data, which are not dispatched; after each of them comes one that is.
SILENT: list[dict[str, Any]] = [
    {"comment": "nothing but a comment"},
    {"comment": ""},
    {"retry": 2500},
    {"id": "moved"},
    {"id": "again", "retry": 2600, "comment": "and more"},
]
TYPES = sorted(
    {str(e.get("event") or "message") for e in CATALOGUE.values() if isinstance(e, dict)} | {END}
)


def all_events() -> Iterator[dict[str, Any] | str]:
    yield from CATALOGUE.values()
    for number, silent in enumerate(SILENT):
        yield silent
        yield {"data": f"after {number}"}
    yield {"event": END, "data": END}


async def in_one_burst() -> AsyncIterator[object]:
    for event in all_events():
        yield event


async def one_by_one() -> AsyncIterator[object]:
    for event in all_events():
        yield event
        await asyncio.sleep(0)


STREAMS = {
    "/burst": lambda: SSEResponse(in_one_burst()),
    "/one-by-one": lambda: SSEResponse(one_by_one()),
    "/batch": lambda: SSEResponse(iter([list(all_events())])),
    "/thread": lambda: SSEResponse(all_events()),
}

HTML = "<!doctype html><link rel=icon href='data:,'><title>A page</title>"


def catalogue_handler(req: Request) -> object:
    if req.path in STREAMS:
        return STREAMS[req.path]()
    return {"headers": {"Content-Type": "text/html; charset=utf-8"}, "body": HTML}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving(catalogue_handler) as server:
        yield server


@pytest.fixture(params=STREAMS)
def url(request: pytest.FixtureRequest, server: Server) -> str:
    """The catalogue, made in each way in turn."""
    return f"{server.url}{request.param}"


@pytest.fixture(scope="module")
def meant() -> list[DecodedEvent]:
    """What a client that keeps to the standard is to make of the catalogue, whatever the decoder thinks of it."""
    events, last_event_id = [], ""
    for event in all_events():
        fields = {"data": event} if isinstance(event, str) else event
        last_event_id = str(fields.get("id", last_event_id))
        if "data" in fields:
            data = fields["data"]
            if not isinstance(data, str):
                data = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
            lines = data.replace("\r\n", "\n").replace("\r", "\n")
            events.append(DecodedEvent(fields.get("event") or "message", lines, last_event_id))
    return events


def test_the_judge_reads_what_was_meant(url: str, meant: list[DecodedEvent]) -> None:
    with EventClient(url) as client:
        assert client.read_all() == meant
        assert client.retry == 2600


# Lockstep: the next event is made only when the client has seen the one before


class Lockstep:
    """A handler whose stream makes two events for each ``step``, or for each request for /step.

    Two, because the first after a silence leaves at once, and the second when the generator waits.
    """

    def __init__(self) -> None:
        self._loop: Future[asyncio.AbstractEventLoop] = Future()
        self._steps = asyncio.Semaphore(0)
        self.bodies: list[bytes] = []

    def __call__(self, req: Request) -> object:
        if req.path == "/step":
            self._steps.release()
            return None
        if req.path != "/events":
            return {"headers": {"Content-Type": "text/html"}, "body": HTML}
        self.bodies.append(req.body)
        return SSEResponse(self._events())

    def step(self) -> None:
        self._loop.result(SOON).call_soon_threadsafe(self._steps.release)

    async def _events(self) -> AsyncIterator[object]:
        self._loop.set_result(asyncio.get_running_loop())
        for number in range(LOCKSTEPS):
            await self._steps.acquire()
            yield f"{number} größer 😀"
            yield {"event": "made", "data": number}


LOCKSTEPS = 20
LOCKSTEP_DATA = [f"{number} größer 😀" for number in range(LOCKSTEPS)]


@contextmanager
def lockstep() -> Iterator[tuple[Lockstep, Server, str]]:
    """The handler, its server, and the URL of its stream."""
    handler = Lockstep()
    with serving(handler) as server:
        yield handler, server, f"{server.url}/events"


# Reconnection: three events a connection, of nine; then 204


class Resumable:
    """Streams that end after three events each, the second one without a last chunk; after nine events, 204."""

    def __init__(self) -> None:
        self.asked: list[str | None] = []

    def __call__(self, req: Request) -> object:
        if req.path != "/events":
            return {"headers": {"Content-Type": "text/html"}, "body": HTML}
        self.asked.append(req.last_event_id)
        last = int((req.last_event_id or "n0").removeprefix("n"))
        return SSEResponse(self._events(last)) if last < 9 else None

    async def _events(self, last: int) -> AsyncIterator[object]:
        for number in range(last + 1, min(last + 3, 9) + 1):
            yield {"id": f"n{number}", "data": f"event {number}", "retry": 20}
            await asyncio.sleep(0)
        if self.asked.count("n3") == 1 and last == 3:
            raise ConnectionError("the source has gone")

    def check_what_was_asked(self) -> None:
        """A client may drop what arrived just before a connection was cut; it asks for that again."""
        assert self.asked[:2] == [None, "n3"]
        assert self.asked[2] in ("n3", "n4", "n5", "n6")
        assert self.asked[-1] == "n9"


RESUMED = [[f"n{number}", f"event {number}"] for number in range(1, 10)]


# curl


@contextmanager
def curl(path: str, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    command = [
        path,
        "--silent",
        "--show-error",
        "--noproxy",
        "*",
        "--max-time",
        "20",
        "--no-buffer",
        *arguments,
    ]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def test_curl_reads_the_catalogue(
    program: Callable[[str], str], url: str, meant: list[DecodedEvent]
) -> None:
    with curl(program("curl"), "--fail", url) as process:
        output, errors = process.communicate(timeout=SOON)
    assert (process.returncode, errors) == (0, b"")
    assert Decoder().feed(output) == meant


def test_curl_gets_each_event_as_it_is_made(program: Callable[[str], str]) -> None:
    with lockstep() as (handler, _, url), curl(program("curl"), url) as process:
        assert process.stdout is not None
        decoder = Decoder()
        for number, expected in enumerate(LOCKSTEP_DATA):
            handler.step()
            seen: list[str] = []
            while len(seen) < 2:
                data = process.stdout.read(65536)  # curl itself gives up after its --max-time
                assert data
                seen += [event.data for event in decoder.feed(data)]
            assert seen == [expected, str(number)]
        assert process.wait(SOON) == 0


def test_curl_can_tell_that_a_stream_was_cut(
    program: Callable[[str], str], caplog: pytest.LogCaptureFixture
) -> None:
    with serving(Resumable()) as server:
        url = f"{server.url}/events"
        with curl(program("curl"), "-H", "Last-Event-ID: n3", url) as process:
            output, errors = process.communicate(timeout=SOON)
        # 18: "transfer closed with outstanding read data remaining"; 56: the connection was reset.
        assert process.returncode in (18, 56), errors
        assert [event.id for event in Decoder().feed(output)] == ["n4", "n5", "n6"]
        with curl(program("curl"), url, url) as process:  # the second on the same connection
            output, errors = process.communicate(timeout=SOON)
        assert (process.returncode, errors) == (0, b"")
        assert [event.id for event in Decoder().feed(output)] == ["n1", "n2", "n3"] * 2
    assert "the source has gone" in caplog.text


# httpx-sse


def test_httpx_sse_reads_the_catalogue(url: str, meant: list[DecodedEvent]) -> None:
    with (
        httpx.Client(trust_env=False, timeout=SOON) as client,
        httpx_sse.connect_sse(client, "GET", url) as source,
    ):
        assert as_dispatched(source.iter_sse()) == without_empty(meant)


def test_httpx_sse_reads_the_catalogue_asynchronously(url: str, meant: list[DecodedEvent]) -> None:
    async def read() -> list[httpx_sse.ServerSentEvent]:
        async with (
            httpx.AsyncClient(trust_env=False, timeout=SOON) as client,
            httpx_sse.aconnect_sse(client, "GET", url) as source,
        ):
            return [event async for event in source.aiter_sse()]

    assert as_dispatched(asyncio.run(read())) == without_empty(meant)


def as_dispatched(events: Any) -> list[DecodedEvent]:
    """httpx-sse 0.4 dispatches an event with empty data for each empty line after an id or a retry (WHATWG: none)."""
    return without_empty([DecodedEvent(event.event, event.data, event.id) for event in events])


def without_empty(events: list[DecodedEvent]) -> list[DecodedEvent]:
    return [event for event in events if event.data]


def test_httpx_sse_gets_each_event_as_it_is_made() -> None:
    with (
        lockstep() as (handler, _, url),
        httpx.Client(trust_env=False, timeout=SOON) as client,
        httpx_sse.connect_sse(client, "POST", url, content=b"a body") as source,
    ):
        events = source.iter_sse()
        for data in LOCKSTEP_DATA:
            handler.step()
            assert next(events).data == data
            assert next(events).event == "made"
        assert list(events) == []
        assert handler.bodies == [b"a body"]


def test_httpx_sse_knows_an_empty_event_and_no_heartbeat() -> None:
    """Where no id was sent before, an empty event is one, and what is sent to keep the connection open is none."""
    loop: Future[asyncio.AbstractEventLoop] = Future()
    silence_is_over = asyncio.Event()

    async def events() -> AsyncIterator[object]:
        yield {"data": ""}
        await silence_is_over.wait()
        yield {"event": "named", "data": ""}

    def handler(req: Request) -> object:
        if req.path == "/loop":
            loop.set_result(asyncio.get_running_loop())
            return None
        return SSEResponse(events())

    with (
        serving(handler, heartbeat=0.05) as server,
        httpx.Client(trust_env=False, timeout=SOON) as client,
        httpx_sse.connect_sse(client, "GET", server.url) as source,
        EventClient(server.url) as witness,
    ):
        assert request(server, path="/loop").status == 204
        witness.wait_until(lambda: witness.comments > 2)
        loop.result().call_soon_threadsafe(silence_is_over.set)
        assert [(e.event, e.data) for e in source.iter_sse()] == [("message", ""), ("named", "")]


# Node


@pytest.fixture(scope="module")
def node(program: Callable[[str], str]) -> Callable[..., Any]:
    """``node(script, *arguments)``: run a script that has ``EventSource`` and ``types``; the JSON that it prints."""
    path = program("node")
    if not (NODE_MODULES / "eventsource" / "package.json").exists():
        missing("the npm package eventsource")

    def run(script: str, url: str) -> Any:
        start = "const {EventSource} = require('eventsource'); const [url, types] = JSON.parse(process.argv[1]);"
        done = subprocess.run(
            [path, "-e", f"{start}\n{script}", json.dumps([url, TYPES])],
            env={**os.environ, "NODE_PATH": str(NODE_MODULES)},
            capture_output=True,
            timeout=SOON,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, b"")
        return json.loads(done.stdout)

    return run


COLLECT = """
const es = new EventSource(url), seen = [];
for (const type of types)
    es.addEventListener(type, e => {
        seen.push([e.type, e.data, e.lastEventId]);
        if (type === "the end") { es.close(); done(seen); }
    });
"""


def test_node_reads_the_catalogue(
    node: Callable[..., Any], url: str, meant: list[DecodedEvent]
) -> None:
    script = f"const done = seen => console.log(JSON.stringify(seen));\n{COLLECT}"
    seen = node(script, url)
    assert [event[:2] for event in seen] == [[event.event, event.data] for event in meant]
    # eventsource 4 tells an event only the id that it has itself, and forgets one that comes without data.
    own_ids = [
        None if isinstance(event, str) else event.get("id")
        for event in all_events()
        if isinstance(event, str) or "data" in event
    ]
    assert [event[2] for event in seen] == ["" if id_ is None else str(id_) for id_ in own_ids]


def test_node_resumes_and_stops_at_204(
    node: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    script = """
        const es = new EventSource(url), seen = [];
        es.onmessage = e => seen.push([e.lastEventId, e.data]);
        es.onerror = e => { if (es.readyState === es.CLOSED) console.log(JSON.stringify([seen, e.code])); };
    """
    handler = Resumable()
    with serving(handler) as server:
        assert node(script, f"{server.url}/events") == [RESUMED, 204]
    handler.check_what_was_asked()
    assert "the source has gone" in caplog.text


def test_node_gets_each_event_as_it_is_made(node: Callable[..., Any]) -> None:
    """The script asks for the next event, by a request of its own, when it has seen the one before."""
    script = """
        const es = new EventSource(url), seen = [];
        const next = () => fetch(new URL("/step", url), {method: "POST"});
        es.onopen = next;
        es.onmessage = e => seen.push(e.data);
        es.addEventListener("made", next);
        // exit: its timer for the reconnection, 3 s, would keep the process.
        es.onerror = () => { console.log(JSON.stringify(seen)); process.exit(); };
    """
    with lockstep() as (_, server, _):
        assert node(script, f"{server.url}/events") == LOCKSTEP_DATA


# Chromium


@pytest.fixture(scope="module")
def browser(program: Callable[[str], str]) -> Iterator[Browser]:
    with Browser(program("chromium")) as browser:
        yield browser


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Callable[[str], Page]]:
    """``open_page(url)``: a tab until the test's end."""
    pages: list[Page] = []

    def run(url: str) -> Page:
        pages.append(browser.open(url))
        return pages[-1]

    try:
        yield run
    finally:
        for page in pages:
            page.close()


Open = Callable[[str], Page]


def test_chromium_reads_the_catalogue(
    open_page: Open, server: Server, url: str, meant: list[DecodedEvent]
) -> None:
    page = open_page(server.url)
    promise = f"const [url, types] = {json.dumps([url, TYPES])};\n{COLLECT}"
    seen = page.evaluate(f"new Promise(done => {{ {promise} }})", timeout=SOON)
    assert [DecodedEvent(*event) for event in seen] == meant


def test_chromium_resumes_and_stops_at_204(
    open_page: Open, caplog: pytest.LogCaptureFixture
) -> None:
    handler = Resumable()
    with serving(handler) as server:
        page = open_page(server.url)
        seen = page.evaluate(
            """new Promise(done => {
                const es = new EventSource("/events"), seen = [];
                es.onmessage = e => seen.push([e.lastEventId, e.data]);
                es.onerror = () => { if (es.readyState === es.CLOSED) done(seen); };
            })""",
            timeout=SOON,  # four times 3 s, Chromium's own reconnection time, would be longer
        )
    assert seen == RESUMED
    handler.check_what_was_asked()
    assert "the source has gone" in caplog.text


def test_chromium_sends_an_id_beyond_latin_1_back_as_it_was(open_page: Open) -> None:
    asked: list[str | None] = []

    async def events() -> AsyncIterator[object]:
        yield {"id": "ключ-😀 é", "retry": 20}
        yield {"data": "x"}

    def handler(req: Request) -> object:
        if req.path != "/events":
            return {"headers": {"Content-Type": "text/html"}, "body": HTML}
        asked.append(req.last_event_id)
        return SSEResponse(events()) if req.last_event_id is None else None

    with serving(handler) as server:
        page = open_page(server.url)
        script = "const es = new EventSource('/events'); es.onerror = () => es.readyState === 2 && done(true)"
        assert page.evaluate(f"new Promise(done => {{ {script} }})", timeout=SOON)
    assert asked == [None, "ключ-😀 é"]


def test_chromium_gets_each_event_as_it_is_made(open_page: Open) -> None:
    with lockstep() as (_, server, _):
        seen = open_page(server.url).evaluate(
            """new Promise(done => {
                const es = new EventSource("/events"), seen = [];
                const next = () => fetch("/step", {method: "POST"});
                es.onopen = next;
                es.onmessage = e => seen.push(e.data);
                es.addEventListener("made", next);
                es.onerror = () => { es.close(); done(seen); };
            })""",
            timeout=SOON,
        )
    assert seen == LOCKSTEP_DATA


FETCH = """(async () => {
    const response = await fetch(%s, {method: "POST", body: "größer"});
    const reader = response.body.getReader();
    const decoder = new TextDecoder("utf-8", {fatal: true, ignoreBOM: true});
    let text = "";
    for (;;) {
        %s
        const {done, value} = await reader.read();
        if (done) break;
        text += decoder.decode(value, {stream: true});
    }
    return [response.headers.get("content-type"), text + decoder.decode()];
})()"""


def test_fetch_reads_the_catalogue(
    open_page: Open, server: Server, url: str, meant: list[DecodedEvent]
) -> None:
    page = open_page(server.url)
    kind, text = page.evaluate(FETCH % (json.dumps(url), ""), timeout=SOON)
    assert kind == "text/event-stream; charset=utf-8"
    assert Decoder().feed(text.encode()) == meant


def test_fetch_gets_each_event_as_it_is_made(open_page: Open) -> None:
    step = (
        r"if (/(^|event: made\ndata: \d+\n\n)$/.test(text)) await fetch('/step', {method: 'POST'});"
    )
    with lockstep() as (handler, server, url):
        page = open_page(server.url)
        _, text = page.evaluate(FETCH % (json.dumps(url), step), timeout=SOON)
    assert [
        event.data for event in Decoder().feed(text.encode()) if event.event == "message"
    ] == LOCKSTEP_DATA
    assert handler.bodies == ["größer".encode()]

"""The demo: each scene over a real connection, its command line, and its page in a real Chromium."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from browser import Browser, Page

from bunpy.demo import market, prose, scenes
from bunpy.demo.app import LINE_LIMIT, PROMPT_LIMIT, App
from bunpy.demo.bookmark import Bookmarks
from bunpy.demo.command import main
from bunpy.demo.journal import Journal
from bunpy.demo.tape import Tape
from bunpy.serve import Request, Server, SSEResponse
from bunpy.testing import EventClient, IncompleteAnswer, StreamEnded, request, serving

CLIENT = "0123456789abcdef"
JSON = {"Content-Type": "application/json"}
SCENES = ["counter", "feed", "resume", "stocks", "tokens", "log"]


@pytest.fixture
def app(tmp_path: Path) -> App:
    return App(tmp_path / "demo.log")


@pytest.fixture
def server(app: App) -> Iterator[Server]:
    with serving(app) as server:
        yield server


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """The scenes without their pauses."""
    monkeypatch.setattr(scenes, "_COUNTER_PAUSE", 0.001)
    monkeypatch.setattr(scenes, "_FEED_PAUSE", 0.001)
    monkeypatch.setattr(market, "_PAUSE", 0.001)
    monkeypatch.setattr(prose, "_FIRST_DELAY", 0.001)
    monkeypatch.setattr(prose, "_DELAYS", (0.0, 0.001))


def post(server: Server, path: str, body: object, headers: dict[str, str] = JSON) -> int:
    return request(server, "POST", path, headers, json.dumps(body).encode()).status


def until(condition: Callable[[], bool], timeout: float = 5.0) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "the condition was not met in time"
        time.sleep(0.005)


# The page and the routes


def test_the_page_may_run_its_own_script_and_style_and_nothing_else(server: Server) -> None:
    answer = request(server, "GET", "/")
    assert answer.status == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    policy = dict(
        part.strip().partition(" ")[::2]
        for part in answer.headers["content-security-policy"].split(";")
    )
    assert policy["default-src"] == policy["base-uri"] == policy["frame-ancestors"] == "'none'"
    assert policy["connect-src"] == "'self'"
    html = answer.text()
    for tag in ("script", "style"):
        (content,) = re.findall(rf"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert policy[f"{tag}-src"] == f"'sha256-{digest}'"


def test_the_page_is_one_file_that_makes_no_markup_from_text(server: Server) -> None:
    html = request(server, "GET", "/").text()
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b", html)
    assert not re.search(r"<[^>]*\s(style|on\w+)=", html)
    addresses = set(re.findall(r"https?://[^'\"\s]+", html))
    assert addresses == {"http://www.w3.org/2000/svg"}
    assert not re.search(r"\bsrc=|@import|<script [^>]*>", html)


def test_head_is_get_without_a_body(server: Server) -> None:
    answer = request(server, "HEAD", "/")
    assert answer.status == 200
    assert answer.body == b""
    assert int(answer.headers["content-length"]) == len(request(server, "GET", "/").body)


@pytest.mark.parametrize(
    ("method", "path", "status", "allow"),
    [
        ("GET", "/elsewhere", 404, None),
        ("GET", "/page.html", 404, None),
        ("GET", "/../app.py", 404, None),
        ("POST", "/", 405, "GET"),
        ("GET", "/tokens", 405, "POST"),
        ("DELETE", "/log", 405, "GET, POST"),
    ],
)
def test_other_requests_are_refused(
    server: Server, method: str, path: str, status: int, allow: str | None
) -> None:
    answer = request(server, method, path)
    assert answer.status == status
    assert answer.headers.get("allow") == allow


# The counter and the feed


@pytest.mark.usefixtures("fast")
def test_the_counter_counts_to_ten_and_ends_cleanly(server: Server) -> None:
    with EventClient(server, "/counter") as client:
        events = client.read_all()
        assert client.ended_cleanly
    assert [event.data for event in events] == [str(n) for n in range(1, 11)] + ["10"]
    assert [event.id for event in events[:-1]] == [str(n) for n in range(1, 11)]
    assert events[-1].event == "end"


@pytest.mark.usefixtures("fast")
@pytest.mark.parametrize(
    ("last_event_id", "numbers"),
    [
        ("7", [8, 9, 10]),
        ("0", list(range(1, 11))),
        ("-3", list(range(1, 11))),
        ("٣", list(range(1, 11))),
    ],
)
def test_the_counter_goes_on_after_the_last_id(
    server: Server, last_event_id: str, numbers: list[int]
) -> None:
    header = last_event_id.encode().decode("latin-1")
    with EventClient(server, "/counter", last_event_id=header) as client:
        assert [
            int(event.data) for event in client.read_all() if event.event == "message"
        ] == numbers


def test_the_counter_sends_no_client_round_again(server: Server) -> None:
    answer = request(server, "GET", "/counter", {"Last-Event-ID": "10"})
    assert answer.status == 204  # on which EventSource stops (WHATWG HTML 9.2.3)


@pytest.mark.usefixtures("fast")
def test_the_feed_has_three_types_of_event(server: Server) -> None:
    with EventClient(server, "/feed") as client:
        events = client.read(100)
    assert events[0].event == "message"
    by_type = {
        kind: [e.data for e in events if e.event == kind]
        for kind in ("message", "heartbeat", "update")
    }
    assert sum(map(len, by_type.values())) == len(events)
    assert len(by_type["message"]) > 2
    assert [json.loads(data)["tick"] for data in by_type["heartbeat"][:3]] == [10, 20, 30]
    updates = [json.loads(data) for data in by_type["update"]]
    assert [update["tick"] for update in updates] == list(range(1, len(updates) + 1))
    assert len({update["value"] for update in updates}) > 10


# Resume


def numbers_of(events: list[Any]) -> list[int]:
    return [json.loads(event.data)["number"] for event in events]


def broken_off(client: EventClient) -> list[Any]:
    """The events up to the end of the stream, which is not a clean one."""
    events: list[Any] = []
    with suppress(StreamEnded):
        while True:
            events += client.read(1)
    assert client.ended_cleanly is False
    return events


def test_a_cut_stream_breaks_off_and_goes_on_with_nothing_lost_or_doubled(
    server: Server, app: App
) -> None:
    tape = app._tape = Tape(interval=0.02)
    with EventClient(server, f"/resume?client={CLIENT}&after=") as client:
        events = client.read(2)
        assert client.retry
        assert post(server, f"/resume/cut?client={CLIENT}", {}) == 204
        events += broken_off(client)
        until(lambda: tape._latest > numbers_of(events)[-1] + 3)
        with client.reconnect() as again:
            later = again.read(150)
    numbers = numbers_of(events + later)
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    replayed = [json.loads(event.data)["replayed"] for event in later]
    assert replayed[:3] == [True, True, True]
    assert replayed[-1] is False
    assert not any(json.loads(event.data)["replayed"] for event in events)


def test_a_new_eventsource_tells_its_place_in_the_query(server: Server) -> None:
    with EventClient(server, f"/resume?client={CLIENT}") as client:
        (event,) = client.read(1)
    with EventClient(server, f"/resume?client={CLIENT}&after={event.id}") as client:
        assert numbers_of(client.read(2))[0] == numbers_of([event])[0] + 1


def test_an_id_of_another_run_is_told_from_a_place(server: Server) -> None:
    with EventClient(server, f"/resume?client={CLIENT}", last_event_id="00000000-5") as client:
        restart, number = client.read(2)
    assert restart.event == "restart"
    assert number.event == "message"


def test_what_is_too_old_is_named(server: Server, app: App) -> None:
    app._tape = Tape(interval=0.002, history=5)
    with EventClient(server, f"/resume?client={CLIENT}") as client:
        (first,) = client.read(1)
        client.read(200)
    with EventClient(server, f"/resume?client={CLIENT}", last_event_id=first.id) as client:
        gap, *events = client.read(7)
    assert gap.event == "gap"
    lost = json.loads(gap.data)
    assert lost["first"] == numbers_of([first])[0] + 1
    assert numbers_of(events) == list(range(lost["last"] + 1, lost["last"] + 7))


def test_only_an_open_stream_can_be_cut(server: Server) -> None:
    assert post(server, f"/resume/cut?client={CLIENT}", {}) == 404
    with EventClient(server, f"/resume?client={CLIENT}") as client:
        client.read(1)
        assert post(server, "/resume/cut?client=fedcba9876543210", {}) == 404
        assert client.read(1)


def test_a_name_used_twice_is_the_later_streams(server: Server) -> None:
    path = f"/resume?client={CLIENT}"
    with EventClient(server, path) as early, EventClient(server, path) as late:
        early.read(1)
        late.read(1)
        assert post(server, f"/resume/cut?client={CLIENT}", {}) == 204
        with pytest.raises(IncompleteAnswer):
            late.read_all()
        assert early.read(2)


@pytest.mark.parametrize(
    "client", ["", "short", "../../../../etc/passwd", "0" * 65, "%0a" + CLIENT]
)
def test_a_client_has_a_random_name(server: Server, client: str) -> None:
    assert request(server, "GET", f"/resume?client={client}").status == 400
    assert request(server, "POST", f"/resume/cut?client={client}").status == 400


@pytest.mark.parametrize(
    "text", ["", "-", "5", "zzzzzzzz-5", "{run}-", "{run}--5", "{run}-٣", "{run}-" + "9" * 16]
)
def test_a_bookmark_is_of_this_run_or_none(text: str) -> None:
    bookmarks = Bookmarks()
    run = bookmarks.id(5).partition("-")[0]
    assert bookmarks.number(bookmarks.id(5)) == 5
    assert bookmarks.number(text.format(run=run)) is None
    assert bookmarks.number(None) is None


# Stocks


@pytest.mark.usefixtures("fast")
def test_the_query_chooses_the_stocks(server: Server) -> None:
    with EventClient(server, "/stocks?symbols=TSLA,NOPE,AAPL") as client:
        prices, *ticks = client.read(40)
    assert prices.event == "prices"
    history = json.loads(prices.data)
    assert set(history) == {"AAPL", "TSLA"}
    last = {symbol: values[-1] for symbol, values in history.items()}
    assert {json.loads(tick.data)["symbol"] for tick in ticks} == {"AAPL", "TSLA"}
    for tick in ticks:
        assert tick.event == "tick"
        move = json.loads(tick.data)
        assert move["price"] == pytest.approx(last[move["symbol"]] + move["delta"])
        last[move["symbol"]] = move["price"]


def test_all_stocks_unless_asked_and_none_is_refused(server: Server) -> None:
    with EventClient(server, "/stocks") as client:
        assert set(json.loads(client.read(1)[0].data)) == set(market.SYMBOLS)
    assert request(server, "GET", "/stocks?symbols=").status == 400


# Tokens


@pytest.mark.usefixtures("fast")
@pytest.mark.parametrize(
    "prompt", ["What is SSE?", "WebSockets?", "Proxies?", "résumé and retry", "Python"]
)
def test_tokens_come_one_by_one_and_make_the_answer(server: Server, prompt: str) -> None:
    body = json.dumps({"prompt": prompt}).encode()
    with EventClient(server, "/tokens", method="POST", headers=JSON, body=body) as client:
        start, *tokens, done = client.read_all()
    assert (start.event, json.loads(start.data)) == ("start", {"prompt": prompt})
    assert {token.event for token in tokens} == {"token"}
    assert "".join(json.loads(token.data)["token"] for token in tokens) == prose.answer(prompt)
    assert (done.event, json.loads(done.data)) == ("done", {"tokens": len(tokens)})


def test_answers_differ_and_tell_of_what_was_asked() -> None:
    assert "Last-Event-ID" in prose.answer("How do I resume?")
    assert "two-way pipe" in prose.answer("Why not WebSockets?")
    assert "X-Accel-Buffering" in prose.answer("nginx")
    assert "async generator" in prose.answer("in Python?")
    assert "EventSource" in prose.answer("")


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b'{"prompt": "hello"', 400),
        (b'["prompt"]', 400),
        (b'{"prompt": 5}', 400),
        (b'{"prompt": "  "}', 400),
        (b"{}", 400),
        (json.dumps({"prompt": "x" * (PROMPT_LIMIT + 1)}).encode(), 400),
    ],
)
def test_a_prompt_is_text_in_json(server: Server, body: bytes, status: int) -> None:
    assert request(server, "POST", "/tokens", JSON, body).status == status


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", ""])
@pytest.mark.parametrize("path", ["/tokens", "/log"])
def test_what_a_foreign_page_can_send_is_refused(server: Server, path: str, kind: str) -> None:
    headers = {"Content-Type": kind} if kind else {}
    assert post(server, path, {"prompt": "x", "line": "x"}, headers) == 415


# The log


def lines_of(client: EventClient, until: str) -> list[str]:
    """The lines up to the one that has ``until`` in it."""
    texts: list[str] = []
    while not texts or until not in texts[-1]:
        (event,) = client.read(1)
        assert event.event == "line"
        texts.append(json.loads(event.data)["text"])
    return texts


def test_an_appended_line_arrives_and_says_who_wrote_it(server: Server) -> None:
    with EventClient(server, "/log?file=/etc/passwd") as client:
        assert lines_of(client, "log: opened") == ["log: opened"]
        assert post(server, "/log", {"line": " <b>hello</b> — 你好 "}) == 204
        (event,) = client.read(1)
    line = json.loads(event.data)
    assert (line["author"], line["text"]) == ("you", "<b>hello</b> — 你好")
    assert re.fullmatch(r"\d\d:\d\d:\d\d", line["time"])


@pytest.mark.parametrize(
    "line", ["two\nlines", "\x1b[31mred", "", "x" * (LINE_LIMIT + 1), "\u2028"]
)
def test_a_line_is_one_printable_line(server: Server, line: str) -> None:
    assert post(server, "/log", {"line": line}) == 400


def test_the_log_tells_when_a_client_has_left(server: Server) -> None:
    with EventClient(server, "/log") as client:
        with EventClient(server, "/feed") as visitor:
            visitor.read(1)
            assert "feed: opened" in lines_of(client, "feed: opened")
        assert re.fullmatch(r"feed: closed after \d+ events", lines_of(client, "feed: closed")[-1])


@pytest.mark.parametrize("place", ["header", "query"])
def test_the_log_goes_on_after_the_last_line(server: Server, place: str) -> None:
    with EventClient(server, "/log") as client:
        lines_of(client, "log: opened")
        post(server, "/log", {"line": "one"})
        lines_of(client, "one")
        last = client.last_event_id
    post(server, "/log", {"line": "two"})
    path, header = ("/log", last) if place == "header" else (f"/log?after={last}", "")
    with EventClient(server, path, last_event_id=header) as client:
        texts = lines_of(client, "two")
    assert "one" not in texts
    assert texts.count("two") == 1


def test_a_new_client_is_sent_the_last_lines_only(server: Server) -> None:
    with EventClient(server, "/log") as client:
        for n in range(40):
            post(server, "/log", {"line": f"line {n}"})
        lines_of(client, "line 39")
    with EventClient(server, "/log") as client:
        texts = lines_of(client, "line 39")
    assert "line 20" in texts
    assert "line 5" not in texts


def test_a_log_that_is_full_begins_again_and_loses_no_line(tmp_path: Path) -> None:
    path = tmp_path / "full.log"
    log = Journal(path, limit=5)

    def handler(req: Request) -> SSEResponse | None:
        if req.method == "GET":
            return SSEResponse(log.tail(req.last_event_id))
        log.note("you", req.text())
        return None

    sizes = []
    with serving(handler) as server, EventClient(server) as client:
        for n in range(23):
            assert request(server, "POST", "/", body=f"line {n}".encode()).status == 204
            assert lines_of(client, f"line {n}") == [f"line {n}"]
            sizes.append(len(path.read_text().splitlines()))
    assert max(sizes) == 5
    assert min(sizes[5:]) == 1


def test_lines_that_are_none_and_ids_from_the_future_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "demo.log"
    log = Journal(path)
    path.write_text("what is this\n1 10:00:00 server hello\n")
    log._last = 1
    with (
        serving(lambda req: SSEResponse(log.tail(log._bookmarks.id(7)))) as server,
        EventClient(server) as client,
    ):
        assert lines_of(client, "hello") == ["hello"]


def test_a_closed_journal_writes_no_more(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "demo.log"
    log = Journal(path)
    log._store(["1 10:00:00 server one\n"])
    log.close()
    path.unlink()
    path.parent.rmdir()
    log._store(["2 10:00:00 server two\n"])
    assert not path.parent.exists()


# The command


def started(*arguments: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "bunpy.demo", *arguments],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_the_demo_says_where_it_is_and_ends_with_a_signal(tmp_path: Path) -> None:
    with started(PORT="0", TMPDIR=str(tmp_path)) as process:
        try:
            assert process.stdout is not None
            found = re.fullmatch(
                r"The demo is at (http://localhost:\d+) \(Ctrl-C ends it\)\n",
                process.stdout.readline(),
            )
            assert found
            assert request(found[1], "GET", "/").status == 200
            (folder,) = tmp_path.iterdir()
            with (
                EventClient(found[1], f"/resume?client={CLIENT}") as client,
                EventClient(found[1], "/log") as log,
            ):
                client.read(1)
                log.read(1)
                assert request(found[1], "POST", f"/resume/cut?client={CLIENT}").status == 204
                with pytest.raises(IncompleteAnswer):
                    client.read_all()
                process.send_signal(signal.SIGINT)
                log.read_all()
            _, errors = process.communicate(timeout=10)
        finally:
            process.kill()
    assert process.returncode == 0
    assert errors == ""
    assert not folder.exists()


def test_a_taken_port_is_one_sentence_and_status_1() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with started(str(port)) as process:
            output, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert output == ""
    assert errors.count("\n") == 1
    assert errors.startswith(f"Port {port} on 127.0.0.1 is taken: ")


def test_a_host_of_another_machine_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["0", "--host", "192.0.2.1"]) == 1
    assert "192.0.2.1" in capsys.readouterr().err


@pytest.mark.parametrize("port", ["abc", "-1", "65536", "٣"])
def test_a_port_is_a_number(
    port: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PORT", port)
    with pytest.raises(SystemExit) as end:
        main([])
    assert end.value.code == 2
    assert f"{port!r} is no port: ports are 0 to 65535" in capsys.readouterr().err


def test_the_last_port_has_no_next_one(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 65535)):
        assert main(["65535"]) == 1
    assert capsys.readouterr().err.endswith("python -m bunpy.demo 3000\n")


# The page in a browser


@pytest.fixture(scope="module")
def browser(program: Callable[[str], str]) -> Iterator[Browser]:
    with Browser(program("chromium")) as browser:
        yield browser


@pytest.fixture
def page(browser: Browser, server: Server) -> Iterator[Page]:
    page = browser.open(server.url)
    yield page
    page.close()


def state(scene: str) -> str:
    return f"document.querySelector('#{scene} .state').dataset.state"


def number(name: str) -> str:
    return f"Number($('{name}').textContent.replaceAll(',', ''))"


def wait_until_open(page: Page, *names: str) -> None:
    for name in names or ("feed", "resume", "stocks", "log"):
        page.wait_for(f"{state(name)} === 'open'")


def test_all_six_scenes_live_and_a_cut_loses_and_doubles_nothing(
    page: Page, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scenes, "_COUNTER_PAUSE", 0.1)
    wait_until_open(page)
    page.wait_for(f"{state('counter')} === 'ended' && $('count').textContent === '10'", 15)
    assert page.evaluate("document.querySelectorAll('.steps .on').length") == 10
    page.evaluate(
        "globalThis.counts = [];"
        "new MutationObserver(() => counts.push($('count').textContent))"
        ".observe($('count'), {childList: true, characterData: true, subtree: true})"
    )
    page.evaluate("$('again').click()")
    page.wait_for("counts.includes('2')")
    page.wait_for(f"{state('counter')} === 'ended'", 15)

    page.wait_for(
        " && ".join(f"{number(f'{kind}-count')} > 1" for kind in ("update", "heartbeat", "message"))
    )
    page.evaluate("globalThis.drawn = $('chart').toDataURL()")
    page.wait_for("$('chart').toDataURL() !== drawn")

    page.wait_for(
        "[...document.querySelectorAll('#prices .price')].every((cell) => cell.textContent > '0')"
    )
    page.wait_for("document.querySelectorAll('#prices tr.up, #prices tr.down').length > 3")
    page.evaluate(
        "[...document.querySelectorAll('#prices input')].slice(1).forEach((box) => box.click())"
    )
    page.wait_for("$('symbols').textContent === 'GET /stocks?symbols=AAPL'")
    wait_until_open(page, "stocks")

    page.evaluate("$('prompt').value = 'Proxies?'; $('ask').requestSubmit()")
    page.wait_for(f"{state('tokens')} === 'ended'", 20)
    assert page.evaluate("$('answer').textContent") == prose.answer("Proxies?")
    assert page.evaluate("/^[0-9]+ ms$/.test($('first').textContent)")
    assert page.evaluate(number("speed")) > 1

    page.evaluate("$('line').value = 'hello'; $('write').requestSubmit()")
    page.wait_for("$('lines').lastChild.lastChild.textContent === 'hello'")
    page.wait_for("$('line').value === ''")

    page.wait_for(f"{number('received')} > 10")
    page.evaluate("$('cut').click()")
    page.wait_for(f"{state('resume')} === 'reconnecting'")
    received = page.evaluate(number("received"))
    page.wait_for(f"{state('resume')} === 'open' && {number('received')} > {received} + 20", 15)
    assert page.evaluate(number("replayed")) > 3
    assert page.evaluate(number("missing")) == 0
    assert page.evaluate(number("doubled")) == 0
    assert page.evaluate(number("cuts")) == 1
    assert page.evaluate(number("reconnections")) == 1

    assert page.evaluate(number("total")) > 100
    assert page.evaluate(number("rate")) > 1
    errors = [line for line in page.console if "ERR_INCOMPLETE_CHUNKED_ENCODING" not in line]
    assert errors == []
    assert all(f" {server.url}/" in line for line in page.requests)


def test_a_second_tab_takes_the_streams_and_gives_them_back(
    page: Page, browser: Browser, server: Server
) -> None:
    wait_until_open(page)
    page.wait_for(f"{number('received')} > 3")
    second = browser.open(server.url)
    wait_until_open(second)
    page.wait_for(f"{state('feed')} === 'paused' && !$('elsewhere').hidden")
    assert second.evaluate("$('elsewhere').hidden && !$('cut').disabled")
    assert page.evaluate("$('cut').disabled")
    page.evaluate("$('here').click()")
    wait_until_open(page)
    second.wait_for(f"{state('feed')} === 'paused' && !$('elsewhere').hidden")
    page.evaluate("$('prompt').value = 'x'; $('ask').requestSubmit()")
    second.evaluate("$('here').click()")
    page.wait_for(f"{state('tokens')} === 'ended'")
    second.close()  # the streams are free, and the other tab takes them
    wait_until_open(page)
    received = page.evaluate(number("received"))
    page.wait_for(f"{number('received')} > {received}")
    assert page.evaluate(number("missing")) == 0
    assert page.evaluate(number("doubled")) == 0


@pytest.fixture
def slow_counter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the page is opened: its stream is there for ten seconds."""
    monkeypatch.setattr(scenes, "_COUNTER_PAUSE", 1.0)


def test_a_sixth_stream_says_that_it_waits(slow_counter: None, page: Page) -> None:
    page.wait_for(f"{state('counter')} === 'open'")
    wait_until_open(page)
    page.evaluate("$('ideas').firstElementChild.click()")
    assert page.evaluate(state("tokens")) == "waiting"
    page.evaluate("$('stop').click()")
    assert page.evaluate(state("tokens")) == "ended"
    page.evaluate("$('line').value = 'meanwhile'; $('write').requestSubmit()")
    page.wait_for("$('lines').lastChild.lastChild.textContent === 'meanwhile'")
    assert page.evaluate(state("counter")) == "open"
    page.evaluate("$('ideas').firstElementChild.click()")
    page.wait_for(f"{state('tokens')} === 'open'", 30)
    page.wait_for(f"{number('pieces')} > 2")
    page.evaluate("$('stop').click()")
    page.wait_for(
        "[...$('lines').children].some((line) => /tokens: closed after/.test(line.textContent))"
    )
    assert page.evaluate("$('answer').textContent.length") < len(prose.answer(""))


def test_a_restarted_server_is_found_again_and_its_numbers_begin_anew(
    browser: Browser, tmp_path: Path
) -> None:
    with serving(App(tmp_path / "one.log")) as server:
        page = browser.open(server.url)
        page.wait_for(f"{number('received')} > 10")
    try:
        for name in ("feed", "resume", "stocks", "log"):
            page.wait_for(f"{state(name)} === 'reconnecting'")
        with serving(App(tmp_path / "two.log"), port=server.port):
            for name in ("feed", "resume", "stocks", "log"):
                page.wait_for(f"{state(name)} === 'open'", 20)
            page.wait_for(f"{number('received')} > 3")
            assert page.evaluate(number("missing")) == 0
            assert page.evaluate(number("doubled")) == 0
            page.evaluate("$('line').value = 'once more'; $('write').requestSubmit()")
            page.wait_for("$('lines').lastChild.lastChild.textContent === 'once more'")
    finally:
        page.close()


def test_text_is_never_markup(page: Page) -> None:
    wait_until_open(page)
    line = "<img src=x onerror=console.error(1)><script>console.error(2)</script>"
    page.evaluate(f"$('line').value = {json.dumps(line)}; $('write').requestSubmit()")
    page.wait_for(f"$('lines').lastChild.lastChild.textContent === {json.dumps(line)}")
    assert page.evaluate("document.querySelectorAll('#lines img, #lines script').length") == 0
    assert page.console == []


def test_a_refusal_is_shown(page: Page) -> None:
    wait_until_open(page)
    page.evaluate("$('line').value = '\\u2028 \\u200b x'; $('write').requestSubmit()")
    page.wait_for("$('refusal').textContent.includes('no control characters')")
    page.evaluate("$('line').value = 'fine'; $('write').requestSubmit()")
    page.wait_for("$('refusal').textContent === ''")


@pytest.mark.parametrize("width", [320, 390, 768, 1280])
def test_nothing_is_wider_than_the_window(page: Page, width: int) -> None:
    page.resize(width, 844, is_mobile=width < 500)
    wait_until_open(page)
    page.evaluate("$('line').value = 'x'.repeat(200); $('write').requestSubmit()")
    page.wait_for("$('lines').lastChild.textContent.includes('xxx')")
    assert page.evaluate("document.documentElement.scrollWidth") == width


def test_the_theme_is_the_systems_until_chosen_and_is_kept(page: Page, server: Server) -> None:
    shown = "document.documentElement.dataset.theme"
    page.prefer(prefers_color_scheme="dark")
    page.wait_for(f"{shown} === 'dark'")
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.evaluate("$('theme').click()")
    assert page.evaluate(shown) == "light"
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != dark
    page.go(server.url)
    assert page.evaluate(shown) == "light"
    assert page.evaluate("$('theme').textContent") == "Theme: light"


def test_every_control_is_reached_by_keyboard_and_has_a_name(
    page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scenes, "_COUNTER_PAUSE", 0.1)
    wait_until_open(page)
    page.wait_for(f"{state('counter')} === 'ended'", 15)
    reached = set()
    for _ in range(60):
        page.press("Tab")
        reached.add(
            page.evaluate("document.activeElement.id || document.activeElement.textContent")
        )
    assert {"theme", "again", "cut", "prompt", "line", "answer"} <= reached
    assert page.evaluate(
        "[...document.querySelectorAll('button, input, a, canvas, [role=log]')].every((element) =>"
        " (element.textContent || element.ariaLabel || element.labels[0].textContent).trim())"
    )
    page.evaluate("$('again').focus()")
    monkeypatch.setattr(scenes, "_COUNTER_PAUSE", 0.5)
    page.press(" ")
    page.wait_for(f"{state('counter')} === 'open'")


def test_reduced_motion_draws_with_the_events_only(page: Page) -> None:
    page.prefer(prefers_reduced_motion="reduce")
    wait_until_open(page)
    page.evaluate(
        "globalThis.frames = 0;"
        "const ask = requestAnimationFrame;"
        "globalThis.requestAnimationFrame = (call) => { frames += 1; return ask(call); }"
    )
    page.wait_for(
        f"globalThis.from ??= {number('update-count')}, {number('update-count')} > from + 5"
    )
    assert page.evaluate("frames") <= 15

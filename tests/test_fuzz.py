"""Requests and what is nearly one, through a whole connection in memory: hypothesis over the grammar of RFC 9112.

``fuzz/`` does the same, and events, by the million. BUNPY_FUZZ_EXAMPLES sets how many examples each test tries here.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
import subprocess
import sys
from collections.abc import Callable, Hashable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn

import pytest
from fuzz import grammar
from fuzz.campaign import Campaign
from fuzz.connection import Server
from fuzz.finding import Finding
from fuzz.reference import BODY_LIMIT, HEAD_LIMIT, LINE_LIMIT, Asked, Asking, read_all
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bunpy.http.exchange import Exchange
from bunpy.http.reader import RequestReader
from bunpy.http.request import Request

EXAMPLES = int(os.environ.get("BUNPY_FUZZ_EXAMPLES", "150"))
GET = b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n"
TESTS = Path(__file__).parent
DEADLINE = 120.0  # seconds, where a fuzzer takes two
SMALL = 200  # bytes: what is worth feeding byte by byte

fuzzed = settings(
    max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)


@contextlib.contextmanager
def a_server() -> Iterator[tuple[Server, Callable[[Any], Any]]]:
    """A server without sockets, and what runs its coroutines."""
    loop = asyncio.new_event_loop()
    server = Server(loop)
    try:
        yield server, loop.run_until_complete
    finally:
        server.close()
        loop.close()


# Requests, as RFC 9112 has them

TOKENS = st.text("!#$%&'*+-.^_`|~09AZaz", min_size=1, max_size=12)
SEGMENTS = st.text("azAZ09-._~!$&'()*+,;=:@", max_size=12)
#: No space or tab at its ends, which are no part of a value.
VALUES = st.text([chr(n) for n in range(0x21, 0x100) if n != 0x7F] + [" ", "\t"], max_size=30).map(
    lambda value: value.strip(" \t")
)
HOSTS = st.sampled_from(["a.test", "a.test:80", "127.0.0.1", "xn--9ca.test"])
BODIES = st.binary(max_size=60)


@st.composite
def targets(draw: st.DrawFn) -> str:
    path = "/" + "/".join(draw(st.lists(SEGMENTS, max_size=3)))
    return f"{path}?{draw(SEGMENTS)}" if draw(st.booleans()) else path


@st.composite
def chunked(draw: st.DrawFn, body: bytes) -> bytes:
    """``body`` in chunks of any size, with extensions, and with trailers."""
    out = b""
    while body:
        size = draw(st.integers(1, len(body)))
        zeros = b"0" * draw(st.integers(0, 3))
        extension = draw(st.sampled_from([b"", b";a", b";a=b;c"]))
        out += b"%b%x%b\r\n%b\r\n" % (zeros, size, extension, body[:size])
        body = body[size:]
    trailers = b"".join(
        b"X-%b: %b\r\n" % (name.encode(), value.encode("latin-1"))
        for name, value in draw(st.lists(st.tuples(TOKENS, VALUES), max_size=2))
    )
    return out + b"0\r\n" + trailers + b"\r\n"


@st.composite
def good_requests(draw: st.DrawFn) -> tuple[bytes, Asked]:
    """A request that every server must understand, and what its handler must see."""
    method = draw(st.sampled_from(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]))
    target, host, body = draw(targets()), draw(HOSTS), draw(BODIES)
    names = st.integers(0, 99).map(lambda number: f"X-{number}")
    fields = [("Host", host), *draw(st.lists(st.tuples(names, VALUES), max_size=4))]
    if draw(st.booleans()):
        fields.append(("Transfer-Encoding", draw(st.sampled_from(["chunked", "Chunked"]))))
        framed = draw(chunked(body))
    else:
        length = f"{len(body):0{draw(st.integers(0, 6))}}"
        fields += [("Content-Length", length)] if body or draw(st.booleans()) else []
        framed = body
    if draw(st.booleans()):
        fields.append(("Connection", draw(st.sampled_from(["keep-alive", "x", "Keep-Alive, te"]))))
    lines = [f"{method} {target} HTTP/1.1"]
    headers: dict[str, str] = {}
    for name, value in draw(st.permutations(fields)):
        before, after = draw(st.sampled_from([("", ""), (" ", ""), ("\t ", " \t")]))
        if name == "Transfer-Encoding":
            after = ""  # of what may stand there llhttp refuses the tab
        lines.append(f"{draw(st.sampled_from([name, name.upper()]))}:{before}{value}{after}")
        key = name.lower()
        headers[key] = f"{headers[key]}, {value}" if key in headers else value
    data = "\r\n".join([*lines, "", ""]).encode("latin-1") + framed
    return data, Asked(method, target, headers, body)


@st.composite
def nearly_requests(draw: st.DrawFn) -> bytes:
    """Some requests, good ones or old acquaintances, spoiled in a few places."""
    one = st.one_of(
        st.sampled_from([seed for seed in grammar.SEEDS if len(seed) < 2000]),
        good_requests().map(lambda pair: pair[0]),
    )
    data = b"".join(draw(st.lists(one, min_size=1, max_size=3)))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(data)))
        way = draw(st.sampled_from(["insert", "flip", "drop", "end", "repeat"]))
        if way == "insert":
            word = draw(st.one_of(st.sampled_from(grammar.WORDS), st.binary(max_size=3)))
            data = data[:at] + word + data[at:]
        elif way == "flip" and at < len(data):
            data = data[:at] + bytes([data[at] ^ 1 << draw(st.integers(0, 7))]) + data[at + 1 :]
        elif way == "drop":
            data = data[:at] + data[at + draw(st.integers(1, 9)) :]
        elif way == "end":
            end = max(data.rfind(b"\r\n", 0, at), 0)
            word = draw(st.sampled_from([b"\n", b"\r", b"\n\r", b"\r\r\n", b"\r\n\r\n", b"\r\n "]))
            data = data[:end] + word + data[end + 2 :]
        else:
            data = data[:at] + data[at : at + 40] * draw(st.integers(2, 60)) + data[at:]
    return data


# What holds for whatever comes


def test_near_requests() -> None:
    """Whole and in pieces: well-formed answers, no 5xx but 501 and 505, and what the reference is sure of."""
    with a_server() as (server, run):

        @fuzzed
        @given(nearly_requests())
        def check(data: bytes) -> None:
            run(server.check(data))

        check()


def test_anything() -> None:
    with a_server() as (server, run):

        @fuzzed
        @given(st.binary(max_size=SMALL))
        def check(data: bytes) -> None:
            run(server.check(data))

        check()


def test_pieces() -> None:
    """However it is cut, and whether or not an answer is awaited before the next piece."""
    with a_server() as (server, run):

        @fuzzed
        @given(nearly_requests(), st.lists(st.integers(0, 400), max_size=8), st.booleans())
        def check(data: bytes, cuts: list[int], waits: bool) -> None:
            places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
            pieces = [data[a:b] for a, b in pairwise(places) if a < b]
            run(server.compare(data, pieces, waits))

        check()


def test_good_requests_are_all_seen() -> None:
    """And as they were meant: by the reference, and by the handler."""
    with a_server() as (server, run):

        @fuzzed
        @given(st.lists(good_requests(), min_size=1, max_size=5))
        def check(pairs: list[tuple[bytes, Asked]]) -> None:
            data = b"".join(request for request, _ in pairs)
            asked = tuple(asked for _, asked in pairs)
            assert read_all(data) == Asking(asked, "nothing")
            assert run(server.seen(data)) == list(asked)
            run(server.check(data))

        check()


@pytest.mark.parametrize("seed", grammar.SEEDS, ids=range(len(grammar.SEEDS)))
def test_seeds_byte_by_byte(seed: bytes) -> None:
    with a_server() as (server, run):
        run(server.check(seed))
        if len(seed) < 2000:
            run(server.compare(seed, [seed[i : i + 1] for i in range(len(seed))], True))


# The reference


@pytest.mark.parametrize(
    ("data", "count", "end"),
    [
        (b"", 0, "nothing"),
        (GET, 1, "nothing"),
        (b"\r\n\r\n" + GET, 1, "nothing"),
        (b"\r\n\r\n\r\n" + GET, 0, "refused"),
        (GET[:-1], 0, "incomplete"),
        (GET + GET[:9], 1, "incomplete"),
        (GET.replace(b"\r\n", b"\n"), 0, "incomplete"),
        (GET.replace(b"1.1", b"1.0") + GET, 1, "closed"),
        (GET.replace(b"1.1", b"1.2"), 0, "refused"),
        (GET.replace(b"/ ", b"/" + b"x" * LINE_LIMIT + b" "), 0, "refused"),
        (GET.replace(b"Host", b"X: " + b"x" * HEAD_LIMIT + b"\r\nHost"), 0, "refused"),
        (GET.replace(b"Host", b"Content-Length: %d\r\nHost" % (BODY_LIMIT + 1)), 0, "refused"),
        (GET.replace(b"Host", b"X"), 0, "refused"),
        (GET.replace(b"Host", b"Host: b\r\nHost"), 0, "refused"),
        (GET.replace(b"\r\n\r\n", b"\r\n x\r\n\r\n"), 0, "refused"),
        (GET.replace(b"Host", b"Content-Length: 1\r\nContent-Length: 1\r\nHost") + b"x", 0, "refused"),
        (GET.replace(b"Host", b"Transfer-Encoding: gzip\r\nHost"), 0, "refused"),
        (GET.replace(b"Host", b"Transfer-Encoding: chunked\r\nHost") + b"1\nx\r\n0\r\n\r\n", 0, "refused"),
        (GET.replace(b"Host", b"Transfer-Encoding: chunked\r\nHost") + b"1\r\nx", 0, "incomplete"),
        (GET.replace(b"GET", b"BREW"), 0, "unknown"),
        (GET.replace(b"/ ", b'/" '), 0, "unknown"),
    ],
)  # fmt: skip
def test_reference(data: bytes, count: int, end: str) -> None:
    asking = read_all(data)
    assert (len(asking.requests), asking.end) == (count, end)


# That it finds something


def fails(*arguments: object, **options: object) -> NoReturn:
    raise LookupError("made up")


def _next_request_of_two() -> Callable[[RequestReader], Request | None]:
    """A reader that takes a chunked body's end for the next request's beginning, as a desync does."""
    read = RequestReader.next_request

    def next_request(self: RequestReader) -> Request | None:
        request = read(self)
        if request is not None and request.body:
            self._data = GET + self._data
        return request

    return next_request


@pytest.mark.parametrize(
    ("owner", "name", "replaced", "data", "kind"),
    [
        (Request, "text", fails, GET, "logged"),
        (RequestReader, "next_request", fails, GET, "LookupError"),
        (RequestReader, "next_request", lambda self: None, GET, "reference: other requests"),
        (
            RequestReader,
            "next_request",
            _next_request_of_two(),
            GET.replace(b"Host", b"Content-Length: 1\r\nHost") + b"x",
            "reference: nothing",
        ),
        (Exchange, "_send", lambda *arguments: None, GET, "count"),
    ],
)
def test_what_is_wrong_is_found(
    monkeypatch: pytest.MonkeyPatch,
    owner: type,
    name: str,
    replaced: Callable[..., Any],
    data: bytes,
    kind: str,
) -> None:
    monkeypatch.setattr(owner, name, replaced)
    with a_server() as (server, run), pytest.raises((Finding, LookupError)) as caught:
        run(server.check(data))
    found = caught.value
    assert (found.kind if isinstance(found, Finding) else type(found).__name__) == kind


# The programs


def program(name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), *sys.path])}
    return subprocess.run(
        [sys.executable, "-m", f"fuzz.{name}", *map(str, arguments)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )


@pytest.mark.parametrize("name", ["requests", "events"])
def test_program_finds_nothing(name: str, tmp_path: Path) -> None:
    run = program(name, "--count", EXAMPLES * 4, "--seed", 7, "--folder", tmp_path)
    assert (run.returncode, run.stderr) == (0, ""), run.stdout
    assert f"{name}: {EXAMPLES * 4} inputs" in run.stdout
    assert run.stdout.endswith("findings: none\n")
    assert list(tmp_path.iterdir()) == []


class Bad:
    """A target on which two inputs find the same, one raises, and the last is never tried."""

    seeds: Sequence[bytes] = (b"good", b"bad 1", b"bad 2", b"error", b"exit", b"never")

    def mutate(self, rng: random.Random, corpus: Sequence[bytes]) -> bytes:
        raise NotImplementedError

    async def check(self, data: bytes) -> Hashable:
        if data.startswith(b"bad"):
            raise Finding("bad", "made up")
        if data == b"error":
            raise LookupError("made up")
        if data == b"exit":
            raise SystemExit
        return data

    def empty(self) -> None:
        pass

    def close(self) -> None:
        pass


def test_findings_are_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One of each kind; and what was under way when the process ended is in a file as well."""
    options = argparse.Namespace(count=6, seed=7, folder=tmp_path)
    campaign = Campaign("tried", Bad(), options)
    with pytest.raises(SystemExit), contextlib.closing(asyncio.new_event_loop()) as loop:
        loop.run_until_complete(campaign.run())
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        "tried-finding-1.bin": b"bad 1",
        "tried-finding-2.bin": b"error",
        "tried-7.current": b"exit",
    }
    assert campaign.finish() == 1
    assert "findings: LookupError at " in capsys.readouterr().out
    assert not (tmp_path / "tried-7.current").exists()


def test_finding_is_reproduced(tmp_path: Path) -> None:
    path = tmp_path / "input"
    path.write_bytes(GET)
    run = program("requests", "--reproduce", path)
    assert (run.returncode, run.stdout, run.stderr) == (0, "((200, b''),)\n", "")

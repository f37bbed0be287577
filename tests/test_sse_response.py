"""The response that is an event stream: its source, its defaults. Running it is tested with the stream."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from bunpy.errors import InvalidResponse
from bunpy.http.response import Response
from bunpy.serve import SSEResponse as Exported
from bunpy.sse.reason import END_REASONS, EndReason
from bunpy.sse.response import SSEResponse


async def events() -> AsyncIterator[dict[str, str]]:
    yield {"data": "never asked for"}


def plain_events() -> Iterator[str]:
    yield "never asked for"


class AsyncIterable:
    def __aiter__(self) -> AsyncIterator[Any]:
        return events()


class BareAsyncIterator:
    def __aiter__(self) -> BareAsyncIterator:
        return self

    async def __anext__(self) -> str:
        raise StopAsyncIteration


class BareIterator:
    def __iter__(self) -> BareIterator:
        return self

    def __next__(self) -> str:
        raise StopIteration


def test_it_is_what_users_import() -> None:
    assert Exported is SSEResponse


@pytest.mark.parametrize(
    "make",
    [events, plain_events, AsyncIterable, BareAsyncIterator, BareIterator, lambda: iter(["a"])],
)
def test_a_source(make: Any) -> None:
    source = make()
    response = SSEResponse(source)
    assert isinstance(response, Response)
    assert response.body is source
    assert (response.status, response.headers) == (200, None)
    assert response.content() is None  # type: ignore[func-returns-value]


def test_headers_and_status() -> None:
    headers = {"Access-Control-Allow-Origin": "https://a.example"}
    response = SSEResponse(events(), headers, status=203)
    assert response.headers is headers
    assert response.status == 203
    pairs = [("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")]
    assert SSEResponse(events(), headers=pairs).headers is pairs


def test_the_status_is_given_by_name() -> None:
    with pytest.raises(TypeError):
        SSEResponse(events(), None, 200)  # type: ignore[call-arg]


def test_the_defaults() -> None:
    assert SSEResponse.stream_defaults.pairs == (
        ("content-type", b"Content-Type: text/event-stream; charset=utf-8\r\n"),
        ("cache-control", b"Cache-Control: no-store\r\n"),
        ("x-accel-buffering", b"X-Accel-Buffering: no\r\n"),
    )
    assert SSEResponse(events()).stream_defaults is SSEResponse.stream_defaults


@pytest.mark.parametrize(
    "source", [None, "data", b"data", 1, ["a"], ("a",), {"data": "a"}, {"a"}, range(3), object()]
)
def test_a_source_that_is_none_is_refused(source: Any) -> None:
    with pytest.raises(InvalidResponse) as error:
        SSEResponse(source)
    assert str(error.value) == (
        f"the source of an event stream is a generator, async or plain, not {source!r}"
    )


@pytest.mark.parametrize("source", [events, plain_events, lambda: events(), AsyncIterable])
def test_a_function_is_to_be_called(source: Any) -> None:
    with pytest.raises(InvalidResponse) as error:
        SSEResponse(source)
    assert str(error.value).endswith(f"not {source!r}; call it")


def test_a_large_source_is_not_repeated() -> None:
    """The sentence goes to the log."""
    with pytest.raises(InvalidResponse) as error:
        SSEResponse(["x" * 3_000_000])  # type: ignore[arg-type]
    assert str(error.value) == (
        f"the source of an event stream is a generator, async or plain, not ['{'x' * 75}..."
    )
    with pytest.raises(InvalidResponse) as error:
        SSEResponse(events(), on_close="x" * 3_000_000)  # type: ignore[arg-type]
    assert len(str(error.value)) < 200


def test_a_coroutine_is_no_source() -> None:
    async def all_at_once() -> list[str]:
        return ["a"]

    coroutine = all_at_once()
    with pytest.raises(InvalidResponse, match="not <coroutine object"):
        SSEResponse(coroutine)  # type: ignore[arg-type]
    coroutine.close()


def test_a_source_is_not_touched() -> None:
    """What it does first, it does when its stream runs, and in its task."""
    begun = []

    def source() -> Iterator[str]:
        begun.append(True)
        yield "a"

    SSEResponse(source())
    assert begun == []


# on_close: what is called with the end's reason. That it is called is tested with the reasons.


async def told_later(reason: EndReason) -> None:
    pass


@pytest.mark.parametrize("on_close", [print, [].append, told_later, lambda reason: None, None])
def test_on_close(on_close: Any) -> None:
    source = events()
    response = SSEResponse(source, on_close=on_close)
    assert response.on_close is on_close
    assert response.body is source


def test_without_on_close() -> None:
    assert SSEResponse(events()).on_close is None
    assert Response(events()).on_close is None


@pytest.mark.parametrize("on_close", ["print", 1, True, [], {"reason": 1}, object()])
def test_an_on_close_that_is_no_function_is_refused(on_close: Any) -> None:
    with pytest.raises(InvalidResponse) as error:
        SSEResponse(events(), on_close=on_close)
    assert str(error.value) == (
        f"on_close is a function of the reason that a stream ended for, not {on_close!r}"
    )


def test_on_close_is_given_by_name() -> None:
    with pytest.raises(TypeError):
        SSEResponse(events(), None, print)  # type: ignore[call-arg, arg-type]


def test_the_reasons() -> None:
    assert END_REASONS == (
        "finished",
        "client",
        "half_open",
        "slow",
        "shutdown",
        "lifetime",
        "error",
        "limit",
    )

"""The floor: bare protocols that read nothing and write the bytes of the same answers, ready made.

No server in Python can do less, so what this machine makes of them today is what bunpy can be measured against.
"""

from __future__ import annotations

import asyncio
from typing import Final, cast

from bench.load.apps import EVENTS, HELLO, INTERVAL, PAYLOAD

__all__ = ["FLOORS"]

_DATE: Final = b"Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
_HEAD: Final = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nCache-Control: no-store\r\n"
    b"X-Accel-Buffering: no\r\n" + _DATE + b"Transfer-Encoding: chunked\r\n\r\n"
)
_EVENT: Final = f"data: {PAYLOAD}\n\n".encode()
_LAST: Final = b"0\r\n\r\n"


def _chunk(body: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(body), body)


_ONE_EVENT: Final = _chunk(_EVENT)
#: What bunpy makes of events that nothing comes between: chunks of just over 64 KiB.
_BLOCK: Final = _chunk(_EVENT * (65536 // len(_EVENT) + 1))


class _Floor(asyncio.Protocol):
    """Takes whatever arrives for one whole request."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.loop = asyncio.get_running_loop()

    def data_received(self, data: bytes) -> None:
        self.answer()

    def answer(self) -> None:
        raise NotImplementedError


class _Burst(_Floor):
    whole = _HEAD + _ONE_EVENT + _chunk(_EVENT * (EVENTS - 1)) + _LAST

    def answer(self) -> None:
        self.transport.write(self.whole)


class _Hello(_Burst):
    whole = (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\n"
        + _DATE
        + f"Content-Length: {len(HELLO)}\r\n\r\n{HELLO}".encode()
    )


class _One(_Floor):
    is_paused = False

    def answer(self) -> None:
        self.transport.write(_HEAD)
        self.go_on()

    def go_on(self) -> None:
        if not self.is_paused and not self.transport.is_closing():
            self.transport.write(_BLOCK)
            self.loop.call_soon(self.go_on)

    def pause_writing(self) -> None:
        self.is_paused = True

    def resume_writing(self) -> None:
        self.is_paused = False
        self.loop.call_soon(self.go_on)


class _LLM(_Floor):
    left = 0

    def answer(self) -> None:
        self.left = EVENTS
        self.transport.write(_HEAD)
        self.loop.call_soon(self.go_on)

    def go_on(self) -> None:
        self.left -= 1
        if self.left:
            self.transport.write(_ONE_EVENT)
            self.loop.call_soon(self.go_on)
        else:
            self.transport.write(_ONE_EVENT + _LAST)


class _Ticks(_Floor):
    def answer(self) -> None:
        self.transport.write(_HEAD)
        self.go_on()

    def go_on(self) -> None:
        if not self.transport.is_closing():
            self.transport.write(_ONE_EVENT)
            self.loop.call_later(INTERVAL, self.go_on)


class _Idle(_Floor):
    def answer(self) -> None:
        self.transport.write(_HEAD + _ONE_EVENT)


FLOORS: Final[dict[str, type[_Floor]]] = {
    "burst": _Burst,
    "one": _One,
    "llm": _LLM,
    "hello": _Hello,
    "ticks": _Ticks,
    "idle": _Idle,
}

"""The event stream client: one request, and the events of its answer. For tests, not for use.

It blocks, follows no redirect and never reconnects by itself; a test says when.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections import deque
from collections.abc import Callable, Mapping
from types import TracebackType

from bunpy.testing.address import ServerLike
from bunpy.testing.connection import Connection
from bunpy.testing.deadline import Deadline
from bunpy.testing.decoder import DecodedEvent, Decoder
from bunpy.testing.errors import StreamEnded
from bunpy.testing.head import request_bytes
from bunpy.testing.incoming import IncomingAnswer

__all__ = ["EventClient"]


class EventClient:
    """Connect to ``server`` (a URL or a server object), send a request, read the answer's head.

    ``path`` is by default that of the URL, else "/". ``headers`` replace the defaults (Host,
    Accept, Content-Length with a ``body``) without regard to case. ``last_event_id`` is sent as
    Last-Event-ID unless it is empty. ``timeout`` (seconds) is a deadline for each call in all,
    and may be given anew with each. ``receive_buffer`` (bytes) sets SO_RCVBUF, for a client that
    is to be slow: nothing is received but in a call that waits for something. ``tls`` is the context
    for a server that speaks TLS; see ``Connection``.

    A context manager: it drops the connection at the end. Raises what ``request`` raises.

    Attributes: ``status``, ``reason``, ``headers`` (lower-case, repeated ones joined with ", ")
    and ``connection``, for tests that need more.
    """

    def __init__(
        self,
        server: ServerLike | str,
        path: str | None = None,
        *,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        last_event_id: str | None = None,
        timeout: float = 5.0,
        receive_buffer: int | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._server, self._path = server, path
        self._method, self._body = method, body
        self._fields = {name.lower(): (name, value) for name, value in (headers or {}).items()}
        if last_event_id is None:
            _, last_event_id = self._fields.get("last-event-id", ("", ""))
        self._fields.pop("last-event-id", None)
        self._timeout, self._receive_buffer, self._tls = timeout, receive_buffer, tls

        self._decoder = Decoder(last_event_id)
        self._content = bytearray()
        self._events: deque[DecodedEvent] = deque()
        self._read_event_id = last_event_id

        deadline = Deadline(timeout)
        self.connection = Connection(server, timeout, receive_buffer=receive_buffer, tls=tls)
        try:
            with contextlib.suppress(ConnectionError):  # a refusal may come before all was sent
                self.connection.send(self._request(last_event_id), timeout=deadline)
            self._answer = IncomingAnswer(self.connection, method, deadline)
        except BaseException:
            self.connection.drop()
            raise
        self.status = self._answer.head.status
        self.reason = self._answer.head.reason
        self.headers = self._answer.head.headers

    @property
    def socket(self) -> socket.socket:
        """The socket; the rest of what it has received is in ``connection.pending``."""
        return self.connection.socket

    def __enter__(self) -> EventClient:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.drop()

    @property
    def last_event_id(self) -> str:
        """What a reconnection would send: the last event ID string after the last event *read*.

        Events that have arrived but were not read do not count, so that a test which reads three
        events resumes after the third however the bytes fell into packets.
        """
        return self._read_event_id if self._events else self._decoder.last_event_id

    @property
    def retry(self) -> int | None:
        """The reconnection time that the stream has set (milliseconds), or None."""
        return self._decoder.retry

    @property
    def comments(self) -> int:
        """How many comments have been received; heartbeats are comments."""
        return self._decoder.comments

    @property
    def ended_cleanly(self) -> bool | None:
        """Whether the answer came to its proper end; None until a call has seen how it ended.

        A proper end is the last chunk, the last byte of Content-Length, or, where the close is
        the end, FIN and not RST.
        """
        return self._answer.ended_cleanly

    def read(self, n: int = 1, timeout: float | None = None) -> list[DecodedEvent]:
        """Exactly ``n`` events.

        Raises ``TimeoutError`` or ``StreamEnded`` when they do not come; those that did come
        stay, for the next call.
        """
        self._until(lambda: len(self._events) >= n, f"of {n} events", timeout)
        events = [self._events.popleft() for _ in range(n)]
        if events:
            self._read_event_id = events[-1].id
        return events

    def read_all(self, timeout: float | None = None) -> list[DecodedEvent]:
        """All events until the answer's end; ``IncompleteAnswer`` when that is not a clean one.

        Raises ``TimeoutError`` when the stream does not end; the events stay, for the next call.
        """
        self._until(lambda: self.ended_cleanly is not None, "events and no end", timeout)
        self._answer.check_end()
        return self.read(len(self._events))

    def wait_until(self, condition: Callable[[], bool], timeout: float | None = None) -> None:
        """Receive until ``condition()`` is true, such as ``lambda: client.comments >= 2``.

        Raises ``TimeoutError`` or ``StreamEnded`` when it does not come true; events stay.
        """
        self._until(condition, "events and the condition is not met", timeout)

    def body(self, timeout: float | None = None) -> bytes:
        """The rest of the body, undecoded, to its clean end; ``IncompleteAnswer`` without one.

        That is all of it when nothing was read as events before.
        """
        deadline = self.connection.deadline(timeout)
        while (content := self._answer.receive(deadline)) is not None:
            self._content += content
        self._answer.check_end()
        body = bytes(self._content)
        self._content.clear()
        return body

    def raw(self, n: int, timeout: float | None = None) -> bytes:
        """The next ``n`` bytes as they came, chunk sizes and all.

        What was read before is not among them, and what is taken here a later ``read`` misses.
        """
        return self.connection.receive_exactly(n, timeout)

    def half_close(self) -> None:
        """Send FIN, over TLS close_notify, and go on reading."""
        self.connection.half_close()

    def drop(self, reset: bool = False) -> None:
        """Close the connection now, with FIN (over TLS close_notify before it) or with RST (``reset``).

        Again: nothing happens.
        """
        self.connection.drop(reset)

    def reconnect(self) -> EventClient:
        """Drop this connection and make the same request, with the ``last_event_id`` of now."""
        self.drop()
        return EventClient(
            self._server,
            self._path,
            method=self._method,
            headers=dict(self._fields.values()),
            body=self._body,
            last_event_id=self.last_event_id,
            timeout=self._timeout,
            receive_buffer=self._receive_buffer,
            tls=self._tls,
        )

    def _request(self, last_event_id: str) -> bytes:
        address = self.connection.address
        fields = {"accept": ("Accept", "text/event-stream"), **self._fields}
        if last_event_id:  # an empty one is not sent (WHATWG HTML 9.2.3)
            fields["last-event-id"] = ("Last-Event-ID", last_event_id)
        target = address.target if self._path is None else self._path
        headers = dict(fields.values())
        return request_bytes(self._method, target, address.authority, headers, self._body)

    def _until(self, condition: Callable[[], bool], wanted: str, timeout: float | None) -> None:
        deadline = self.connection.deadline(timeout)
        self._decode()
        try:
            while not condition():
                content = self._answer.receive(deadline)
                if content is None:
                    raise StreamEnded(f"{self._so_far(wanted)}, then {self._how_it_ended()}")
                self._content += content
                self._decode()
        except TimeoutError:
            raise TimeoutError(f"{self._so_far(wanted)} within {deadline.seconds:g} s") from None

    def _decode(self) -> None:
        self._events.extend(self._decoder.feed(bytes(self._content)))
        self._content.clear()

    def _how_it_ended(self) -> str:
        if self.ended_cleanly:
            return "the stream ended cleanly"
        missing = self._answer.body.missing()
        return f"the connection was {self.connection.end} in the middle of it: {missing}"

    def _so_far(self, wanted: str) -> str:
        kind = self.headers.get("content-type", "no content type")
        return f"{len(self._events)} {wanted} came from the {self.status} answer ({kind})"

"""One input through a whole connection in memory, in several ways that must come to the same."""

from __future__ import annotations

import asyncio
import logging
import random
import time
import zlib
from collections.abc import AsyncIterator, Hashable, Sequence
from typing import Any, Final

from bunpy.http.host import HostList
from bunpy.http.protocol import HTTPProtocol
from bunpy.http.service import Service
from bunpy.serve import HTTPError, Request, Response
from bunpy.server.config import Config

from .conversation import Conversation, Plan, Transport, are_alike, pieces_of
from .finding import Finding
from .grammar import PROXY_HEADERS, mutate
from .reference import BODY_LIMIT, HEAD_LIMIT, LINE_LIMIT, Asked, read_all

__all__ = ["Server"]

_LOGGER: Final = logging.getLogger("bunpy")
#: Turns of the loop after which a connection that is still busy hangs.
_TURNS: Final = 1000
_ALLOWED: Final = frozenset({501, 505})  # of the statuses from 500 on
_FOREVER: Final = 1e6  # seconds


class Server(logging.Handler):
    """A service that echoes, without sockets; ``check`` puts one input to it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(logging.ERROR)
        self._plain = self._service_with(loop)
        self._proxied = self._service_with(
            loop,
            trusted_proxies=["192.0.2.0/24"],
            proxy_protocol=True,
            cors={"origins": ["http://b.test"], "credentials": True},
        )
        self._conversation = Conversation()
        self._errors: list[str] = []
        loop.set_exception_handler(self._on_loop_error)
        _LOGGER.addHandler(self)
        _LOGGER.propagate = False

    def _service_with(self, loop: asyncio.AbstractEventLoop, **options: Any) -> Service:
        config = Config(
            request_line_limit=LINE_LIMIT,
            head_limit=HEAD_LIMIT,
            body_limit=BODY_LIMIT,
            head_delay=0.0,
            **options,
        )
        return Service(self._answer, config, loop, HostList(None, ["192.0.2.1"]))

    def close(self) -> None:
        _LOGGER.removeHandler(self)
        _LOGGER.propagate = True
        super().close()

    # What must not happen

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        self._errors.append(f"{record.getMessage()}: {error!r}")

    def _on_loop_error(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self._errors.append(f"on the loop: {context}")

    # The handler

    def _answer(self, request: Request) -> Any:
        asked = Asked(request.method, request.url, dict(request.headers), request.body)
        self._conversation.seen.append(asked)
        kind = request.path[1:7]
        for read in (request.text, request.json, request.form):
            try:
                read()
            except HTTPError as exc:
                if exc.status not in (400, 415):
                    raise
        repr((request, request.query, request.query_all, request.cookies, request.last_event_id))
        if kind == "async":
            return self._answer_later(asked)
        if kind == "stream":
            return Response(self._pieces(asked))
        if kind == "json":
            return {"body": str(request.json())}
        return self._echo(asked)

    def _echo(self, asked: Asked) -> Response:
        headers = {"X-Url": asked.url, "X-Echo": asked.headers.get("x-echo", "")}
        return Response(asked.body or asked.method, 200, headers)

    async def _answer_later(self, asked: Asked) -> Response:
        await asyncio.sleep(0)
        return self._echo(asked)

    async def _pieces(self, asked: Asked) -> AsyncIterator[bytes]:
        yield asked.url.encode()
        await asyncio.sleep(0)
        yield asked.body

    # One input

    async def check(self, data: bytes) -> Hashable:
        """Feed ``data`` whole, and in pieces; gives what is new about it. ``Finding`` for what must not be."""
        # Everything that varies hangs on the input alone: the file that holds it is enough to see it again.
        rng = random.Random(zlib.crc32(data))
        whole = await self._converse(Plan([data], False, "eof"))
        self._judge(whole)
        cut = await self._converse(Plan(pieces_of(data, rng), rng.random() < 0.5, "eof"))
        self._compare(whole, cut)
        if rng.random() < 0.15:
            end = rng.choice(("lost", "time"))
            early = data if rng.random() < 0.5 else data[: rng.randrange(len(data) + 1)]
            other = await self._converse(Plan(pieces_of(early, rng), rng.random() < 0.5, end))
            if end == "time":
                self._judge(other)
        if rng.random() < 0.1:
            await self._check_proxied(rng, rng.choice(PROXY_HEADERS) + data)
        self._compare_with_reference(whole, data)
        outcomes = {(a.status, a.body if a.status >= 400 else b"") for a in whole.answers}
        return tuple(sorted(outcomes))

    async def compare(self, data: bytes, pieces: Sequence[bytes], waits: bool) -> None:
        """``Finding`` unless ``pieces``, which ``data`` is made of, are answered as the whole is."""
        whole = await self._converse(Plan([data], False, "eof"))
        self._judge(whole)
        self._compare(whole, await self._converse(Plan(pieces, waits, "eof")))

    async def seen(self, data: bytes) -> list[Asked]:
        """What the handler sees of it."""
        return (await self._converse(Plan([data], False, "eof"))).seen

    async def _check_proxied(self, rng: random.Random, data: bytes) -> None:
        """The same through a proxy's header and with CORS, of which the reference knows nothing."""
        if rng.random() < 0.3:
            data = mutate(rng, [data])
        whole = await self._converse(Plan([data], False, "eof"), self._proxied)
        self._judge(whole)
        pieces = pieces_of(data, rng)
        self._compare(whole, await self._converse(Plan(pieces, False, "eof"), self._proxied))

    async def _converse(self, plan: Plan, service: Service | None = None) -> Conversation:
        service = service or self._plain
        conversation = self._conversation = Conversation()
        connection = HTTPProtocol(service)
        transport = Transport(connection)
        connection.connection_made(transport)
        for piece in plan.pieces:
            if transport.is_closed:
                break
            connection.data_received(piece)
            while plan.waits or not transport.is_reading_:
                if not await self._turn(connection):
                    break
        if plan.end == "lost":
            await asyncio.sleep(0)  # no transport of asyncio's tells of it in the same turn
        else:
            await self._settle(connection)
        if plan.end == "time" and not transport.is_closed:
            connection.tick(time.monotonic() + _FOREVER)
        if plan.end == "eof" and not transport.is_closed:
            connection.eof_received()
            await self._settle(connection)
        if plan.end != "lost" and not (transport.is_closed or transport.has_sent_eof):
            raise Finding("left open", f"{plan.end} does not end the connection")
        connection.connection_lost(None)
        await self._settle(connection)
        if service.connections:
            service.connections.clear()
            raise Finding("not left", "the service still holds the connection")
        if self._errors:
            errors, self._errors = self._errors, []
            raise Finding("logged", "; ".join(errors))
        conversation.sent = transport.sent
        if plan.end != "lost":
            conversation.answers = transport.answers()
        return conversation

    async def _turn(self, connection: HTTPProtocol) -> bool:
        """Let the loop turn if the connection waits for that; whether it did."""
        if connection._is_turn_due or connection._exchange.is_busy:
            await asyncio.sleep(0)
            return True
        return False

    async def _settle(self, connection: HTTPProtocol) -> None:
        for _ in range(_TURNS):
            if not await self._turn(connection):
                return
        connection._service.connections.clear()
        raise Finding("hang", f"busy after {_TURNS} turns of the loop")

    # What must hold

    def _judge(self, conversation: Conversation) -> None:
        finals, seen = conversation.finals, conversation.seen
        for answer in finals:
            if answer.status >= 500 and answer.status not in _ALLOWED:
                raise Finding(f"status {answer.status}", repr(answer))
        for answer in finals[:-1]:
            if answer.closes:
                raise Finding("answer after the last", repr(conversation.sent))
        refusals = [a for a in finals if a.status >= 400 and "x-url" not in a.headers]
        if not len(seen) <= len(finals) <= len(seen) + len(refusals):
            raise Finding("count", f"{len(seen)} requests: {conversation.sent!r}")

    def _compare(self, whole: Conversation, cut: Conversation) -> None:
        if cut.seen != whole.seen:
            raise Finding("cut: other requests", f"{whole.seen} != {cut.seen}")
        # An interim answer goes only to who has not sent the body.
        if not are_alike(whole.finals, cut.finals):
            raise Finding("cut: other answers", f"{whole.sent!r} != {cut.sent!r}")

    def _compare_with_reference(self, conversation: Conversation, data: bytes) -> None:
        asking = read_all(data)
        seen, count = conversation.seen, len(asking.requests)
        if b"HTTP/1.0" in data and conversation.is_close_delimited:
            # A stream to HTTP/1.0 ends with its connection; the reference, which sees no answers, reads on.
            count = min(count, len(seen))
            if tuple(seen[:count]) != asking.requests[:count]:
                raise Finding("reference: other requests", f"{asking} != {seen}")
            return
        if tuple(seen[:count]) != asking.requests:
            raise Finding("reference: other requests", f"{asking} != {seen}")
        if asking.end == "unknown":
            return
        if len(seen) > count:
            raise Finding(f"reference: {asking.end}", f"seen {seen[count:]}")
        if asking.end == "refused":
            finals = conversation.finals
            if len(finals) != count + 1 or not 400 <= finals[-1].status < 600:
                raise Finding("reference: not refused", repr(conversation.sent))

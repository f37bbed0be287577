"""The server's process: ``python -m bench.compare.asgi_server SCENARIO/LIBRARY bunpy CORE``.

Starlette on uvicorn (uvloop, httptools, no access log), and an ``EventSourceResponse`` of either library. It prints its
port and bunpy's implementation, and ends when its standard input does.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
from importlib import import_module

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bench.load.apps import GENERATORS
from bench.load.cores import pin
from bunpy._speedups import IMPLEMENTATION
from bunpy.server.sockets import raise_descriptor_limit


def main() -> None:
    """Serve until standard input ends."""
    scenario, _, library = sys.argv[1].partition("/")
    pin(int(sys.argv[3]))
    raise_descriptor_limit()
    response_class = import_module(library).EventSourceResponse
    generator = GENERATORS[scenario]

    async def stream(request: Request) -> Response:
        response: Response = response_class(generator())
        return response

    threading.Thread(target=_end_with_input, daemon=True).start()
    listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
    print(listener.getsockname()[1], IMPLEMENTATION, flush=True)
    config = uvicorn.Config(
        Starlette(routes=[Route("/", stream)]),
        loop="uvloop",
        http="httptools",
        lifespan="off",
        log_level="warning",
        access_log=False,
    )
    uvicorn.Server(config).run([listener])


def _end_with_input() -> None:
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main()

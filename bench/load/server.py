"""The server's process: ``python -m bench.load.server SCENARIO bunpy|floor CORE [WORKERS]``.

Several workers have all cores.

It prints its port and its implementation, and ends when its standard input does: it cannot outlive who started it.
"""

from __future__ import annotations

import os
import sys
import threading

from bench.load.apps import HANDLERS
from bench.load.cores import pin
from bench.load.floor import FLOORS
from bunpy._speedups import IMPLEMENTATION
from bunpy.serve import serve
from bunpy.server.residence import new_loop
from bunpy.server.sockets import raise_descriptor_limit


def main() -> None:
    """Serve until standard input ends."""
    scenario, what, core, *more = sys.argv[1:]
    workers = int(more[0]) if more else 1
    if workers == 1:
        pin(int(core))
    if what == "floor":
        _serve_floor(scenario)
    else:
        server = serve(HANDLERS[scenario], port=0, quiet=True, workers=workers)
        print(server.port, IMPLEMENTATION, flush=True)
        _end_with_input()


def _serve_floor(scenario: str) -> None:
    raise_descriptor_limit()
    threading.Thread(target=_end_with_input, daemon=True).start()
    loop = new_loop()
    opening = loop.create_server(FLOORS[scenario], "127.0.0.1", 0, backlog=4096)
    server = loop.run_until_complete(opening)
    print(server.sockets[0].getsockname()[1], "floor", flush=True)
    loop.run_forever()


def _end_with_input() -> None:
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main()

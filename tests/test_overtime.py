"""The end of a process whose threads do not end: programs that a signal stops while one of theirs runs."""

from __future__ import annotations

import sys
from signal import SIGINT, SIGTERM, Signals

import pytest
from script import TIMEOUT, Script, Scripts

from bunpy.testing import Connection, EventClient

GET = b"GET /thread HTTP/1.1\r\nHost: localhost\r\n\r\n"

#: A handler, and a generator, that wait for a thread which does not end; ``grace`` is short.
THREADS = """
    atexit.register(say, "atexit")

    def never(entered):
        say(entered)
        time.sleep(3600)

    async def waits():
        yield "first"
        await asyncio.to_thread(never, "generator")

    async def works(req):
        if req.path == "/events":
            return SSEResponse(waits())
        if req.path == "/thread":
            await asyncio.to_thread(never, "handler")
        return "hello"

    options = {"port": 0, "grace": 2.0}
"""

LINE = "a thread that was given to an executor (asyncio.to_thread) still runs 2 s after the signal"


def check_end(script: Script) -> None:
    assert script.end() == 0
    assert script.err.count(LINE) == 1
    assert script.out.splitlines()[-1] == "atexit"


WHERE = [
    "serve(works, **options)",
    "serve(works, block=True, **options)",
    "serve(works, **options).wait()",
]
if sys.version_info >= (3, 11):  # its end cannot be told from its run before
    WHERE.append(
        "async def main(): await serve(works, **options).wait_closed()\n    asyncio.run(main())"
    )
PLACES = pytest.mark.parametrize("place", WHERE)


@PLACES
@pytest.mark.parametrize("number", [SIGINT, SIGTERM])
def test_a_handler_in_a_thread(scripts: Scripts, place: str, number: Signals) -> None:
    script = scripts.run(THREADS + f"    {place}")
    with Connection(script.url) as connection:
        connection.send(GET)
        script.wait_until(lambda: "handler" in script.out)
        script.send(number)
        check_end(script)


@PLACES
def test_a_generator_in_a_thread(scripts: Scripts, place: str) -> None:
    script = scripts.run(THREADS + f"    {place}")
    with EventClient(script.url, "/events", timeout=TIMEOUT) as client:
        client.read(1)
        script.wait_until(lambda: "generator" in script.out)
        script.send(SIGTERM)
        assert client.read_all() == []
        check_end(script)


def test_a_thread_that_ends_within_the_grace_is_waited_for(scripts: Scripts) -> None:
    script = scripts.run("""
        def ends():
            say("begins")
            gate.wait()
            say("ends")

        async def waits():
            yield "first"
            await asyncio.to_thread(ends)

        def works(req):
            if req.path == "/events":
                return SSEResponse(waits())
            return "hello"

        server = serve(works, port=0)
        server.when_closed(lambda: threading.Timer(0.1, gate.set).start())
    """)
    with EventClient(script.url, "/events", timeout=TIMEOUT) as client:
        client.read(1)
        script.wait_until(lambda: "begins" in script.out)
        script.send(SIGTERM)
        assert client.read_all() == []
    assert script.end() == 0
    assert script.out == "begins\nends\n"
    assert LINE[:20] not in script.err


def test_a_program_that_has_something_else_to_do_is_let_do_it(scripts: Scripts) -> None:
    """Only a main thread that has nothing left to do is at its end."""
    script = scripts.run(
        THREADS
        + """
    serve(works, **options).wait()
    say("goes on")
    gate.wait(1.0)
    say("has done it")
    os._exit(5)
"""
    )
    with Connection(script.url) as connection:
        connection.send(GET)
        script.wait_until(lambda: "handler" in script.out)
        script.send(SIGTERM)
        assert script.end() == 5
    assert script.out.splitlines() == ["handler", "goes on", "has done it"]
    assert LINE not in script.err


def test_a_main_thread_that_waits_for_a_moment_only_is_not_at_its_end(scripts: Scripts) -> None:
    """It keeps its exit status."""
    script = scripts.run("""
        async def nothing():
            pass

        serve(handler, port=0, grace=0.1).wait()
        began = time.monotonic()
        while time.monotonic() - began < 1.0:
            asyncio.run(nothing())
        say("has done it")
        sys.exit(3)
    """)
    assert script.url
    script.send(SIGTERM)
    assert script.end() == 3
    assert script.out == "has done it\n"
    assert LINE[:20] not in script.err


def test_a_program_that_serves_again_has_its_own_time_for_its_end(scripts: Scripts) -> None:
    script = scripts.run("""
        def ends():
            gate.wait(1.0)
            say("ends")

        async def begins():
            asyncio.get_running_loop().run_in_executor(None, ends)

        serve(handler, port=0, grace=0.1).wait()
        serve(handler, port=0, quiet=True).stop()
        asyncio.run(begins())
    """)
    assert script.url
    script.send(SIGTERM)
    assert script.end() == 0
    assert script.out == "ends\n"
    assert LINE[:20] not in script.err

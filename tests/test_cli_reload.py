"""--reload: what clients see of a change, and what the one who made it reads."""

from __future__ import annotations

import os
import signal
import socket
import sys
import textwrap
from pathlib import Path

import pytest
from script import TIMEOUT, Script, Scripts
from watching import until

from bunpy.testing import EventClient, request

#: Seconds until a new process has imported the program and serves it.
RESTART = 30.0

APP = """\
import asyncio, os
from bunpy.serve import SSEResponse

VERSION = 1

async def count(i):
    while True:
        i += 1
        yield {"id": i, "data": f"{VERSION}"}
        await asyncio.sleep(0.005)

async def hang():
    await asyncio.sleep(3600)

def handler(req):
    if req.path == "/events":
        return SSEResponse(count(int(req.last_event_id or 0)))
    if req.path == "/hang":
        return hang()
    return f"{VERSION} {os.getpid()}"
"""

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="sockets are not handed down there")


@pytest.fixture
def scripts(scripts: Scripts) -> Scripts:
    scripts.write(APP, "app.py", prelude="")
    return scripts


def start(scripts: Scripts, *words: str) -> Script:
    return scripts.command("-m", "bunpy", "app:handler", "--port=0", "--reload", *words)


def change(folder: Path, old: str, new: str, name: str = "app.py") -> None:
    """Change a file as editors do: a whole new one takes its place."""
    source = (folder / name).read_text()
    assert old in source
    (folder / "app.py.new").write_text(source.replace(old, new))
    (folder / "app.py.new").rename(folder / name)


def answer(url: str) -> tuple[int, int]:
    """The version and the process that answer."""
    version, pid = request(url, timeout=RESTART).text().split()
    return int(version), int(pid)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")  # one whose parent is gone may wait for another to reap it
    return not stat.exists() or stat.read_text().rpartition(") ")[2][0] != "Z"


def wait_for_line(script: Script, line: str) -> None:
    script.wait_until(lambda: line in script.err.splitlines(), RESTART)


def test_a_stream_goes_on_after_a_change_with_no_event_lost(
    scripts: Scripts, tmp_path: Path
) -> None:
    script = start(scripts)
    client = EventClient(script.url, "/events", timeout=RESTART)
    events = client.read(3)
    change(tmp_path, "VERSION = 1", "VERSION = 2")
    events += client.read_all()  # to its clean end
    assert client.retry is not None, "an EventSource is told when to come back"
    assert {event.data for event in events} == {"1"}
    with client.reconnect() as client:
        more = client.read(3)
    assert {event.data for event in more} == {"2"}
    assert [event.id for event in events + more] == [
        str(number) for number in range(1, len(events) + 4)
    ]
    script.wait_until(lambda: len(script.urls) == 2)
    assert script.urls == [script.url, script.url]
    assert script.err.splitlines() == [
        f"bunpy: watching {tmp_path} for changes",
        "bunpy: app.py changed: restarting",
    ]


def test_a_program_that_cannot_be_imported_waits_for_the_next_change(
    scripts: Scripts, tmp_path: Path
) -> None:
    script = start(scripts)
    assert answer(script.url)[0] == 1
    change(tmp_path, "VERSION = 1", "VERSION = ")
    wait_for_line(
        script, "bunpy: the program has ended (status 2): it starts again when a file changes"
    )
    assert (
        "bunpy: app cannot be imported: SyntaxError: invalid syntax (app.py, line 4)" in script.err
    )
    # Nobody accepts now; whoever connects all the same is answered by the next one.
    with socket.create_connection(("127.0.0.1", int(script.url.rpartition(":")[2]))) as waiting:
        waiting.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        change(tmp_path, "VERSION = ", "VERSION = 3")
        waiting.settimeout(RESTART)
        with waiting.makefile("rb") as answered:
            assert answered.read().partition(b"\r\n\r\n")[2].startswith(b"3 ")


def test_a_program_that_is_wrong_from_the_start(scripts: Scripts, tmp_path: Path) -> None:
    change(tmp_path, "def handler", "def handle")
    script = start(scripts)
    wait_for_line(
        script, "bunpy: the program has ended (status 2): it starts again when a file changes"
    )
    assert "has no handler: did you mean handle?" in script.err
    change(tmp_path, "def handle", "def handler")
    assert answer(script.url)[0] == 1


def test_a_change_of_one_digit_in_the_same_second_is_seen(scripts: Scripts, tmp_path: Path) -> None:
    """Python's cache tells sources apart by their size and their second."""
    script = start(scripts)
    assert answer(script.url)[0] == 1
    path = tmp_path / "app.py"
    before = path.stat()
    (tmp_path / "new").write_text(path.read_text().replace("VERSION = 1", "VERSION = 2"))
    os.utime(tmp_path / "new", (before.st_atime, before.st_mtime))
    (tmp_path / "new").rename(path)
    script.wait_until(lambda: len(script.urls) == 2, RESTART)
    assert answer(script.url)[0] == 2


def test_a_directory_that_is_not_there(scripts: Scripts, tmp_path: Path) -> None:
    script = start(scripts, "--reload-dir", "one,two", "--reload-dir=.")
    script.wait_until(lambda: "no such directory" in script.err)
    assert script.end() == 2
    assert script.err == "bunpy: --reload-dir is 'one', and there is no such directory"


def test_another_directory_is_watched_and_this_one_is_not(scripts: Scripts, tmp_path: Path) -> None:
    scripts.write("", "lib/models.py", prelude="")
    script = start(scripts, "--reload-dir=lib")
    _, first = answer(script.url)
    change(tmp_path, "VERSION = 1", "VERSION = 22")
    scripts.write("x = 1", "lib/models.py", prelude="")
    script.wait_until(lambda: len(script.urls) == 2, RESTART)
    assert f"bunpy: {Path('lib/models.py')} changed: restarting" in script.err.splitlines()
    version, second = answer(script.url)
    assert version == 22
    assert first != second
    assert "app.py changed" not in script.err


def test_what_is_no_source_changes_nothing(scripts: Scripts, tmp_path: Path) -> None:
    script = start(scripts)
    _, first = answer(script.url)
    (tmp_path / "app.log").write_text("a line\n")
    change(tmp_path, "VERSION = 1", "VERSION = 2")  # the system reports in order
    script.wait_until(lambda: len(script.urls) == 2, RESTART)
    assert answer(script.url)[1] != first
    assert script.err.splitlines()[1:] == ["bunpy: app.py changed: restarting"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_both(scripts: Scripts, number: signal.Signals) -> None:
    script = start(scripts)
    _, pid = answer(script.url)
    with EventClient(script.url, "/events", timeout=RESTART) as client:
        client.read(1)
        script.send(number)
        client.read_all()
    assert script.end() == 0
    assert not is_alive(pid)
    assert len(script.err.splitlines()) == 1, script.err


def test_a_terminals_interrupt_is_one_for_both(scripts: Scripts) -> None:
    """It is sent to each process of the group; the one that serves drains all the same."""
    script = start(scripts, "--grace=20")
    _, pid = answer(script.url)
    with EventClient(script.url, "/events", timeout=RESTART) as client:
        client.read(1)
        os.kill(pid, signal.SIGINT)
        client.read(20)  # it has not even begun to stop
        script.send(signal.SIGINT)
        client.read_all()
    assert script.end() == 0


def test_a_second_signal_ends_both_at_once(scripts: Scripts) -> None:
    script = start(scripts, "--grace=60")
    _, pid = answer(script.url)
    with socket.create_connection(("127.0.0.1", int(script.url.rpartition(":")[2]))) as waiting:
        waiting.sendall(b"GET /hang HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert answer(script.url)[1] == pid  # the other is being answered by then
        took = script.insist(signal.SIGTERM, times=2)
    assert script.end() == 0
    assert took < 30
    assert not is_alive(pid)


def test_the_program_ends_with_its_parent(scripts: Scripts) -> None:
    script = start(scripts)
    _, pid = answer(script.url)
    script.process.kill()
    until(lambda: not is_alive(pid), TIMEOUT)


def test_a_program_that_does_not_end_is_killed(scripts: Scripts, tmp_path: Path) -> None:
    change(
        tmp_path,
        "VERSION = 1",
        "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); VERSION = 1",
    )
    # What was ignored when the server came is taken over by it; so the program is held in its import.
    change(tmp_path, "VERSION = 1", "os.write(1, b'held\\n'); import time; time.sleep(60)")
    script = start(scripts, "--grace=0")
    script.wait_for("held", RESTART)
    (tmp_path / "app.py").write_text(APP)
    wait_for_line(script, "bunpy: the program does not end: it is killed")
    assert answer(script.url)[0] == 1


def test_every_address_of_a_name_is_kept(scripts: Scripts, tmp_path: Path) -> None:
    script = start(scripts, "--host=localhost")
    port = int(script.url.rpartition(":")[2])
    change(tmp_path, "VERSION = 1", "VERSION = 2")
    script.wait_until(lambda: len(script.urls) == 2, RESTART)
    served = 0
    for family, *_, address in socket.getaddrinfo("localhost", None, type=socket.SOCK_STREAM):
        host = str(address[0])
        try:
            socket.create_server((host, 0), family=family).close()
        except OSError:
            continue  # a family that is switched off
        served += 1
        assert answer(f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}")[0] == 2
    assert served


def test_a_unix_socket_stays(scripts: Scripts, tmp_path: Path) -> None:
    path = tmp_path / "app.sock"
    script = scripts.command("-m", "bunpy", "app:handler", "--unix", str(path), "--reload")
    started = f"bunpy: serving on unix:{path} "
    script.wait_until(lambda: started in script.said, RESTART)
    inode = path.stat().st_ino
    change(tmp_path, "VERSION = 1", "VERSION = 2")
    script.wait_until(lambda: script.said.count(started) == 2, RESTART)
    assert answer(f"unix:{path}")[0] == 2
    assert path.stat().st_ino == inode
    script.send(signal.SIGTERM)
    assert script.end() == 0
    assert not path.exists()


def test_without_watchfiles(scripts: Scripts) -> None:
    program = textwrap.dedent("""
        import sys
        sys.modules["watchfiles"] = None
        from bunpy.cli import main
        sys.exit(main(["app:handler", "--reload"]))
    """)
    script = scripts.command("-c", program)
    assert script.end() == 2
    assert script.said == (
        "bunpy: --reload needs watchfiles, which is not installed: pip install 'bunpy[reload]'\n"
    )


def test_a_port_that_is_taken_is_told_by_the_one_that_watches(scripts: Scripts) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        script = scripts.command("-m", "bunpy", "app:handler", f"--port={port}", "--reload")
        assert script.end() == 1
    assert script.said.startswith(f"bunpy: port {port} on 127.0.0.1 is taken: ")
    assert script.said.count("\n") == 1

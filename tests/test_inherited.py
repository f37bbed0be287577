"""Sockets that a process is started with: taken over if they are what they should be, and left alone if not."""

from __future__ import annotations

import errno
import os
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from script import Script, Scripts
from watching import until

from bunpy.serve import serve
from bunpy.server import inherited as module
from bunpy.server.inherited import Activation, inherited
from bunpy.testing import request, serving

#: Where the tests pass descriptors on in their own process: 3 is taken there.
FIRST = 200

Make = Callable[[], socket.socket]


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def tcp() -> socket.socket:
    return socket.create_server(("127.0.0.1", 0))


def tcp6() -> socket.socket:
    return socket.create_server(("::1", 0), family=socket.AF_INET6)


def unix() -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(f"\0bunpy-test-{os.urandom(8).hex()}")
    listener.listen()
    return listener


def deaf() -> socket.socket:
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    return listener


def connected() -> socket.socket:
    ours, theirs = socket.socketpair()
    theirs.close()
    return ours


def datagram() -> socket.socket:
    return socket.socket(socket.AF_INET, socket.SOCK_DGRAM)


def packets() -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(f"\0bunpy-test-{os.urandom(8).hex()}")
    listener.listen()
    return listener


def netlink() -> socket.socket:
    return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)


def refusal(take: Callable[[], object]) -> OSError:
    with pytest.raises(OSError) as raised:
        take()
    return raised.value


def is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


# --- a descriptor --------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [tcp, tcp6, unix])
def test_a_listener_is_taken_over(make: Make) -> None:
    """As it would be had it been bound here."""
    fd = make().detach()
    os.set_inheritable(fd, True)
    (listener,) = inherited(str(fd))
    with listener:
        assert listener.fileno() == fd
        assert not listener.getblocking()
        assert not listener.get_inheritable()
        assert listener.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        if make is not unix:
            assert listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 20_000
        with socket.socket(listener.family) as client:
            client.connect(listener.getsockname())
    assert not is_open(fd)


@pytest.mark.parametrize(
    ("make", "number", "says"),
    [
        (
            deaf,
            errno.EINVAL,
            "is a socket that does not listen: pass on one that does (under systemd, Accept=no)",
        ),
        (
            connected,
            errno.EINVAL,
            "is a socket that does not listen: pass on one that does (under systemd, Accept=no)",
        ),
        (
            datagram,
            errno.EPROTOTYPE,
            "is a socket of kind AF_INET, SOCK_DGRAM: pass on one of TCP, or a Unix stream",
        ),
        (
            packets,
            errno.EPROTOTYPE,
            "is a socket of kind AF_UNIX, SOCK_SEQPACKET: pass on one of TCP, or a Unix stream",
        ),
        (
            netlink,
            errno.EPROTOTYPE,
            "is a socket of kind AF_NETLINK, SOCK_RAW: pass on one of TCP, or a Unix stream",
        ),
    ],
)
def test_another_socket_is_left_alone(make: Make, number: int, says: str) -> None:
    with make() as given:
        fd = given.fileno()
        os.set_inheritable(fd, True)
        error = refusal(lambda: inherited(str(fd)))
        assert error.errno == number
        assert error.strerror == f"descriptor {fd} {says}"
        assert is_open(fd)
        assert os.get_blocking(fd)
        assert os.get_inheritable(fd)


def test_a_file_is_left_alone(tmp_path: Path) -> None:
    with (tmp_path / "f").open("w") as file:
        error = refusal(lambda: inherited(str(file.fileno())))
        assert error.errno == errno.ENOTSOCK
        assert error.strerror == (
            f"descriptor {file.fileno()} is no socket: pass on one that listens"
        )
        file.write("mine")


@pytest.mark.parametrize("number", ["201", "4000000000", "9" * 30])
def test_a_descriptor_that_is_not_open(number: str) -> None:
    error = refusal(lambda: inherited(number))
    assert error.errno == errno.EBADF
    assert error.strerror == (
        f"descriptor {number} is not open: whoever starts this process must pass it on"
    )


@pytest.mark.parametrize("number", ["", "-1", "x", "3x", " 3", "٣"])
def test_what_is_no_number(number: str) -> None:
    error = refusal(lambda: inherited(number))
    assert error.errno == errno.EBADF
    assert error.strerror == (
        f"'fd:{number}' names no descriptor: it is fd: and its number, as fd:3"
    )


@pytest.mark.parametrize("make", [tcp, unix])
def test_a_server_on_a_descriptor(make: Make) -> None:
    """It closes the descriptor when it has ended, and no client waits on it."""
    fd = make().detach()
    with serving(lambda req: "hello", hostname=f"fd:{fd}", port=-1) as server:
        assert request(server.url).text() == "hello"
    assert not is_open(fd)


def test_a_server_whose_options_are_wrong_takes_nothing() -> None:
    with tcp() as given:
        with pytest.raises(ValueError, match="heartbeat"):
            serve(lambda req: "hello", hostname=f"fd:{given.fileno()}", heartbeat=-1)
        assert is_open(given.fileno())


# --- systemd: the variables ----------------------------------------------------------------------


@pytest.fixture
def passed(monkeypatch: pytest.MonkeyPatch, stack: ExitStack) -> Callable[..., list[int]]:
    """Pass sockets to this process, as systemd does; their descriptors."""
    monkeypatch.setattr(module, "_FIRST", FIRST)
    for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID"):
        monkeypatch.delenv(name, raising=False)

    def call(*makes: Make, **variables: str | None) -> list[int]:
        fds = []
        for fd, make in enumerate(makes, FIRST):
            with make() as given:
                fds.append(os.dup2(given.fileno(), fd))
            stack.callback(close, fd)
        defaults = {"pid": str(os.getpid()), "fds": str(len(makes)), "pidfdid": "1"}
        for name, value in {**defaults, **variables}.items():
            if value is not None:
                monkeypatch.setenv(f"LISTEN_{name.upper()}", value)
        return fds

    return call


def close(fd: int) -> None:
    if is_open(fd):
        os.close(fd)


def variables() -> list[str]:
    return [name for name in os.environ if name.startswith("LISTEN_")]


Passed = Callable[..., list[int]]


def take(activation: Activation, name: str, stack: ExitStack) -> list[int]:
    return [stack.enter_context(listener).fileno() for listener in activation.take(name)]


def test_all_that_systemd_passed(passed: Passed, stack: ExitStack) -> None:
    fds = passed(tcp, unix, tcp6)
    assert [os.get_inheritable(fd) for fd in fds] == [True] * 3
    sockets = Activation().take("")
    for listener in sockets:
        stack.enter_context(listener)
    assert [listener.fileno() for listener in sockets] == fds
    assert [listener.family.name for listener in sockets] == ["AF_INET", "AF_UNIX", "AF_INET6"]
    assert not any(os.get_inheritable(fd) or os.get_blocking(fd) for fd in fds)
    assert variables() == []


def test_those_of_a_name(passed: Passed, stack: ExitStack) -> None:
    """What is not taken waits for the next server, and no child gets it meanwhile."""
    first, second, third = passed(tcp, unix, tcp6, fdnames="web:admin:web")
    activation = Activation()
    assert take(activation, "web", stack) == [first, third]
    assert variables() == []
    assert not os.get_inheritable(second)
    error = refusal(lambda: activation.take("web"))
    assert error.strerror == "the sockets from systemd are taken already: web, web"
    error = refusal(lambda: activation.take("other"))
    assert error.strerror == (
        "systemd has passed no socket named 'other', but admin, web, web:"
        " FileDescriptorName= in the .socket unit names them"
    )
    assert take(activation, "", stack) == [second]
    error = refusal(lambda: activation.take(""))
    assert error.strerror == "the sockets from systemd are taken already: web, web, admin"


def test_no_names(passed: Passed, stack: ExitStack) -> None:
    fds = passed(tcp, tcp)
    assert take(Activation(), "unknown", stack) == fds


def test_a_name_that_is_empty(passed: Passed, stack: ExitStack) -> None:
    fds = passed(tcp, fdnames="")
    assert take(Activation(), "", stack) == fds


@pytest.mark.parametrize("is_set", [False, True])
def test_not_started_by_systemd(passed: Passed, is_set: bool) -> None:
    if is_set:
        passed(fdnames="")
    for name in ("", "web"):
        error = refusal(lambda name=name: Activation().take(name))  # type: ignore[misc]
        assert error.errno == errno.EINVAL
        assert error.strerror == (
            "systemd has passed no sockets to this process (LISTEN_FDS): start it by a .socket unit,"
            " or give serve a hostname and a port"
        )


@pytest.mark.parametrize(
    ("pid", "told"), [("1", "1"), (None, "(LISTEN_PID is not set)"), ("x", "x")]
)
def test_for_another_process(passed: Passed, pid: str | None, told: str) -> None:
    """The parent's, if it has left the variables; they stay then, and the descriptors as well."""
    (fd,) = passed(tcp, pid=pid)
    error = refusal(lambda: Activation().take(""))
    assert error.errno == errno.EINVAL
    assert error.strerror == (
        f"systemd's sockets are for process {told}, and this is {os.getpid()}:"
        " let ExecStart= run Python itself, or a script that does so with exec"
    )
    assert "LISTEN_FDS" in variables()
    assert os.get_inheritable(fd)


@pytest.mark.parametrize("count", ["", "x", "-1", "1.5"])
def test_a_count_that_is_none(passed: Passed, count: str) -> None:
    passed(tcp, fds=count)
    error = refusal(lambda: Activation().take(""))
    assert error.errno == errno.EINVAL
    assert error.strerror == f"LISTEN_FDS is {count!r}: it is the number of sockets passed"


@pytest.mark.parametrize("count", ["2", "4000000000"])
def test_more_than_there_are(passed: Passed, count: str) -> None:
    passed(tcp, fds=count)
    error = refusal(lambda: Activation().take(""))
    assert error.errno == errno.EBADF
    assert error.strerror == (
        f"descriptor {FIRST + 1} from systemd is not open: LISTEN_FDS is {count}"
    )


@pytest.mark.parametrize(("names", "count"), [("web", 1), ("web:admin:other", 3)])
def test_names_of_others(passed: Passed, names: str, count: int) -> None:
    passed(tcp, tcp, fdnames=names)
    error = refusal(lambda: Activation().take(""))
    assert error.errno == errno.EINVAL
    assert error.strerror == f"LISTEN_FDNAMES is {names!r}: it names {count} of 2 sockets"


def test_one_that_cannot_be_used(passed: Passed, stack: ExitStack) -> None:
    """All are left as they are, and can be taken by name."""
    first, second = passed(tcp, deaf, fdnames="web:other")
    activation = Activation()
    error = refusal(lambda: activation.take(""))
    assert str(error.strerror).startswith(
        f"descriptor {second} from systemd (other) is a socket that does not listen"
    )
    assert is_open(first)
    assert os.get_blocking(first)
    assert take(activation, "web", stack) == [first]


# --- systemd: processes --------------------------------------------------------------------------

#: Opens two sockets as systemd does, and becomes the program.
LAUNCHER = """
import os, socket, sys
web = socket.create_server(("127.0.0.1", 0))
local = socket.socket(socket.AF_UNIX)
local.bind(sys.argv[1])
local.listen()
fds = [os.dup(web.fileno()), os.dup(local.fileno())]
for number, fd in enumerate(fds, 3):
    os.dup2(fd, number)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="2", LISTEN_FDNAMES="web:local")
os.execv(sys.executable, [sys.executable, "-c", "import program"])
"""

#: The same by systemd's own tool, where there is one: with the one socket, and at the first connection.
TOOL = """
import os, sys
command = ["systemd-socket-activate", "--listen", sys.argv[1], "--fdname", "local"]
command += [f"--setenv={name}" for name in os.environ]
os.execvp(command[0], [*command, sys.executable, "-c", "import program"])
"""

LAUNCHERS = [LAUNCHER, *([TOOL] if shutil.which("systemd-socket-activate") else [])]


@pytest.fixture
def path() -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder:
        yield f"{folder}/s"


def launch(scripts: Scripts, launcher: str, path: str, source: str) -> Script:
    scripts.write(source, "program.py")
    return scripts.command("-c", launcher, path)


@pytest.mark.parametrize("launcher", LAUNCHERS, ids=["exec", "systemd"][: len(LAUNCHERS)])
def test_a_server_that_systemd_starts(tmp_path: Path, path: str, launcher: str) -> None:
    """Its file is systemd's, and stays."""
    source = """
        import subprocess
        server = serve(handler, hostname="systemd:local", port=-1, quiet=True)
        child = "import os; print([name for name in os.environ if name.startswith('LISTEN_')])"
        say("child", subprocess.check_output([sys.executable, "-c", child], text=True).strip())
        say("serving", server.url)
        server.wait()
    """
    with Scripts(tmp_path) as scripts:
        script = launch(scripts, launcher, path, source)
        until(lambda: has_listener(path), 15)
        assert request(f"unix:{path}", timeout=15).text() == "hello"
        script.wait_for(f"serving unix:{path}")
        assert "child []" in script.out.splitlines()
        script.process.terminate()
        assert script.end() == 0
        assert "Traceback" not in script.err
    assert os.path.exists(path)


def has_listener(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(path) == 0


def test_a_server_on_all_of_them(tmp_path: Path, path: str) -> None:
    source = """
        server = serve(handler, hostname="systemd", quiet=True)
        say("serving", server.url, server.port)
        server.wait()
    """
    with Scripts(tmp_path) as scripts:
        script = launch(scripts, LAUNCHER, path, source)
        script.wait_until(lambda: "serving" in script.out)
        _, url, port = script.out.split()
        assert url == f"http://127.0.0.1:{port}"
        assert request(url, timeout=15).text() == "hello"
        assert request(f"unix:{path}", timeout=15).text() == "hello"
        script.process.terminate()
        assert script.end() == 0


def test_two_servers(tmp_path: Path, path: str) -> None:
    """Each on its own; the second finds its socket though the variables are gone, a third finds none."""
    source = """
        web = serve(lambda req: "web", hostname="systemd:web", quiet=True)
        local = serve(lambda req: "local", hostname="systemd:local", quiet=True)
        try:
            serve(handler, hostname="systemd")
        except OSError as exc:
            say("refused", exc.strerror)
        say("serving", web.url, local.url)
        local.wait()
    """
    with Scripts(tmp_path) as scripts:
        script = launch(scripts, LAUNCHER, path, source)
        script.wait_until(lambda: "serving" in script.out)
        refused, (_, web, local) = script.out.splitlines()[0], script.out.splitlines()[1].split()
        assert refused == "refused the sockets from systemd are taken already: web, local"
        assert local == f"unix:{path}"
        assert request(web, timeout=15).text() == "web"
        assert request(local, timeout=15).text() == "local"
        script.process.terminate()
        assert script.end() == 0


def test_a_descriptor_of_the_process_before(tmp_path: Path) -> None:
    """As a process manager passes it on."""
    launcher = """
import os, socket, sys
listener = socket.create_server(("127.0.0.1", 0))
os.set_inheritable(listener.fileno(), True)
os.execv(sys.executable, [sys.executable, "-c", "import program", str(listener.fileno())])
"""
    source = """
        server = serve(handler, hostname=f"fd:{sys.argv[1]}", quiet=True)
        say("serving", server.url)
        server.wait()
    """
    with Scripts(tmp_path) as scripts:
        scripts.write(source, "program.py")
        script = scripts.command("-c", launcher)
        script.wait_until(lambda: "serving" in script.out)
        assert request(script.out.split()[1], timeout=15).text() == "hello"
        script.process.terminate()
        assert script.end() == 0

"""Unix sockets on disk: who may connect, what is replaced and what never is, what is removed at the end."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import socket
import stat
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from script import Scripts
from watching import Log

from bunpy.server import unix_socket
from bunpy.server.unix_socket import SocketFile, listen_at

Listen = Callable[..., tuple[socket.socket, "SocketFile | None"]]

NOBODY = 65534


@pytest.fixture
def listening() -> Iterator[Listen]:
    """``listen_at``, with what it gives closed and removed at the end."""
    with ExitStack() as stack:

        def call(
            name: str | Path, mode: int = 0o666, backlog: int = 16
        ) -> tuple[socket.socket, SocketFile | None]:
            listener, file = listen_at(os.fspath(name), backlog, mode)
            stack.enter_context(listener)
            if file is not None:
                stack.callback(file.remove)
            return listener, file

        yield call


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def folder() -> Iterator[Path]:
    """A directory that other users reach."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o777)
        yield Path(name)


@contextlib.contextmanager
def unprivileged() -> Iterator[None]:
    """As a user to whom permissions mean something."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def answers(address: str | Path) -> bool:
    """Whether somebody listens there."""
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(os.fspath(address)) == 0


def dead(path: Path) -> None:
    """Leave a socket as a process does that was killed."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.fspath(path))
        listener.listen()


def refusal(name: str | Path) -> OSError:
    with pytest.raises(OSError) as raised:
        listen_at(os.fspath(name), 16, 0o666)
    return raised.value


# --- where it listens ----------------------------------------------------------------------------


def test_a_path(listening: Listen, tmp_path: Path) -> None:
    path = tmp_path / "s"
    listener, file = listening(path)
    assert listener.getsockname() == os.fspath(path)
    assert not listener.getblocking()
    assert not listener.get_inheritable()
    assert answers(path)
    assert file is not None
    listener.close()
    file.remove()
    assert os.listdir(tmp_path) == []
    file.remove()


def test_a_relative_path(
    listening: Listen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is removed wherever the process has gone in the meantime."""
    monkeypatch.chdir(tmp_path)
    _, file = listening("s")
    assert answers(tmp_path / "s")
    monkeypatch.chdir("/")
    assert file is not None
    file.remove()
    assert os.listdir(tmp_path) == []


def test_an_abstract_name(listening: Listen, tmp_path: Path) -> None:
    name = f"bunpy-test-{os.getpid()}"
    listener, file = listening(f"@{name}")
    assert file is None
    assert not listener.getblocking()
    assert answers(f"\0{name}")
    error = refusal(f"@{name}")
    assert error.errno == errno.EADDRINUSE
    assert str(error.strerror).startswith(f"unix:@{name} is taken: stop what listens there")
    listener.close()
    listening(f"@{name}")


@pytest.mark.parametrize("length", [1, 107])
def test_the_longest_names(
    listening: Listen, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, length: int
) -> None:
    monkeypatch.chdir(tmp_path)
    listening("s" * length)
    assert answers("s" * length)
    listening("@" + os.urandom(60).hex()[: length - 1] if length > 1 else "@s")


# --- who may connect -----------------------------------------------------------------------------


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077, 0o777])
@pytest.mark.parametrize("mode", [0o000, 0o600, 0o660, 0o666, 0o777])
def test_the_mode_is_the_one_asked_for(
    listening: Listen, tmp_path: Path, mode: int, umask: int
) -> None:
    before = os.umask(umask)
    try:
        listening(tmp_path / "s", mode)
    finally:
        assert os.umask(before) == umask
    assert mode_of(tmp_path / "s") == mode


@pytest.mark.parametrize("is_replacing", [False, True])
def test_it_is_never_more_open_than_that(
    listening: Listen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_replacing: bool
) -> None:
    """Nor is the umask, which is that of all threads, touched; nor can anybody connect before it is all done."""
    path = tmp_path / "s"
    if is_replacing:
        dead(path)
        path.chmod(0o777)
    set_mode = unix_socket._set_mode
    seen: list[tuple[int, bool]] = []

    def look(name: str, mode: int) -> None:
        seen.append((mode_of(path), answers(path)))
        set_mode(name, mode)
        seen.append((mode_of(path), answers(path)))

    before = os.umask(0)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(unix_socket, "_set_mode", look)
            patch.setattr(os, "umask", lambda mask: pytest.fail("the umask is not ours"))
            listening(path, 0o640)
    finally:
        os.umask(before)
    assert seen == [(0o640, False), (0o640, False)]
    assert answers(path)


def test_permissions_are_permissions(listening: Listen, folder: Path) -> None:
    listening(folder / "closed", 0o000)
    listening(folder / "open", 0o666)
    with unprivileged():
        assert answers(folder / "open")
        assert not answers(folder / "closed")


def test_what_a_link_leads_to_keeps_its_mode(tmp_path: Path) -> None:
    """Whoever may write to the directory may put a link in the socket's place."""
    secret = tmp_path / "secret"
    secret.touch(0o600)
    (tmp_path / "s").symlink_to(secret)
    with pytest.raises(OSError):
        unix_socket._set_mode(os.fspath(tmp_path / "s"), 0o666)
    assert mode_of(secret) == 0o600


# --- what is there already -----------------------------------------------------------------------


def test_a_dead_one_is_replaced(listening: Listen, tmp_path: Path) -> None:
    dead(tmp_path / "s")
    assert not answers(tmp_path / "s")
    listening(tmp_path / "s", 0o600)
    assert answers(tmp_path / "s")
    assert mode_of(tmp_path / "s") == 0o600


def test_a_live_one_is_taken(listening: Listen, tmp_path: Path) -> None:
    path = tmp_path / "s"
    listening(path)
    error = refusal(path)
    assert error.errno == errno.EADDRINUSE
    assert error.strerror == (
        f"unix:{path} is taken: stop what listens there, or give serve another path"
    )
    assert isinstance(error.__cause__, OSError)
    assert answers(path)


def test_a_busy_one_is_taken(stack: ExitStack, tmp_path: Path) -> None:
    """With more who wait to be accepted than may; a connection that blocks would wait with them."""
    path = tmp_path / "s"
    listener = stack.enter_context(socket.socket(socket.AF_UNIX))
    listener.bind(os.fspath(path))
    listener.listen(0)
    numbers = []
    for _ in range(3):
        client = stack.enter_context(socket.socket(socket.AF_UNIX))
        client.setblocking(False)
        numbers.append(client.connect_ex(os.fspath(path)))
    assert numbers[-1] == errno.EAGAIN
    assert refusal(path).errno == errno.EADDRINUSE


def test_one_of_another_kind_is_taken(stack: ExitStack, tmp_path: Path) -> None:
    other = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
    other.bind(os.fspath(tmp_path / "s"))
    assert refusal(tmp_path / "s").errno == errno.EADDRINUSE
    assert (tmp_path / "s").is_socket()


def make_file(path: Path) -> None:
    path.write_text("mine")


def make_link_to_a_dead_one(path: Path) -> None:
    dead(path.with_name("other"))
    path.symlink_to(path.with_name("other"))


def make_link_to_nothing(path: Path) -> None:
    path.symlink_to(path.with_name("other"))


@pytest.mark.parametrize(
    "make",
    [make_file, Path.mkdir, os.mkfifo, make_link_to_a_dead_one, make_link_to_nothing],
    ids=["file", "directory", "FIFO", "link to a socket", "link to nothing"],
)
def test_what_is_no_socket_stays(tmp_path: Path, make: Callable[[Path], None]) -> None:
    path = tmp_path / "s"
    make(path)
    before = path.lstat()
    error = refusal(path)
    assert error.errno == errno.ENOTSOCK
    assert error.strerror == (
        f"unix:{path} is there and is no socket: give serve another path, or remove it yourself"
    )
    assert path.lstat() == before


@pytest.mark.parametrize("is_before", [False, True])
def test_one_that_goes_at_that_moment(
    listening: Listen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_before: bool
) -> None:
    """Between the bind that fails and the look at what is there, or between that and the connection."""
    path = tmp_path / "s"
    dead(path)
    lstat = os.lstat
    seen: list[os.stat_result] = []

    def vanishing(name: Any, **options: Any) -> os.stat_result:
        if not seen:
            seen.append(lstat(path))
            if is_before:
                path.unlink()
                return lstat(name, **options)
            path.unlink()
            return seen[0]
        return lstat(name, **options)

    monkeypatch.setattr(os, "lstat", vanishing)
    listening(path)
    assert seen
    assert answers(path)


# --- what goes wrong -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["", "@", "/a\0b", "\0a", "@a\0b"])
def test_a_name_that_is_none(name: str) -> None:
    error = refusal(name)
    assert error.errno == errno.EINVAL
    assert error.strerror == (
        f"{f'unix:{name}'!r} names no socket: it is unix:/path, or unix:@name on Linux"
    )


@pytest.mark.parametrize("name", ["/tmp/" + "s" * 103, "@" + "s" * 107, "/tmp/" + "ß" * 52])
def test_a_name_that_is_too_long(name: str) -> None:
    error = refusal(name)
    assert error.errno == errno.ENAMETOOLONG
    assert str(error.strerror).endswith(
        "is too long: a Unix socket's path has 107 bytes at most; give serve a shorter one"
    )


def test_an_abstract_name_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    error = refusal("@s")
    assert error.errno == errno.EINVAL
    assert error.strerror == "unix:@s is an abstract name, which Linux alone has: use a path"


def test_a_directory_that_is_missing(tmp_path: Path) -> None:
    error = refusal(tmp_path / "no" / "s")
    assert error.errno == errno.ENOENT
    assert error.strerror == (
        f"unix:{tmp_path}/no/s cannot be made: {tmp_path}/no is no directory; make it first"
    )


def test_a_directory_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "no").touch()
    error = refusal(tmp_path / "no" / "s")
    assert error.errno == errno.ENOTDIR
    assert str(error.strerror).endswith("is no directory; make it first")


@pytest.mark.parametrize("mode", [0o555, 0o333], ids=["not written", "not read"])
def test_a_directory_that_may_not_be_used(folder: Path, mode: int) -> None:
    folder.chmod(mode)
    with unprivileged():
        error = refusal(folder / "s")
    folder.chmod(0o777)
    assert error.errno == errno.EACCES
    assert error.strerror == (
        f"unix:{folder}/s may not be used by this user: take a directory, and a file in it, that it may read and write"
    )
    assert os.listdir(folder) == []


def test_a_socket_that_may_not_be_used(folder: Path) -> None:
    """Whether it is dead cannot be asked."""
    dead(folder / "s")
    (folder / "s").chmod(0o000)
    with unprivileged():
        error = refusal(folder / "s")
    assert error.errno == errno.EACCES
    assert (folder / "s").is_socket()


def test_a_failure_in_the_middle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves nothing behind."""

    class Socket(socket.socket):
        def listen(self, backlog: int = 0, /) -> None:
            raise OSError(errno.ENOBUFS, "No buffer space available")

    monkeypatch.setattr(socket, "socket", Socket)
    for name, is_file in ((os.fspath(tmp_path / "s"), True), (f"@bunpy-{os.getpid()}", False)):
        error = refusal(name)
        assert error.errno == errno.ENOBUFS
        assert error.strerror == f"unix:{name} cannot be had: No buffer space available"
        if is_file:
            assert os.listdir(tmp_path) == []


# --- the lock ------------------------------------------------------------------------------------


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    fd = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def test_a_lock_is_waited_for(
    listening: Listen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    has_tried = threading.Event()
    try_lock = unix_socket._try_lock

    def trying(fd: int) -> bool:
        is_locked = try_lock(fd)
        has_tried.set()
        return is_locked

    monkeypatch.setattr(unix_socket, "_try_lock", trying)
    with ThreadPoolExecutor(1) as executor:
        with locked(tmp_path):
            listened = executor.submit(listening, tmp_path / "s")
            assert has_tried.wait(5)
            assert os.listdir(tmp_path) == []
        listened.result(5)
    assert answers(tmp_path / "s")


def test_a_lock_is_not_waited_for_for_ever(
    listening: Listen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    _, file = listening(tmp_path / "s")
    monkeypatch.setattr(unix_socket, "_LOCK_TIME", 0.02)
    assert file is not None
    with locked(tmp_path):
        error = refusal(tmp_path / "other")
        file.remove()
    assert error.errno == errno.ETIMEDOUT
    assert error.strerror == (
        f"unix:{tmp_path}/other cannot be had: another process holds the lock of {tmp_path};"
        " give serve a directory of its own"
    )
    assert os.listdir(tmp_path) == ["s"]
    record = Log(caplog).take()
    assert record.getMessage() == (
        f"could not remove the socket {tmp_path}/s: {os.strerror(errno.ETIMEDOUT)}"
    )


def test_a_directory_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As some that come over a network."""

    def flock(fd: int, operation: int) -> None:
        raise OSError(errno.EBADF, "Bad file descriptor")

    monkeypatch.setattr(fcntl, "flock", flock)
    error = refusal(tmp_path / "s")
    assert error.errno == errno.ENOLCK
    assert error.strerror == (
        f"unix:{tmp_path}/s cannot be had: {tmp_path} cannot be locked (Bad file descriptor);"
        " use a local directory, as /run"
    )


def test_one_of_many_threads_gets_it(stack: ExitStack, tmp_path: Path) -> None:
    """Of those that start at once on a dead socket, and it is there for clients whatever the others do."""
    count = 8
    barrier = threading.Barrier(count)

    def start(path: Path) -> tuple[socket.socket, SocketFile | None] | int:
        barrier.wait(10)
        try:
            return listen_at(os.fspath(path), 64, 0o600)
        except OSError as exc:
            return exc.errno or 0

    with ThreadPoolExecutor(count) as executor:
        for number in range(40):
            path = tmp_path / str(number)
            dead(path)
            results = list(executor.map(start, [path] * count))
            (winner,) = (result for result in results if not isinstance(result, int))
            stack.enter_context(winner[0])
            assert results.count(errno.EADDRINUSE) == count - 1
            assert answers(path)
            winner[0].accept()[0].close()


def test_one_of_many_processes_gets_it(tmp_path: Path) -> None:
    source = """
        import os, time
        from bunpy.server.sockets import bind

        def meet(place):
            os.close(os.open(f"{os.getpid()}.{place}", os.O_CREAT))
            while sum(name.endswith(f".{place}") for name in os.listdir()) < 3:
                time.sleep(0.0005)

        kept = []
        for number in range(40):
            meet(number)
            try:
                kept.append(bind(f"unix:sockets/{number}", 0, 64))
                os.write(1, f"{number} won\\n".encode())
            except FileNotFoundError:
                raise
            except OSError as exc:
                os.write(1, f"{number} {exc.errno}\\n".encode())
        meet("end")  # until then all that was won is live
    """
    folder = tmp_path / "sockets"
    folder.mkdir()
    for number in range(40):
        dead(folder / str(number))
    with Scripts(tmp_path) as scripts:
        path = scripts.write(source, prelude="")
        racers = [scripts.command(os.fspath(path)) for _ in range(3)]
        for racer in racers:
            assert racer.end() == 0
        lines = sorted(line for racer in racers for line in racer.out.splitlines() if " " in line)
    taken = errno.EADDRINUSE
    assert lines == sorted(
        line for n in range(40) for line in (f"{n} won", f"{n} {taken}", f"{n} {taken}")
    )


# --- the end -------------------------------------------------------------------------------------


def replace_by_a_file(path: Path) -> None:
    path.unlink()
    path.touch()


def replace_by_another(path: Path) -> None:
    path.unlink()
    dead(path)


def replace_by_one_with_the_same_inode(path: Path) -> None:
    """The kernel gives the number of a removed file to the next one, on some file systems; here its time is moved."""
    os.utime(path, ns=(0, path.lstat().st_mtime_ns + 1))


@pytest.mark.parametrize(
    "replace", [replace_by_a_file, replace_by_another, replace_by_one_with_the_same_inode]
)
def test_what_is_not_ours_stays(
    listening: Listen, tmp_path: Path, replace: Callable[[Path], None]
) -> None:
    _, file = listening(tmp_path / "s")
    replace(tmp_path / "s")
    before = (tmp_path / "s").lstat()
    assert file is not None
    file.remove()
    assert (tmp_path / "s").lstat() == before


def test_ours_has_another_mode_by_now(listening: Listen, tmp_path: Path) -> None:
    """Whoever runs the server may open it to more, and give it to another user; and clients have come."""
    _, file = listening(tmp_path / "s")
    os.chmod(tmp_path / "s", 0o606)
    os.chown(tmp_path / "s", os.getuid(), os.getgid())
    assert answers(tmp_path / "s")
    assert file is not None
    file.remove()
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("what", ["file", "directory"])
def test_what_has_gone(listening: Listen, tmp_path: Path, what: str, caplog: Any) -> None:
    (tmp_path / "d").mkdir()
    _, file = listening(tmp_path / "d" / "s")
    (tmp_path / "d" / "s").unlink()
    if what == "directory":
        (tmp_path / "d").rmdir()
    assert file is not None
    file.remove()
    assert Log(caplog).messages == []


def test_what_may_not_be_removed(listening: Listen, folder: Path, caplog: Any) -> None:
    """A server that gave its privileges up, for instance; the next one replaces what is left."""
    listener, file = listening(folder / "s")
    folder.chmod(0o555)
    assert file is not None
    with unprivileged():
        file.remove()
    folder.chmod(0o777)
    message = Log(caplog).take().getMessage()
    assert re.fullmatch(f"could not remove the socket {folder}/s: .*[Pp]ermi.*", message)
    listener.close()
    listening(folder / "s")


def test_a_fork_removes_nothing(
    listening: Listen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, file = listening(tmp_path / "s")
    assert file is not None
    with monkeypatch.context() as patch:
        patch.setattr(os, "getpid", lambda: 1)
        file.remove()
    assert answers(tmp_path / "s")
    file.remove()
    assert not (tmp_path / "s").exists()

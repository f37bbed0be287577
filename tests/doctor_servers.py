"""What the doctor is tried against: servers that misbehave byte by byte, and a real nginx before a bunpy."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["HEAD", "Talk", "chunk", "misbehaving", "nginx", "readme_location"]

HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-store\r\n"
    b"X-Accel-Buffering: no\r\nTransfer-Encoding: chunked\r\n\r\n"
)


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


class Talk:
    """One connection of a server that misbehaves: what it was asked, and what it says."""

    def __init__(self, sock: socket.socket, stop: threading.Event) -> None:
        self.socket = sock
        self._stop = stop
        data = b""
        while b"\r\n\r\n" not in data and (received := sock.recv(65536)):
            data += received
        self.request = data.decode()

    def send(self, *pieces: bytes) -> None:
        for piece in pieces:
            self.socket.sendall(piece)

    def pause(self, seconds: float) -> None:
        """Say nothing for so long: the time is what the doctor measures."""
        self._stop.wait(seconds)


@contextmanager
def misbehaving(*scripts: Callable[[Talk], None]) -> Iterator[str]:
    """A server that plays one script a connection, the last one again and again; yields its URL."""
    stop = threading.Event()
    listener = socket.create_server(("127.0.0.1", 0))
    threads: list[threading.Thread] = []

    def talk(sock: socket.socket, script: Callable[[Talk], None]) -> None:
        with sock, contextlib.suppress(OSError):
            script(Talk(sock, stop))
            sock.shutdown(socket.SHUT_WR)
            sock.settimeout(5)
            while sock.recv(65536):  # what is unread would make a reset of the close
                pass

    def accept() -> None:
        for number in range(1000):
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            script = scripts[min(number, len(scripts) - 1)]
            thread = threading.Thread(target=talk, args=(sock, script))
            threads.append(thread)
            thread.start()

    acceptor = threading.Thread(target=accept)
    acceptor.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/events"
    finally:
        stop.set()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for thread in [acceptor, *threads]:
            thread.join(10)


def readme_location(port: int) -> str:
    """The README's block for nginx, for a server on that port."""
    text = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
    found = re.search(r"^## Behind nginx$.*?^```nginx\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[1].replace("127.0.0.1:3000", f"127.0.0.1:{port}")


@contextmanager
def nginx(program: str, folder: Path, location: str, listen: str = "") -> Iterator[int]:
    """Run nginx with one server that has this location, ``listen`` behind its address; yields its port."""
    folder.mkdir()
    folders = "".join(
        f"{kind}_temp_path {folder}/{kind};"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    # nginx takes over a socket that listens already, so there is nothing to wait for.
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        config = folder / "nginx.conf"
        config.write_text(
            f"daemon off; worker_processes 1; pid {folder}/pid; events {{}}\n"
            f"http {{ access_log off; {folders}\n"
            f"server {{ listen 127.0.0.1:{port} {listen};\n{location}\n}} }}\n"
        )
        process = subprocess.Popen(
            [program, "-c", str(config), "-p", str(folder), "-e", "stderr"],
            stderr=subprocess.DEVNULL,
            pass_fds=[listener.fileno()],
            env={**os.environ, "NGINX": f"{listener.fileno()};"},
        )
    try:
        yield port
    finally:
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

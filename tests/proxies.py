"""Proxies in processes of their own, on a port that the test has bound for them, and killed at its end."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from watching import until

__all__ = ["Nginx", "replaced", "running_nginx"]

#: Seconds for a process to start or end, or to do as a signal says.
_TIMEOUT = 20.0


def replaced(text: str, changes: dict[str, str]) -> str:
    """A configuration with other values; each of those that are to be replaced must be there."""
    for old, new in changes.items():
        assert old in text, f"the configuration has no {old!r} any more"
        text = text.replace(old, new)
    return text


class Nginx:
    """A running nginx."""

    def __init__(self, command: list[str], process: subprocess.Popen[bytes]) -> None:
        self._command = command
        self._process = process

    def workers(self) -> set[int]:
        """The processes that take connections."""
        return {pid for pid, title in self._children().items() if title == "worker process"}

    def leaving(self) -> set[int]:
        """Those that have been told to end with their last connection."""
        return {pid for pid, title in self._children().items() if "shutting down" in title}

    def reload(self) -> None:
        """``nginx -s reload``; returns when new workers take connections, and the old ones do not any more."""
        before = self.workers()
        assert before
        subprocess.run([*self._command, "-s", "reload"], check=True, timeout=_TIMEOUT)
        until(lambda: bool(self.workers()) and not self.workers() & before, _TIMEOUT)

    def _children(self) -> dict[int, str]:
        master = self._process.pid
        children = Path(f"/proc/{master}/task/{master}/children").read_text().split()
        titles = {}
        for child in children:
            try:
                title = Path(f"/proc/{child}/cmdline").read_text()
            except OSError:
                continue
            titles[int(child)] = title.strip("\0 ").removeprefix("nginx: ")
        return titles


@contextmanager
def running_nginx(
    program: str, folder: Path, config: str, listener: socket.socket
) -> Iterator[Nginx]:
    """Run nginx with ``config``, which has an ``http {`` and neither a pid nor temporary paths of its own.

    ``listener`` is bound to what it says it listens on, and listens: nginx takes it over, so that there is nothing to
    wait for. It is closed here.
    """
    folders = "".join(
        f"{kind}_temp_path {folder}/{kind};"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    path = folder / "nginx.conf"
    path.write_text(
        f"daemon off; pid {folder}/nginx.pid;\n"
        + replaced(config, {"http {": f"http {{ {folders}"})
    )
    command = [program, "-c", str(path), "-p", str(folder), "-e", "stderr"]
    with listener:
        process = subprocess.Popen(
            command,
            stderr=subprocess.DEVNULL,
            pass_fds=[listener.fileno()],
            env={**os.environ, "NGINX": f"{listener.fileno()};"},
        )
    nginx = Nginx(command, process)
    try:
        until(lambda: process.poll() is not None or bool(nginx.workers()), _TIMEOUT)
        assert process.poll() is None, "nginx has refused its configuration"
        yield nginx
    finally:
        process.terminate()
        try:
            process.wait(timeout=_TIMEOUT)
        finally:
            process.kill()

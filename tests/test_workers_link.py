"""Messages between processes."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator

import pytest

from bunpy.workers.link import Link, Message


@pytest.fixture
def ends() -> Iterator[tuple[Link, Link]]:
    ends = Link.pair()
    yield ends
    for end in ends:
        end.close()


def test_messages_come_in_their_order(ends: tuple[Link, Link]) -> None:
    here, there = ends
    assert here.send("stop", grace=1.5, streams="close")
    assert here.send("ready")
    messages = there.receive()
    assert messages == [{"about": "stop", "grace": 1.5, "streams": "close"}, {"about": "ready"}]
    assert there.send("ready")
    assert here.receive() == [{"about": "ready"}]


def test_half_a_message_waits_for_the_rest(ends: tuple[Link, Link]) -> None:
    here, there = ends
    here.socket.sendall(b'{"about": "re')
    assert there.receive() == []
    here.socket.sendall(b'ady"}\n{"about"')
    assert there.receive() == [{"about": "ready"}]


def test_the_end_of_one_is_the_end_of_the_other(ends: tuple[Link, Link]) -> None:
    here, there = ends
    here.close()
    here.close()
    assert here.fileno() == -1
    assert there.receive() is None
    assert not there.send("ready")
    assert not here.send("ready")
    assert here.receive() is None


def test_who_reads_nothing_holds_nobody_up(ends: tuple[Link, Link]) -> None:
    here, _ = ends
    sent = 0
    while here.send("failed", error="x" * 4000):
        sent += 1
        assert sent < 100_000
    assert sent > 10


def test_a_fork_keeps_what_it_needs(ends: tuple[Link, Link]) -> None:
    """Or its copy would keep a link open whose process has ended."""
    here, there = ends
    others = Link.pair()
    told, tell = os.pipe()
    waits, go = os.pipe()
    pid = os.fork()
    if pid == 0:
        Link.keep_only(there)
        os.close(go)
        os.write(tell, f"{there.fileno() >= 0} {here.fileno()} {others[0].fileno()}".encode())
        os.read(waits, 1)
        os._exit(0)
    try:
        assert os.read(told, 100) == b"True -1 -1"
        there.close()
        others[1].close()
        assert others[0].receive() is None  # though the child is there
    finally:
        os.close(go)
        os.waitpid(pid, 0)
        for fd in (told, tell, waits):
            os.close(fd)
        others[0].close()
    assert here.receive() is None


def test_several_threads_may_send(ends: tuple[Link, Link]) -> None:
    here, there = ends
    threads = [
        threading.Thread(target=lambda: [here.send("alive", number=i) for i in range(50)])
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    found: list[Message] = []
    while len(found) < 200:
        messages = there.receive()
        assert messages is not None
        found += messages
    for thread in threads:
        thread.join()
    assert sorted(message["number"] for message in found) == sorted([*range(50)] * 4)

"""bunpy.file.async_: what is done off the loop, how a tail wakes, and that nothing is left."""

from __future__ import annotations

import asyncio
import gc
import importlib.util
import inspect
import logging
import os
import statistics
import sys
import threading
import time
import warnings
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

import bunpy.file
import bunpy.file.async_ as afile
from bunpy.file import _watch
from bunpy.file._lines import BATCH, batches
from bunpy.file._tail import Follower

SOON = 10.0  # seconds: what should come at once has surely come, on any machine
NEVER = 1000.0  # seconds: a poll_interval with which only a wake-up brings a line


def open_descriptors() -> int:
    return len(os.listdir("/dev/fd"))


def watch_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == _watch._NAME]


async def next_line(source: AsyncGenerator[str, None]) -> str:
    return await asyncio.wait_for(source.__anext__(), SOON)


def start(source: AsyncGenerator[str, None]) -> asyncio.Future[str]:
    return asyncio.ensure_future(source.__anext__())


def cut(path: Path) -> Path:
    os.truncate(path, 0)
    return path


def moved(path: Path, number: int) -> Path:
    os.rename(path, f"{path}.{number}")
    return path


def wait_until(condition: Callable[[], bool]) -> None:
    """``until``, where there is no loop."""
    deadline = time.monotonic() + SOON
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.005)


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition that other threads bring about."""
    deadline = time.monotonic() + SOON
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        await asyncio.sleep(0.005)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "app.log"
    path.touch()
    return path


@pytest.fixture
def without_watchfiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "watchfiles", None)


@pytest.fixture(params=["polling", "watching"])
def mode(request: pytest.FixtureRequest) -> str:
    if request.param == "polling":
        request.getfixturevalue("without_watchfiles")
    return str(request.param)


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """After each test: no warning, no watching thread, no folder in the register, no descriptor."""
    before = open_descriptors()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield
        gc.collect()
    assert watch_threads() == []
    assert _watch._folders == {}
    wait_until(
        lambda: open_descriptors() <= before
    )  # a watcher's own thread closes some when it ends


def runners() -> list[Callable[[Coroutine[Any, Any, Any]], Any]]:
    if importlib.util.find_spec("uvloop") is None:
        return [asyncio.run]
    import uvloop

    return [asyncio.run, uvloop.run]


# The plain functions


def test_the_names_are_those_of_the_synchronous_module() -> None:
    assert afile.__all__ == bunpy.file.__all__
    for name in afile.__all__:
        ours = inspect.signature(getattr(afile, name)).parameters
        assert ours == inspect.signature(getattr(bunpy.file, name)).parameters


def test_each_function_does_its_work(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "a.txt"

    async def main() -> None:
        assert not await afile.exists(path)
        await afile.write(path, "zwölf\r\n")
        await afile.append(path, b"\xff")
        await afile.append(path, "elf\n", "latin-1")
        assert await afile.exists(path)
        assert await afile.read(path, None) == "zwölf\r\n".encode() + b"\xffelf\n"
        assert (await afile.read(path, "latin-1")).splitlines()[1] == "ÿelf"
        assert (await afile.stat(path)).st_size == 13
        with pytest.raises(UnicodeDecodeError):
            await afile.read(path)
        with pytest.raises(FileNotFoundError):
            await afile.stat(tmp_path / "missing")
        with pytest.raises(TypeError, match="str or bytes, not dict"):
            await afile.write(path, {})  # type: ignore[arg-type]

    asyncio.run(main())


@pytest.mark.parametrize("name", ["read", "write", "append", "exists", "stat"])
def test_the_work_is_done_in_another_thread(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    threads: list[int] = []

    def note(*_: object) -> None:
        threads.append(threading.get_ident())

    monkeypatch.setattr(bunpy.file, name, note)
    arguments = ["path"] if name in ("read", "exists", "stat") else ["path", "data"]
    asyncio.run(getattr(afile, name)(*arguments))
    assert len(threads) == 1
    assert threads[0] != threading.get_ident()


def test_a_cancelled_write_ends_when_its_thread_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.txt"
    entered, gate = threading.Event(), threading.Event()

    def slow(_: int) -> None:
        entered.set()
        assert gate.wait(SOON)

    monkeypatch.setattr(os, "fsync", slow)

    async def main() -> None:
        task = asyncio.create_task(afile.write(path, "text"))
        await until(entered.is_set)
        for _ in range(3):  # more than once: a server that is in a hurry
            task.cancel()
            for _ in range(5):
                await asyncio.sleep(0)
            assert not task.done()
        assert not path.exists()
        gate.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert path.read_text() == "text"

    asyncio.run(main())


def test_the_error_of_a_cancelled_write_is_not_logged_by_asyncio(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entered, gate = threading.Event(), threading.Event()

    def fail(_: int) -> None:
        entered.set()
        assert gate.wait(SOON)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    logged: list[dict[str, Any]] = []

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: logged.append(context))
        task = asyncio.create_task(afile.write(tmp_path / "a.txt", "text"))
        await until(entered.is_set)
        task.cancel()
        gate.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        del task
        gc.collect()
        await asyncio.sleep(0)

    asyncio.run(main())
    assert logged == []
    assert os.listdir(tmp_path) == []


def test_a_cancelled_read_ends_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)  # opening it waits for a writer
    entered, read = threading.Event(), bunpy.file.read

    def begin(*arguments: Any) -> Any:
        entered.set()
        return read(*arguments)

    monkeypatch.setattr(bunpy.file, "read", begin)

    async def main() -> None:
        task = asyncio.create_task(afile.read(pipe))
        await until(entered.is_set)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        with pipe.open("wb"):  # lets the thread go
            pass

    asyncio.run(main())


# lines


@pytest.mark.parametrize(
    ("text", "expected"),
    [("", []), ("a\r\nb\rc\n\n", ["a", "b\rc", ""]), ("\u2028\nend", ["\u2028", "end"])],
)
def test_lines(log: Path, text: str, expected: list[str]) -> None:
    log.write_bytes(text.encode())

    async def main() -> list[str]:
        return [line async for line in afile.lines(log)]

    assert asyncio.run(main()) == expected


def test_lines_of_many_batches_off_the_loop(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = [f"{i} €" for i in range(BATCH // 2)]
    log.write_text("\n".join(written), encoding="utf-8")
    threads: list[int] = []
    closed: list[int] = []

    def noting(path: Path, encoding: str) -> Iterator[list[str]]:
        try:
            for batch in batches(path, encoding):
                threads.append(threading.get_ident())
                yield batch
        finally:
            closed.append(threading.get_ident())

    monkeypatch.setattr(afile, "batches", noting)

    async def main() -> list[str]:
        async with aclosing(afile.lines(log)) as source:
            assert await next_line(source) == written[0]
        return [line async for line in afile.lines(log)]

    assert asyncio.run(main()) == written
    assert 2 < len(threads) < 20
    assert len(closed) == 2
    assert threading.get_ident() not in threads + closed


def test_lines_closes_its_file(log: Path) -> None:
    log.write_text("a\nb\n")

    async def main() -> None:
        before = open_descriptors()
        source = afile.lines(log)
        assert await next_line(source) == "a"
        assert open_descriptors() == before + 1
        await source.aclose()
        assert open_descriptors() == before
        assert [line async for line in afile.lines(log)] == ["a", "b"]
        assert open_descriptors() == before
        await afile.lines(log).aclose()  # never begun
        with pytest.raises(FileNotFoundError):
            await next_line(afile.lines(log.with_name("missing")))

    asyncio.run(main())


def test_lines_cancelled_in_the_middle_of_a_batch(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)

    async def main() -> None:
        before = open_descriptors()
        source = afile.lines(pipe)
        task = asyncio.ensure_future(source.__anext__())
        feeder = await asyncio.to_thread(pipe.open, "wb", buffering=0)  # it has been opened
        task.cancel()
        await asyncio.sleep(0)
        assert not task.done()
        feeder.close()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert open_descriptors() == before

    asyncio.run(main())


# tail: what it brings, in both modes


@pytest.mark.parametrize("run", runners())
def test_lines_arrive_within_half_a_second(
    log: Path, mode: str, run: Callable[[Coroutine[Any, Any, None]], None]
) -> None:
    async def main() -> None:
        waits: list[float] = []
        async with aclosing(afile.tail(log)) as source:
            for i in range(9):
                waiting = asyncio.ensure_future(next_line(source))
                await asyncio.sleep(0.01 * i)  # not in step with the polling
                written = time.monotonic()
                bunpy.file.append(log, f"line {i}\n")
                assert await waiting == f"line {i}"
                waits.append(time.monotonic() - written)
        # The middle one: on a busy machine one may come late.
        assert statistics.median(waits) < 0.5, waits

    run(main())


def test_truncation_rotation_and_loss(log: Path, mode: str) -> None:
    log.write_text("0\n1\n2\n")

    async def main() -> None:
        async with aclosing(afile.tail(log, 1)) as source:
            assert [await next_line(source) for _ in range(2)] == ["1", "2"]
            bunpy.file.append(cut(log), "cut\n")
            assert await next_line(source) == "cut"
            bunpy.file.append(log, "last")
            bunpy.file.append(moved(log, 1), "rotated\n")
            assert [await next_line(source) for _ in range(2)] == ["last", "rotated"]
            os.unlink(log)
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(asyncio.shield(waiting := start(source)), 0.05)
            bunpy.file.append(log, "ba")
            bunpy.file.append(log, "ck\r\n")
            assert await asyncio.wait_for(waiting, SOON) == "back"

    asyncio.run(main())


def test_a_line_is_brought_whole(log: Path, mode: str) -> None:
    async def main() -> None:
        async with aclosing(afile.tail(log, poll_interval=0.01)) as source:
            waiting = start(source)
            for piece in (b"zw", b"\xc3", b"\xb6", b"lf\r", b"\n"):
                await asyncio.sleep(0.02)
                assert not waiting.done()
                bunpy.file.append(log, piece)
            assert await asyncio.wait_for(waiting, SOON) == "zwölf"

    asyncio.run(main())


def test_every_byte_is_read_once_and_off_the_loop(
    log: Path, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = [f"{i:06} a line of the log" for i in range(100_000)]
    log.write_text("\n".join(written) + "\n")
    sizes: list[int] = []
    threads: set[int] = set()
    real_read = Follower.read

    def read(self: Follower) -> bytes:
        data = real_read(self)
        sizes.append(len(data))
        threads.add(threading.get_ident())
        return data

    monkeypatch.setattr(Follower, "read", read)

    async def main() -> None:
        async with aclosing(afile.tail(log)) as source:
            assert [await source.__anext__() for _ in range(100_000)] == written
            for i in range(5):
                bunpy.file.append(log, f"{i}\n")
                assert await next_line(source) == str(i)

    asyncio.run(main())
    assert sum(sizes) == log.stat().st_size
    assert threading.get_ident() not in threads


def test_tail_refuses(tmp_path: Path, mode: str) -> None:
    async def main() -> None:
        before = open_descriptors()
        with pytest.raises(FileNotFoundError):
            await next_line(afile.tail(tmp_path / "missing.log"))
        with pytest.raises(IsADirectoryError):
            await next_line(afile.tail(tmp_path))
        with pytest.raises(ValueError, match="from_line"):
            await next_line(afile.tail(tmp_path, -1))
        assert open_descriptors() == before
        assert watch_threads() == []

    asyncio.run(main())


# tail: that nothing is left


@pytest.mark.parametrize("run", runners())
@pytest.mark.parametrize("end", ["aclose", "cancel", "cancel while a step runs", "drop"])
def test_the_end_of_a_tail_leaves_nothing(
    log: Path,
    mode: str,
    end: str,
    run: Callable[[Coroutine[Any, Any, None]], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    log.write_text("a\n")

    async def main() -> None:
        await asyncio.to_thread(int)  # the executor's first thread is not the tail's
        logged: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: logged.append(context))
        before = open_descriptors(), asyncio.all_tasks()
        source = afile.tail(log)
        assert await next_line(source) == "a"
        assert open_descriptors() > before[0]
        if end == "aclose":
            await source.aclose()
        elif end == "cancel":
            waiting = start(source)
            await asyncio.sleep(0.05)
            await cancelled(waiting)
        elif end == "cancel while a step runs":
            entered, gate = threading.Event(), threading.Event()
            real_step = Follower.step

            def step(self: Follower) -> list[str]:
                entered.set()
                assert gate.wait(SOON)
                return real_step(self)

            with monkeypatch.context() as patch:
                patch.setattr(Follower, "step", step)
                waiting = start(source)
                bunpy.file.append(log, "b\n")
                await until(entered.is_set)
                waiting.cancel()
                await asyncio.sleep(0)
                assert not waiting.done()
                gate.set()
                await cancelled(waiting)
        else:
            del source
            gc.collect()
            await until(lambda: open_descriptors() == before[0])
            await until(lambda: asyncio.all_tasks() == before[1])
        if mode == "watching":  # watchfiles closes its own from a thread that cannot be joined
            await until(lambda: open_descriptors() == before[0])
        assert (open_descriptors(), asyncio.all_tasks()) == before
        assert watch_threads() == []
        assert logged == []

    run(main())


async def cancelled(future: asyncio.Future[str]) -> None:
    future.cancel()
    with pytest.raises(asyncio.CancelledError):
        await future


def test_cancelled_at_every_await(log: Path, mode: str) -> None:
    """The cancellation comes after 0, 1, 2, ... turns of the loop: in open, in start, in a step."""

    async def main() -> None:
        await asyncio.to_thread(int)
        before = open_descriptors()
        for turns in range(30):
            waiting = start(afile.tail(log))
            for _ in range(turns):
                await asyncio.sleep(0.001 if turns > 15 else 0)
            await cancelled(waiting)
            assert watch_threads() == [], turns
            if mode == "watching":
                await until(lambda: open_descriptors() == before)
            assert open_descriptors() == before, turns

    asyncio.run(main())


@pytest.mark.parametrize("run", runners())
def test_a_loop_that_ends_under_a_tail(
    log: Path, mode: str, run: Callable[[Coroutine[Any, Any, None]], None]
) -> None:
    log.write_text("a\n")
    sources = []

    async def main() -> None:
        sources.append(afile.tail(log))
        assert await next_line(sources[0]) == "a"

    before = open_descriptors()
    run(main())
    assert watch_threads() == []
    wait_until(lambda: open_descriptors() == before)


# tail: how it wakes


def test_without_watchfiles_it_polls(log: Path, without_watchfiles: None) -> None:
    async def main() -> None:
        async with aclosing(afile.tail(log)) as source:
            waiting = start(source)
            await asyncio.sleep(0.05)
            assert watch_threads() == []
            bunpy.file.append(log, "a\n")
            assert await asyncio.wait_for(waiting, SOON) == "a"

    asyncio.run(main())


def test_with_watchfiles_a_change_wakes_it(log: Path) -> None:
    async def main() -> None:
        async with aclosing(afile.tail(log, poll_interval=NEVER)) as source:
            for i in range(3):
                waiting = start(source)
                bunpy.file.append(log, f"{i}\n")
                assert await asyncio.wait_for(waiting, SOON) == str(i)
            assert len(watch_threads()) == 1

    asyncio.run(main())


def test_with_watchfiles_a_rotation_wakes_it(log: Path) -> None:
    async def main() -> None:
        async with aclosing(afile.tail(log, poll_interval=NEVER)) as source:
            for i in range(3):
                waiting = start(source)
                bunpy.file.append(moved(log, i), f"{i}\n")
                assert await asyncio.wait_for(waiting, SOON) == str(i)

    asyncio.run(main())


def test_with_watchfiles_it_still_polls_where_no_event_comes(tmp_path: Path) -> None:
    elsewhere = tmp_path / "data" / "1.log"
    bunpy.file.write(elsewhere, "")
    link = tmp_path / "app.log"
    link.symlink_to(elsewhere)

    async def main() -> None:
        async with aclosing(afile.tail(link, poll_interval=0.02)) as source:
            for i in range(5):
                waiting = start(source)
                bunpy.file.append(elsewhere, f"{i}\n")
                assert await asyncio.wait_for(waiting, SOON) == str(i)
            assert len(watch_threads()) == 1

    asyncio.run(main())


def test_one_thread_for_the_tails_of_a_folder(tmp_path: Path) -> None:
    async def main() -> None:
        paths = [tmp_path / f"{i}.log" for i in range(3)] + [tmp_path / "other" / "3.log"]
        sources = []
        for path in paths:
            bunpy.file.write(path, "begin\n")
            sources.append(afile.tail(path, poll_interval=NEVER))
            assert await next_line(sources[-1]) == "begin"
        assert len(watch_threads()) == 2
        await sources[0].aclose()
        await sources[3].aclose()
        assert len(watch_threads()) == 1
        for path, source in zip(paths[1:3], sources[1:3], strict=True):
            waiting = start(source)
            bunpy.file.append(path, "more\n")
            assert await asyncio.wait_for(waiting, SOON) == "more"
            await source.aclose()
        assert watch_threads() == []

    asyncio.run(main())


def test_an_idle_tail_looks_seldom(log: Path, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[float] = []
    real_step = Follower.step

    def step(self: Follower) -> list[str]:
        steps.append(time.monotonic())
        return real_step(self)

    monkeypatch.setattr(Follower, "step", step)
    timers: list[asyncio.TimerHandle] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        real_call_later = loop.call_later

        def call_later(delay: float, callback: Any, *args: Any) -> asyncio.TimerHandle:
            timer = real_call_later(delay, callback, *args)
            if delay in (0.2, 4 * 0.2):
                timers.append(timer)
            return timer

        monkeypatch.setattr(loop, "call_later", call_later)
        async with aclosing(afile.tail(log, poll_interval=0.2)) as source:
            waiting = start(source)
            bunpy.file.append(log, "a\n")
            assert await asyncio.wait_for(waiting, SOON) == "a"
            waiting = start(source)
            steps.clear()
            await asyncio.sleep(1)
            await cancelled(waiting)

    asyncio.run(main())
    # Polling: 5. Watching: one for each 0.8 s, the beginning and the end of watching, one change.
    assert 1 <= len(steps) <= 8
    assert all(timer.cancelled() for timer in timers)
    assert timers


def test_other_files_of_the_folder_do_not_wake_it(log: Path) -> None:
    woken = threading.Event()
    told = threading.Event()
    ours = _watch.Watch(str(log), woken.set)
    other = _watch.Watch(str(log.with_name("other.log")), told.set)
    ours.start()
    assert woken.wait(SOON)  # it has begun: from here on only changes wake
    woken.clear()
    other.start()
    bunpy.file.append(log.with_name("other.log"), "x")
    assert told.wait(SOON)
    assert not woken.is_set()
    bunpy.file.append(log, "x")
    assert woken.wait(SOON)
    ours.stop()
    other.stop()


def test_a_watch_whose_loop_is_closed_does_not_stop_the_others(log: Path) -> None:
    def closed() -> None:
        raise RuntimeError("Event loop is closed")

    woken = threading.Event()
    watches = [_watch.Watch(str(log), wake) for wake in (woken.set, closed, closed)]
    for watch in watches:
        watch.start()
    assert woken.wait(SOON)
    woken.clear()
    bunpy.file.append(log, "x")
    assert woken.wait(SOON)
    assert watches[0].alive
    for watch in watches:
        watch.stop()
        watch.stop()


def test_a_watch_that_fails_later_wakes_its_tails(
    log: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import watchfiles

    gate = threading.Event()

    def fail_later(*_: object, **__: object) -> Iterator[set[Any]]:
        yield set()
        assert gate.wait(SOON)
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(watchfiles, "watch", fail_later)
    woken = threading.Event()
    watch = _watch.Watch(str(log), woken.set)
    assert not watch.alive
    watch.start()
    assert woken.wait(SOON)
    assert watch.alive
    woken.clear()
    gate.set()
    assert woken.wait(SOON)
    assert not watch.alive
    watch.stop()
    assert "Input/output error" in caplog.text


def test_a_system_that_refuses_to_watch(
    log: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import watchfiles

    def refuse(*_: object, **__: object) -> Iterator[set[Any]]:
        raise OSError(24, "Too many open files")

    async def main() -> None:
        with monkeypatch.context() as patch:
            patch.setattr(watchfiles, "watch", refuse)
            async with aclosing(afile.tail(log, poll_interval=0.01)) as source:
                for i in range(3):
                    waiting = start(source)
                    bunpy.file.append(log, f"{i}\n")
                    assert await asyncio.wait_for(waiting, SOON) == str(i)
                (record,) = [record for record in caplog.records if record.name == "bunpy.file"]
                assert str(log.parent) in record.getMessage()
                assert "Too many open files" in record.getMessage()
                # The next tail tries again.
                patch.undo()
                async with aclosing(afile.tail(log, 3, poll_interval=NEVER)) as second:
                    waiting = start(second)
                    bunpy.file.append(log, "3\n")
                    assert await asyncio.wait_for(waiting, SOON) == "3"
                    assert len(watch_threads()) == 1

    asyncio.run(main())


def test_the_log_of_the_process_itself_can_be_followed(log: Path) -> None:
    """watchfiles logs each change: in the followed file that would be a change, and so on."""
    handler = logging.FileHandler(log)
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)

    async def main() -> None:
        async with aclosing(afile.tail(log)) as source:
            for i in range(5):
                waiting = start(source)
                logging.getLogger("app").info("message %d", i)
                while await asyncio.wait_for(waiting, SOON) != f"message {i}":
                    waiting = start(source)

    try:
        asyncio.run(main())
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
        handler.close()
    assert [line for line in bunpy.file.lines(log) if "change" in line or "rust" in line] == []

"""bunpy.file: real files; the tail's own rules are in test_tail.py."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from io import FileIO
from pathlib import Path
from stat import S_IMODE
from types import SimpleNamespace
from typing import Any

import pytest

import bunpy.file
from bunpy.file import append, exists, lines, read, stat, tail, write
from bunpy.file._lines import BATCH


def names_in(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


def open_descriptors() -> int:
    return len(os.listdir("/dev/fd"))


@pytest.fixture
def umask() -> Iterator[Callable[[int], None]]:
    before = os.umask(0o022)
    yield lambda mask: (os.umask(mask), None)[1]
    os.umask(before)


# read


@pytest.mark.parametrize("text", ["", "a\r\nb\rc\nd", "\ufeffzwölf €😀\n", "\r\r\n\n"])
def test_what_is_read_is_what_stands_in_the_file(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(text.encode())
    assert read(path) == text
    assert read(str(path), None) == text.encode()


def test_read_in_another_encoding(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("zwölf".encode("latin-1"))
    assert read(path, "latin-1") == "zwölf"
    with pytest.raises(UnicodeDecodeError):
        read(path)


def test_read_of_a_missing_file(tmp_path: Path) -> None:
    for encoding in ("utf-8", None):
        with pytest.raises(FileNotFoundError):
            read(tmp_path / "a.txt", encoding)


@pytest.mark.parametrize("function", [read, exists, stat, lines, tail])
def test_a_descriptor_is_no_path(function: Callable[[Any], Any]) -> None:
    with pytest.raises(TypeError):
        list(result) if isinstance(result := function(0), Iterator) else result


# write


@pytest.mark.parametrize(
    ("data", "encoding", "stands"),
    [
        ("a\r\nb\nc\r", "utf-8", b"a\r\nb\nc\r"),
        ("zwölf", "utf-8", "zwölf".encode()),
        ("zwölf", "latin-1", "zwölf".encode("latin-1")),
        (b"\x00\xff\r\n", "utf-8", b"\x00\xff\r\n"),
        ("", "utf-8", b""),
    ],
)
def test_written_and_appended_as_given(
    tmp_path: Path, data: str | bytes, encoding: str, stands: bytes
) -> None:
    write(tmp_path / "a", data, encoding)
    assert (tmp_path / "a").read_bytes() == stands
    append(tmp_path / "b", data, encoding)
    append(str(tmp_path / "b"), data, encoding)
    assert (tmp_path / "b").read_bytes() == stands * 2
    assert names_in(tmp_path) == ["a", "b"]


def test_write_makes_the_parent_folders(tmp_path: Path) -> None:
    write(tmp_path / "x" / "y" / "a.txt", "text")
    assert read(tmp_path / "x" / "y" / "a.txt") == "text"


def test_write_and_append_to_a_bare_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write("a.txt", "one")
    append("b.txt", "two")
    assert (read("a.txt"), read("b.txt")) == ("one", "two")


def test_a_reader_sees_the_old_content_or_the_new(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    contents = [letter * 1_000_000 for letter in ("a", "b")]
    write(path, contents[0])
    done = threading.Event()
    seen: list[bool] = []

    def look() -> None:
        while True:
            seen.append(read(path) in contents)
            if done.is_set():
                break

    reader = threading.Thread(target=look)
    reader.start()
    for i in range(40):
        write(path, contents[i % 2])
    done.set()
    reader.join()
    assert len(seen) > 0
    assert all(seen)


def test_data_is_synced_before_it_takes_the_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    calls: list[str] = []
    real_fsync, real_replace = os.fsync, os.replace

    def fsync(descriptor: int) -> None:
        (temporary,) = [name for name in names_in(tmp_path) if name != "a.txt"]
        assert read(tmp_path / temporary) == "new"
        assert read(path) == "old"
        calls.append("fsync")
        real_fsync(descriptor)

    def replace(source: str, target: str) -> None:
        calls.append("replace")
        real_replace(source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", replace)
    write(path, "new")
    assert calls == ["fsync", "replace"]
    assert read(path) == "new"


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664, 0o444])
def test_write_keeps_the_mode(
    tmp_path: Path, umask: Callable[[int], None], monkeypatch: pytest.MonkeyPatch, mode: int
) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    path.chmod(mode)
    umask(0o077)
    modes: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda fd: modes.append(S_IMODE(os.fstat(fd).st_mode)))
    write(path, "new")
    assert S_IMODE(path.stat().st_mode) == mode
    assert modes == [mode]  # before it is in place, too


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0, 0o666)])
def test_a_new_file_gets_its_mode_from_the_umask(
    tmp_path: Path, umask: Callable[[int], None], mask: int, mode: int
) -> None:
    umask(mask)
    write(tmp_path / "a.txt", "")
    append(tmp_path / "b.txt", "")
    assert S_IMODE((tmp_path / "a.txt").stat().st_mode) == mode
    assert S_IMODE((tmp_path / "b.txt").stat().st_mode) == mode


@pytest.mark.parametrize("step", ["chmod", "fsync", "replace"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_write_that_fails_leaves_the_old_content_and_no_temporary_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, error: BaseException
) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")

    def fail(*_: object) -> None:
        raise error

    before = open_descriptors()
    with monkeypatch.context() as patch:
        patch.setattr(os, step, fail)
        with pytest.raises(type(error)):
            write(path, "new")
    assert read(path) == "old"
    assert names_in(tmp_path) == ["a.txt"]
    assert open_descriptors() == before


def test_write_through_a_link_keeps_the_link(tmp_path: Path) -> None:
    target = tmp_path / "data" / "target.txt"
    write(target, "old")
    link = tmp_path / "link.txt"
    link.symlink_to(target)
    write(link, "new")
    assert link.is_symlink()
    assert read(target) == "new"
    assert names_in(tmp_path) == ["data", "link.txt"]
    assert names_in(target.parent) == ["target.txt"]


@pytest.mark.parametrize("function", [write, append])
def test_a_link_that_leads_to_nothing_yet(
    tmp_path: Path, function: Callable[[Path, str], None]
) -> None:
    link = tmp_path / "link.txt"
    link.symlink_to(tmp_path / "later" / "target.txt")
    function(link, "text")
    assert link.is_symlink()
    assert read(tmp_path / "later" / "target.txt") == "text"


def test_write_replaces_regular_files_only(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="regular files only") as caught:
        write(tmp_path / "pipe", "text")
    assert caught.value.filename == str(tmp_path / "pipe")
    with pytest.raises(IsADirectoryError):
        write(tmp_path, "text")
    assert names_in(tmp_path) == ["pipe"]
    assert (tmp_path / "pipe").is_fifo()


def test_write_to_the_longest_name(tmp_path: Path) -> None:
    write(tmp_path / ("n" * 255), "text")
    assert read(tmp_path / ("n" * 255)) == "text"


@pytest.mark.parametrize("function", [write, append])
def test_data_that_cannot_be_written_touches_nothing(
    tmp_path: Path, function: Callable[..., None]
) -> None:
    path = tmp_path / "folder" / "a.txt"
    with pytest.raises(TypeError, match="a file takes str or bytes, not dict; convert it first"):
        function(path, {"a": 1})
    with pytest.raises(UnicodeEncodeError):
        function(path, "\ud800")
    with pytest.raises(UnicodeEncodeError):
        function(path, "€", "latin-1")
    assert names_in(tmp_path) == []


# append


def test_append_makes_the_parent_folders(tmp_path: Path) -> None:
    append(tmp_path / "x" / "y" / "a.txt", "one\n")
    append(tmp_path / "x" / "y" / "a.txt", "two\n")
    assert read(tmp_path / "x" / "y" / "a.txt") == "one\ntwo\n"


def test_append_is_one_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    class Counting(FileIO):
        def write(self, data: Any) -> int:
            sizes.append(len(data))
            return super().write(data)

    monkeypatch.setattr(bunpy.file, "FileIO", Counting)
    append(tmp_path / "a.txt", "x" * 1_000_000)
    assert sizes == [1_000_000]


def test_append_goes_on_after_a_short_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Short(FileIO):
        def write(self, data: Any) -> int:
            return super().write(data[:3])

    monkeypatch.setattr(bunpy.file, "FileIO", Short)
    append(tmp_path / "a.txt", "0123456789")
    assert read(tmp_path / "a.txt") == "0123456789"


def test_appends_at_the_same_time_do_not_mix(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"

    def run(letter: str) -> None:
        for _ in range(100):
            append(path, letter * 5000 + "\n")

    threads = [threading.Thread(target=run, args=(letter,)) for letter in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(lines(path)) == sorted(letter * 5000 for letter in "abcd" for _ in range(100))


def test_append_goes_to_the_end_wherever_that_is(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    append(path, "long line\n")
    os.truncate(path, 0)
    append(path, "new\n")
    assert read(path) == "new\n"


# exists and stat


def test_exists(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("nowhere")
    found = [exists(tmp_path / name) for name in ("file", "", "link", "missing", "file/below")]
    assert found == [True, True, False, False, False]


def test_stat(tmp_path: Path) -> None:
    write(tmp_path / "a.txt", "four")
    assert stat(tmp_path / "a.txt").st_size == 4
    with pytest.raises(FileNotFoundError):
        stat(tmp_path / "b.txt")


# lines


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("\n", [""]),
        ("a", ["a"]),
        ("a\nb", ["a", "b"]),
        ("a\r\n\r\nb\n", ["a", "", "b"]),
        ("a\rb\n", ["a\rb"]),
        ("a\r\r\n", ["a\r"]),
        ("a\r", ["a\r"]),
        ("a\x0bb\x0cc\x1cd\x85e\u2028f\n", ["a\x0bb\x0cc\x1cd\x85e\u2028f"]),
    ],
)
def test_lines(tmp_path: Path, text: str, expected: list[str]) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(text.encode())
    assert list(lines(path)) == expected


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_lines_of_a_file_of_many_batches(tmp_path: Path, end: str) -> None:
    written = [f"{i} €" for i in range(BATCH // 2)]
    write(tmp_path / "a.txt", end.join(written))
    assert list(lines(str(tmp_path / "a.txt"))) == written


def test_lines_in_another_encoding(tmp_path: Path) -> None:
    write(tmp_path / "a.txt", "zwölf\nelf", "utf-16")
    assert list(lines(tmp_path / "a.txt", "utf-16")) == ["zwölf", "elf"]
    with pytest.raises(UnicodeDecodeError):
        list(lines(tmp_path / "a.txt"))


def test_lines_opens_late_and_closes_early(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    before = open_descriptors()
    source = lines(path)  # nothing is opened: nothing is missed yet
    write(path, "a\nb\n")
    assert open_descriptors() == before
    assert next(source) == "a"
    assert open_descriptors() == before + 1
    source.close()
    assert open_descriptors() == before
    source = lines(path)
    assert list(source) == ["a", "b"]
    assert open_descriptors() == before
    with pytest.raises(FileNotFoundError):
        next(lines(tmp_path / "missing.txt"))


def test_lines_does_not_wait_for_the_end(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    seen = threading.Event()

    def feed() -> None:
        with pipe.open("wb") as file:
            file.write(b"line\n" * BATCH)
            file.flush()
            seen.wait(10)

    writer = threading.Thread(target=feed)
    writer.start()
    source = lines(pipe)
    assert next(source) == "line"
    assert writer.is_alive()  # the pipe is still open: its end has not been read
    seen.set()
    assert sum(1 for _ in source) == BATCH - 1
    writer.join()


# tail


class Script:
    """Stands in for ``time``: each sleep runs the next action instead."""

    def __init__(self, *actions: Callable[[], object]) -> None:
        self.actions = list(actions)
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        assert self.actions, "the tail waits, and nothing more will come"
        self.actions.pop(0)()


def scripted(monkeypatch: pytest.MonkeyPatch, *actions: Callable[[], object]) -> Script:
    script = Script(*actions)
    monkeypatch.setattr(bunpy.file, "time", SimpleNamespace(sleep=script.sleep))
    return script


def test_tail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "app.log"
    write(path, "0\n1\n")
    script = scripted(
        monkeypatch,
        lambda: append(path, "2\nha"),
        lambda: append(path, "lf\r"),
        lambda: append(path, "\n"),
        lambda: os.truncate(path, 0),
        lambda: append(path, "cut\n"),
        path.unlink,
        lambda: append(path, "back\n"),
        lambda: path.rename(tmp_path / "app.log.1"),
        lambda: append(path, "rotated\n"),
    )
    source = tail(path, 1, poll_interval=0.25)
    seen = [next(source) for _ in range(6)]
    assert seen == ["1", "2", "half", "cut", "back", "rotated"]
    assert script.slept == [0.25] * 9
    source.close()


def test_tail_really_waits(tmp_path: Path) -> None:
    path = tmp_path / "app.log"
    write(path, "first\n")
    source = tail(path, poll_interval=0.01)
    assert next(source) == "first"
    got: list[str] = []
    reader = threading.Thread(target=lambda: got.append(next(source)), daemon=True)
    reader.start()
    append(path, "second\n")
    reader.join(5)
    assert got == ["second"]
    source.close()


def test_tail_closes_its_file(tmp_path: Path) -> None:
    path = tmp_path / "app.log"
    write(path, "a\n")
    before = open_descriptors()
    source = tail(path)
    assert open_descriptors() == before
    assert next(source) == "a"
    assert open_descriptors() == before + 1
    source.close()
    assert open_descriptors() == before


def test_tail_refuses(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        next(tail(tmp_path / "missing.log"))
    with pytest.raises(IsADirectoryError):
        next(tail(tmp_path))
    with pytest.raises(ValueError, match="from_line"):
        next(tail(tmp_path, -1))
    with pytest.raises(ValueError, match="poll_interval"):
        next(tail(tmp_path, poll_interval=0))

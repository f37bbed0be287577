"""Following a file (``_tail``) and cutting lines (``_lines``), without a clock and a loop."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bunpy.file._lines import LineSplitter
from bunpy.file._tail import CHUNK, Follower


class CountingFollower(Follower):
    """Counts the bytes that it has read."""

    count = 0

    def read(self) -> bytes:
        data = super().read()
        self.count += len(data)
        return data


def follow(path: Path, from_line: int = 0, encoding: str = "utf-8") -> CountingFollower:
    follower = CountingFollower(path, from_line, encoding, 0.1)
    follower.open()
    return follower


def drained(follower: Follower) -> list[str]:
    """The lines of all steps up to the next idle one."""
    lines: list[str] = []
    for _ in range(1000):
        lines += follower.step()
        if follower.idle:
            return lines
    raise AssertionError(f"still not idle; {len(lines)} lines so far")


def add(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "app.log"
    path.touch()
    return path


SAMPLE = "one\r\n\nzwölf\n\r\n€ and 😀\r\nlone\rcr\x0b\x0c\x1c\x85\u2028\u2029\nend\r\r\n"
SAMPLE_LINES = ["one", "", "zwölf", "", "€ and 😀", "lone\rcr\x0b\x0c\x1c\x85\u2028\u2029", "end\r"]


def test_splitter_fed_whole() -> None:
    splitter = LineSplitter("utf-8")
    assert splitter.feed(SAMPLE.encode()) == SAMPLE_LINES
    assert splitter.finish() == []


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-32-be"])
@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_splitter_fed_in_pieces(encoding: str, size: int) -> None:
    data = SAMPLE.encode(encoding)
    splitter = LineSplitter(encoding)
    lines = [line for i in range(0, len(data), size) for line in splitter.feed(data[i : i + size])]
    assert lines == SAMPLE_LINES


def test_splitter_fed_in_two_at_every_place() -> None:
    data = SAMPLE.encode()
    for cut in range(len(data) + 1):
        splitter = LineSplitter("utf-8")
        assert splitter.feed(data[:cut]) + splitter.feed(data[cut:]) == SAMPLE_LINES, cut


def test_splitter_holds_a_tail_until_it_is_finished() -> None:
    splitter = LineSplitter("utf-8")
    assert splitter.feed(b"a\ntail\xe2\x82") == ["a"]
    assert splitter.finish() == ["tail\ufffd"]
    assert splitter.feed(b"next\n") == ["next"]


def test_splitter_reset_forgets_text_and_half_a_character() -> None:
    splitter = LineSplitter("utf-8")
    splitter.feed(b"held\xe2\x82")
    splitter.reset()
    assert splitter.feed(b"\xacnew\n") == ["\ufffdnew"]


@pytest.mark.parametrize(
    ("data", "line"),
    [(b"\xff\n", "\ufffd"), (b"a\xe2\x82\nb\n", "a\ufffd"), (b"\xc3(\n", "\ufffd(")],
)
def test_splitter_replaces_malformed_bytes(data: bytes, line: str) -> None:
    assert LineSplitter("utf-8").feed(data)[0] == line


def test_long_line_in_small_pieces() -> None:
    splitter = LineSplitter("utf-8")
    for _ in range(1000):
        assert splitter.feed(b"x" * 1000) == []
    assert splitter.feed(b"\n") == ["x" * 1_000_000]


def test_existing_lines_and_new_ones(log: Path) -> None:
    log.write_bytes(b"a\nb\n")
    follower = follow(log)
    assert drained(follower) == ["a", "b"]
    assert drained(follower) == []
    add(log, b"c\n")
    assert drained(follower) == ["c"]
    follower.close()


@pytest.mark.parametrize(
    ("from_line", "first", "later"),
    [
        (0, ["0", "1", "2"], ["3", "4"]),
        (2, ["2"], ["3", "4"]),
        (3, [], ["3", "4"]),
        (4, [], ["4"]),
        (9, [], []),
    ],
)
def test_from_line(log: Path, from_line: int, first: list[str], later: list[str]) -> None:
    log.write_bytes(b"0\n1\n2\n")
    follower = follow(log, from_line)
    assert drained(follower) == first
    add(log, b"3\n4\n")
    assert drained(follower) == later
    follower.close()


def test_from_line_in_a_later_chunk(log: Path) -> None:
    log.write_bytes(b"".join(b"%d\n" % i for i in range(50_000)))
    assert log.stat().st_size > 3 * CHUNK
    follower = follow(log, 49_998)
    assert drained(follower) == ["49998", "49999"]
    follower.close()


def test_incomplete_line_waits_for_its_end(log: Path) -> None:
    follower = follow(log)
    for data, lines in [(b"half", []), (b" a line", []), (b"\nnext", ["half a line"])]:
        add(log, data)
        assert drained(follower) == lines
    follower.close()


def test_crlf_in_two_appends(log: Path) -> None:
    follower = follow(log)
    add(log, b"a\r")
    assert drained(follower) == []
    add(log, b"\nb\r\n")
    assert drained(follower) == ["a", "b"]
    follower.close()


def test_character_in_four_appends(log: Path) -> None:
    follower = follow(log)
    for byte in "😀".encode():
        add(log, bytes([byte]))
        assert drained(follower) == []
    add(log, b"\n")
    assert drained(follower) == ["😀"]
    follower.close()


def test_character_across_the_chunk(log: Path) -> None:
    text = "x" * (CHUNK - 1) + "€"
    log.write_text(text + "\n", encoding="utf-8")
    follower = follow(log)
    assert drained(follower) == [text]
    follower.close()


def test_other_encoding(log: Path) -> None:
    log.write_bytes("zwölf\n".encode("latin-1"))
    follower = follow(log, encoding="latin-1")
    assert drained(follower) == ["zwölf"]
    follower.close()


def test_every_byte_is_read_once(log: Path) -> None:
    written = [f"{i:06} a line of the log" for i in range(100_000)]
    log.write_text("\n".join(written) + "\n", encoding="utf-8")
    follower = follow(log)
    assert drained(follower) == written
    assert follower.count == log.stat().st_size
    for i in range(100):
        add(log, b"more\n")
        assert drained(follower) == ["more"], i
    assert follower.count == log.stat().st_size
    follower.close()


def test_a_step_reads_one_chunk(log: Path) -> None:
    log.write_bytes(b"x\n" * CHUNK)
    follower = follow(log)
    assert len(follower.step()) == CHUNK // 2
    assert not follower.idle
    assert follower.count == CHUNK
    follower.close()


def test_truncation(log: Path) -> None:
    log.write_bytes(b"old 1\nold 2\nheld")
    follower = follow(log, from_line=1)
    assert drained(follower) == ["old 2"]
    log.write_bytes(b"new 1\n")
    assert drained(follower) == ["new 1"]
    add(log, b"new 2\n")
    assert drained(follower) == ["new 2"]
    follower.close()


def test_truncation_to_nothing_forgets_half_a_character(log: Path) -> None:
    log.write_bytes(b"a\n\xe2\x82")
    follower = follow(log, from_line=5)
    assert drained(follower) == []
    os.truncate(log, 0)
    assert drained(follower) == []
    add(log, b"b\n")
    assert drained(follower) == ["b"]
    follower.close()


def test_rotation_drains_the_old_file_first(log: Path, tmp_path: Path) -> None:
    log.write_bytes(b"a\n")
    follower = follow(log)
    assert drained(follower) == ["a"]
    add(log, b"b\nunended")
    log.rename(tmp_path / "app.log.1")
    log.write_bytes(b"c\n")
    assert drained(follower) == ["b", "unended", "c"]
    add(log, b"d\n")
    assert drained(follower) == ["d"]
    follower.close()


def test_rotation_drains_more_than_a_chunk(log: Path, tmp_path: Path) -> None:
    follower = follow(log)
    assert drained(follower) == []
    add(log, b"old\n" * CHUNK)
    log.rename(tmp_path / "app.log.1")
    log.write_bytes(b"new\n")
    assert drained(follower) == ["old"] * CHUNK + ["new"]
    follower.close()


def test_rotation_loses_nothing_written_while_it_is_noticed(log: Path, tmp_path: Path) -> None:
    old = tmp_path / "app.log.1"
    follower = follow(log)
    log.rename(old)
    log.write_bytes(b"new\n")
    assert follower.step() == []
    assert not follower.idle  # noticed, not left yet
    add(old, b"last\n")
    assert drained(follower) == ["last", "new"]
    follower.close()


def test_old_file_is_followed_while_the_new_one_is_empty(log: Path, tmp_path: Path) -> None:
    old = tmp_path / "app.log.1"
    follower = follow(log)
    log.rename(old)
    log.touch()
    assert drained(follower) == []
    add(old, b"late\n")
    assert drained(follower) == ["late"]
    add(log, b"new\n")
    assert drained(follower) == ["new"]
    follower.close()


def test_rotation_ends_the_skipping(log: Path, tmp_path: Path) -> None:
    follower = follow(log, from_line=100)
    log.rename(tmp_path / "app.log.1")
    log.write_bytes(b"0\n1\n")
    assert drained(follower) == ["0", "1"]
    follower.close()


def test_rotation_back_before_leaving(log: Path, tmp_path: Path) -> None:
    log.write_bytes(b"a\n")
    follower = follow(log)
    assert drained(follower) == ["a"]
    log.rename(tmp_path / "app.log.1")
    log.write_bytes(b"brief\n")
    assert follower.step() == []
    assert not follower.idle
    (tmp_path / "app.log.1").replace(log)
    assert drained(follower) == []
    add(log, b"b\n")
    assert drained(follower) == ["b"]
    # The next rotation is noticed afresh.
    log.rename(tmp_path / "app.log.1")
    log.write_bytes(b"new\n")
    assert follower.step() == []
    add(tmp_path / "app.log.1", b"last\n")
    assert drained(follower) == ["last", "new"]
    follower.close()


def test_rotation_closes_the_old_file(log: Path, tmp_path: Path) -> None:
    follower = follow(log)
    before = len(os.listdir("/dev/fd"))
    for i in range(10):
        log.rename(tmp_path / f"app.log.{i}")
        log.write_bytes(b"%d\n" % i)
        assert drained(follower) == [str(i)]
    assert len(os.listdir("/dev/fd")) == before
    follower.close()
    assert len(os.listdir("/dev/fd")) == before - 1


def test_file_that_vanishes_and_comes_back(log: Path) -> None:
    log.write_bytes(b"a\n")
    follower = follow(log)
    assert drained(follower) == ["a"]
    log.unlink()
    assert drained(follower) == []
    log.write_bytes(b"b\n")
    assert drained(follower) == ["b"]
    follower.close()


def test_file_that_vanishes_again_before_it_is_opened(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log.write_bytes(b"a\nheld")
    follower = follow(log)
    assert drained(follower) == ["a"]
    log.unlink()
    log.write_bytes(b"missed\n")
    assert follower.step() == []
    real_open = follower.open

    def vanishing_open() -> None:
        log.unlink()
        real_open()

    with monkeypatch.context() as patch:
        patch.setattr(follower, "open", vanishing_open)
        assert drained(follower) == []
    log.write_bytes(b"b\n")
    assert drained(follower) == ["held", "b"]
    follower.close()


def test_folder_that_vanishes_and_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "app.log"
    path.parent.mkdir()
    path.write_bytes(b"a\n")
    follower = follow(path)
    assert drained(follower) == ["a"]
    path.unlink()
    path.parent.rmdir()
    assert drained(follower) == []
    path.parent.mkdir()
    path.write_bytes(b"b\n")
    assert drained(follower) == ["b"]
    follower.close()


def test_link_to_another_file(tmp_path: Path) -> None:
    link = tmp_path / "current.log"
    for day in "12":
        (tmp_path / f"{day}.log").write_text(f"day {day}\n")
    link.symlink_to("1.log")
    follower = follow(link)
    assert drained(follower) == ["day 1"]
    (tmp_path / "new").symlink_to("2.log")
    (tmp_path / "new").replace(link)
    assert drained(follower) == ["day 2"]
    follower.close()


def test_path_is_kept_when_the_process_changes_its_folder(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(log.parent)
    follower = follow(Path(log.name))
    monkeypatch.chdir("/")
    log.unlink()
    log.write_bytes(b"a\n")
    assert drained(follower) == ["a"]
    follower.close()


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"app\.log"):
        follow(tmp_path / "app.log")


def test_what_is_not_a_regular_file(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError):
        follow(tmp_path)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(OSError, match="regular files only"):
        follow(pipe)


def test_senseless_arguments(log: Path) -> None:
    with pytest.raises(ValueError, match="from_line is -1; lines are counted from 0"):
        Follower(log, -1, "utf-8", 0.1)
    for seconds in (0, -1, float("nan")):
        with pytest.raises(ValueError, match=r"poll_interval is .*; it is in seconds, above 0"):
            Follower(log, 0, "utf-8", seconds)
    with pytest.raises(LookupError, match="no-such"):
        Follower(log, 0, "no-such", 0.1)


def test_close_twice_and_before_open(log: Path) -> None:
    follower = Follower(log, 0, "utf-8", 0.1)
    follower.close()
    follower.open()
    follower.close()
    follower.close()

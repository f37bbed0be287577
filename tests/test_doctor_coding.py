"""The content codings that a browser offers."""

from __future__ import annotations

import gzip
import zlib

import pytest

from bunpy.doctor.coding import coding_for

TEXT = b"data: 1\n\n" * 100


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("", TEXT),
        ("identity", TEXT),
        ("gzip", gzip.compress(TEXT, mtime=0)),
        (" X-GZIP", gzip.compress(TEXT, mtime=0)),
        ("deflate", zlib.compress(TEXT)),
    ],
)
def test_it_is_undone_byte_by_byte(name: str, data: bytes) -> None:
    coding = coding_for(name)
    assert coding is not None
    assert b"".join(coding.decode(data[i : i + 1]) for i in range(len(data))) == TEXT


def test_what_was_flushed_is_there_at_once() -> None:
    compressor = zlib.compressobj(wbits=31)
    piece = compressor.compress(b"data: 1\n\n") + compressor.flush(zlib.Z_SYNC_FLUSH)
    coding = coding_for("gzip")
    assert coding is not None
    assert coding.decode(piece) == b"data: 1\n\n"


@pytest.mark.parametrize("name", ["br", "zstd", "gzip, br"])
def test_what_is_not_known(name: str) -> None:
    assert coding_for(name) is None


def test_what_is_not_what_it_says() -> None:
    coding = coding_for("gzip")
    assert coding is not None
    with pytest.raises(ValueError, match="not compressed as its Content-Encoding says"):
        coding.decode(TEXT)

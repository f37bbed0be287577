"""Cases of the boundary's table: bodies in chunks. Sizes, data, extensions, trailers, and how large they may be."""

from __future__ import annotations

from boundary_cases import (
    BODY_LIMIT,
    HELLO,
    SMUGGLED,
    Case,
    Saw,
    accepted,
    chunk,
    chunked,
    refusals,
    refused,
)

__all__ = ["CASES"]

SAW_HELLO = Saw("POST", body=b"hello")
SAW_EMPTY = Saw("POST")
SIZE = len(SMUGGLED)

CASES: list[Case] = [
    accepted(
        "several chunks",
        chunked(chunk(b"he") + chunk(b"l") + chunk(b"lo") + b"0\r\n\r\n"),
        SAW_HELLO,
    ),
    accepted("only the last chunk", chunked(b"0\r\n\r\n"), SAW_EMPTY),
    accepted(
        "sizes in both cases",
        chunked(b"a\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\n"),
        Saw("POST", body=b"0123456789" * 2),
    ),
    accepted(
        "a size of 16 digits",
        chunked(b"0000000000000005\r\nhello\r\n0000000000000000\r\n\r\n"),
        SAW_HELLO,
    ),
    accepted(
        "line ends in a chunk",
        chunked(b"9\r\n\r\n0\r\n\r\n\r\n\r\n0\r\n\r\n"),
        Saw("POST", body=b"\r\n0\r\n\r\n\r\n"),
    ),
    accepted("extensions", chunked(b'5;a;b=c;d="e;f"\r\nhello\r\n0;g\r\n\r\n'), SAW_HELLO),
    accepted(
        "a blank before an extension",
        chunked(b"5 \t;a\r\nhello\r\n0\r\n\r\n"),
        SAW_HELLO,
        why="BWS (RFC 9112 section 7.1.1)",
    ),
    accepted(
        "an extension without a name",
        chunked(b"5;\r\nhello\r\n0\r\n\r\n"),
        SAW_HELLO,
        why="extensions are ignored, whatever they say",
    ),
    accepted(
        "a quote without end in an extension",
        chunked(b'5;a="\r\nhello\r\n0\r\n\r\n'),
        SAW_HELLO,
        why="extensions are ignored; a line end ends them all the same",
    ),
    accepted(
        "an extension of 4 KiB",
        chunked(chunk(b"hello", b";" + b"x" * 4095) + b"0\r\n\r\n"),
        SAW_HELLO,
    ),
    accepted(
        "extensions of 16 KiB in all",
        chunked(chunk(b"x", b";" + b"x" * 4095) * 4 + b"0\r\n\r\n"),
        Saw("POST", body=b"xxxx"),
    ),
    accepted(
        "trailers are dropped", chunked(b"5\r\nhello\r\n0\r\nX-Sum: 1\r\nY:\r\n\r\n"), SAW_HELLO
    ),
    accepted(
        "trailers that were announced",
        chunked(HELLO[:-2] + b"X-Sum: 1\r\n\r\n", "Trailer: X-Sum"),
        SAW_HELLO,
    ),
    accepted("trailers of 8 KiB", chunked(b"0\r\nX: %b\r\n\r\n" % (b"x" * (8192 - 7))), SAW_EMPTY),
    *refusals(
        400,
        {
            "an empty size": chunked(b"\r\nhello\r\n0\r\n\r\n"),
            "no size but an extension": chunked(b";a\r\nhello\r\n0\r\n\r\n"),
            "0x before a size": chunked(b"0x5\r\nhello\r\n0\r\n\r\n"),
            "0X1": chunked(b"0X1\r\nh\r\n0\r\n\r\n"),
            "an underscore in a size": chunked(b"1_0\r\n0123456789abcdef\r\n0\r\n\r\n"),
            "a plus before a size": chunked(b"+5\r\nhello\r\n0\r\n\r\n"),
            "a minus before a size": chunked(b"-5\r\nhello\r\n0\r\n\r\n"),
            "a size of -0": chunked(b"5\r\nhello\r\n-0\r\n\r\n"),
            "a blank before a size": chunked(b" 5\r\nhello\r\n0\r\n\r\n"),
            "a blank behind a size": chunked(b"5 \r\nhello\r\n0\r\n\r\n"),
            "a tab before a size": chunked(b"\t5\r\nhello\r\n0\r\n\r\n"),
            "a tab behind a size": chunked(b"5\t\r\nhello\r\n0\r\n\r\n"),
            "a letter that is no digit": chunked(b"5g\r\nhello\r\n0\r\n\r\n"),
            "an h behind a size": chunked(b"5h\r\nhello\r\n0\r\n\r\n"),
            "a size with a point": chunked(b"5.0\r\nhello\r\n0\r\n\r\n"),
            "a size in quotes": chunked(b'"5"\r\nhello\r\n0\r\n\r\n'),
            "a list of sizes": chunked(b"5,5\r\nhello\r\n0\r\n\r\n"),
            "a size before NUL": chunked(b"5\x00\r\nhello\r\n0\r\n\r\n"),
            "VT behind a size": chunked(b"5\x0b\r\nhello\r\n0\r\n\r\n"),
            "a high byte behind a size": chunked(b"5\xa0\r\nhello\r\n0\r\n\r\n"),
            "a size of full-width digits": chunked(b"\xef\xbc\x95\r\nhello\r\n0\r\n\r\n"),
            "a size of 2^64": chunked(b"10000000000000000\r\nhello\r\n0\r\n\r\n"),
            "a size of 2^64 + 5": chunked(b"10000000000000005\r\nhello\r\n0\r\n\r\n"),
            "a size of 2^32 + 5 behind zeros": chunked(
                b"0000000000100000005\r\nhello\r\n0\r\n\r\n"
            ),
            "a size of 17 digits": chunked(b"FFFFFFFFFFFFFFFFF\r\n"),
            "a size padded without end": chunked(b"0" * 5000),
            "a chunk longer than its size": chunked(b"4\r\nhello\r\n0\r\n\r\n"),
            "a chunk shorter than its size": chunked(b"6\r\nhello\r\n0\r\n\r\n"),
            "no line end behind a chunk": chunked(b"5\r\nhello0\r\n\r\n"),
            "two other bytes behind a chunk": chunked(b"5\r\nhelloXX0\r\n\r\n"),
            "LF CR behind a chunk": chunked(b"5\r\nhello\n\r0\r\n\r\n"),
            "an empty line behind a chunk": chunked(b"5\r\nhello\r\n\r\n0\r\n\r\n"),
            "LF in an extension": chunked(b"5;a\nhello\r\n0\r\n\r\n"),
            "CR in an extension": chunked(b"5;a\rb\r\nhello\r\n0\r\n\r\n"),
            "LF in a quoted extension": chunked(b'5;a="\n"\r\nhello\r\n0\r\n\r\n'),
            "LF in an extension of a chunk that is a request": chunked(
                b"2;\nxx\r\n%x\r\n0\r\n\r\n%b\r\n0\r\n\r\n" % (SIZE + 5, SMUGGLED)
            ),
            "NUL in an extension": chunked(b"5;\x00\r\nhello\r\n0\r\n\r\n"),
            "ESC in an extension": chunked(b"5;\x1b\r\nhello\r\n0\r\n\r\n"),
            "an extension over 4 KiB": chunked(chunk(b"hello", b";" + b"x" * 4096) + b"0\r\n\r\n"),
            "an extension over 4 KiB without end": chunked(b"5;" + b"x" * 5000),
            "blanks of over 4 KiB before an extension": chunked(
                b"5" + b" " * 4100 + b";a\r\nhello\r\n0\r\n\r\n"
            ),
            "an extension of the last chunk over 4 KiB": chunked(b"0;" + b"x" * 4096 + b"\r\n\r\n"),
            "extensions over 16 KiB in all": chunked(
                chunk(b"x", b";" + b"x" * 4095) * 4 + chunk(b"x", b";") + b"0\r\n\r\n"
            ),
            "extensions over 16 KiB in all, the last chunk's": chunked(
                chunk(b"x", b";" + b"x" * 4095) * 4 + b"0;\r\n\r\n"
            ),
            "many short extensions over 16 KiB in all": chunked(chunk(b"x", b";abc") * 4097),
            # Trailers
            "Transfer-Encoding in the trailers": chunked(
                b"0\r\nTransfer-Encoding: chunked\r\n\r\n"
            ),
            "Content-Length in the trailers": chunked(HELLO[:-2] + b"content-length: 5\r\n\r\n"),
            "Host in the trailers": chunked(b"0\r\nX: a\r\nHOST: evil.example\r\n\r\n"),
            "Authorization in the trailers": chunked(b"0\r\nAuthorization: Basic eA==\r\n\r\n"),
            "Proxy-Authorization in the trailers": chunked(b"0\r\nproxy-authorization: x\r\n\r\n"),
            "Connection in the trailers": chunked(b"0\r\nConnection: close\r\n\r\n"),
            "Content-Type in the trailers": chunked(b"0\r\nContent-Type: a/b\r\n\r\n"),
            "a trailer without a colon": chunked(b"0\r\nX\r\n\r\n"),
            "a request for trailers": chunked(b"0\r\n" + SMUGGLED),
            "an empty trailer name": chunked(b"0\r\n: a\r\n\r\n"),
            "a space before a trailer's colon": chunked(b"0\r\nX : a\r\n\r\n"),
            "Host and a space in the trailers": chunked(b"0\r\nHost : a\r\n\r\n"),
            "a folded trailer": chunked(b"0\r\nX: a\r\n b\r\n\r\n"),
            "a folded line before the trailers": chunked(b"0\r\n X: a\r\n\r\n"),
            "NUL in a trailer": chunked(b"0\r\nX: \x00\r\n\r\n"),
            "DEL in a trailer": chunked(b"0\r\nX: \x7f\r\n\r\n"),
            "a high byte in a trailer's name": chunked(b"0\r\nX\xe9: a\r\n\r\n"),
        },
    ),
    refused("trailers over 8 KiB", chunked(b"0\r\nX: %b\r\n\r\n" % (b"x" * (8192 - 6))), 431),
    refused(
        "many trailers over 8 KiB",
        chunked(b"0\r\n" + b"X: %b\r\n" % (b"y" * 1019) * 8 + b"\r\n"),
        431,
    ),
    refused("a trailer over 8 KiB without end", chunked(b"0\r\nX: " + b"x" * 8192), 431),
    refused("a chunk over the limit", chunked(b"%x\r\n" % (BODY_LIMIT + 1)), 413),
    refused("a chunk of 2^63", chunked(b"8000000000000000\r\n"), 413),
    refused("a chunk of 2^64 - 1", chunked(b"FFFFFFFFFFFFFFFF\r\nhello\r\n0\r\n\r\n"), 413),
    refused(
        "chunks over the limit in all", chunked(HELLO[:-5] + b"%x\r\n" % (BODY_LIMIT - 4)), 413
    ),
    refused(
        "a chunk of the limit and one byte",
        chunked(chunk(b"x" * BODY_LIMIT) + chunk(b"x") + b"0\r\n\r\n"),
        413,
    ),
    accepted(
        "a chunk of the limit",
        chunked(chunk(b"x" * BODY_LIMIT) + b"0\r\n\r\n"),
        Saw("POST", body=b"x" * BODY_LIMIT),
    ),
]

"""Cases of the boundary's table: where a message ends. Lengths, transfer codings, upgrades; chunks are apart."""

from __future__ import annotations

from boundary_cases import (
    BODY_LIMIT,
    H2C,
    HELLO,
    SMUGGLED,
    Case,
    Saw,
    accepted,
    chunk,
    chunked,
    get,
    post,
    refusals,
    refused,
)

__all__ = ["CASES"]

SAW_HELLO = Saw("POST", body=b"hello")
SAW_EMPTY = Saw("POST")
SIZE = len(SMUGGLED)


def coded(*values: str) -> bytes:
    return post(*[f"Transfer-Encoding: {value}" for value in values], body=HELLO)


def lengths(*values: str) -> bytes:
    return post(*[f"Content-Length: {value}" for value in values])


LENGTHS = [
    accepted("a length", lengths("5"), SAW_HELLO),
    accepted("a length of 0", post("Content-Length: 0", body=b""), SAW_EMPTY),
    accepted("leading zeros", lengths("0000005"), SAW_HELLO),
    accepted("hundreds of leading zeros", lengths("0" * 300 + "5"), SAW_HELLO),
    accepted("a length of zeros", post("Content-Length: 000", body=b""), SAW_EMPTY),
    accepted("blanks around a length", lengths("\t 5 \t"), SAW_HELLO),
    accepted("a GET with a body", get("Content-Length: 5") + b"hello", Saw(body=b"hello")),
    accepted(
        "a HEAD with a body",
        get("Content-Length: 5", method="HEAD") + b"hello",
        Saw("HEAD", body=b"hello"),
    ),
    accepted(
        "a DELETE with a body",
        get("Content-Length: 5", method="DELETE") + b"hello",
        Saw("DELETE", body=b"hello"),
    ),
    accepted(
        "an OPTIONS with a body",
        get("Content-Length: 5", method="OPTIONS") + b"hello",
        Saw("OPTIONS", body=b"hello"),
    ),
    accepted(
        "a body that is a request",
        post(f"Content-Length: {SIZE}", body=SMUGGLED),
        Saw("POST", body=SMUGGLED),
    ),
    accepted(
        "a GET with a body that is a request (CL.0)",
        get(f"Content-Length: {SIZE}") + SMUGGLED,
        Saw(body=SMUGGLED),
    ),
    accepted(
        "a request behind a body of length 0",
        post("Content-Length: 0", body=b"") + SMUGGLED,
        SAW_EMPTY,
        Saw(url="/smuggled"),
        why="it is a request of its own: the length says so",
    ),
    accepted(
        "a body of all bytes",
        post("Content-Length: 256", body=bytes(range(256))),
        Saw("POST", body=bytes(range(256))),
    ),
    accepted(
        "a compressed body is not decoded",
        post("Content-Encoding: gzip", "Content-Length: 3", body=b"\x1f\x8b\x08"),
        Saw("POST", body=b"\x1f\x8b\x08"),
    ),
    accepted(
        "Content_Length is another field",
        post("Content_Length: 500", "Content-Length: 5"),
        SAW_HELLO,
    ),
    *refusals(
        400,
        {
            "a length twice": lengths("5", "5"),
            "two lengths": lengths("5", "6"),
            "two lengths, the first 0": lengths("0", "5"),
            "a length twice, in other words": lengths("5", "05"),
            "a length three times": lengths("5", "5", "5"),
            "two lengths in other cases": post("content-length: 5", "CONTENT-LENGTH: 5"),
            "two lengths far apart": post("Content-Length: 5", "X: 1", "Y: 2", "Content-Length: 5"),
            "a length and an empty one": lengths("5", ""),
            "an empty length and one": lengths("", "5"),
            "a list of equal lengths": lengths("5, 5"),
            "a list of lengths": lengths("5,6"),
            "a length and a comma": lengths("5,"),
            "a comma and a length": lengths(",5"),
            "an empty length": lengths(""),
            "a length of blanks": lengths(" \t "),
            "a length with a plus": lengths("+5"),
            "a length with a minus": lengths("-5"),
            "a length of -0": lengths("-0"),
            "a length in hexadecimal": lengths("0x5"),
            "a length in octal": lengths("0o5"),
            "a hexadecimal digit": lengths("a"),
            "a length with an underscore": lengths("1_0"),
            "a length with a point": lengths("5.0"),
            "a length with an exponent": lengths("5e0"),
            "a length in quotes": lengths('"5"'),
            "a length with a semicolon": lengths("5;"),
            "a length with a blank in it": lengths("5 0"),
            "a length in words": lengths("five"),
            "a length of NaN": lengths("NaN"),
            "a length of a superscript": lengths("\xb2"),
            "a length of Arabic digits": lengths("\xd9\xa5"),
            "a length of a full-width digit": lengths("\xef\xbc\x95"),
            "a NUL behind a length": lengths("5\x00"),
            "a NUL before a length": lengths("\x005"),
            "VT before a length": lengths("\x0b5"),
            "FF behind a length": lengths("5\x0c"),
            "NEL behind a length": lengths("5\x85"),
            "a no-break space behind a length": lengths("5\xa0"),
            "a length of 2^64": lengths("18446744073709551616"),
            "a length of 2^64 + 5": lengths("18446744073709551621"),
            "a length of 40 digits": lengths("9" * 40),
            "a folded length": post("Content-Length:\r\n 5"),
            "a length folded in two": post("Content-Length: 1\r\n 0"),
            "a space before the length's colon": post("Content-Length : 5"),
            "a tab before the length's colon": post("Content-Length\t: 5"),
            "a NUL before the length's colon": post("Content-Length\x00: 5"),
        },
    ),
    refused("a length over the limit", lengths(str(BODY_LIMIT + 1)), 413),
    refused("a length over the limit, padded", lengths("0" * 30 + str(BODY_LIMIT + 1)), 413),
    refused("a length of 2^63", lengths(str(2**63)), 413),
    refused("a length of 2^64 - 1", lengths(str(2**64 - 1)), 413),
    refused(
        "a length over the limit and its body",
        post(f"Content-Length: {BODY_LIMIT + 1}", body=b"x" * 100_000),
        413,
    ),
    refused("a GET with a length over the limit", get(f"Content-Length: {BODY_LIMIT + 1}"), 413),
    refused(
        "a HEAD with a length over the limit",
        get(f"Content-Length: {BODY_LIMIT + 1}", method="HEAD"),
        413,
    ),
    accepted(
        "a body of the limit",
        post(f"Content-Length: {BODY_LIMIT}", body=b"x" * BODY_LIMIT),
        Saw("POST", body=b"x" * BODY_LIMIT),
    ),
]

CODINGS = [
    accepted("chunked", coded("chunked"), SAW_HELLO),
    accepted(
        "CHUNKED", coded("CHUNKED"), SAW_HELLO, why="codings have no case (RFC 9112 section 7)"
    ),
    accepted(
        "a tab before chunked", coded("\tchunked"), SAW_HELLO, why="blanks may surround any value"
    ),
    accepted("blanks around chunked", coded(" \t chunked  "), SAW_HELLO),
    refused(
        "a tab behind chunked",
        coded("chunked\t"),
        why="a blank may stand there, but httptools takes it for part of the coding; nobody sends it",
    ),
    accepted("no blank before chunked", post("Transfer-Encoding:chunked", body=HELLO), SAW_HELLO),
    accepted("a GET in chunks", get("Transfer-Encoding: chunked") + HELLO, Saw(body=b"hello")),
    accepted(
        "a HEAD in chunks",
        get("Transfer-Encoding: chunked", method="HEAD") + HELLO,
        Saw("HEAD", body=b"hello"),
    ),
    accepted(
        "Transfer_Encoding is another field",
        post("Transfer_Encoding: chunked", "Content-Length: 5"),
        SAW_HELLO,
    ),
    accepted(
        "Content-Encoding is no framing",
        post("Content-Encoding: chunked", "Content-Length: 5"),
        SAW_HELLO,
    ),
    accepted("TE is no framing", get("TE: trailers, chunked", "Connection: TE")),
    accepted(
        "a chunk that is a request",
        chunked(chunk(SMUGGLED) + b"0\r\n\r\n"),
        Saw("POST", body=SMUGGLED),
    ),
    *refusals(
        400,
        {
            "CL.TE": post("Content-Length: 6", "Transfer-Encoding: chunked", body=b"0\r\n\r\nG"),
            "CL.TE around a request": post(
                f"Content-Length: {SIZE + 5}",
                "Transfer-Encoding: chunked",
                body=b"0\r\n\r\n" + SMUGGLED,
            ),
            "TE.CL": post(
                "Transfer-Encoding: chunked",
                "Content-Length: 4",
                body=chunk(SMUGGLED) + b"0\r\n\r\n",
            ),
            "TE and a length of 0": post(
                "Transfer-Encoding: chunked", "Content-Length: 0", body=b"0\r\n\r\n"
            ),
            "TE.CL of a GET": get("Transfer-Encoding: chunked", "Content-Length: 15") + HELLO,
            "CL.TE, far apart": post(
                "Content-Length: 15", "A: 1", "B: 2", "Transfer-Encoding: chunked", body=HELLO
            ),
            "CL.TE in other cases": post(
                "cONTENT-lENGTH: 15", "tRANSFER-eNCODING: cHUNKED", body=HELLO
            ),
            "a length and gzip": post("Content-Length: 5", "Transfer-Encoding: gzip"),
            "a length and identity": post("Content-Length: 5", "Transfer-Encoding: identity"),
            "a length and xchunked": post(
                "Content-Length: 15", "Transfer-Encoding: xchunked", body=HELLO
            ),
            "a length and an empty coding": post("Content-Length: 5", "Transfer-Encoding:"),
            "a length over the limit and chunked": post(
                f"Content-Length: {BODY_LIMIT + 1}", "Transfer-Encoding: chunked", body=HELLO
            ),
            "chunked twice": coded("chunked", "chunked"),
            "chunked twice in a list": coded("chunked, chunked"),
            "chunked and identity": coded("chunked", "identity"),
            "identity and chunked": coded("identity", "chunked"),
            "chunked and cow": coded("chunked", "cow"),
            "cow and chunked": coded("cow", "chunked"),
            "chunked and an empty coding": coded("chunked", ""),
            "an empty coding and chunked": coded("", "chunked"),
            "chunked, identity": coded("chunked, identity"),
            "identity, chunked": coded("identity, chunked"),
            "gzip, chunked": coded("gzip, chunked"),
            "chunked, gzip": coded("chunked, gzip"),
            "a comma before chunked": coded(", chunked"),
            "a comma behind chunked": coded("chunked,"),
            "gzip": coded("gzip"),
            "identity": coded("identity"),
            "an empty coding": coded(""),
            "a coding of blanks": coded(" \t "),
            "xchunked": coded("xchunked"),
            "chunkedx": coded("chunkedx"),
            "chunk": coded("chunk"),
            "chunked in quotes": coded('"chunked"'),
            "chunked in single quotes": coded("'chunked'"),
            "chunked with a parameter": coded("chunked;q=1"),
            "chunked and a semicolon": coded("chunked;"),
            "chunked chunked": coded("chunked chunked"),
            "chunked of a Kelvin sign": coded("chun\xe2\x84\xaaed"),
            "VT before chunked": coded("\x0bchunked"),
            "VT right before chunked": post("Transfer-Encoding:\x0bchunked", body=HELLO),
            "FF before chunked": coded("\x0cchunked"),
            "FF behind chunked": coded("chunked\x0c"),
            "NUL behind chunked": coded("chunked\x00"),
            "NUL before chunked": coded("\x00chunked"),
            "BS behind chunked": coded("chunkedd\x08"),
            "DEL behind chunked": coded("chunked\x7f"),
            "NEL behind chunked": coded("chunked\x85"),
            "a no-break space before chunked": coded("\xa0chunked"),
            "0xFF before chunked": coded("\xff chunked"),
            "a byte order mark before chunked": coded("\xef\xbb\xbfchunked"),
            "chunked on a folded line": post("Transfer-Encoding:\r\n chunked", body=HELLO),
            "chunked on a line folded with a tab": post(
                "Transfer-Encoding:\r\n\tchunked", body=HELLO
            ),
            "identity on a folded line": post(
                "Transfer-Encoding: chunked\r\n , identity", body=HELLO
            ),
            "chunked on a line after LF": post("Transfer-Encoding:\n chunked", body=HELLO),
            "a space before its colon": post("Transfer-Encoding : chunked", body=HELLO),
            "a tab before its colon": post("Transfer-Encoding\t: chunked", body=HELLO),
            "a line end before its colon": post("Transfer-Encoding\r\n : chunked", body=HELLO),
            "a NUL before its colon": post("Transfer-Encoding\x00: chunked", body=HELLO),
            "a space before its name": post(" Transfer-Encoding: chunked", body=HELLO),
            "a tab before its name": post("\tTransfer-Encoding: chunked", body=HELLO),
            "a NUL before its name": post("\x00Transfer-Encoding: chunked", body=HELLO),
            "a high byte before its name": post("\xffTransfer-Encoding: chunked", body=HELLO),
            "its name behind LF in a value": post("X: y\nTransfer-Encoding: chunked", body=HELLO),
            "its name behind CR in a value": post("X: y\rTransfer-Encoding: chunked", body=HELLO),
            "its name behind CR CR LF": post("X: y\r\r\nTransfer-Encoding: chunked", body=HELLO),
            "its name behind CR on a line": post(
                "X: y\r\n\rTransfer-Encoding: chunked", body=HELLO
            ),
            "its name before a space and its colon in HTTP/1.0": post(
                "Transfer-Encoding : chunked", body=HELLO, version="HTTP/1.0"
            ),
            "chunked in HTTP/1.0": post(
                "Transfer-Encoding: chunked", body=HELLO, version="HTTP/1.0"
            ),
            "chunked in HTTP/1.0 that stays": post(
                "Connection: keep-alive",
                "Transfer-Encoding: chunked",
                body=HELLO,
                version="HTTP/1.0",
            ),
            "CL.TE in HTTP/1.0": post(
                "Content-Length: 15", "Transfer-Encoding: chunked", body=HELLO, version="HTTP/1.0"
            ),
            "gzip in HTTP/1.0": post("Transfer-Encoding: gzip", version="HTTP/1.0"),
            "an empty coding in HTTP/1.0": post("Transfer-Encoding:", version="HTTP/1.0"),
            "a HEAD of CL.TE": get(
                "Content-Length: 15", "Transfer-Encoding: chunked", method="HEAD"
            )
            + HELLO,
        },
    ),
]

WEBSOCKET = (
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)

UPGRADES = [
    accepted("an upgrade to h2c", get(*H2C), headers={"upgrade": None}),
    accepted("an upgrade to h2c with a body", post(*H2C, "Content-Length: 5"), SAW_HELLO),
    accepted(
        "an upgrade to h2c with a body that is a request",
        post(*H2C, f"Content-Length: {SIZE}", body=SMUGGLED),
        Saw("POST", body=SMUGGLED),
    ),
    accepted("an upgrade to h2c with chunks", chunked(HELLO, *H2C), SAW_HELLO),
    accepted(
        "an upgrade to h2c with a chunk that is a request",
        chunked(chunk(SMUGGLED) + b"0\r\n\r\n", *H2C),
        Saw("POST", body=SMUGGLED),
    ),
    accepted(
        "an upgrade to h2c with an empty body", post(*H2C, "Content-Length: 0", body=b""), SAW_EMPTY
    ),
    accepted("an upgrade to a websocket", get(*WEBSOCKET), headers={"upgrade": None}),
    accepted(
        "an upgrade to a websocket with a body",
        get(*WEBSOCKET, "Content-Length: 5") + b"hello",
        Saw(body=b"hello"),
    ),
    accepted(
        "an upgrade to TLS",
        get("Connection: upgrade", "Upgrade: TLS/1.0", target="*", method="OPTIONS"),
        Saw("OPTIONS", "*"),
    ),
    accepted(
        "an upgrade and close", get("Connection: close, upgrade", "Upgrade: h2c"), closes=True
    ),
    accepted("an upgrade in HTTP/1.0", get(*WEBSOCKET, version="HTTP/1.0"), closes=True),
    accepted("Upgrade without Connection", get("Upgrade: websocket")),
    accepted(
        "Connection: upgrade without Upgrade",
        post("Connection: upgrade", "Content-Length: 5"),
        SAW_HELLO,
    ),
    *refusals(
        400,
        {
            "an upgrade with CL.TE": post(
                *H2C, "Content-Length: 15", "Transfer-Encoding: chunked", body=HELLO
            ),
            "an upgrade with TE.CL": post(
                *H2C, "Transfer-Encoding: chunked", "Content-Length: 15", body=HELLO
            ),
            "an upgrade with two lengths": post(*H2C, "Content-Length: 5", "Content-Length: 5"),
            "an upgrade with a list of lengths": post(*H2C, "Content-Length: 5, 5"),
            "an upgrade with a length in hexadecimal": post(*H2C, "Content-Length: 0x5"),
            "an upgrade with gzip": post(*H2C, "Transfer-Encoding: gzip", body=HELLO),
            "an upgrade with chunked twice": post(
                *H2C, "Transfer-Encoding: chunked", "Transfer-Encoding: chunked", body=HELLO
            ),
            "an upgrade with a wrong chunk": chunked(b"5 \r\nhello\r\n0\r\n\r\n", *H2C),
            "an upgrade with Host in the trailers": chunked(b"0\r\nHost: a\r\n\r\n", *H2C),
        },
    ),
    refused(
        "an upgrade with a length over the limit",
        post(*H2C, f"Content-Length: {BODY_LIMIT + 1}"),
        413,
    ),
]

CASES: list[Case] = [*LENGTHS, *CODINGS, *UPGRADES]

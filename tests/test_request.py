"""The request as a handler sees it."""

from __future__ import annotations

import tracemalloc
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bunpy.errors import HTTPError, InvalidBody
from bunpy.http.request import Request


def a_request(url: str = "/", body: bytes = b"", method: str = "GET", **headers: str) -> Request:
    return Request(
        method, url, {name.replace("_", "-"): value for name, value in headers.items()}, body
    )


def test_a_request_is_what_it_was_made_of() -> None:
    headers = {"host": "a"}
    request = Request("POST", "/a?b=c", headers, b"body", ("192.0.2.1", 4000), "1.0")
    assert (request.method, request.url, request.body) == ("POST", "/a?b=c", b"body")
    assert request.headers is headers
    assert request.client == ("192.0.2.1", 4000)
    assert request.http_version == "1.0"
    bare = Request("GET", "/", {})
    assert (bare.body, bare.client, bare.http_version) == (b"", None, "1.1")


def test_a_request_shows_its_method_and_url() -> None:
    assert repr(Request("GET", "/a?b", {"cookie": "secret"})) == "<Request GET /a?b>"


def test_a_request_takes_no_other_attribute() -> None:
    with pytest.raises(AttributeError):
        a_request().user = "me"  # type: ignore[attr-defined]


def test_a_copy_shares_nothing_that_changes() -> None:
    request = Request("POST", "/a?b=c", {"host": "a"}, b"body", ("192.0.2.1", 4000), "1.0")
    assert request.query == {"b": "c"}
    copy = request.copy()
    request.headers["host"] = "b"  # type: ignore[index]
    request.query_all["b"][0] = "d"
    request.url = "/"
    assert (copy.method, copy.url, copy.body, copy.client) == (
        "POST", "/a?b=c", b"body", ("192.0.2.1", 4000)
    )  # fmt: skip
    assert (copy.http_version, copy.headers, copy.query) == ("1.0", {"host": "a"}, {"b": "c"})


# Path and query


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("/", "/"),
        ("*", "*"),
        ("/a/b", "/a/b"),
        ("/a?b", "/a"),
        ("/a?b?c", "/a"),
        ("/?/a", "/"),
        ("//a//b", "//a//b"),
        ("/a%20b", "/a b"),
        ("/a+b", "/a+b"),
        ("/%C3%A9%e2%98%83", "/\xe9\u2603"),
        ("/a%2Fb%3Fc", "/a/b?c"),
        ("/%2e%2e/a", "/../a"),
        ("/%00", "/\0"),
        ("/%", "/%"),
        ("/%zz%4", "/%zz%4"),
        ("/%25%32%30", "/%20"),
        ("/%FF", "/\ufffd"),
        ("/a;b=c", "/a;b=c"),
    ],
)
def test_the_path(url: str, path: str) -> None:
    request = a_request(url)
    assert request.path == path
    assert request.path == path  # as it is when it is asked for again
    assert request.url == url


@pytest.mark.parametrize(
    ("url", "query"),
    [
        ("/", {}),
        ("/?", {}),
        ("/?a=b", {"a": ["b"]}),
        ("/?a=1&b=2&a=3", {"a": ["1", "3"], "b": ["2"]}),
        ("/?a", {"a": [""]}),
        ("/?a=&b=", {"a": [""], "b": [""]}),
        ("/?a=&a=1", {"a": ["", "1"]}),
        ("/?=a", {"": ["a"]}),
        ("/?a=b=c", {"a": ["b=c"]}),
        ("/?a=b?c", {"a": ["b?c"]}),
        ("/?a+b=c+d", {"a b": ["c d"]}),
        ("/?a%26b=c%3Dd%2B", {"a&b": ["c=d+"]}),
        ("/?%C3%A9=%E2%98%83", {"\xe9": ["\u2603"]}),
        ("/?a=%FF", {"a": ["\ufffd"]}),
        ("/?a=%zz", {"a": ["%zz"]}),
        ("/?a=1;b=2", {"a": ["1;b=2"]}),
        ("/?&&a=1&&", {"a": ["1"]}),
        ("/?A=1&a=2", {"A": ["1"], "a": ["2"]}),
    ],
)
def test_the_query(url: str, query: dict[str, list[str]]) -> None:
    request = a_request(url)
    assert request.query_all == query
    assert request.query == {key: values[0] for key, values in query.items()}
    assert request.query_all == query


def test_the_query_has_the_first_value_of_each_key() -> None:
    assert a_request("/?a=1&a=2&b=&b=3").query == {"a": "1", "b": ""}


def test_a_query_in_a_path_is_none() -> None:
    request = a_request("/a%3Fb=c")
    assert (request.path, request.query) == ("/a?b=c", {})


def test_a_query_that_was_changed_changes_no_other() -> None:
    request = a_request("/?a=1")
    request.query["a"] = "2"
    request.query["b"] = "3"
    assert request.query == {"a": "1"}


# Cookies


@pytest.mark.parametrize(
    ("header", "cookies"),
    [
        ("", {}),
        ("a=1", {"a": "1"}),
        ("a=1; b=2", {"a": "1", "b": "2"}),
        ("a=1;b=2;  c=3 ;", {"a": "1", "b": "2", "c": "3"}),
        ("a=1; a=2", {"a": "1"}),
        ("a=", {"a": ""}),
        ("a", {}),
        ("a; b=2", {"b": "2"}),
        ("a=b=c==", {"a": "b=c=="}),
        ('a="b c"', {"a": "b c"}),
        ('a=""', {"a": ""}),
        ('a="', {"a": '"'}),
        ('a="b', {"a": '"b'}),
        ('a=b"', {"a": 'b"'}),
        ('a="b"c"', {"a": 'b"c'}),
        ("a=%20b", {"a": "%20b"}),
        ("a=b,c", {"a": "b,c"}),
        ("A=1; a=2", {"A": "1", "a": "2"}),
        ("__Host-id=x.y-z", {"__Host-id": "x.y-z"}),
        ("; ;;", {}),
    ],
)
def test_the_cookies(header: str, cookies: dict[str, str]) -> None:
    assert a_request(cookie=header).cookies == cookies


def test_no_cookies() -> None:
    assert a_request().cookies == {}


# Last-Event-ID (WHATWG HTML 9.2.4: sent as UTF-8)


@pytest.mark.parametrize(
    ("text", "id_"),
    [
        ("1", "1"),
        ("", ""),
        ("a b", "a b"),
        ("caf\xe9", "caf\xe9"),
        ("\u2603\U0001f600", "\u2603\U0001f600"),
    ],
)
def test_the_last_event_id_is_utf_8(text: str, id_: str) -> None:
    header = text.encode().decode("latin-1")  # as the reader gives it
    assert a_request(last_event_id=header).last_event_id == id_


def test_a_last_event_id_that_is_not_utf_8_is_no_error() -> None:
    assert a_request(last_event_id="a\xe9").last_event_id == "a\ufffd"


def test_no_last_event_id() -> None:
    assert a_request().last_event_id is None


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_last_event_id_comes_back(text: str) -> None:
    assert a_request(last_event_id=text.encode().decode("latin-1")).last_event_id == text


# Text


def is_bad_request(exc: HTTPError) -> bool:
    """Let through, the error is answered 400; caught by the handler, it is a ValueError."""
    return isinstance(exc, InvalidBody) and isinstance(exc, ValueError) and exc.status == 400


@pytest.mark.parametrize(
    ("kind", "body", "text"),
    [
        ("", b"h\xc3\xa9llo", "h\xe9llo"),
        ("text/plain", b"h\xc3\xa9llo", "h\xe9llo"),
        ("text/plain; charset=utf-8", b"h\xc3\xa9llo", "h\xe9llo"),
        ("text/plain;charset=UTF-8", b"h\xc3\xa9llo", "h\xe9llo"),
        ('text/plain; Charset="utf-8"', b"h\xc3\xa9llo", "h\xe9llo"),
        ("text/plain; format=flowed; charset=iso-8859-1", b"h\xe9llo", "h\xe9llo"),
        ("text/plain; charset = latin-1 ; a=b", b"h\xe9llo", "h\xe9llo"),
        ("text/plain; charset=utf-16", b"\xff\xfeh\0i\0", "hi"),
        ("text/plain; charset=windows-1252", b"\x80", "\u20ac"),
        ("text/plain; charset=", b"h\xc3\xa9llo", "h\xe9llo"),
        ("text/plain; charset", b"h\xc3\xa9llo", "h\xe9llo"),
        ("text/plain; xcharset=latin-1", b"h\xc3\xa9llo", "h\xe9llo"),
        ("text/plain; charset=us-ascii", b"hello", "hello"),
        ("", b"", ""),
        ("", b"a\0\r\nb", "a\0\r\nb"),
    ],
)
def test_the_text(kind: str, body: bytes, text: str) -> None:
    assert a_request(body=body, content_type=kind).text() == text


def test_text_without_a_type_is_utf_8() -> None:
    assert a_request(body="\u2603".encode()).text() == "\u2603"


@pytest.mark.parametrize(
    ("charset", "body"),
    [
        ("utf-8", b"\xff"),
        ("utf-8", b"\xed\xa0\x80"),
        ("ascii", b"\xe9"),
        ("utf-16", b"\xff\xfe\0"),
        ("no-such-charset", b"a"),
        ("\xe9", b"a"),
        ("a" * 1000, b"a"),
        # Codecs of Python's that are no charsets
        ("hex", b"61"),
        ("base64", b"YQ=="),
        ("rot13", b"a"),
        ("zip", b"a"),
        ("undefined", b"a"),
        ("idna", b"xn--a-\x00."),
    ],
)
def test_a_body_that_is_not_its_text(charset: str, body: bytes) -> None:
    with pytest.raises(HTTPError) as error:
        a_request(body=body, content_type=f"text/plain; charset={charset}").text()
    assert is_bad_request(error.value)
    assert error.value.message.startswith(f"The body is not text in {charset}: ")
    assert error.value.__cause__ is not None


def test_a_charset_that_takes_quadratic_time_is_none() -> None:
    """Python's punycode needs 11 s for 400 KB, on the loop; no client means it."""
    with pytest.raises(HTTPError) as error:
        a_request(body=b"abc", content_type="text/plain; charset=punycode").text()
    assert is_bad_request(error.value)


# JSON


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b"{}", {}),
        (
            b' {"a": [1, 2.5, null, true, "\xe2\x98\x83"]}\r\n',
            {"a": [1, 2.5, None, True, "\u2603"]},
        ),
        (b'"\\u2603"', "\u2603"),
        (b"0", 0),
        (b"null", None),
        ('{"a": 1}'.encode("utf-16"), {"a": 1}),
        (b'\xef\xbb\xbf{"a": 1}', {"a": 1}),
    ],
)
@pytest.mark.parametrize("kind", ["", "application/json", "text/plain"])
def test_json(body: bytes, value: object, kind: str) -> None:
    assert a_request(body=body, content_type=kind).json() == value


@pytest.mark.parametrize(
    "body",
    [b"", b" ", b"{", b"{]", b"{'a': 1}", b"[1,]", b"01", b"1 2", b"a", b"\xff", b'"\xe9"', b'"a\nb"', b"True", b"\0",
     b"1" * 5000, b"[" * 100_000, b'{"a":' * 100_000],
    ids=lambda body: repr(body[:10]),
)  # fmt: skip
def test_a_body_that_is_not_json(body: bytes) -> None:
    with pytest.raises(HTTPError) as error:
        a_request(body=body).json()
    assert is_bad_request(error.value)
    assert error.value.message.startswith("The body is not JSON: ")
    assert len(error.value.message) < 300
    assert error.value.__cause__ is not None


@pytest.mark.parametrize("body", [b"NaN", b'{"a": -Infinity}'])
def test_a_number_that_json_does_not_have(body: bytes) -> None:
    """RFC 8259 section 6; ``json.loads`` has them, and what it gives cannot be sent on as JSON."""
    with pytest.raises(HTTPError) as error:
        a_request(body=body).json()
    assert is_bad_request(error.value)


# Forms

FORM = "application/x-www-form-urlencoded"


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        (b"", {}),
        (b"a=1&b=2", {"a": "1", "b": "2"}),
        (b"a=1&a=2", {"a": "1"}),
        (b"a=&b", {"a": "", "b": ""}),
        (b"a+b=c%20d%26", {"a b": "c d&"}),
        (b"%C3%A9=%E2%98%83", {"\xe9": "\u2603"}),
        ("\xe9=\u2603".encode(), {"\xe9": "\u2603"}),
        (b"a=1;b=2", {"a": "1;b=2"}),
        (b"a=b=c", {"a": "b=c"}),
    ],
)
@pytest.mark.parametrize(
    "kind", [FORM, f"{FORM}; charset=UTF-8", "Application/X-WWW-Form-Urlencoded ;a=b"]
)
def test_a_form(body: bytes, fields: dict[str, str], kind: str) -> None:
    assert a_request(body=body, content_type=kind).form() == fields


@pytest.mark.parametrize("body", [b"\xff", b"a=\xe9", b"a=1&\xc3"])
def test_a_form_that_is_none(body: bytes) -> None:
    with pytest.raises(HTTPError) as error:
        a_request(body=body, content_type=FORM).form()
    assert is_bad_request(error.value)
    assert error.value.message.startswith("The body is no form: ")
    assert error.value.__cause__ is not None


@pytest.mark.parametrize(
    ("kind", "named"),
    [
        ("", "of no declared type"),
        ("multipart/form-data; boundary=a", "multipart/form-data"),
        ("application/json", "application/json"),
        ("text/plain", "text/plain"),
        (f"text/plain; {FORM}", "text/plain"),
    ],
)
def test_a_body_of_another_type_is_no_form(kind: str, named: str) -> None:
    with pytest.raises(HTTPError) as error:
        a_request(body=b"a=1", content_type=kind).form()
    assert error.value.status == 415
    assert error.value.message == f"The body is {named}, not {FORM}"


def test_a_body_without_a_type_is_no_form() -> None:
    with pytest.raises(HTTPError, match="415 The body is of no declared type"):
        a_request(body=b"a=1").form()


# Any request at all


@given(
    st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E)),
    st.dictionaries(
        st.sampled_from(["cookie", "last-event-id", "content-type"]),
        st.text(st.characters(max_codepoint=255, exclude_categories=["Cc"])),
    ),
    st.binary(max_size=50),
)
def test_nothing_in_a_request_raises_but_what_is_answered(
    url: str, headers: dict[str, str], body: bytes
) -> None:
    request: Any = Request("POST", f"/{url}", headers, body)
    assert isinstance(request.path, str)
    assert {key: values[0] for key, values in request.query_all.items()} == request.query
    assert isinstance(request.cookies, dict)
    assert request.last_event_id is None or isinstance(request.last_event_id, str)
    for read in (request.text, request.json, request.form):
        with suppress(HTTPError):
            read()


def test_what_was_made_of_a_url_is_made_once() -> None:
    request = a_request(f"/{'a' * 10_000}?{'b=c&' * 10_000}")
    assert request.path is request.path
    assert request.query_all is request.query_all
    tracemalloc.start()
    try:
        for _ in range(100):
            assert request.path
            assert request.query_all
        assert tracemalloc.get_traced_memory()[1] < 50_000  # a list of the values takes 80,000
    finally:
        tracemalloc.stop()

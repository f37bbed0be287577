"""What the arguments of a CORS policy may be: every mistake is refused, with what was meant."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bunpy.errors import ConfigError
from bunpy.http.cors_options import field_names, known_methods, known_origins

ORIGINS = [
    "https://example.org",
    "http://example.org",
    "https://example.org:8443",
    "https://example.org:80",
    "http://example.org:443",
    "http://localhost:5173",
    "http://localhost",
    "http://127.0.0.1:3000",
    "http://[::1]:3000",
    "http://[2001:db8::1]",
    "https://[::ffff:c000:201]",
    "https://a",
    "https://a_b.example",
    "https://example.org.",
    "https://xn--bcher-kva.example",
    "https://a.b.c.d.example:65535",
    "capacitor://localhost",
    "chrome-extension://abcdefghijklmnopabcdefghijklmnop",
    "moz-extension://6f3c1a52-1111-4222-8333-944455556666",
    "safari-web-extension://6F3C1A52-1111-4222-8333-944455556666",
]


@pytest.mark.parametrize("origin", ORIGINS)
def test_an_origin(origin: str) -> None:
    assert known_origins(origin) == (origin,)
    assert known_origins([origin]) == (origin,)


@pytest.mark.parametrize(
    "value",
    [
        ["https://b.example", "https://a.example"],
        ("https://b.example", "https://a.example"),
        iter(["https://b.example", "https://a.example"]),
    ],
)
def test_origins_are_taken_as_they_come(value: Any) -> None:
    assert known_origins(value) == ("https://b.example", "https://a.example")


@pytest.mark.parametrize("value", ["*", ["*"], {"*"}])
def test_a_star_is_every_origin(value: Any) -> None:
    assert known_origins(value) == ("*",)


@pytest.mark.parametrize(
    ("text", "fault", "right"),
    [
        ("https://example.org/", "ends in a slash", "https://example.org"),
        ("http://localhost:5173/", "ends in a slash", "http://localhost:5173"),
        ("https://example.org/app", "has a path", "https://example.org"),
        ("https://example.org/app/?a#b", "has a path", "https://example.org"),
        ("https://example.org?a=b", "has a path, a query", "https://example.org"),
        ("https://example.org#a", "has a path, a query or a fragment", "https://example.org"),
        ("https://example.org:443", "spells the default port out", "https://example.org"),
        ("http://example.org:80", "spells the default port out", "http://example.org"),
        ("http://[::1]:80", "spells the default port out", "http://[::1]"),
        ("https://Example.org", "is not in lower case", "https://example.org"),
        ("HTTPS://example.org", "is not in lower case", "https://example.org"),
        ("http://LOCALHOST:3000", "is not in lower case", "http://localhost:3000"),
        ("http://[2001:DB8::1]", "is not in lower case", "http://[2001:db8::1]"),
        ("Capacitor://localhost", "is not in lower case", "capacitor://localhost"),
        ("example.org", "has no scheme", "https://example.org"),
        ("example.org:8443", "has no scheme", "https://example.org:8443"),
        ("Example.org:443/", "has no scheme", "https://example.org"),
        ("localhost:5173", "has no scheme", "http://localhost:5173"),
        ("127.0.0.1:80", "has no scheme", "http://127.0.0.1"),
        ("[::1]:5173", "has no scheme", "http://[::1]:5173"),
        ("https://me@example.org", "has a user in it", "https://example.org"),
        ("https://me:secret@example.org:1/", "has a user in it", "https://example.org:1"),
        ("https://example.org:", "is not spelled as browsers spell it", "https://example.org"),
        ("https://example.org:00443", "spells the default port out", "https://example.org"),
        ("http://a:08080", "is not spelled as browsers spell it", "http://a:8080"),
        ("http://[0:0:0:0:0:0:0:1]", "is not spelled as browsers spell it", "http://[::1]"),
        ("http://[::ffff:192.0.2.1]", "is not spelled as", "http://[::ffff:c000:201]"),
    ],
)
def test_an_origin_that_browsers_spell_otherwise(text: str, fault: str, right: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        known_origins([text])
    message = str(refusal.value)
    assert message.startswith(f"cors: the origin {text!r} {fault}")
    assert message.endswith(f": write {right!r}")
    assert known_origins([right]) == (right,)


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "https://", "https:///", "https://:80", "://example.org", "https:example.org", "//example.org",
        " https://example.org", "https://example.org ", "https://exa mple.org", "https://example.org\n",
        "https://example.org/\n", "https://example.org\r\nX: y", "https://example.org\0", "https://b\xfccher.example",
        "https://a,https://b", "https://a, https://b", "https://a https://b", "https://example.org:65536",
        "https://example.org:99999", "https://example.org:123456", "https://example.org:x", "https://example.org:-1",
        "https://example.org:8\u0660", "http://[::1", "http://::1", "http://[]", "http://[:::]",
        "http://[127.0.0.1]", "http://[::1%eth0]", "1http://a", "file://", "data:text/html,a", "about:blank",
        "\ud800", "https://a\\b",
    ],
)  # fmt: skip
def test_what_is_no_origin(text: str) -> None:
    with pytest.raises(
        ConfigError, match=f"^{re.escape(f'cors: {text!r} is no origin: it is a scheme, a host')}"
    ):
        known_origins([text])


@pytest.mark.parametrize("value", ["null", ["null"], ["https://example.org", "null"]])
def test_null_is_anybody(value: Any) -> None:
    with pytest.raises(ConfigError, match="'null' is that of every sandboxed frame"):
        known_origins(value)


@pytest.mark.parametrize(
    "text",
    ["https://*.example.org", "*.example.org", "http://localhost:*", "*://example.org", "**"],
)
def test_a_pattern_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(f"{text!r} is a pattern: name each origin")):
        known_origins([text])


@pytest.mark.parametrize("value", [["*", "https://example.org"], ["https://example.org", "*"]])
def test_a_star_among_origins_is_refused(value: Any) -> None:
    with pytest.raises(ConfigError, match='it is "\\*" alone, or without it'):
        known_origins(value)


@pytest.mark.parametrize("value", [[], (), set(), iter([])])
def test_no_origin_at_all_is_refused(value: Any) -> None:
    with pytest.raises(ConfigError, match="origins is empty: name one, or leave cors out"):
        known_origins(value)


@pytest.mark.parametrize("item", [None, 5, b"https://example.org", ["https://example.org"]])
def test_an_origin_is_text(item: Any) -> None:
    with pytest.raises(
        ConfigError, match=re.escape(f"an origin is a str, as 'https://example.org', not {item!r}")
    ):
        known_origins(["https://example.org", item])


def taken(value: object) -> tuple[str, ...] | str:
    """The origins, or why they are refused."""
    try:
        return known_origins(value)
    except ConfigError as refusal:
        return str(refusal)


@given(st.text())
def test_any_text_is_one_origin_or_refused(text: str) -> None:
    origins = taken(text)
    if isinstance(origins, str):
        assert repr(text) in origins
    else:
        assert origins == (text,)
        assert text == "*" or re.fullmatch(r"[a-z][a-z0-9+.-]*://[][A-Za-z0-9._:-]+", text)


@given(
    st.sampled_from(["http", "https", "app", "HTTP"]),
    st.from_regex(r"[A-Za-z0-9._-]+", fullmatch=True),
    st.integers(-1, 70_000),
    st.sampled_from(["", "/", "/a?b#c"]),
)
def test_the_spelling_that_is_asked_for_is_taken(
    scheme: str, host: str, port: int, rest: str
) -> None:
    text = f"{scheme}://{host}{f':{port}' if port >= 0 else ''}{rest}"
    origins = taken([text])
    if port > 65535:
        assert "is no origin" in origins
    elif isinstance(origins, str):
        right = origins.rpartition("write ")[2].strip("'")
        assert taken([right]) == (right,)
    else:
        assert origins == (text,)


# Methods


@pytest.mark.parametrize(
    ("value", "methods"),
    [
        (["GET"], ("GET",)),
        (("PUT", "DELETE", "M-SEARCH"), ("PUT", "DELETE", "M-SEARCH")),
        ([], ()),
        ("*", ("*",)),
        (["*"], ("*",)),
    ],
)
def test_methods(value: Any, methods: tuple[str, ...]) -> None:
    assert known_methods(value) == methods


@pytest.mark.parametrize(("name", "right"), [("get", "GET"), ("Patch", "PATCH")])
def test_a_method_in_lower_case_is_another(name: str, right: str) -> None:
    with pytest.raises(
        ConfigError, match=f"methods has '{name}', and case matters: write '{right}'$"
    ):
        known_methods(["GET", name])


@pytest.mark.parametrize(
    "name", ["", "GET, POST", "GET POST", "G\xc9T", "GET\r\nX: y", "GET\n", 5, None]
)
def test_what_is_no_method(name: Any) -> None:
    with pytest.raises(
        ConfigError, match=re.escape(f"methods has {name!r}: a method is a word, as 'GET'")
    ):
        known_methods(["GET", name])


# Field names


@pytest.mark.parametrize(
    ("value", "names"),
    [
        ([], ()),
        (["X-Request-ID", "content-type"], ("x-request-id", "content-type")),
        ({"Authorization": 1}.keys(), ("authorization",)),
        ("*", ("*",)),
        (["*", "Authorization"], ("*", "authorization")),
    ],
)
@pytest.mark.parametrize("option", ["headers", "expose"])
def test_names(option: str, value: Any, names: tuple[str, ...]) -> None:
    assert field_names(option, value) == names


@pytest.mark.parametrize(
    "name", ["", "X Y", "X:", "X,Y", "X\r\nY: z", "X\n", "X\0", "\xc9", 5, None, b"X"]
)
@pytest.mark.parametrize("option", ["headers", "expose"])
def test_what_is_no_name(option: str, name: Any) -> None:
    with pytest.raises(
        ConfigError, match=re.escape(f"cors: {option} has {name!r}, which is no header name")
    ):
        field_names(option, ["X", name])


@pytest.mark.parametrize(
    "value", ["X-Request-ID", "GET", "", b"GET", bytearray(b"GET"), {"GET": 1}, 5, None, True]
)
def test_a_list_is_a_list(value: Any) -> None:
    """A str is a list of its letters, which nobody means; the keys of a dict hide what its values were to say."""
    for call, option, example in [
        (known_methods, "methods", "GET"),
        (lambda value: field_names("headers", value), "headers", "X-Request-ID"),
        (lambda value: field_names("expose", value), "expose", "X-Request-ID"),
    ]:
        with pytest.raises(ConfigError) as refusal:
            call(value)
        assert (
            str(refusal.value)
            == f'cors: {option} is {value!r}: it is "*" or a list, as [{example!r}]'
        )


@pytest.mark.parametrize(
    "value", [b"https://example.org", {"https://example.org": 1}, 5, None, True]
)
def test_origins_are_a_str_or_a_list(value: Any) -> None:
    with pytest.raises(ConfigError, match=re.escape(f'origins is {value!r}: it is "*" or a list')):
        known_origins(value)

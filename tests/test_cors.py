"""Which answers pages of other origins may read: the policy by tables, then a real browser that goes by it."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any

import pytest
from browser import Browser, Page
from heads import head
from hypothesis import given
from hypothesis import strategies as st

from bunpy.errors import ConfigError, HTTPError, InvalidResponse
from bunpy.http import wire
from bunpy.http.cors import Cors
from bunpy.http.request import Request
from bunpy.http.response import Response
from bunpy.http.wire import KEEP, NO_FIELDS
from bunpy.serve import Server, SSEResponse
from bunpy.testing import exchange, request, serving

A, B, C = "https://a.example", "http://localhost:5173", "https://c.example"
ALLOWED = ("cache-control", "last-event-id")
PREFLIGHT_VARY = "Origin, Access-Control-Request-Method, Access-Control-Request-Headers"
#: What no policy of A and B may answer to as if it were one of them.
OTHERS = [
    None, "", "null", "*", C, "https://a.example/", "https://a.example:443", "https://A.example", "HTTPS://a.example",
    "http://a.example", "https://a.example.evil.example", "https://evil.a.example", "https://evila.example",
    "https://a.exampl", "https://a.example\0", " https://a.example", "https://a.example, https://a.example",
    "https://a.example https://a.example", "https://a.example\r\nX: y", "http://localhost:51730", "http://localhost",
]  # fmt: skip


def asking(origin: str | None, method: str = "GET", **headers: str) -> Request:
    """A request, as the reader makes it: lower-case names."""
    fields = {name.lower().replace("_", "-"): value for name, value in headers.items()}
    if origin is not None:
        fields["origin"] = origin
    return Request(method, "/", fields)


def preflight(origin: str = A, method: str = "GET", headers: str | None = None) -> Request:
    fields = {"Access-Control-Request-Method": method}
    if headers is not None:
        fields["Access-Control-Request-Headers"] = headers
    return asking(origin, "OPTIONS", **fields)


def pairs_of(headers: Any) -> list[tuple[str, str]]:
    return list(headers.items() if isinstance(headers, Mapping) else headers or ())


def fields_of(headers: Any) -> dict[str, str]:
    """A response's headers by lower-case name, each of which may come once."""
    pairs = pairs_of(headers)
    fields = {name.lower(): value for name, value in pairs}
    assert len(fields) == len(pairs)
    return fields


def sent(policy: Cors, origin: str | None, headers: Any = None, **asked: str) -> dict[str, str]:
    return fields_of(policy.headers_for(asking(origin, **asked), Response("", 200, headers)))


# The policy as a value


def test_what_a_policy_is_unless_told_otherwise() -> None:
    policy = Cors([B, A])
    assert policy.origins == (B, A)
    assert policy.credentials is False
    assert policy.methods == ("GET", "HEAD", "POST")
    assert policy.headers == ALLOWED
    assert policy.expose == ()
    assert policy.max_age == 600


def test_a_policy_shows_what_it_was_made_of() -> None:
    policy = Cors(A, credentials=True, methods=["PUT"], headers=["X-Key"], expose=["X-Id"])
    assert repr(policy) == (
        "Cors(origins=('https://a.example',), credentials=True, methods=('PUT',),"
        " headers=('cache-control', 'last-event-id', 'x-key'), expose=('x-id',), max_age=600)"
    )
    assert eval(repr(policy)) == policy


@pytest.mark.parametrize(
    "same",
    [
        Cors([B, A], headers=["X-a", "X-B"], methods=["PUT", "GET"], expose=["y"]),
        Cors((A, B, A), headers=["x-b", "x-A", "Last-Event-ID"], methods=["GET", "PUT"], expose=["Y"]),
        Cors({A, B}, headers=iter(["x-A", "x-b", "X-B"]), methods={"GET", "PUT"}, expose=("Y", "y")),
    ],
)  # fmt: skip
def test_policies_that_mean_the_same_are_equal(same: Cors) -> None:
    policy = Cors([A, B], headers=["X-A", "X-B"], methods=["GET", "PUT"], expose=["Y"])
    assert policy == same
    assert hash(policy) == hash(same)
    assert repr(policy) == repr(same)


@pytest.mark.parametrize(
    "other",
    [
        Cors([A, B]),
        Cors("*"),
        Cors(A, credentials=True),
        Cors(A, methods=["GET"]),
        Cors(A, headers=["X"]),
        Cors(A, expose=["X"]),
        Cors(A, max_age=0),
        (A,),
        None,
    ],
)
def test_policies_that_differ_are_not_equal(other: object) -> None:
    assert Cors(A) != other


def test_a_policy_stays_as_it_is() -> None:
    policy = Cors(A)
    with pytest.raises(dataclasses.FrozenInstanceError):
        policy.origins = (C,)  # type: ignore[misc]


@pytest.mark.parametrize(
    "make", [copy.copy, copy.deepcopy, lambda p: pickle.loads(pickle.dumps(p))]
)
def test_a_copy_does_the_same(make: Callable[[Cors], Cors]) -> None:
    policy = Cors([A, B], credentials=True)
    made = make(policy)
    assert made == policy
    assert sent(made, A) == sent(policy, A)


@pytest.mark.parametrize("credentials", [1, 0, None, "true", "no"])
def test_credentials_are_a_flag(credentials: Any) -> None:
    with pytest.raises(ConfigError, match=f"credentials is {credentials!r}: it is True or False"):
        Cors(A, credentials=credentials)


@pytest.mark.parametrize("max_age", [-1, True, 1.5, "600", None])
def test_a_max_age_is_a_number_of_seconds(max_age: Any) -> None:
    with pytest.raises(ConfigError, match=f"max_age is {max_age!r}: it is an int of seconds"):
        Cors(A, max_age=max_age)


@pytest.mark.parametrize("max_age", [2**31, 10**400, 10**5000], ids=range(3))
def test_a_max_age_that_is_more_than_any(max_age: int) -> None:
    assert Cors(A, max_age=2**31 - 1).max_age == 2**31 - 1
    with pytest.raises(ConfigError, match=r"^cors: max_age is .{10,80}: it is 2147483647 at most$"):
        Cors(A, max_age=max_age)


@pytest.mark.parametrize(
    ("option", "arguments"),
    [
        ("origins", {"origins": "*"}),
        ("origins", {"origins": ["*"]}),
        ("methods", {"origins": A, "methods": "*"}),
        ("methods", {"origins": A, "methods": ["GET", "*"]}),
        ("headers", {"origins": A, "headers": "*"}),
        ("headers", {"origins": A, "headers": ["*", "Authorization"]}),
        ("expose", {"origins": A, "expose": "*"}),
    ],
)
def test_a_star_and_credentials_exclude_each_other(option: str, arguments: Any) -> None:
    assert "*" in getattr(Cors(**arguments), option)
    with pytest.raises(ConfigError, match=rf'^cors: {option} is "\*" with credentials=True,'):
        Cors(**arguments, credentials=True)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"origins": "https://a.example/"}, "ends in a slash: write 'https://a.example'"),
        ({"origins": A, "methods": ["get"]}, "write 'GET'"),
        ({"origins": A, "headers": ["X Y"]}, "headers has 'X Y'"),
        ({"origins": A, "expose": "X-Id"}, "expose is 'X-Id'"),
    ],
)
def test_every_argument_is_checked(arguments: Any, reason: str) -> None:
    """By ``cors_options``, whose own tests have the tables."""
    with pytest.raises(ConfigError, match=reason):
        Cors(**arguments)


# The option


@pytest.mark.parametrize(
    ("value", "policy"),
    [
        (None, None),
        ("*", Cors("*")),
        (A, Cors(A)),
        ([A, B], Cors([A, B])),
        ((A,), Cors(A)),
        ({A, B}, Cors([A, B])),
        (iter([A]), Cors(A)),
        ({"origins": A}, Cors(A)),
        (MappingProxyType({"origins": [A], "max_age": 5}), Cors(A, max_age=5)),
        ({"origins": "*", "headers": "*"}, Cors("*", headers="*")),
    ],
)
def test_what_the_option_stands_for(value: object, policy: Cors | None) -> None:
    assert Cors.of(value) == policy


def test_a_policy_stands_for_itself() -> None:
    policy = Cors(A)
    assert Cors.of(policy) is policy


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ({"origin": A}, r"cors has no 'origin'; it has origins, credentials, methods, headers, expose, max_age$"),
        ({"origins": A, 5: 6, "maxAge": 1}, r"cors has no 5, 'maxAge'; it has"),
        ({"origins": A, "_shared": {}}, r"cors has no '_shared'; it has"),
        ({}, r'cors has no origins: name those that may read, or "\*" for all'),
        ({"credentials": True}, r"cors has no origins"),
        (True, r'cors is True: it is a Cors, its arguments in a dict, a list of origins, or "\*" for all'),
        (False, r"cors is False: it is"),
        (5, r"cors is 5: it is"),
        (b"*", r"cors is b'\*': it is"),
        (bytearray(b"*"), r"cors is bytearray"),
        (Cors, r"cors is <class .*Cors.*>: it is"),
        ("", "'' is no origin"),
        ([], "origins is empty"),
        ([5], "an origin is a str"),
        ({"origins": None}, "origins is None"),
    ],
)  # fmt: skip
def test_what_the_option_cannot_be(value: object, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        Cors.of(value)


# Preflights


@pytest.mark.parametrize(
    "asked",
    [
        Request("OPTIONS", "*", {}),
        asking(A, "OPTIONS"),
        asking(None, "OPTIONS", Access_Control_Request_Method="GET"),
        asking(A, "GET", Access_Control_Request_Method="GET"),
        asking(A, "HEAD", Access_Control_Request_Method="GET"),
        asking(A, "POST", Access_Control_Request_Method="GET", Access_Control_Request_Headers="x"),
        asking(A, "OPTIONS", Access_Control_Request_Headers="x"),
        asking(A, "options", Access_Control_Request_Method="GET"),
    ],
    ids=repr,
)
@pytest.mark.parametrize("policy", [Cors(A), Cors("*")], ids=["one", "all"])
def test_what_is_no_preflight(policy: Cors, asked: Request) -> None:
    assert policy.preflight(asked) is None


def test_a_preflight_is_granted() -> None:
    policy = Cors([A, B], credentials=True, methods=["PUT", "GET"], headers=["X-Key"], max_age=5)
    for origin in (A, B):
        answer = policy.preflight(preflight(origin, "PUT", "x-key"))
        assert answer is not None
        assert (answer.status, answer.content()) == (204, (b"", NO_FIELDS))
        assert fields_of(answer.headers) == {
            "access-control-allow-origin": origin,
            "access-control-allow-credentials": "true",
            "access-control-allow-methods": "GET, PUT",
            "access-control-allow-headers": "cache-control, last-event-id, x-key",
            "access-control-max-age": "5",
            "vary": PREFLIGHT_VARY,
        }


@pytest.mark.parametrize("origin", [A, C, "null", "https://x\r\nY: z", ""])
def test_a_preflight_is_granted_to_everyone(origin: str) -> None:
    answer = Cors("*", methods="*", headers="*").preflight(preflight(origin, "PUT", "x-key"))
    assert answer is not None
    assert answer.status == 204
    assert fields_of(answer.headers) == {
        "access-control-allow-origin": "*",
        "access-control-allow-methods": "*",
        "access-control-allow-headers": "*, cache-control, last-event-id",
        "access-control-max-age": "600",
        "vary": "Access-Control-Request-Method, Access-Control-Request-Headers",
    }


def test_what_is_exposed_is_not_said_to_a_preflight() -> None:
    """Fetch ignores it there."""
    answer = Cors(A, expose=["X-Id"]).preflight(preflight())
    assert answer is not None
    assert "access-control-expose-headers" not in fields_of(answer.headers)


LONG = "x-a," * 2000
KEYS = Cors(A, headers=["X-Key", "Content-Type"])
STAR = Cors(A, headers="*")
BOTH = Cors(A, headers=["*", "Authorization"])


@pytest.mark.parametrize(
    ("policy", "names"),
    [
        (policy, names)
        for policy in (Cors(A), KEYS, STAR, BOTH)
        for names in [
            None, "", ",", " , ,", "last-event-id", "cache-control", "Cache-Control, Last-Event-ID",
            "cache-control,last-event-id", " cache-control\t,\tlast-event-id ", "LAST-EVENT-ID,last-event-id",
        ]
    ] + [
        (KEYS, "x-key"), (KEYS, "X-KEY"), (KEYS, "content-type,last-event-id,x-key"),
        (STAR, "x-key"), (STAR, "x-one,X-Two"), (STAR, "*"), (BOTH, "authorization"), (BOTH, "x-key,AUTHORIZATION"),
        (STAR, "x" * 4096), (Cors(A), "," * 4096),
    ],
)  # fmt: skip
def test_headers_that_are_allowed(policy: Cors, names: str | None) -> None:
    answer = policy.preflight(preflight(headers=names))
    assert answer is not None
    assert answer.status == 204


@pytest.mark.parametrize(
    ("policy", "names"),
    [
        (policy, names)
        for policy in (Cors(A), KEYS, STAR)
        for names in [
            "authorization", "AUTHORIZATION", "cache-control,authorization", "x y", "x-key x-two", "x:y", "x;y",
            "last-event-id;", "\xe9", "x-key\r\nX: y", "x-key\0", '"x-key"', "x=y", LONG, "," * 4097, "x" * 4097,
            "cache-control\xa0", "\x85cache-control", "last-event-id\n",
        ]
    ] + [(BOTH, "x y"), (BOTH, "authorization,x y"), (BOTH, LONG), (KEYS, "x-keys"), (KEYS, "x-ke"), (KEYS, "*"),
         (Cors(A), "x-key"), (Cors(A), "content-type"), (Cors(A), "x-key,last-event-id"), (Cors(A), "*")],
)  # fmt: skip
def test_headers_that_are_not_allowed(policy: Cors, names: str) -> None:
    refused(policy, preflight(headers=names), "headers")


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
def test_methods_that_are_usual(method: str) -> None:
    answer = Cors(A).preflight(preflight(method=method))
    assert answer is not None
    assert answer.status == 204


@pytest.mark.parametrize(
    "method", ["PUT", "get", "GET, POST", "GET ", "", "*", "OPTIONS", "GET\r\nX: y"]
)
def test_methods_that_are_not_allowed(method: str) -> None:
    refused(Cors(A), preflight(method=method), "method")
    refused(Cors("*"), preflight(method=method), "method")


def test_a_method_that_is_not_in_the_list() -> None:
    policy = Cors(A, methods=["PUT"])
    refused(policy, preflight(method="GET"), "method")
    refused(Cors(A, methods=[]), preflight(method="GET"), "method")


@pytest.mark.parametrize("origin", OTHERS[1:])
def test_an_origin_that_is_not_in_the_list(origin: str) -> None:
    for credentials in (False, True):
        refused(Cors([A, B], credentials=credentials), preflight(origin, "GET", "x y"), "origin")


def refused(policy: Cors, asked: Request, what: str) -> None:
    """A preflight is refused for ``what``, and nothing of it is in the answer."""
    answer = policy.preflight(asked)
    assert answer is not None
    assert answer.status == 403
    content = answer.content()
    assert content is not None
    assert content[0].decode() == (
        f"The {what} of this preflight cannot be granted (see the option cors)\n"
    )
    vary = PREFLIGHT_VARY if policy.origins != ("*",) else PREFLIGHT_VARY[8:]
    assert pairs_of(answer.headers) == [("Vary", vary)]


@pytest.mark.parametrize("asked", [preflight(A), preflight(A, "PUT"), preflight(C)])
def test_an_answer_to_a_preflight_is_sent_as_it_is(asked: Request) -> None:
    """A refused one must not be given the fields of the origin that may read other answers."""
    policy = Cors(A, credentials=True, expose=["X-Id"])
    answer = policy.preflight(asked)
    assert answer is not None
    assert pairs_of(policy.headers_for(asked, answer)) == pairs_of(answer.headers)
    assert pairs_of(policy.headers_for(asked, Response("busy", 503))) == []


def test_an_answer_to_a_preflight_is_its_callers_own() -> None:
    policy = Cors(A)
    for asked in (preflight(A), preflight(C)):
        first, second = policy.preflight(asked), policy.preflight(asked)
        assert first is not None
        assert second is not None
        kept = pairs_of(second.headers)
        first.status, first.headers = 500, {"X": "y"}
        assert pairs_of(second.headers) == kept


# Answers


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "OPTIONS"])
def test_what_an_origin_in_the_list_is_sent(method: str) -> None:
    policy = Cors([A, B], credentials=True, expose=["X-Id", "ETag"])
    for origin in (A, B):
        assert sent(policy, origin, method=method) == {
            "access-control-allow-origin": origin,
            "access-control-allow-credentials": "true",
            "access-control-expose-headers": "etag, x-id",
            "vary": "Origin",
        }
    assert sent(Cors(A), A, method=method) == {"access-control-allow-origin": A, "vary": "Origin"}


@pytest.mark.parametrize("origin", OTHERS)
def test_what_all_others_are_sent(origin: str | None) -> None:
    policy = Cors([A, B], credentials=True, expose=["X-Id"])
    assert sent(policy, origin) == {"vary": "Origin"}
    assert sent(policy, origin, {"X": "y"}) == {"x": "y", "vary": "Origin"}


@pytest.mark.parametrize("origin", [A, *OTHERS])
def test_what_everyone_is_sent_when_all_are_allowed(origin: str | None) -> None:
    assert sent(Cors("*"), origin) == {"access-control-allow-origin": "*"}
    assert sent(Cors("*", expose="*"), origin, {"vary": "Accept"}) == {
        "access-control-allow-origin": "*",
        "access-control-expose-headers": "*",
        "vary": "Accept",
    }


@given(st.text() | st.sampled_from(OTHERS), st.booleans())
def test_no_other_origin_is_ever_reflected(origin: str | None, is_preflight: bool) -> None:
    policy = Cors([A, B], credentials=True)
    if is_preflight:
        answer = policy.preflight(preflight(origin or "", "GET", origin))
        assert answer is not None
        headers = pairs_of(answer.headers)
    else:
        headers = pairs_of(policy.headers_for(asking(origin), Response("")))
    if origin not in (A, B):
        assert not [name for name, _ in headers if name.lower().startswith("access-control-")]


@given(st.text(max_size=20), st.text(max_size=20), st.sampled_from(["*", A]))
def test_nothing_of_a_request_but_a_listed_origin_is_sent(
    method: str, names: str, origins: str
) -> None:
    policy = Cors(origins, methods="*", headers="*")
    granted = policy.preflight(preflight(A, "GET", "x"))
    answer = policy.preflight(preflight(A, method, names))
    assert granted is not None
    assert answer is not None
    if answer.status == 204:
        assert pairs_of(answer.headers) == pairs_of(granted.headers)
    else:
        refused(policy, preflight(A, method, names), "headers")


VARY: list[tuple[str | None, str]] = [
    (None, "Origin"),
    ("", "Origin"),
    (" ", "Origin"),
    ("Accept", "Accept, Origin"),
    ("Accept, Cookie", "Accept, Cookie, Origin"),
    ("Origin", "Origin"),
    ("origin", "origin"),
    ("Accept,ORIGIN", "Accept,ORIGIN"),
    ("Accept , Origin , Cookie", "Accept , Origin , Cookie"),
    ("*", "*"),
    ("Accept, *", "Accept, *"),
    ("X-Origin", "X-Origin, Origin"),
    ("Origin-Agent", "Origin-Agent, Origin"),
]


@pytest.mark.parametrize(("given", "meant"), VARY)
@pytest.mark.parametrize(
    "make", [dict, list, tuple, iter, lambda pairs: MappingProxyType(dict(pairs))]
)
def test_vary_is_extended(make: Callable[[Any], Any], given: str | None, meant: str) -> None:
    for name in ("Vary", "vary", "VARY"):
        for origin in (A, C, None):
            own = [("X", "y")] if given is None else [("X", "y"), (name, given)]
            allow = {"access-control-allow-origin": A} if origin == A else {}
            assert sent(Cors(A), origin, make(own)) == {"x": "y", "vary": meant, **allow}


@pytest.mark.parametrize(
    ("own", "meant"),
    [
        (["Accept", "Cookie"], ["Accept", "Cookie, Origin"]),
        (["Origin", "Cookie"], ["Origin", "Cookie"]),
        (["Accept", "origin"], ["Accept", "origin"]),
        (["*", "Cookie"], ["*", "Cookie"]),
    ],
)
def test_vary_in_several_fields_is_extended_once(own: list[str], meant: list[str]) -> None:
    pairs = [("Vary", own[0]), ("X", "y"), ("vary", own[1])]
    sent = pairs_of(Cors(A).headers_for(asking(A), Response("", 200, pairs)))
    assert [value for name, value in sent if name.lower() == "vary"] == meant


@pytest.mark.parametrize("headers", [None, {}, [], ()])
def test_an_answer_without_headers_takes_what_is_ready(headers: Any) -> None:
    policy = Cors(A)
    first, second = (policy.headers_for(asking(A), Response("", 200, headers)) for _ in range(2))
    assert first is second
    assert fields_of(first) == {"access-control-allow-origin": A, "vary": "Origin"}


@pytest.mark.parametrize(
    ("own", "more"),
    [
        # Sharing is the handler's affair: our credentials must not be lent to the origin that it names.
        ({"Access-Control-Allow-Origin": C}, {}),
        ({"ACCESS-CONTROL-ALLOW-ORIGIN": "*"}, {}),
        ({"access-control-allow-origin": C, "access-control-allow-credentials": "true"}, {}),
        ({"access-control-allow-origin": C, "access-control-expose-headers": "x"}, {}),
        (
            {"Access-Control-Expose-Headers": "X-Own"},
            {"access-control-allow-origin": A, "access-control-allow-credentials": "true"},
        ),
        (
            {"access-control-allow-credentials": "false"},
            {"access-control-allow-origin": A, "access-control-expose-headers": "x-id"},
        ),
    ],
)
@pytest.mark.parametrize("make", [dict, lambda own: list(own.items())])
def test_what_a_handler_sets_itself_is_left(
    make: Callable[[Any], Any], own: dict[str, str], more: dict[str, str]
) -> None:
    policy = Cors(A, credentials=True, expose=["X-Id"])
    assert sent(policy, A, make(own)) == {
        **{name.lower(): value for name, value in own.items()},
        "vary": "Origin",
        **more,
    }


@pytest.mark.parametrize(
    "make", [dict, list, tuple, lambda pairs: MappingProxyType(dict(pairs))], ids=lambda make: make.__name__
)  # fmt: skip
def test_a_response_is_left_as_it_is(make: Callable[[Any], Any]) -> None:
    """A handler may give the same one to many clients."""
    policy = Cors([A, B], credentials=True)
    headers = make([("X", "y"), ("Vary", "Accept")])
    response = Response("", 200, headers)
    before = pairs_of(headers)
    for origin in (A, B, C, None):
        fields = sent(policy, origin, response.headers)
        assert fields.get("access-control-allow-origin") == (origin if origin in (A, B) else None)
        assert response.headers is headers
        assert pairs_of(headers) == before


def test_pairs_of_one_name_stay_apart() -> None:
    pairs = [("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")]
    headers = pairs_of(Cors(A).headers_for(asking(A), Response("", 200, pairs)))
    assert headers[:2] == pairs
    assert fields_of(headers[2:]) == {"access-control-allow-origin": A, "vary": "Origin"}


@pytest.mark.parametrize(
    "headers",
    [
        {"Vary": "Accept\r\nX-Forged: y"},
        {"vary": "Accept\0"},
        {"Vary": None},
        {"Vary": 5},
        [("Vary", "Accept"), ("Vary", None)],
        [("Vary", None), ("Vary", "Accept")],
        {5: "x"},
        {None: "x"},
        {b"Vary": "Accept"},
        {"Access-Control-Allow-Origin": "https://c.example\r\nX-Forged: y"},
        {"Access-Control-Allow-Origin\r\nX-Forged": "y"},
    ],
)
def test_what_must_not_be_sent_is_still_refused(headers: Any) -> None:
    for policy in (Cors(A, credentials=True), Cors("*")):
        merged = policy.headers_for(asking(A), Response("", 200, headers))
        with pytest.raises(InvalidResponse):
            wire.head(200, merged, NO_FIELDS, b"", b"", KEEP)


@given(st.text(max_size=12), st.text(max_size=12), st.sampled_from([A, C]))
def test_no_header_can_be_forged(name: str, value: str, origin: str) -> None:
    """Each line of the head is one of those that it was to have."""
    merged = pairs_of(Cors(A).headers_for(asking(origin), Response("", 200, {name: value})))
    try:
        data, _ = wire.head(200, merged, NO_FIELDS, b"", b"Date: x\r\n", KEEP)
    except InvalidResponse:
        return
    names = {line.partition(b":")[0].lower() for line in data.split(b"\r\n")[1:-2]}
    assert names <= {b"date", b"vary", b"access-control-allow-origin", name.encode().lower()}


# Over a connection


class Notes:
    """A handler's notes of what it was asked."""

    def __init__(self) -> None:
        self.asked: list[Request] = []

    def __call__(self, req: Request) -> object:
        self.asked.append(req)
        if req.path == "/missing":
            raise HTTPError(404, "no such thing", {"Vary": "Cookie"})
        if req.path == "/broken":
            raise RuntimeError("broken")
        if req.path == "/shared":
            return SHARED
        return SSEResponse(events()) if req.path == "/events" else "hello"


SHARED = Response("hello", 200, {"X-Shared": "yes"})


async def events() -> AsyncIterator[object]:
    yield "hello"


@contextmanager
def noting(**options: Any) -> Iterator[tuple[Server, Notes]]:
    notes = Notes()
    with serving(notes, **options) as server:
        yield server, notes


def test_a_handler_sees_no_preflight() -> None:
    with noting(cors=[A]) as (server, notes):
        headers = {"Origin": A, "Access-Control-Request-Method": "POST"}
        granted = request(server, "OPTIONS", "/", headers)
        refused = request(server, "OPTIONS", "/", {**headers, "Origin": C})
        plain = request(server, "OPTIONS", "/", {"Origin": A})
    assert (granted.status, granted.headers["access-control-allow-origin"]) == (204, A)
    assert (refused.status, refused.headers.get("access-control-allow-origin")) == (403, None)
    assert (plain.status, plain.headers["access-control-allow-origin"]) == (200, A)
    assert [req.method for req in notes.asked] == ["OPTIONS"]
    assert "access-control-request-method" not in notes.asked[0].headers


@pytest.mark.parametrize(
    ("path", "status", "vary"),
    [
        ("/", 200, "Origin"),
        ("/events", 200, "Origin"),
        ("/missing", 404, "Cookie, Origin"),
        ("/broken", 500, "Origin"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
def test_every_answer_says_who_may_read_it(
    caplog: pytest.LogCaptureFixture, method: str, path: str, status: int, vary: str
) -> None:
    with noting(cors={"origins": [A], "credentials": True}) as (server, _):
        for origin in (A, C):
            answer = request(server, method, path, {"Origin": origin})
            assert answer.status == status
            assert answer.headers["vary"] == vary
            allowed = {name for name in answer.headers if name.startswith("access-control-")}
            if origin == A:
                assert answer.headers["access-control-allow-origin"] == A
                assert answer.headers["access-control-allow-credentials"] == "true"
            else:
                assert not allowed
    assert ("RuntimeError: broken" in caplog.text) is (path == "/broken")


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (head("/", "Origin: %s", "Content-Length: 1000", method="POST"), 413),
        (head("/", "Origin: %s", "Transfer-Encoding: chunked", method="POST") + b"3E8\r\n", 413),
        (head("/", "Origin: %s", "Expect: coffee"), 417),
        (head("/", "Origin: %s", method="TRACE"), 405),
        (head("http://evil.example/", "Origin: %s"), 421),
        (head("/", "Origin: %s", "Transfer-Encoding: gzip", method="POST"), 400),
    ],
    ids=["declared", "chunked", "expectation", "method", "host", "framing"],
)
@pytest.mark.parametrize("pieces", ["whole", "bytes"])
def test_a_page_may_read_why_its_request_was_refused(raw: bytes, status: int, pieces: Any) -> None:
    with noting(cors=[A], body_limit=100) as (server, _):
        for origin in (A, C):
            asked = head("/", f"Origin: {A}") + raw.replace(b"%s", origin.encode())
            _, refused = exchange(server, asked, pieces=pieces, half_close=True).answers
            assert (refused.status, refused.headers["vary"]) == (status, "Origin")
            allowed = refused.headers.get("access-control-allow-origin")
            assert allowed == (A if origin == A else None)


@pytest.mark.parametrize("raw", [b"BREW / HTTP/1.1\r\n\r\n", b"\r\n\r\n\r\n", b"GET"])
def test_nothing_is_shared_by_an_origin_of_a_request_before(raw: bytes) -> None:
    with noting(cors=[A], head_timeout=1.5) as (server, _):
        _, refused = exchange(server, head("/", f"Origin: {A}") + raw, half_close=False).answers
    assert refused.status in (400, 408, 501)
    assert "access-control-allow-origin" not in refused.headers


def test_a_shared_response_tells_nobody_of_another() -> None:
    with noting(cors=[A, B]) as (server, _):
        seen = [
            request(server, "GET", "/shared", {} if origin is None else {"Origin": origin})
            for origin in (A, B, C, None, A)
        ]
    assert [answer.headers.get("access-control-allow-origin") for answer in seen] == [
        A,
        B,
        None,
        None,
        A,
    ]
    assert SHARED.headers == {"X-Shared": "yes"}


def test_without_the_option_nothing_is_said() -> None:
    with noting() as (server, notes):
        answer = request(server, "GET", "/", {"Origin": A})
        headers = {"Origin": A, "Access-Control-Request-Method": "GET"}
        assert request(server, "OPTIONS", "/", headers).status == 200
    assert not [name for name in answer.headers if name == "vary" or name.startswith("access-")]
    assert [req.method for req in notes.asked] == ["GET", "OPTIONS"]


# Chromium

SOON = 10.0  # seconds: what should come at once has surely come, on any machine

READ = """(async () => {
    const response = await fetch(%s, %s);
    return [response.status, await response.text(), Object.fromEntries(response.headers)];
})().catch(error => error.name)"""

LISTEN = """new Promise(done => {
    const es = new EventSource(%s, {withCredentials: %s}), seen = [];
    es.onmessage = e => seen.push([e.lastEventId, e.data]);
    es.onerror = () => { if (es.readyState === es.CLOSED) done(seen); };
})"""


class Resumable:
    """Two streams, the second resumed from the first, then 204; notes what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str | None, str | None, str | None]] = []

    def __call__(self, req: Request) -> object:
        if req.path == "/page":
            return {"headers": {"Content-Type": "text/html"}, "body": "<title>B</title>"}
        self.asked.append(
            (
                req.method,
                req.cookies.get("who"),
                req.last_event_id,
                req.headers.get("cache-control"),
            )
        )
        after = int(req.last_event_id or 0)
        return SSEResponse(count(after), {"X-Trace": "t1"}) if after < 4 else None


async def count(after: int) -> AsyncIterator[object]:
    yield {"retry": 20}
    for number in (after + 1, after + 2):
        yield {"id": str(number), "data": str(number)}


def page_handler(req: Request) -> object:
    headers = {"Content-Type": "text/html", "Set-Cookie": "who=ada; Path=/"}
    return {"headers": headers, "body": "<title>A</title>"}


@pytest.fixture(scope="module")
def browser(program: Callable[[str], str]) -> Iterator[Browser]:
    with Browser(program("chromium")) as browser:
        yield browser


@pytest.fixture(scope="module")
def front() -> Iterator[Server]:
    """The server of the page, which gives its visitor a cookie; a cookie is of a host, whatever the port."""
    with serving(page_handler) as server:
        yield server


@pytest.fixture
def page(browser: Browser, front: Server) -> Iterator[Page]:
    page = browser.open(front.url)
    try:
        yield page
    finally:
        page.close()


@contextmanager
def streaming(**cors: Any) -> Iterator[tuple[Resumable, str]]:
    """Another origin with a stream: its handler and the stream's URL."""
    handler = Resumable()
    with serving(handler, cors=cors or None) as server:
        yield handler, f"{server.url}/events"


def listen(page: Page, url: str, with_credentials: bool) -> Any:
    return page.evaluate(LISTEN % (json.dumps(url), json.dumps(with_credentials)), timeout=SOON)


def read(page: Page, url: str, **options: Any) -> Any:
    return page.evaluate(READ % (json.dumps(url), json.dumps(options)), timeout=SOON)


NUMBERS = [["1", "1"], ["2", "2"], ["3", "3"], ["4", "4"]]
STREAM = "retry: 20\n\nid: 3\ndata: 3\n\nid: 4\ndata: 4\n\n"


def test_chromium_listens_with_credentials_and_resumes(page: Page, front: Server) -> None:
    with streaming(origins=[front.url], credentials=True) as (handler, url):
        assert listen(page, url, True) == NUMBERS
    assert [asked[:3] for asked in handler.asked] == [
        ("GET", "ada", None),
        ("GET", "ada", "2"),
        ("GET", "ada", "4"),
    ]


def test_chromium_listens_without_credentials(page: Page) -> None:
    with streaming(origins="*") as (handler, url):
        assert listen(page, url, False) == NUMBERS
    assert [asked[1:3] for asked in handler.asked] == [(None, None), (None, "2"), (None, "4")]


def test_chromium_reads_by_fetch_from_where_it_was(page: Page, front: Server) -> None:
    with streaming(origins=[front.url], credentials=True, expose=["X-Trace"]) as (handler, url):
        headers = {"Last-Event-ID": "2", "Cache-Control": "no-cache"}
        status, text, seen = read(page, url, headers=headers, credentials="include")
    assert (status, text, seen["x-trace"]) == (200, STREAM, "t1")
    assert handler.asked == [("GET", "ada", "2", "no-cache")]


def test_chromium_reads_by_fetch_with_what_was_allowed(page: Page, front: Server) -> None:
    options: dict[str, Any] = {
        "method": "PUT",
        "headers": {"Content-Type": "application/json", "Last-Event-ID": "2"},
        "body": "{}",
    }
    with streaming(origins=[front.url], methods=["PUT"], headers=["Content-Type"]) as (
        handler,
        url,
    ):
        status, text, seen = read(page, url, **options)
        assert (status, text, seen.get("x-trace")) == (200, STREAM, None)
        assert handler.asked == [("PUT", None, "2", None)]
        assert read(page, url, **{**options, "method": "DELETE"}) == "TypeError"
        headers = {**options["headers"], "X-Other": "1"}
        assert read(page, url, **{**options, "headers": headers}) == "TypeError"
    assert len(handler.asked) == 1


def test_chromium_takes_the_wildcards_as_meant(page: Page) -> None:
    with streaming(origins="*", methods="*", headers="*", expose="*") as (handler, url):
        headers = {"X-Any": "1", "Last-Event-ID": "2"}
        status, text, seen = read(page, url, method="PATCH", headers=headers)
        assert (status, text, seen["x-trace"]) == (200, STREAM, "t1")
        assert read(page, url, headers={"Authorization": "Bearer x"}) == "TypeError"
    assert handler.asked == [("PATCH", None, "2", None)]
    with streaming(origins="*", headers=["*", "Authorization"]) as (handler, url):
        assert read(page, url, headers={"Authorization": "Bearer x"})[0] == 200


@pytest.mark.parametrize(
    "cors", [{}, {"origins": [C]}, {"origins": [C], "credentials": True, "headers": ["X-Key"]}]
)
def test_chromium_shows_a_page_nothing_that_it_may_not_read(page: Page, cors: Any) -> None:
    with streaming(**cors) as (handler, url):
        assert listen(page, url, False) == []
        assert listen(page, url, True) == []
        assert read(page, url) == "TypeError"
        assert read(page, url, credentials="include") == "TypeError"
        asked = len(handler.asked)
        preflighted = read(page, url, headers={"X-Key": "1"})
    assert preflighted == "TypeError"
    assert [req[0] for req in handler.asked[asked:]] == ([] if cors else ["OPTIONS"])


def test_chromium_lends_no_credentials_to_everyone(page: Page) -> None:
    with streaming(origins="*") as (_, url):
        assert listen(page, url, True) == []
        assert read(page, url, credentials="include") == "TypeError"


def test_chromium_reads_its_own_origin_whatever_is_allowed(browser: Browser) -> None:
    with streaming(origins=[C]) as (_, url):
        page = browser.open(url.replace("/events", "/page"))
        try:
            assert listen(page, url, True) == NUMBERS
            assert read(page, url, method="POST")[0] == 200
        finally:
            page.close()

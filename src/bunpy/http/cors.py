"""Which pages of other origins may read the answers: the CORS protocol of WHATWG Fetch, without I/O.

A policy is checked and turned into ready fields when it is made. What is sent of it to a request is looked up by its
Origin: a name that is not in the list is in no table, so that it cannot be reflected.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Final

from bunpy.errors import ConfigError
from bunpy.http.cors_options import TOKEN, field_names, known_methods, known_origins
from bunpy.http.response import Response
from bunpy.shown import shown

if TYPE_CHECKING:
    from bunpy.http.request import Request
    from bunpy.http.wire import Headers

__all__ = ["Cors"]

_Pairs = tuple[tuple[str, str], ...]

_ANY: Final = ("*",)

#: Request headers that are allowed whatever ``headers`` says: without them no stream can be resumed.
_ALWAYS_ALLOWED: Final = ("cache-control", "last-event-id")

#: What the answer to a preflight depends on, beside its Origin.
_ASKED: Final = "Access-Control-Request-Method, Access-Control-Request-Headers"

#: The most seconds that are understood everywhere (RFC 9111 section 1.2.2).
_MAX_AGE: Final = 2**31 - 1

#: A longer list of requested headers is not looked into.
_LIMIT: Final = 4096


@dataclass(frozen=True, slots=True, init=False)
class Cors:
    """Which origins may read the answers, and what their pages may ask for; a value, made once.

    ``origins``: "*" for every page there is, or the origins as browsers send them ("https://example.org",
    "http://localhost:5173"). ``credentials``: whether they may use their visitor's cookies (``withCredentials``);
    it and "*", in whatever option, exclude each other. ``methods``: what may be asked for, upper-case, or "*". A
    page sends a GET, HEAD or POST without asking first if its headers are plain: the list does not stop those.
    ``headers``: request headers allowed beyond the safelisted ones, or "*" for all but Authorization, which has to
    be named beside it; for a body of JSON, Content-Type. ``expose``: response headers that scripts may read beyond
    the safelisted ones, or "*". ``max_age``: seconds for which a browser may remember a preflight; it may take less
    (Chromium: two hours).

    Last-Event-ID and Cache-Control are always allowed. A browser's EventSource sends the first without asking, but a
    client made with ``fetch`` has to ask: refused, it could open a stream and never resume it; and such clients send
    Cache-Control: no-cache as EventSource does. Neither tells a handler more than a query could.

    Raises ``ConfigError`` for a value that could not have been meant, with the one that may have been.
    """

    origins: tuple[str, ...]
    credentials: bool
    methods: tuple[str, ...]
    headers: tuple[str, ...]
    expose: tuple[str, ...]
    max_age: int
    #: By origin what its requests' answers are given, and what all others are.
    _shared: Mapping[str, _Pairs] = field(repr=False, compare=False)
    _unshared: _Pairs = field(repr=False, compare=False)
    #: By origin what a preflight is granted, and what all others are: None for nothing.
    _granted: Mapping[str, _Pairs] = field(repr=False, compare=False)
    _ungranted: _Pairs | None = field(repr=False, compare=False)
    _preflight_vary: tuple[str, str] = field(repr=False, compare=False)

    def __init__(
        self,
        origins: str | Iterable[str],
        *,
        credentials: bool = False,
        methods: str | Iterable[str] = ("GET", "HEAD", "POST"),
        headers: str | Iterable[str] = (),
        expose: str | Iterable[str] = (),
        max_age: int = 600,
    ) -> None:
        if not isinstance(credentials, bool):
            raise ConfigError(f"cors: credentials is {shown(credentials)}: it is True or False")
        if not isinstance(max_age, int) or isinstance(max_age, bool) or max_age < 0:
            raise ConfigError(
                f"cors: max_age is {shown(max_age)}: it is an int of seconds, 0 or more"
            )
        if max_age > _MAX_AGE:
            raise ConfigError(f"cors: max_age is {shown(max_age)}: it is {_MAX_AGE} at most")
        lists: dict[str, tuple[str, ...]] = {
            "origins": known_origins(origins),
            "methods": known_methods(methods),
            "headers": (*field_names("headers", headers), *_ALWAYS_ALLOWED),
            "expose": field_names("expose", expose),
        }
        for option, items in lists.items():
            lists[option] = tuple(sorted(set(items)))  # so that equal policies compare equal
            if credentials and "*" in items:
                raise ConfigError(
                    f'cors: {option} is "*" with credentials=True, which no browser takes for all of them: name those'
                    " that are meant"
                )
        self._set(**lists, credentials=credentials, max_age=max_age)
        self._build_tables()

    def _set(self, **values: object) -> None:
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def _build_tables(self) -> None:
        credentials = (("Access-Control-Allow-Credentials", "true"),) if self.credentials else ()
        expose = (("Access-Control-Expose-Headers", ", ".join(self.expose)),) if self.expose else ()
        is_for_all = self.origins == _ANY
        vary = () if is_for_all else (("Vary", "Origin"),)
        preflight_vary = ("Vary", _ASKED if is_for_all else f"Origin, {_ASKED}")

        def by_origin(*pairs: tuple[str, str]) -> dict[str, _Pairs]:
            return {
                origin: (("Access-Control-Allow-Origin", origin), *credentials, *pairs)
                for origin in self.origins
            }

        shared = by_origin(*expose, *vary)
        granted = by_origin(
            ("Access-Control-Allow-Methods", ", ".join(self.methods)),
            ("Access-Control-Allow-Headers", ", ".join(self.headers)),
            ("Access-Control-Max-Age", str(self.max_age)),
            preflight_vary,
        )
        self._set(
            _shared=shared,
            _unshared=shared.get("*", vary),
            _granted=granted,
            _ungranted=granted.get("*"),
            _preflight_vary=preflight_vary,
        )

    @classmethod
    def of(cls, value: object) -> Cors | None:
        """The policy that the option ``cors`` stands for: a ``Cors``, its arguments in a dict, one origin or several.

        None is none. ``ConfigError`` for what is none of these, and for an argument that does not exist.
        """
        if value is None or isinstance(value, cls):
            return value
        if isinstance(value, Mapping):
            names = [item.name for item in fields(cls) if not item.name.startswith("_")]
            unknown = ", ".join(repr(key) for key in value if key not in names)
            if unknown:
                raise ConfigError(f"cors has no {unknown}; it has {', '.join(names)}")
            if "origins" not in value:
                raise ConfigError('cors has no origins: name those that may read, or "*" for all')
            return cls(**value)
        if isinstance(value, Iterable) and not isinstance(value, (bytes, bytearray, memoryview)):
            return cls(value)
        raise ConfigError(
            f'cors is {shown(value)}: it is a Cors, its arguments in a dict, a list of origins, or "*" for all'
        )

    def preflight(self, request: Request) -> Response | None:
        """The answer to a preflight (Fetch, CORS-preflight fetch); None if the request is not one.

        204 with what is granted, if the origin, the method and each of the headers are allowed; else 403 without any
        Access-Control field, as Fetch has it (HTTP responses): a page sees the same failure as it would with 204,
        but whoever looks at the exchange is told why.
        """
        if not _is_preflight(request):
            return None
        asked = request.headers
        granted = self._granted.get(asked["origin"], self._ungranted)
        if granted is None:
            return self._refusal("origin")
        if "*" not in self.methods and asked["access-control-request-method"] not in self.methods:
            return self._refusal("method")
        if not self._allows_headers(asked.get("access-control-request-headers", "")):
            return self._refusal("headers")
        return Response(None, 204, granted)

    def headers_for(self, request: Request, response: Response) -> Headers:
        """The header fields to send with an answer: those of ``response``, and, unless it is to a preflight, ours.

        ``response``, which may be the answer to other clients as well, is left as it is. Where the handler has set
        Access-Control-Allow-Origin, sharing is the handler's affair and of ours Vary alone is added; any other field
        that it has set stays as it is. Vary gains Origin unless the answer is the same for all: also where nothing is
        allowed, or a cache would give that answer to an origin that is (RFC 9110 section 12.5.5).
        """
        if _is_preflight(request):
            return response.headers or ()
        return self.fields_for(request.headers.get("origin", ""), response.headers)

    def fields_for(self, origin: str, given: Headers | None) -> Headers:
        """The same for an answer with the fields ``given`` to a request with that Origin ("": it has none)."""
        added = self._shared.get(origin, self._unshared)
        return _merged(given, added) if given else added

    def _allows_headers(self, text: str) -> bool:
        """Whether each name in an Access-Control-Request-Headers is allowed; empty elements count for nothing."""
        if len(text) > _LIMIT:
            return False
        names = {name.strip(" \t") for name in text.lower().split(",")} - {"", *self.headers}
        if not names:
            return True
        # The wildcard does not stand for Authorization.
        is_wild = "*" in self.headers and "authorization" not in names
        return is_wild and all(map(TOKEN.fullmatch, names))

    def _refusal(self, what: str) -> Response:
        text = f"The {what} of this preflight cannot be granted (see the option cors)\n"
        return Response(text, 403, (self._preflight_vary,))


def _is_preflight(request: Request) -> bool:
    return (
        request.method == "OPTIONS"
        and "origin" in request.headers
        and "access-control-request-method" in request.headers
    )


def _merged(given: Headers, added: _Pairs) -> list[tuple[str, str]]:
    """A handler's fields and the policy's. What must not be sent is passed on for ``wire`` to refuse."""
    merged = list(given.items() if isinstance(given, Mapping) else given)
    places = {str(name).lower(): place for place, (name, _) in enumerate(merged)}
    if "access-control-allow-origin" in places:
        added = tuple(pair for pair in added if pair[0] == "Vary")
    for name, value in added:
        place = places.get(name.lower())
        if place is None:
            merged.append((name, value))
        elif name == "Vary":
            _add_origin(merged, place)
    return merged


def _add_origin(merged: list[tuple[str, str]], place: int) -> None:
    """Extend the Vary at ``place`` by Origin, unless it, or one before it, has that already or varies on everything."""
    texts = [value for name, value in merged[: place + 1] if str(name).lower() == "vary"]
    name, value = merged[place]
    if isinstance(value, str) and not any(
        item.strip().lower() in ("*", "origin") for text in texts for item in str(text).split(",")
    ):
        merged[place] = (name, f"{value}, Origin" if value.strip() else "Origin")

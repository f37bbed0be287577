"""What the arguments of ``Cors`` may be. What is made of them is not here.

What browsers send is compared letter by letter, so a value must be spelled as they do: each mistake gets the right one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from ipaddress import IPv6Address
from typing import Final

from bunpy.errors import ConfigError
from bunpy.http.host import is_loopback
from bunpy.shown import shown

__all__ = ["TOKEN", "field_names", "known_methods", "known_origins"]

#: A method or the name of a field (RFC 9110 section 5.6.2).
TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")

#: An origin as people write it; a browser sends scheme, host and port only (WHATWG HTML 7.1.1).
_ORIGIN = re.compile(
    r"(?:([A-Za-z][A-Za-z0-9+.-]*)://|(?!.*://))([^@/?#\s]*@)?"
    r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::([0-9]{0,5}))?([/?#].*)?"
)
#: The ports that browsers leave out. Hosts of other schemes (``capacitor://``, extensions) keep their case.
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


def known_origins(value: object) -> tuple[str, ...]:
    """The origins that a str or an iterable of str names, or ("*",); ``ConfigError`` if one is no origin."""
    items = (value,) if isinstance(value, str) else _items("origins", value, "https://example.org")
    if not items:
        raise ConfigError("cors: origins is empty: name one, or leave cors out to allow none")
    if "*" in items and items != ("*",):
        raise ConfigError('cors: origins has "*" among others: it is "*" alone, or without it')
    return ("*",) if "*" in items else tuple(map(_origin, items))


def known_methods(value: object) -> tuple[str, ...]:
    """The methods that an iterable of str names, or ("*",); ``ConfigError`` if one is not a token in upper case."""
    return tuple(map(_method, _items("methods", value, "GET")))


def field_names(option: str, value: object) -> tuple[str, ...]:
    """The header names that an iterable of str names, in lower case, or ("*",); ``ConfigError`` if one is none."""
    names = []
    for name in _items(option, value, "X-Request-ID"):
        if not isinstance(name, str) or not TOKEN.fullmatch(name):
            raise ConfigError(
                f"cors: {option} has {shown(name)}, which is no header name (RFC 9110 section 5.1)"
            )
        names.append(name.lower())
    return tuple(names)


def _items(option: str, value: object, example: str) -> tuple[object, ...]:
    """The items of an option; ``ConfigError`` for what has none, as a str of several."""
    if value == "*":
        return ("*",)
    if isinstance(value, Iterable) and not isinstance(value, (str, bytes, bytearray, Mapping)):
        return tuple(value)
    raise ConfigError(f'cors: {option} is {shown(value)}: it is "*" or a list, as [{example!r}]')


def _method(name: object) -> str:
    if not isinstance(name, str) or not TOKEN.fullmatch(name):
        raise ConfigError(f"cors: methods has {shown(name)}: a method is a word, as 'GET'")
    if name != name.upper():
        raise ConfigError(f"cors: methods has {name!r}, and case matters: write {name.upper()!r}")
    return name


def _origin(text: object) -> str:
    if not isinstance(text, str):
        raise ConfigError(f"cors: an origin is a str, as 'https://example.org', not {shown(text)}")
    if text == "null":
        raise ConfigError(
            "cors: the origin 'null' is that of every sandboxed frame, local file and data: URL, whoever made it:"
            " name the origin that serves the page"
        )
    if "*" in text:
        raise ConfigError(f"cors: the origin {text!r} is a pattern: name each origin that is meant")
    match = _ORIGIN.fullmatch(text)
    right = _spelled(match) if match else None
    if match is None or right is None:
        raise ConfigError(
            f"cors: {text!r} is no origin: it is a scheme, a host (in ASCII: xn-- for others) and maybe a port, as"
            " 'https://example.org' or 'http://localhost:5173'"
        )
    if text == right:
        return text
    scheme, user, _, port, rest = match.groups("")
    faults = (
        (not scheme, "has no scheme"),
        (user, "has a user in it"),
        (rest == "/", "ends in a slash"),
        (rest, "has a path, a query or a fragment"),
        (text.lower() == right, "is not in lower case"),
        (port and int(port) == _DEFAULT_PORTS.get(scheme.lower()), "spells the default port out"),
    )
    fault = next((says for is_so, says in faults if is_so), "is not spelled as browsers spell it")
    raise ConfigError(f"cors: the origin {text!r} {fault}: write {right!r}")


def _spelled(match: re.Match[str]) -> str | None:
    """The origin that was meant, as a browser would send it; None for a port or an address that is none."""
    scheme, _, host, digits, _ = match.groups("")
    scheme = scheme.lower() or ("http" if is_loopback(host.lower()) else "https")
    port = int(digits or -1)
    if port > 65535:
        return None
    if host[0] == "[":
        try:
            address = IPv6Address(host[1:-1])
        except ValueError:
            return None
        low = int(address) & 0xFFFFFFFF
        # As WHATWG URL 3.5 has it; CPython's str has had another form since 3.13.
        host = f"[::ffff:{low >> 16:x}:{low & 0xFFFF:x}]" if address.ipv4_mapped else f"[{address}]"
    elif scheme in _DEFAULT_PORTS:
        host = host.lower()
    is_usual = port in (-1, _DEFAULT_PORTS.get(scheme))
    return f"{scheme}://{host}" if is_usual else f"{scheme}://{host}:{port}"

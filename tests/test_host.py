"""Which Host is one, and which is answered for."""

from __future__ import annotations

import re

import pytest

from bunpy.errors import ConfigError, RequestRefused
from bunpy.http.host import HostList, is_loopback, known_host

ANYWHERE = ["192.0.2.1"]
HERE = ["127.0.0.1"]


def status_of(host: str, hosts: HostList) -> int:
    """The status that a host is refused with, 0 if it is not, as both ``status`` and ``check`` tell it."""
    status = hosts.status(host)
    if status == 0:
        hosts.check(host)
        return 0
    with pytest.raises(RequestRefused) as refusal:
        hosts.check(host)
    assert refusal.value.closes
    assert refusal.value.status == status
    return status


VALID = [
    "a", "A", "a.example", "a.example.", "xn--bcher-kva.example", "a-b_c~d", "192.0.2.1", "192.0.2.1:80",
    "a:80", "a:", "a:0", "a:1", "a:65535", "a:00080", "[::1]", "[::1]:80", "[::1]:", "[2001:DB8::1]",
    "[::ffff:192.0.2.1]", "a!$&'()*+;=b", "a%20b", "%C3%A9", "1.2.3.4.5", "-",
]  # fmt: skip

INVALID = [
    "", " ", "a b", " a", "a ", "a\tb", "a,b", "a, b", "a/b", "a/", "/", "a?b", "a#b", "a@b", "@a", "a\\b",
    "a|b", "a^b", "a`b", '"a"', "<a>", "{a}", "http://a", "//a", ":", ":80", "a:b", "a:80a", "a:-80", "a:+80",
    "a:8 0", "a: 80", "a:65536", "a:99999", "a:100000", "a:000080", "a:80:80", "a::80", "a:\xb2",
    "::1", "::1:80", "[::1", "::1]", "[]", "[]:80", "[::1]a", "a[::1]", "[::1]:a", "[::1]]", "[[::1]]",
    "[a]", "[:::::]", "[1]", "[::1::]", "[127.0.0.1]", "[12345::]", "[1:2:3:4:5:6:7:8:9]",
    "a%", "a%2", "a%zz", "a%2g", "\xe9", "\xb2", "a\x00b", "a\r\nb", "a\n",
]  # fmt: skip


@pytest.mark.parametrize("host", VALID)
def test_a_valid_host(host: str) -> None:
    assert status_of(host, HostList(None, ANYWHERE)) == 0


@pytest.mark.parametrize("host", INVALID)
def test_an_invalid_host(host: str) -> None:
    for hosts in (HostList(None, ANYWHERE), HostList(None, HERE), HostList(["a", host], ANYWHERE)):
        for _ in range(2):  # also when it has been asked for before
            assert status_of(host, hosts) == 400


@pytest.mark.parametrize("host", [*INVALID, "evil.example"])
def test_a_refusal_does_not_say_the_host_again(host: str) -> None:
    """It goes into a body: nothing of the request does."""
    with pytest.raises(RequestRefused) as refusal:
        HostList(None, HERE).check(host)
    if len(host) > 3:
        assert host not in refusal.value.message


# Loopback (against DNS rebinding)

OURS = [
    "localhost", "LOCALHOST", "LocalHost:3000", "127.0.0.1", "127.0.0.1:3000", "127.1.2.3",
    "127.255.255.254:80", "[::1]", "[::1]:3000", "[0:0:0:0:0:0:0:1]",
]  # fmt: skip

NOT_OURS = [
    "evil.example", "evil.example:3000", "localhost.evil.example", "127.0.0.1.evil.example", "evil-localhost",
    "localhost.", "localhos", "a.localhost", "127.0.0.1.nip.io", "127.1", "127.0.0.256", "0177.0.0.1",
    "2130706433", "0x7f.1", "0.0.0.0", "128.0.0.1", "192.168.0.1", "10.0.0.1", "169.254.169.254", "[::]",
    "[::2]", "[fe80::1]", "[2001:db8::1]", "local%68ost",
]  # fmt: skip


@pytest.mark.parametrize("host", OURS)
@pytest.mark.parametrize(
    "addresses", [["127.0.0.1"], ["::1"], ["127.0.0.1", "::1"], ["127.9.9.9"], ["localhost"]]
)
def test_a_server_on_loopback_answers_for_its_names(host: str, addresses: list[str]) -> None:
    assert status_of(host, HostList(None, addresses)) == 0


@pytest.mark.parametrize("host", NOT_OURS)
@pytest.mark.parametrize("addresses", [["127.0.0.1"], ["::1"], ["127.0.0.1", "::1"]])
def test_a_server_on_loopback_answers_for_no_other(host: str, addresses: list[str]) -> None:
    assert status_of(host, HostList(None, addresses)) == 421


@pytest.mark.parametrize("host", ["localhost", "evil.example", "192.168.0.1", "[::1]"])
@pytest.mark.parametrize(
    "addresses", [["0.0.0.0"], ["::"], ["192.0.2.1"], ["127.0.0.1", "192.0.2.1"], ["2001:db8::1"]]
)
def test_a_server_that_is_reached_from_elsewhere_answers_for_any(
    host: str, addresses: list[str]
) -> None:
    assert status_of(host, HostList(None, addresses)) == 0


# Hosts that are allowed


@pytest.mark.parametrize("addresses", [HERE, ANYWHERE, ["0.0.0.0"]])
def test_allowed_hosts_and_no_other(addresses: list[str]) -> None:
    hosts = HostList(["a.example", "[::1]", "192.0.2.1"], addresses)
    for host in ("a.example", "A.Example:80", "a.example:", "[::1]:80", "192.0.2.1"):
        assert status_of(host, hosts) == 0, host
    for host in (
        "b.example",
        "x.a.example",
        "a.example.",
        "localhost",
        "127.0.0.1",
        "[::2]",
        "::2",
    ):
        assert status_of(host, hosts) in (400, 421), host
    assert status_of("localhost", hosts) == 421


@pytest.mark.parametrize("host", [host for host in VALID if ":" not in host or host[-1] == "]"])
def test_what_can_be_allowed(host: str) -> None:
    """Whatever a Host can be, less its port."""
    assert status_of(host, HostList([known_host(host)], HERE)) == 0


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("http://example.com", "example.com"),
        ("HTTPS://Example.com:8443/app?a#b", "example.com"),
        ("https://me:secret@example.com/", "example.com"),
        ("https://[::1]:80/", "[::1]"),
        ("//example.com", None),
        ("example.com/app", "example.com"),
        ("example.com:3000", "example.com"),
        ("a:99999", "a"),
        ("a:", "a"),
        (" a ", "a"),
        ("192.0.2.1:80", "192.0.2.1"),
        ("::1", "[::1]"),
        ("2001:DB8::1", "[2001:db8::1]"),
        ("[::1]:80", "[::1]"),
        ("fe80::1%eth0", None),
        ("[::1%eth0]", None),
        ("[a]", None),
        ("[a]:80", None),
        ("", None),
        (" ", None),
        ("a b", None),
        ("a\r\nb", None),
        ("a,b", None),
        ("é.example", None),
        ("\udc80", None),
        ("a:b", None),
        ("http://", None),
    ],
)
def test_what_cannot_be_allowed(text: str, meant: str | None) -> None:
    if meant is None:
        says = (
            "it is a host name (in ASCII: xn-- for others), an IPv4 address, or an IPv6 address in brackets,"
            " without a scheme and a port"
        )
        message = f"allowed_hosts has {text!r}: {says}"
    else:
        message = f"allowed_hosts has {text!r}, which is not a name alone: write {meant!r}"
        assert known_host(meant) == meant
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        known_host(text)


@pytest.mark.parametrize(
    "text", ["*", "*.example.com", "a*", "app-*.a", "a.*", "*:80", "http://*.a", "http://*"]
)
def test_a_pattern_cannot_be_allowed(text: str) -> None:
    message = f"allowed_hosts has {text!r}, a pattern: name each host that is meant"
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        known_host(text)


def test_an_empty_list_allows_none() -> None:
    for host in ("a", "localhost", "127.0.0.1"):
        assert status_of(host, HostList([], HERE)) == 421


def test_the_hosts_are_read_once() -> None:
    """The list may be an iterator, or be changed: what it held at the start counts."""
    names = ["a"]
    hosts, also = HostList(names, HERE), HostList(iter(names), HERE)
    names[0] = "b"
    for list_ in (hosts, also):
        assert (status_of("a", list_), status_of("b", list_)) == (0, 421)


def test_two_lists_do_not_share_what_they_know() -> None:
    assert status_of("a", HostList(["a"], HERE)) == 0
    assert status_of("a", HostList(["b"], HERE)) == 421


def test_the_refusals_name_the_remedy() -> None:
    with pytest.raises(
        RequestRefused, match=re.escape("421 This server does not answer for that Host")
    ) as error:
        HostList(None, HERE).check("evil.example")
    assert "allowed_hosts" in error.value.message
    with pytest.raises(
        RequestRefused, match=re.escape("400 The request's Host is not a valid host[:port]")
    ):
        HostList(None, HERE).check("a b")


# Addresses


@pytest.mark.parametrize(
    "host",
    ["localhost", "127.0.0.1", "127.255.255.255", "::1", "[::1]", "0:0:0:0:0:0:0:1", "0000::0001"],
)
def test_a_loopback_address(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host",
    [
        "",
        "0.0.0.0",
        "::",
        "126.0.0.1",
        "128.0.0.1",
        "192.0.2.1",
        "::2",
        "fe80::1",
        "127.1",
        "a",
        "localhost.",
        "/run/a",
    ],
)
def test_no_loopback_address(host: str) -> None:
    assert not is_loopback(host)

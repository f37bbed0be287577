"""Which proxies are believed, and who a request is from by what they say."""

from __future__ import annotations

import ipaddress
import re
import tracemalloc
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bunpy.errors import ConfigError
from bunpy.http.forwarded import TrustedProxies

PROXIES = TrustedProxies(["10.0.0.0/8", "192.0.2.1", "2001:db8:1::/48", "::1"])
PEER = ("10.0.0.1", 4000)
NONE = TrustedProxies(())


# What is trusted


TRUSTED = [
    ("192.0.2.1", "192.0.2.1", "192.0.2.2"),
    ("192.0.2.1/32", "192.0.2.1", "192.0.2.0"),
    ("10.0.0.0/8", "10.0.0.0", "9.255.255.255"),
    ("10.0.0.0/8", "10.255.255.255", "11.0.0.0"),
    ("10.0.0.0/255.0.0.0", "10.1.2.3", "11.0.0.0"),
    ("0.0.0.0/0", "255.255.255.255", "::1"),
    ("0.0.0.0/0", "::ffff:1.2.3.4", "::"),
    ("::/0", "2001:db8::1", "0.0.0.0"),
    ("::/0", "::", "::ffff:1.2.3.4"),
    ("::1", "::1", "::2"),
    ("::1", "0:0:0:0:0:0:0:1", "127.0.0.1"),
    ("2001:db8::/32", "2001:db8:ffff::1", "2001:db9::1"),
    ("2001:DB8::/32", "2001:db8::1", "2001:db7::1"),
    ("2001:db8::a", "2001:DB8::A", "2001:db8::b"),
    # An IPv4-mapped address is the IPv4 address
    ("10.0.0.0/8", "::ffff:10.0.0.1", "::ffff:11.0.0.1"),
    ("10.0.0.0/8", "::ffff:a00:1", "::10.0.0.1"),
    ("10.0.0.0/8", "::FFFF:10.0.0.1", "::fffe:10.0.0.1"),
    ("::ffff:10.0.0.1", "10.0.0.1", "10.0.0.2"),
    ("::ffff:10.0.0.0/104", "10.1.2.3", "11.0.0.0"),
    ("::ffff:0:0/96", "1.2.3.4", "::1"),
    # A zone is passed over
    ("fe80::1", "fe80::1%eth0", "fe80::2%eth0"),
    ("fe80::/10", "fe80::1%3", "fec0::1%3"),
    ("::/0", "fe80::1%eth0", "10.0.0.1%eth0"),
    # Everything but addresses
    ("0.0.0.0/0", "1.2.3.4", ""),
    ("0.0.0.0/0", "1.2.3.4", "1.2.3"),
    ("0.0.0.0/0", "1.2.3.4", "01.2.3.4"),
    ("0.0.0.0/0", "1.2.3.4", "1.2.3.4 "),
    ("0.0.0.0/0", "1.2.3.4", "1.2.3.4/32"),
    ("0.0.0.0/0", "1.2.3.4", "1.2.3.4:80"),
    ("0.0.0.0/0", "1.2.3.4", "\u0661.2.3.4"),
    ("0.0.0.0/0", "1.2.3.4", "localhost"),
    ("0.0.0.0/0", "1.2.3.4", "unix"),
    ("::/0", "::1", "[::1]"),
    ("::/0", "::1", "::1%"),
    ("::/0", "::1", "::1%a%b"),
    ("::/0", "::1", "::1%" + "a" * 100),
]


@pytest.mark.parametrize(("item", "inside", "outside"), TRUSTED)
def test_an_item_trusts_what_is_in_it(item: str, inside: str, outside: str) -> None:
    proxies = TrustedProxies([item])
    for _ in range(2):  # also when it has been asked for before
        assert proxies.trusts(inside)
        assert not proxies.trusts(outside)
        assert not proxies.trusts(None)


def test_unix_trusts_whoever_has_no_address() -> None:
    proxies = TrustedProxies(["unix"])
    assert proxies.trusts(None)
    assert not proxies.trusts("")
    assert not proxies.trusts("127.0.0.1")
    assert TrustedProxies(["unix", "127.0.0.1"]).trusts("127.0.0.1")


def test_nothing_trusts_nobody() -> None:
    assert not NONE
    for address in (None, "", "127.0.0.1", "::1", "0.0.0.0"):
        assert not NONE.trusts(address)


@pytest.mark.parametrize("item", ["unix", "127.0.0.1", "::1", "0.0.0.0/0"])
def test_something_is_true(item: str) -> None:
    assert TrustedProxies([item])


def test_two_do_not_share_what_they_know() -> None:
    assert TrustedProxies(["::1"]).trusts("::1")
    assert not TrustedProxies(["::2"]).trusts("::1")


def test_what_has_been_asked_for_takes_little_memory() -> None:
    """Clients write the entries: neither many of them nor long ones stay."""
    proxies = TrustedProxies(["10.0.0.0/8"])
    tracemalloc.start()
    try:
        for number in range(8000):
            proxies.trusts(f"1.2.{number >> 8}.{number & 255}")
        for number in range(200):
            proxies.trusts("x" * 50_000 + str(number))
            proxies.client_of(PEER, "http", {"x-forwarded-for": "1" * 50_000 + str(number)})
        current, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert current < 1_000_000


# What is no item


@pytest.mark.parametrize(
    ("item", "says"),
    [
        ("*", "say '0.0.0.0/0' and '::/0'"),
        ("10.0.0.1/8", "say '10.0.0.0/8' for the network or '10.0.0.1' for the address"),
        ("10.0.0.0/0", "say '0.0.0.0/0' for the network or '10.0.0.0' for the address"),
        ("2001:db8::1/32", "say '2001:db8::/32' for the network or '2001:db8::1' for the address"),
        ("fe80::1%eth0", "leave out the zone"),
        ("fe80::%eth0/64", "leave out the zone"),
        *(
            (item, "it is an IP address, a network as '10.0.0.0/8', or 'unix'")
            for item in (
                "", " ", "a", "localhost", "UNIX", "unix:", "/run/a.sock", "10.0.0.1 ", " 10.0.0.1", "10.0.0",
                "10", "010.0.0.1", "10.0.0.256", "10.0.0.0/33", "10.0.0.0/-1", "10.0.0.0/", "10.0.0.0/8/8",
                "10.0.0.0/8,::1", "10.0.0.1:80", "[::1]", "::1/129", ":::", "::1%", "10.*", "10.0.0.1-10.0.0.9",
                None, 1, 2**32, True, b"\x7f\x00\x00\x01", b"::1", 1.5, ("10.0.0.0", 8), ipaddress.ip_address("::1"),
            )
        ),
    ],
)  # fmt: skip
def test_what_is_no_item(item: object, says: str) -> None:
    for items in ([item], ["10.0.0.0/8", item, "unix"]):
        with pytest.raises(ConfigError, match=re.escape(says)) as error:
            TrustedProxies(items)  # type: ignore[arg-type]
        assert f"trusted_proxies has {item!r}" in str(error.value)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("::1", "trusted_proxies is '::1': it is a list, as ['::1']"),
        ("unix", "trusted_proxies is 'unix': it is a list, as ['unix']"),
        ("", "trusted_proxies is '': it is a list, as ['10.0.0.0/8']"),
        (b"::1", "trusted_proxies is b'::1': it is a list, as ['10.0.0.0/8']"),
        (1, "trusted_proxies is 1: it is a list, as ['10.0.0.0/8']"),
        (True, "trusted_proxies is True: it is a list, as ['10.0.0.0/8']"),
    ],
)
def test_what_is_no_list(value: object, says: str) -> None:
    for make in (TrustedProxies, TrustedProxies.of):
        with pytest.raises(ConfigError) as error:
            make(value)  # type: ignore[arg-type]
        assert str(error.value) == says


# As a value


def test_of_takes_what_an_option_may_be() -> None:
    assert TrustedProxies.of(PROXIES) is PROXIES
    assert TrustedProxies.of(None) == NONE
    assert TrustedProxies.of([]) == NONE
    for items in (["::1"], ("::1",), {"::1"}, iter(["::1"])):
        assert TrustedProxies.of(items) == TrustedProxies(["::1"])


SAME = [
    (["10.0.0.0/8", "::1", "unix"], ["unix", "::1", "10.0.0.0/8"]),
    (["::1"], ["0:0:0:0:0:0:0:1/128"]),
    (["::1"], ["::1", "::1"]),
    (["unix"], ["unix", "unix"]),
    (["10.0.0.0/8"], ["10.0.0.0/9", "10.128.0.0/9", "10.1.2.3"]),
    (["10.0.0.1"], ["::ffff:10.0.0.1"]),
    (["10.0.0.0/8"], ["10.0.0.0/255.0.0.0"]),
]


@pytest.mark.parametrize(("some", "others"), SAME)
def test_equal_if_they_trust_the_same(some: list[str], others: list[str]) -> None:
    assert TrustedProxies(some) == TrustedProxies(others)
    assert hash(TrustedProxies(some)) == hash(TrustedProxies(others))
    assert repr(TrustedProxies(some)) == repr(TrustedProxies(others))


def test_not_equal_if_they_do_not() -> None:
    values = [
        NONE,
        PROXIES,
        *(TrustedProxies([item]) for item in ("unix", "::1", "::/0", "1.2.3.4")),
    ]
    assert len(set(values)) == len(values)
    assert NONE != ()
    assert TrustedProxies(["::1"]) != ["::1"]


@pytest.mark.parametrize(
    ("items", "text"),
    [
        ([], "TrustedProxies([])"),
        (["unix", "::1", "10.0.0.0/8"], "TrustedProxies(['10.0.0.0/8', '::1', 'unix'])"),
        (["192.0.2.1/32"], "TrustedProxies(['192.0.2.1'])"),
    ],
)
def test_repr_is_what_makes_it(items: list[str], text: str) -> None:
    assert repr(TrustedProxies(items)) == text
    assert eval(text) == TrustedProxies(items)


def test_it_can_be_the_default_of_a_frozen_dataclass() -> None:
    @dataclass(frozen=True)
    class Options:
        proxies: TrustedProxies = field(default=TrustedProxies(()))

    assert Options() == Options(TrustedProxies([]))
    assert hash(Options()) == hash(Options())


# Whom a request is from

CLIENTS = [
    # What an entry may be
    ("203.0.113.9", ("203.0.113.9", 0)),
    ("203.0.113.9:5678", ("203.0.113.9", 5678)),
    ("203.0.113.9:0", ("203.0.113.9", 0)),
    ("203.0.113.9:65535", ("203.0.113.9", 65535)),
    ("2001:db8::9", ("2001:db8::9", 0)),
    ("[2001:db8::9]", ("2001:db8::9", 0)),
    ("[2001:db8::9]:5678", ("2001:db8::9", 5678)),
    ("2001:DB8:0:0:0:0:0:9", ("2001:db8::9", 0)),
    ("1:2:3:4:5:6:7:8", ("1:2:3:4:5:6:7:8", 0)),
    ("1::2:5678", ("1::2:5678", 0)),
    ("::", ("::", 0)),
    ("::ffff:203.0.113.9", ("203.0.113.9", 0)),
    ("[::ffff:203.0.113.9]:80", ("203.0.113.9", 80)),
    ("0000:0000:0000:0000:0000:ffff:203.000.113.9", PEER),
    ("0000:0000:0000:0000:0000:ffff:255.255.255.255", ("255.255.255.255", 0)),
    ("fe80::9%eth0", ("fe80::9", 0)),
    ("[fe80::9%en-1.2_3~]:80", ("fe80::9", 80)),
    (" \t203.0.113.9\t ", ("203.0.113.9", 0)),
    # Walked from the right
    ("203.0.113.9, 10.0.0.2", ("203.0.113.9", 0)),
    ("203.0.113.9:1,10.0.0.2:2,10.0.0.3:3", ("203.0.113.9", 1)),
    ("203.0.113.9 \t,\t 10.0.0.2", ("203.0.113.9", 0)),
    ("203.0.113.9, [2001:db8:1::2]:80, ::1, 192.0.2.1, ::ffff:10.0.0.2", ("203.0.113.9", 0)),
    ("203.0.113.8, 203.0.113.9", ("203.0.113.9", 0)),
    ("10.0.0.9, 203.0.113.9, 10.0.0.2", ("203.0.113.9", 0)),
    ("junk, 203.0.113.9, 10.0.0.2", ("203.0.113.9", 0)),
    (", 203.0.113.9", ("203.0.113.9", 0)),
    ("10.0.0.7", ("10.0.0.7", 0)),
    ("10.0.0.7:80, 10.0.0.2", ("10.0.0.7", 80)),
    # What is no address ends the walk
    ("203.0.113.9, junk, 10.0.0.2", ("10.0.0.2", 0)),
    ("203.0.113.9, , 10.0.0.2:80", ("10.0.0.2", 80)),
    ("203.0.113.9,,10.0.0.2", ("10.0.0.2", 0)),
    (",10.0.0.2", ("10.0.0.2", 0)),
    ("203.0.113.9, junk", PEER),
    ("203.0.113.9,", PEER),
    ("203.0.113.9, ", PEER),
    *(
        (entry, PEER)
        for entry in (
            "", " ", ",", ",,", "junk", "unknown", "_hidden", "-", "unix", "localhost", "a.example",
            "203.0.113", "203.0.113.256", "203.0.113.09", "3405803785", "0xcb007109", "203.0.113.9.1", "203.0.113.9/32",
            "203.0.113.9:", "203.0.113.9:65536", "203.0.113.9:99999", "203.0.113.9:100000", "203.0.113.9:+1",
            "203.0.113.9:a", "203.0.113.9: 1", "203.0.113.9 :1", "203.0.113.9:1:1", ":80", ":", ":::", "203.0.113.9 1",
            "203.0.113.9;1", "203.0.113.9\x0b", "\xa0203.0.113.9", "203.0.113.\xb2", "203.0.113.9:\xb2",
            "203.0.113.9%eth0", '"203.0.113.9"', "'203.0.113.9'", "for=203.0.113.9", "http://203.0.113.9",
            "[203.0.113.9]", "[203.0.113.9]:80", "[2001:db8::9", "2001:db8::9]", "[]", "[]:80", "[2001:db8::9]80",
            "[2001:db8::9]:", "[2001:db8::9]:65536", "[[2001:db8::9]]", '"[2001:db8::9]:80"', "2001:db8::9::",
            "12345::", "1:2:3:4:5:6:7", "1:2:3:4:5:6:7:8:9", "g::", "fe80::9%", "fe80::9%a%b", "fe80::9%<a>",
            "fe80::9%" + "a" * 33, "0" * 100 + "203.0.113.9", "::" + "0" * 100, "1" * 60_000, " " * 60_000,
        )
    ),
]  # fmt: skip


@pytest.mark.parametrize(("entries", "client"), CLIENTS, ids=lambda value: repr(value)[:60])
def test_the_client_by_x_forwarded_for(entries: str, client: tuple[str, int]) -> None:
    for _ in range(2):  # also when it has been asked for before
        for scheme in ("http", "https"):
            said = PROXIES.client_of(PEER, scheme, {"x-forwarded-for": entries})
            assert said == (client, scheme)
    # Behind one more proxy it is the same, unless the last word was the peer's
    more = {"x-forwarded-for": f"{entries}, 192.0.2.1:443"}
    assert PROXIES.client_of(PEER, "http", more)[0] == (
        ("192.0.2.1", 443) if client == PEER else client
    )


@pytest.mark.parametrize(
    ("said", "scheme"),
    [
        ("http", "http"),
        ("https", "https"),
        ("HTTPS", "https"),
        ("Http", "http"),
        (" \thttps\t ", "https"),
        ("http, https", "https"),
        ("https, http", "http"),
        ("https,http", "http"),
        ("junk, https", "https"),
        ("https, HTTP ", "http"),
        *(
            (said, None)
            for said in ("", " ", ",", "https,", "https, ", "https, junk", "ftp", "ws", "wss", "on", "1", "https:",
                         "https://", "https;", '"https"', "http s", "https http", "http\x0b", "\xa0https",
                         "http\u017f", "s" * 60_000, "https" * 2, "https\x00")
        ),
    ],
    ids=lambda value: repr(value)[:60],
)  # fmt: skip
@pytest.mark.parametrize("scheme_before", ["http", "https"])
def test_the_scheme_by_x_forwarded_proto(said: str, scheme: str | None, scheme_before: str) -> None:
    headers = {"x-forwarded-proto": said}
    wanted = scheme or scheme_before
    assert PROXIES.client_of(PEER, scheme_before, headers) == (PEER, wanted)
    headers["x-forwarded-for"] = "203.0.113.9, 10.0.0.2"
    client = ("203.0.113.9", 0)
    assert PROXIES.client_of(PEER, scheme_before, headers) == (client, wanted)


def test_the_last_scheme_counts_however_far_the_walk_goes() -> None:
    """The client sent "https", the outer proxy appended "http", the inner one passed both on."""
    headers = {"x-forwarded-for": "203.0.113.9, 10.0.0.2", "x-forwarded-proto": "https, http"}
    assert PROXIES.client_of(PEER, "http", headers) == (("203.0.113.9", 0), "http")


SAID = {"x-forwarded-for": "203.0.113.9:80, 10.0.0.2", "x-forwarded-proto": "https"}


@pytest.mark.parametrize(
    ("items", "client", "is_believed"),
    [
        (["10.0.0.0/8"], ("10.0.0.1", 1), True),
        (["10.0.0.0/8"], ("::ffff:10.0.0.1", 1), True),
        (["10.0.0.2", "fe80::/64"], ("fe80::1%eth0", 1), True),
        (["10.0.0.2", "unix"], None, True),
        (["10.0.0.0/8"], None, False),
        (["10.0.0.0/8"], ("11.0.0.1", 1), False),
        (["10.0.0.0/8"], ("203.0.113.9", 1), False),
        (["10.0.0.0/8"], ("", 0), False),
        (["unix"], ("127.0.0.1", 1), False),
        ([], ("127.0.0.1", 1), False),
        ([], None, False),
    ],
)
def test_only_a_trusted_peer_is_believed(
    items: list[str], client: tuple[str, int] | None, is_believed: bool
) -> None:
    found = TrustedProxies(items).client_of(client, "http", SAID)
    assert found == ((("203.0.113.9", 80), "https") if is_believed else (client, "http"))


@pytest.mark.parametrize("client", [PEER, None])
@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize(
    "headers", [{}, {"forwarded": "for=203.0.113.9;proto=https"}, {"x-real-ip": "203.0.113.9"}]
)
def test_a_proxy_that_says_nothing(
    client: tuple[str, int] | None, scheme: str, headers: dict[str, str]
) -> None:
    proxies = TrustedProxies(["10.0.0.0/8", "unix"])
    assert proxies.client_of(client, scheme, headers) == (client, scheme)


def test_the_walk_takes_so_many_entries() -> None:
    hops = [f"10.0.1.{number}" for number in range(1, 201)]

    def client(count: int) -> tuple[str, int] | None:
        entries = ", ".join(["203.0.113.9", *hops[200 - count :]])
        return PROXIES.client_of(PEER, "http", {"x-forwarded-for": entries})[0]

    assert client(63) == ("203.0.113.9", 0)
    assert client(64) == client(200) == ("10.0.1.137", 0)


# Properties

HOPS = st.lists(
    st.sampled_from(["10.0.0.2", "10.9.9.9:80", "[2001:db8:1::2]:443", "::1", "::ffff:192.0.2.1"]),
    max_size=8,
)
OUTSIDE = st.ip_addresses().filter(
    lambda address: (
        not PROXIES.trusts(str(address)) and getattr(address, "ipv4_mapped", None) is None
    )
)
ANYTHING = st.text(st.characters(max_codepoint=255)) | st.text(
    "0123456789abcdef:.,[]% \t", max_size=40
)


@settings(deadline=None)
@given(
    ANYTHING, OUTSIDE, st.none() | st.integers(0, 65535), HOPS, st.sampled_from([",", ", ", " ,\t"])
)
def test_whatever_a_client_sends_it_is_the_client(
    forged: str,
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
    port: int | None,
    hops: list[str],
    comma: str,
) -> None:
    host = f"[{address}]" if address.version == 6 and port is not None else str(address)
    entry = host if port is None else f"{host}:{port}"
    headers = {"x-forwarded-for": comma.join([forged, entry, *hops])}
    assert PROXIES.client_of(PEER, "http", headers) == ((str(address), port or 0), "http")


@settings(deadline=None)
@given(ANYTHING, st.sampled_from(["http", "https"]))
def test_whatever_a_client_sends_a_proxy_has_the_last_word(forged: str, scheme: str) -> None:
    headers = {"x-forwarded-proto": f"{forged}, {scheme}"}
    assert PROXIES.client_of(PEER, "http", headers) == (PEER, scheme)


@settings(deadline=None)
@given(ANYTHING, ANYTHING, OUTSIDE)
def test_whatever_a_stranger_sends_is_not_believed(
    entries: str, said: str, address: ipaddress.IPv4Address | ipaddress.IPv6Address
) -> None:
    headers = {"x-forwarded-for": entries, "x-forwarded-proto": said}
    peer = (str(address), 1)
    assert PROXIES.client_of(peer, "http", headers) == (peer, "http")


def walk(entries: list[str]) -> str:
    """The client's address as the rule says it, entries being addresses or not, without ports."""
    client = PEER[0]
    for entry in reversed(entries):
        try:
            client = str(ipaddress.ip_address(entry))
        except ValueError:
            return client
        if not any(
            ipaddress.ip_address(client) in ipaddress.ip_network(network)
            for network in ("10.0.0.0/8", "192.0.2.1", "2001:db8:1::/48", "::1")
        ):
            return client
    return client


@settings(deadline=None)
@given(
    st.lists(
        st.sampled_from(["10.0.0.2", "192.0.2.1", "::1", "2001:db8:1::2"])
        | st.sampled_from(["203.0.113.9", "192.0.2.2", "2001:db8:2::1", "::2"])
        | st.sampled_from(["", "junk", "10.0.0", "::1::", "1.2.3.4.5"]),
        max_size=10,
    )
)
def test_the_walk_is_the_rule(entries: list[str]) -> None:
    client, _ = PROXIES.client_of(PEER, "http", {"x-forwarded-for": ", ".join(entries)})
    assert client is not None
    assert client[0] == walk(entries)

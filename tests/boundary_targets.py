"""Cases of the boundary's table: what is asked for, and of whom. Targets, Hosts, and who the client says it is."""

from __future__ import annotations

from boundary_cases import Case, Saw, accepted, get, head, post, refusals, refused

__all__ = ["CASES"]


def hosted(host: str) -> bytes:
    return get(host=host)


HOSTS = [
    *[
        accepted(f"Host {host}", hosted(host), Saw(host=host))
        for host in (
            "localhost:8080",
            "localhost:0",
            "localhost:65535",
            "localhost:00080",
            "LocalHost",
            "www.example.org",
            "www.example.org.",
            "xn--bcher-kva.example",
            "with_underscore.example",
            "with-hyphen.example",
            "-a",
            "1",
            "192.0.2.1",
            "192.0.2.1:80",
            "[2001:db8::1]",
            "[2001:db8::1]:80",
            "[::ffff:192.0.2.1]",
            "a%20b.example",
            "a~b!$&'()*+;=c",
        )
    ],
    accepted(
        "a Host with an empty port",
        hosted("localhost:"),
        Saw(host="localhost:"),
        why="port = *DIGIT (RFC 3986)",
    ),
    accepted("blanks around a Host", hosted(" \t localhost \t ")),
    accepted("HOST", head("GET / HTTP/1.1", "HOST: localhost")),
    accepted("Host as the last field", head("GET / HTTP/1.1", "X: y", "Host: localhost")),
    accepted(
        "no Host in HTTP/1.0",
        head("GET /a HTTP/1.0", "X: y"),
        Saw(url="/a", host=None),
        closes=True,
    ),
    *refusals(
        400,
        {
            "no Host": head("GET / HTTP/1.1"),
            "no Host but other fields": head("GET / HTTP/1.1", "X: y"),
            "no Host and a HEAD": head("HEAD / HTTP/1.1"),
            "no Host and a body that has not come": head("POST / HTTP/1.1", "Content-Length: 5"),
            "no Host and Expect": head(
                "POST / HTTP/1.1", "Content-Length: 5", "Expect: 100-continue"
            ),
            "no Host and OPTIONS *": head("OPTIONS * HTTP/1.1"),
            "X-Host for a Host": head(
                "GET / HTTP/1.1", "X-Host: localhost", "X-Forwarded-Host: localhost"
            ),
            "two Hosts": get("Host: www.example.org"),
            "a Host twice": get("Host: localhost"),
            "a Host twice, far apart": get("X: 1", "Y: 2", "host: localhost"),
            "a Host and an empty one": get("Host:"),
            "two Hosts in HTTP/1.0": get("Host: localhost", version="HTTP/1.0"),
            "two Hosts and absolute form": get("Host: localhost", target="http://localhost/"),
            "a bad Host and a body that has not come": get(
                "Content-Length: 5", host="a b", method="POST"
            ),
            "a bad Host and Expect": get(
                "Content-Length: 5", "Expect: 100-continue", host="a b", method="POST"
            ),
            "an empty Host": hosted(""),
            "a Host of blanks": hosted(" \t "),
            "a space in a Host": hosted("local host"),
            "a tab in a Host": hosted("local\thost"),
            "a list of Hosts": hosted("localhost, www.example.org"),
            "a comma in a Host": hosted("localhost,www.example.org"),
            "a path in a Host": hosted("localhost/a"),
            "a query in a Host": hosted("localhost?a"),
            "a fragment in a Host": hosted("localhost#a"),
            "a backslash in a Host": hosted("localhost\\a"),
            "a user in a Host": hosted("user@localhost"),
            "a user and password in a Host": hosted("user:password@localhost"),
            "an at alone in a Host": hosted("@localhost"),
            "a URL for a Host": hosted("http://localhost"),
            "markup for a Host": hosted("<script>"),
            "quotes around a Host": hosted('"localhost"'),
            "braces in a Host": hosted("{localhost}"),
            "a high byte in a Host": hosted("l\xf6calhost"),
            "UTF-8 in a Host": hosted("b\xc3\xbccher.example"),
            "NUL in a Host": hosted("localhost\x00"),
            "a percent alone in a Host": hosted("a%"),
            "a percent and one digit in a Host": hosted("a%2"),
            "a percent and letters in a Host": hosted("a%zz"),
            "a port of letters": hosted("localhost:http"),
            "a port over 65535": hosted("localhost:65536"),
            "a port of 100 digits": hosted("localhost:" + "1" * 100),
            "a negative port": hosted("localhost:-80"),
            "a port with a plus": hosted("localhost:+80"),
            "a port of Arabic digits": hosted("localhost:\xd9\xa8"),
            "two ports": hosted("localhost:80:80"),
            "a space before a port": hosted("localhost: 80"),
            "a port alone": hosted(":80"),
            "a colon for a Host": hosted(":"),
            "an IPv6 address without brackets": hosted("::1"),
            "the beginning of a bracket": hosted("[::1"),
            "the end of a bracket": hosted("::1]"),
            "empty brackets": hosted("[]"),
            "text behind brackets": hosted("[::1]a"),
            "text before brackets": hosted("a[::1]"),
            "colons in brackets": hosted("[:::::]"),
            "a name in brackets": hosted("[localhost]"),
            "an IPv4 address in brackets": hosted("[127.0.0.1]"),
            "an IPv6 address with a zone": hosted("[fe80::1%25eth0]"),
            "an IPv6 address with a bare zone": hosted("[fe80::1%eth0]"),
            "an IPv6 address of nine groups": hosted("[1:2:3:4:5:6:7:8:9]"),
            "a Host of 10,000 bytes": hosted("a" * 10_000),
            "a bad Host in HTTP/1.0": get(host="a b", version="HTTP/1.0"),
        },
    ),
    *refusals(
        421,
        {
            "a Host that is not listed": hosted("evil.example"),
            "a Host that is not listed, with a port": hosted("evil.example:80"),
            "a Host that ends like a listed one": hosted("evil-localhost"),
            "a Host that begins like a listed one": hosted("localhost.evil.example"),
            "a listed Host with another's dot": hosted("localhost."),
            "an address that is not listed": hosted("127.0.0.1"),
            "a Host that is not listed, in HTTP/1.0": get(host="evil.example", version="HTTP/1.0"),
            "a Host that is not listed, and a body": get(
                "Content-Length: 5", host="evil.example", method="POST"
            ),
            "absolute form of a host that is not listed": get(target="http://evil.example/"),
        },
    ),
    # A server on a loopback address, that was told of no hosts
    *[
        accepted(f"Host {host} on loopback", hosted(host), Saw(host=host), site="loopback")
        for host in (
            "localhost",
            "LOCALHOST",
            "localhost:3000",
            "127.0.0.1",
            "127.0.0.1:3000",
            "127.8.9.10",
            "[::1]",
            "[::1]:3000",
        )
    ],
    accepted(
        "no Host in HTTP/1.0 on loopback",
        head("GET / HTTP/1.0"),
        Saw(host=None),
        closes=True,
        site="loopback",
        why="no browser sends that",
    ),
    *[
        refused(f"Host {host} on loopback", hosted(host), 421, site="loopback")
        for host in (
            "evil.example",
            "localhost.evil.example",
            "evil.localhost",
            "127.0.0.1.evil.example",
            "127.1",
            "2130706433",
            "0x7f000001",
            "0177.0.0.1",
            "0.0.0.0",
            "192.168.0.1",
            "[::]",
            "[::2]",
            "[::ffff:127.0.0.1]",
            "localhost%2e",
        )
    ],
    refused(
        "absolute form of another host on loopback",
        get(target="http://evil.example/"),
        421,
        site="loopback",
    ),
]


def to(target: str, method: str = "GET", host: str = "localhost") -> bytes:
    return get(target=target, method=method, host=host)


WWW = "www.example.org"

ABSOLUTE = [
    accepted("absolute form", to("http://localhost/a?b"), Saw(url="/a?b")),
    accepted(
        "absolute form with a port", to("http://localhost:81/a"), Saw(url="/a", host="localhost:81")
    ),
    accepted(
        "absolute form with an empty port",
        to("http://localhost:/a"),
        Saw(url="/a", host="localhost:"),
    ),
    accepted(
        "absolute form of another host than Host", to(f"http://{WWW}/a"), Saw(url="/a", host=WWW)
    ),
    accepted(
        "absolute form of another port than Host",
        to("http://localhost:81/", host="localhost:82"),
        Saw(host="localhost:81"),
    ),
    accepted(
        "absolute form and a Host that is not listed",
        to("http://localhost/a", host="evil.example"),
        Saw(url="/a"),
        why="an origin server MUST ignore Host then (RFC 9112 section 3.2.2)",
    ),
    accepted(
        "absolute form with an IPv6 address",
        to("http://[2001:db8::1]:81/"),
        Saw(host="[2001:db8::1]:81"),
    ),
    accepted("absolute form without a path", to("http://localhost"), Saw(url="/")),
    accepted(
        "absolute form with a query and no path", to("http://localhost?a=b"), Saw(url="/?a=b")
    ),
    accepted("absolute form with an empty query", to("http://localhost?"), Saw(url="/?")),
    accepted(
        "absolute form in capitals", to("HTTP://LOCALHOST/A"), Saw(url="/A", host="LOCALHOST")
    ),
    accepted(
        "absolute form of https",
        to("https://localhost/a"),
        Saw(url="/a"),
        why="a proxy in front may have ended TLS",
    ),
    accepted(
        "absolute form in a path", to("/http://evil.example/"), Saw(url="/http://evil.example/")
    ),
    accepted(
        "absolute form in an absolute form",
        to("http://localhost/http://evil.example/"),
        Saw(url="/http://evil.example/"),
    ),
    accepted(
        "absolute form with an at in its path",
        to("http://localhost/@evil.example"),
        Saw(url="/@evil.example"),
    ),
    accepted(
        "absolute form with an at in its query",
        to("http://localhost?@evil.example"),
        Saw(url="/?@evil.example"),
    ),
    accepted("absolute form with two slashes", to("http://localhost//a"), Saw(url="//a")),
    accepted("absolute form of OPTIONS", to("http://localhost", "OPTIONS"), Saw("OPTIONS", "/")),
    accepted(
        "absolute form with a body",
        post("Content-Length: 5").replace(b"POST /", b"POST http://localhost/a"),
        Saw("POST", "/a", b"hello"),
    ),
    accepted(
        "absolute form in HTTP/1.0",
        get(target="http://localhost/a", version="HTTP/1.0"),
        Saw(url="/a"),
        closes=True,
    ),
    accepted(
        "absolute form in HTTP/1.0 without Host",
        head("GET http://localhost/a HTTP/1.0"),
        Saw(url="/a"),
        closes=True,
    ),
    *refusals(
        400,
        {
            "absolute form without Host": head("GET http://localhost/ HTTP/1.1"),
            "absolute form and a bad Host": to("http://localhost/", host="a b"),
            "absolute form and an empty Host": to("http://localhost/", host=""),
            "absolute form without a host": to("http:///a"),
            "absolute form of nothing": to("http://"),
            "absolute form of a query": to("http://?a"),
            "absolute form of a port": to("http://:80/"),
            "absolute form with a user": to("http://user@localhost/"),
            "absolute form with a user and a password": to("http://user:password@localhost/"),
            "absolute form with two hosts": to("http://localhost,evil.example/"),
            "absolute form with a backslash": to("http://localhost\\@evil.example/"),
            "absolute form with a port of letters": to("http://localhost:a/"),
            "absolute form with a port over 65535": to("http://localhost:65536/"),
            "absolute form with half a bracket": to("http://[::1"),
            "absolute form with one slash": to("http:/localhost/"),
            "absolute form with no slashes": to("http:localhost"),
            "absolute form with a fragment": to("http://localhost/a#b"),
            "absolute form of a fragment": to("http://localhost#b"),
            "absolute form of ftp": to("ftp://localhost/"),
            "absolute form of ws": to("ws://localhost/"),
            "absolute form of file": to("file:///etc/passwd"),
            "absolute form of javascript": to("javascript:alert(1)"),
        },
    ),
]

TARGETS = [
    accepted("a path and a query", to("/a/b;c?d=e&f?g"), Saw(url="/a/b;c?d=e&f?g")),
    accepted(
        "percent-encoding is left alone",
        to("/%61%2f%00%0d%0a?%23"),
        Saw(url="/%61%2f%00%0d%0a?%23"),
    ),
    accepted(
        "a percent alone",
        to("/100%"),
        Saw(url="/100%"),
        why="decoding is the handler's; nothing here depends on it",
    ),
    accepted(
        "dots are left alone",
        to("/a/../../b/./c"),
        Saw(url="/a/../../b/./c"),
        why="what a path names is the handler's to say",
    ),
    accepted("two slashes first", to("//evil.example/a"), Saw(url="//evil.example/a")),
    accepted(
        "a backslash",
        to("/\\evil.example"),
        Saw(url="/\\evil.example"),
        why="no URI has one, but browsers send what is near",
    ),
    accepted(
        "brackets, bars and braces",
        to('/[a]|{b}?^`<">'),
        Saw(url='/[a]|{b}?^`<">'),
        why="no URI has them; browsers do send some",
    ),
    accepted("an empty query", to("/?"), Saw(url="/?")),
    accepted("a colon first", to("/:80"), Saw(url="/:80")),
    accepted("OPTIONS *", to("*", "OPTIONS"), Saw("OPTIONS", "*")),
    accepted("OPTIONS /*", to("/*", "OPTIONS"), Saw("OPTIONS", "/*")),
    accepted(
        "OPTIONS * in HTTP/1.0",
        head("OPTIONS * HTTP/1.0"),
        Saw("OPTIONS", "*", host=None),
        closes=True,
    ),
    *refusals(
        400,
        {
            "GET *": to("*"),
            "HEAD *": to("*", "HEAD"),
            "POST *": to("*", "POST"),
            "OPTIONS **": to("**", "OPTIONS"),
            "OPTIONS */": to("*/", "OPTIONS"),
            "OPTIONS *?a": to("*?a", "OPTIONS"),
            "OPTIONS *#": to("*#", "OPTIONS"),
            "a fragment": to("/a#b"),
            "an empty fragment": to("/a#"),
            "a fragment behind a query": to("/a?b#c"),
            "a fragment alone": to("#"),
            "a target without a slash": to("a"),
            "a target of a query": to("?a"),
            "a target of a dot": to("./a"),
            "a target of a backslash": to("\\a"),
            "a host and port": to("localhost:80"),
            "a host and path": to("localhost/a"),
            "UTF-8 in a target": to("/b\xc3\xbccher"),
            "a high byte in a target": to("/\xe9"),
            "0xFF in a target": to("/\xff"),
            "NUL in a target": to("/a\x00b"),
            "a control in a target": to("/a\x01b"),
            "ESC in a target": to("/a\x1bb"),
            "DEL in a target": to("/a\x7fb"),
            "a tab in a target": to("/a\tb"),
            "a high byte in a query": to("/?\xe9"),
            "NUL in a query": to("/?\x00"),
        },
    ),
]

CASES: list[Case] = [*HOSTS, *ABSOLUTE, *TARGETS]

"""What a server answers itself: health. (Metrics: test_metrics.py.)"""

from __future__ import annotations

import pytest
from watching import service_of

from bunpy.errors import ConfigError
from bunpy.serve import Request
from bunpy.testing import Connection, request, serving


def handler(req: Request) -> str:
    return f"handler {req.method}"


@pytest.mark.parametrize(("path", "body"), [("/healthz", "ok\n"), ("/readyz", "ready\n")])
def test_health(path: str, body: str) -> None:
    with serving(handler, health=True) as server:
        answer = request(server, "GET", path)
        assert (answer.status, answer.text(), answer.closes) == (200, body, False)
        assert answer.headers["cache-control"] == "no-store"
        head = request(server, "HEAD", path)
        assert (head.status, head.body) == (200, b"")
        assert request(server, "GET", f"{path}?verbose").text() == body


def test_not_ready_while_it_drains() -> None:
    """It is alive all the while. Connections that are new then are refused, which says the same."""
    with serving(handler, health=True) as server:
        service_of(server).is_stopping = True
        ready = request(server, "GET", "/readyz")
        assert (ready.status, ready.text(), ready.closes) == (503, "draining\n", True)
        assert request(server, "GET", "/healthz").status == 200
        service_of(server).is_stopping = False
        assert request(server, "GET", "/readyz").status == 200


def test_everything_else_is_the_handlers() -> None:
    with serving(handler, health=True) as server:
        assert request(server, "POST", "/healthz", body=b"").text() == "handler POST"
        assert request(server, "GET", "/healthz/").text() == "handler GET"
        assert request(server, "GET", "/").text() == "handler GET"


def test_only_if_asked_to() -> None:
    with serving(handler) as server:
        for path in ("/healthz", "/readyz", "/metrics"):
            assert request(server, "GET", path).text() == "handler GET"


def test_for_the_hosts_that_are_answered_for() -> None:
    """A page that was made to ask for another's numbers (DNS rebinding) gets none."""
    with serving(handler, health=True, metrics="/metrics") as server:
        for path in ("/healthz", "/metrics"):
            assert request(server, "GET", path, {"Host": "evil.example"}).status == 421


def test_the_first_on_its_connection_and_the_last() -> None:
    with serving(handler, health=True) as server, Connection(server) as connection:
        for _ in range(2):
            connection.send(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert connection.receive_until(b"ok\n").startswith(b"HTTP/1.1 200")


def test_two_pages_at_one_path() -> None:
    with pytest.raises(ConfigError, match="metrics is '/readyz', which health answers"):
        serving(handler, health=True, metrics="/readyz").__enter__()
    with serving(handler, metrics="/readyz") as server:
        assert "bunpy_workers" in request(server, "GET", "/readyz").text()

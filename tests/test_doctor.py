"""bunpy doctor through a real nginx, badly and well configured, before a real bunpy."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from certificates import Pair
from doctor_servers import nginx, readme_location

from bunpy import doctor
from bunpy.http.request import Request
from bunpy.serve import Server, SSEResponse
from bunpy.testing import serving

Captured = pytest.CaptureFixture[str]


async def numbers(last_id: int, pause: float, ahead: int = 0) -> AsyncIterator[dict[str, Any]]:
    """Without end; the first ``ahead`` of them at once."""
    while True:
        last_id += 1
        yield {"id": last_id, "data": {"n": last_id, "text": "word " * 40}}
        ahead -= 1
        if ahead <= 0:
            await asyncio.sleep(pause)


def handler(req: Request) -> SSEResponse:
    if req.path == "/doctor":
        return doctor.probe(req)
    pause = float(req.query.get("pause", "0.2"))
    return SSEResponse(numbers(int(req.last_event_id or 0), pause))


@pytest.fixture
def server() -> Iterator[Server]:
    with serving(handler) as server:
        yield server


def report(capsys: Captured, url: str, *arguments: str) -> tuple[int, dict[str, Any]]:
    """The exit status, and the findings by name that are neither ok nor about HTTP/2."""
    status = doctor.main([url, "--json", *arguments])
    found = json.loads(capsys.readouterr().out)
    faults = {
        finding["name"]: finding
        for finding in found["findings"]
        if finding["level"] != "ok" and finding["name"] != "http_version"
    }
    return status, faults


def advised(finding: dict[str, Any]) -> tuple[str, str]:
    """The level, and the setting that comes first: nginx's, because it was recognised."""
    name, setting = next(iter(finding["advice"].items()))
    assert name == "nginx"
    return finding["level"], setting


def test_bunpy_alone_has_nothing_to_mend(server: Server, capsys: Captured) -> None:
    assert report(capsys, server.url, "--seconds", "3") == (0, {})
    assert report(capsys, f"{server.url}/doctor?seconds=1") == (0, {})


def test_nginx_as_the_readme_has_it(
    server: Server, tmp_path: Path, program: Callable[[str], str], capsys: Captured
) -> None:
    with nginx(program("nginx"), tmp_path / "good", readme_location(server.port)) as port:
        url = f"http://127.0.0.1:{port}"
        assert report(capsys, url, "--seconds", "3") == (0, {})
        assert report(capsys, f"{url}/doctor?seconds=1") == (0, {})


#: What nginx does by default, were it not for X-Accel-Buffering. (With HTTP/1.1
#: and without gzip, nginx 1.22 passes chunks on as they come, also while it buffers.)
BUFFERED = "proxy_ignore_headers X-Accel-Buffering; proxy_buffering on; proxy_http_version 1.0;"

#: What is wrong with a location, how it is looked at, and what the doctor says: the fault, its level, the settings.
FAULTS = [
    (
        BUFFERED,
        ("/doctor?seconds=2",),
        ("buffering", "problem", "proxy_buffering off;"),
    ),
    (
        BUFFERED,
        ("/?pause=0.05", "--seconds", "3.5"),
        ("buffering", "problem", "proxy_buffering off;"),
    ),
    (
        BUFFERED,
        ("/", "--seconds", "1"),
        ("buffering", "problem", "proxy_buffering off;"),
    ),
    (
        "proxy_ignore_headers X-Accel-Buffering; gzip on; gzip_types text/event-stream;",
        ("/doctor?seconds=2",),
        ("compression", "warning", "gzip off;"),
    ),
    (
        "gzip on; gzip_types text/event-stream;",
        ("/", "--seconds", "1.2"),
        ("compression", "warning", "gzip off;"),
    ),
    (
        "proxy_read_timeout 2s;",
        ("/?pause=9", "--seconds", "3.5"),
        ("cut_off", "problem", "proxy_read_timeout 1h;"),
    ),
    (
        "proxy_http_version 1.0;",
        ("/doctor?seconds=1",),
        ("upstream", "warning", 'proxy_http_version 1.1; proxy_set_header Connection "";'),
    ),
    (
        "chunked_transfer_encoding off;",
        ("/", "--seconds", "1.2"),
        ("framing", "warning", "proxy_http_version 1.1; and chunked_transfer_encoding on;"),
    ),
]


@pytest.mark.parametrize(("wrong", "arguments", "fault"), FAULTS)
def test_nginx_with_a_fault_until_the_advice_is_followed(
    wrong: str,
    arguments: tuple[str, ...],
    fault: tuple[str, str, str],
    server: Server,
    tmp_path: Path,
    program: Callable[[str], str],
    capsys: Captured,
) -> None:
    """Beside the fault, the location is as good as it gets; the advice then replaces what is wrong, as it stands."""
    name, level, setting = fault
    path, *options = arguments
    good = {
        "proxy_pass": f"http://127.0.0.1:{server.port}",
        "proxy_http_version": "1.1",
        "proxy_set_header": 'Connection ""',
        "proxy_read_timeout": "1h",
    }

    def findings(folder: str, *statements: str) -> tuple[int, dict[str, Any]]:
        directives = dict(good)
        for statement in statements:
            directive, _, value = statement.strip().partition(" ")
            directives[directive] = value
        text = "".join(f"{directive} {value};\n" for directive, value in directives.items())
        with nginx(program("nginx"), tmp_path / folder, f"location / {{ {text} }}") as port:
            return report(capsys, f"http://127.0.0.1:{port}{path}", *options)

    def statements(text: str) -> list[str]:
        text = text.partition("#")[0].replace("; and ", ";").partition(" (")[0]
        return [part for part in text.split(";") if part.strip()]

    status, faults = findings("bad", *statements(wrong))
    assert name in faults
    found_level, advice = advised(faults[name])
    assert (found_level, advice.startswith(setting)) == (level, True), faults[name]
    assert status == any(finding["level"] == "problem" for finding in faults.values())
    assert set(faults) <= {name, "buffering", "upstream", "heartbeat", "resumption"}, faults

    status, faults = findings("mended", *statements(wrong), *statements(advice))
    assert status == 0
    assert name not in faults
    # HTTP/1.0 is another fault than the buffering; a stream that is silent on purpose has too few events to tell of it.
    assert {other: finding["level"] for other, finding in faults.items()}.items() <= {
        "upstream": "warning",
        "buffering": "unknown",
        "heartbeat": "unknown",
    }.items()


def test_nginx_with_https_and_http2_has_nothing_to_mend_at_all(
    server: Server,
    tmp_path: Path,
    program: Callable[[str], str],
    capsys: Captured,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pair = Pair.made_in(tmp_path / "pair")
    pair.authority.cert_pem.write_to_path(tmp_path / "authority.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
    location = f"ssl_certificate {pair.cert}; ssl_certificate_key {pair.key};\n" + readme_location(
        server.port
    )
    with nginx(program("nginx"), tmp_path / "good", location, listen="ssl http2") as port:
        assert doctor.main([f"https://localhost:{port}/doctor?seconds=1"]) == 0
    out = capsys.readouterr().out
    assert "through nginx" in out
    assert "HTTP/2 is offered" in out
    assert out.endswith("\nnothing to mend\n")


def test_nginx_without_a_server_behind_it(
    tmp_path: Path, program: Callable[[str], str], capsys: Captured
) -> None:
    with serving(handler) as gone:
        location = readme_location(gone.port)
    with nginx(program("nginx"), tmp_path / "alone", location) as port:
        status, faults = report(capsys, f"http://127.0.0.1:{port}/")
    assert status == 1
    assert "502 Bad Gateway" in faults["answer"]["seen"]
    assert "proxy_pass" in advised(faults["answer"])[1]


def test_a_stream_that_cannot_be_resumed(capsys: Captured) -> None:
    with serving(lambda req: SSEResponse(numbers(0, 0.2, ahead=3))) as server:
        status, faults = report(capsys, server.url, "--seconds", "1.2")
    assert status == 1
    assert faults["resumption"]["level"] == "problem"
    assert "it began anew with 1" in faults["resumption"]["seen"]

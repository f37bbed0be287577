"""The command line of bunpy doctor."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys

import pytest
from doctor_servers import HEAD, Talk, chunk, misbehaving

from bunpy.doctor import main
from bunpy.doctor.command import run

END = b"0\r\n\r\n"
Captured = pytest.CaptureFixture[str]


def good(talk: Talk) -> None:
    start = 2 if "Last-Event-Id: 1" in talk.request else 1
    talk.send(HEAD, *[chunk(b"id: %d\ndata: x\n\n" % n) for n in range(start, 4)], END)


def test_nothing_worse_than_a_warning(capsys: Captured) -> None:
    with misbehaving(good) as url:
        assert main([url]) == 0
    out, err = capsys.readouterr()
    assert out.startswith(f"{url}\nwatched for ")
    assert out.endswith("\n1 warning\n")
    assert ("\x1b" in out, err) == (False, "")


def test_a_problem(capsys: Captured) -> None:
    with misbehaving(lambda talk: talk.send(b"HTTP/1.1 404 No\r\n\r\n")) as url:
        assert run([url]) == 1
    assert "problem  answer  404 No: there is nothing at this path" in capsys.readouterr().out


def test_json(capsys: Captured) -> None:
    with misbehaving(good) as url:
        assert run([url, "--json", "--seconds", "3"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["url"], found["seen"]["events"]) == (url, 3)


def test_what_is_asked() -> None:
    requests: list[str] = []

    def script(talk: Talk) -> None:
        requests.append(talk.request)
        talk.send(HEAD + END)

    with misbehaving(script) as url:
        run(
            [
                url,
                "--data",
                "{}",
                "--header",
                "X-A: b: c",
                "--header",
                "Cookie:d",
                "--origin",
                "http://o",
            ]
        )
        run([url, "--method", "put"])
    assert requests[0].startswith("POST /events HTTP/1.1\r\n")
    assert requests[1].startswith("PUT /events HTTP/1.1\r\n")
    for field in ("X-A: b: c", "Cookie: d", "Origin: http://o", "Content-Length: 2"):
        assert f"\r\n{field}\r\n" in requests[0]


def test_it_cannot_be_reached(capsys: Captured) -> None:
    with misbehaving(good) as url:
        pass
    assert run([url]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("bunpy doctor: no connection to http://127.0.0.1:")
    assert err.count("\n") == 1
    assert "Errno" not in err


@pytest.mark.parametrize(
    "url", ["localhost:3000", "http://h/a b", "ftp://h/", "http://h:99999/", "http://[::1/"]
)
def test_a_url_that_is_none(url: str, capsys: Captured) -> None:
    assert run([url]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith("bunpy doctor: ")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "URL"),
        (["http://h/", "--seconds", "0"], "'0' is no number of seconds, more than 0"),
        (["http://h/", "--seconds", "x"], "'x' is no number of seconds"),
        (["http://h/", "--connect-timeout", "inf"], "'inf' is no number"),
        (["http://h/", "--header", "x"], "'x' is no header: it is 'Name: value'"),
        (["http://h/", "--header", "a b: c"], "is no header"),
    ],
)
def test_arguments_that_make_no_sense(arguments: list[str], says: str, capsys: Captured) -> None:
    with pytest.raises(SystemExit) as caught:
        run(arguments)
    assert caught.value.code == 2
    assert says in capsys.readouterr().err


def test_help(capsys: Captured) -> None:
    with pytest.raises(SystemExit) as caught:
        run(["--help"])
    assert caught.value.code == 0
    assert "nginx, Caddy, Apache" in " ".join(capsys.readouterr().out.split())


SCRIPT = "import sys; from bunpy.doctor import main; sys.exit(main(sys.argv[1:]))"


@pytest.mark.parametrize(("environment", "has_colour"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_colour_at_a_terminal(environment: dict[str, str], has_colour: bool) -> None:
    terminal, other = pty.openpty()
    variables = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    with misbehaving(good) as url:
        command = [sys.executable, "-c", SCRIPT, url]
        process = subprocess.Popen(
            command, stdout=other, stderr=subprocess.PIPE, env={**variables, **environment}
        )
        os.close(other)
        out = read_to_end(terminal)
        _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (0, b"")
    assert b"answer" in out
    assert (b"\x1b[" in out) == has_colour


def read_to_end(terminal: int) -> bytes:
    out = b""
    try:
        while data := os.read(terminal, 65536):
            out += data
    except OSError:  # Linux's way to say that nobody writes any more
        pass
    finally:
        os.close(terminal)
    return out


def test_an_interruption_reports_what_there_was() -> None:
    process: subprocess.Popen[str] | None = None

    def script(talk: Talk) -> None:
        talk.send(HEAD + chunk(b"id: 1\ndata: x\n\n"))
        assert process is not None
        process.send_signal(signal.SIGINT)
        talk.pause(20)

    with misbehaving(script) as url:
        process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT, url, "--seconds", "30"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            out, err = process.communicate(timeout=20)
        finally:
            process.kill()
    assert (process.returncode, err) == (0, "")
    assert out.endswith(" (interrupted)\n")


def test_the_probe_brings_no_client_along() -> None:
    script = "import sys, bunpy.doctor; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=True
    ).stdout.split()
    assert "bunpy.doctor.endpoint" in loaded
    assert {"bunpy.testing", "argparse", "bunpy.doctor.command"}.isdisjoint(loaded)

"""The command in processes of its own: it serves, it ends, and what it says of a mistake is read as a user reads it."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import signal
import socket
import subprocess
import sys
import textwrap
import types
from pathlib import Path

import pytest
from script import TIMEOUT, Scripts

import bunpy
from bunpy.cli import main, terminal
from bunpy.testing import EventClient, request

APP = """\
import asyncio
from bunpy.serve import SSEResponse

async def count():
    i = 0
    while True:
        yield {"id": i, "data": f"event {i}"}
        i += 1
        await asyncio.sleep(0.01)

def handler(req):
    return SSEResponse(count()) if req.path == "/events" else "hello"
"""


@pytest.fixture
def scripts(scripts: Scripts) -> Scripts:
    scripts.write(APP, "app.py", prelude="")
    return scripts


def run(
    folder: Path, *words: str, program: str | None = None, **variables: str
) -> subprocess.CompletedProcess[str]:
    """The command's whole run, which must come to its end by itself."""
    start = ["-m", "bunpy"] if program is None else ["-c", program]
    names = [name for name in os.environ if name.startswith("BUNPY_") and name != "BUNPY_PURE"]
    kept = {name: value for name, value in os.environ.items() if name not in names}
    return subprocess.run(
        [sys.executable, *start, *words],
        cwd=folder,
        env={**kept, **variables},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def sentence(folder: Path, *words: str, status: int = 2, **variables: str) -> str:
    """The one sentence that the command says before it ends with ``status``."""
    done = run(folder, *words, **variables)
    assert (done.returncode, done.stdout) == (status, ""), done
    assert done.stderr.startswith("bunpy: ")
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr.removeprefix("bunpy: ").removesuffix("\n")


# It serves


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_serves_until_a_signal(scripts: Scripts, number: signal.Signals) -> None:
    script = scripts.command("-m", "bunpy", "app:handler", "--port", "0")
    with EventClient(script.url, "/events", timeout=TIMEOUT) as client:
        assert [event.data for event in client.read(2)] == ["event 0", "event 1"]
        script.send(number)
        client.read_all(TIMEOUT)  # to its clean end
        assert client.retry is not None
    assert script.end() == 0
    assert (script.out, script.err) == ("", "")


def test_the_installed_command_is_the_same(scripts: Scripts, tmp_path: Path) -> None:
    """It has the directory of its own file on sys.path, not the current one."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "bunpy").write_text(
        "import sys\nfrom bunpy.cli import main\nsys.exit(main())\n"
    )
    script = scripts.command("bin/bunpy", "app:handler", "--port=0")
    assert request(script.url).text() == "hello"
    script.send(signal.SIGTERM)
    assert script.end() == 0


def test_variables_in_place_of_flags(scripts: Scripts) -> None:
    environment = {"BUNPY_PORT": "0", "BUNPY_HOST": "localhost", "BUNPY_LIMIT_REQUEST_LINE": "100"}
    script = scripts.command("-m", "bunpy", "app:handler", environment=environment)
    assert script.url.startswith("http://localhost:")
    assert request(script.url, path=f"/{'x' * 200}").status == 414


def test_a_unix_socket(scripts: Scripts, tmp_path: Path) -> None:
    path = tmp_path / "app.sock"
    script = scripts.command("-m", "bunpy", "app:handler", "--unix", str(path), "--unix-mode=600")
    script.wait_until(lambda: f"bunpy: serving on unix:{path} " in script.said)
    assert path.stat().st_mode & 0o777 == 0o600
    assert request(f"unix:{path}").text() == "hello"
    script.send(signal.SIGTERM)
    assert script.end() == 0
    assert not path.exists()


def test_a_quiet_one(scripts: Scripts, tmp_path: Path) -> None:
    path = tmp_path / "app.sock"
    script = scripts.command("-m", "bunpy", "app:handler", "--quiet", "--unix", str(path))

    def answers() -> bool:
        with contextlib.suppress(OSError):
            return request(f"unix:{path}").text() == "hello"
        return script.process.poll() is not None

    while not answers():
        os.sched_yield()
    script.send(signal.SIGTERM)
    assert script.end() == 0
    assert (script.out, script.said) == ("", "")


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGTERM is sent there")
def test_workers(scripts: Scripts) -> None:
    script = scripts.command("-m", "bunpy", "app:handler", "--port=0", "--workers=2")
    assert request(script.url).text() == "hello"
    assert script.said.endswith(", 2 workers)\n")
    script.send(signal.SIGTERM)
    assert script.end() == 0


# What it is


@pytest.mark.parametrize(
    ("words", "variables", "kind"),
    [
        (["--version"], {}, "cython|python"),
        (["--pure", "--version"], {}, "python"),
        (["--version"], {"BUNPY_PURE": "1"}, "python"),
    ],
)
def test_the_version(
    tmp_path: Path, words: list[str], variables: dict[str, str], kind: str
) -> None:
    done = run(tmp_path, *words, **variables)
    assert (done.returncode, done.stderr) == (0, "")
    python = re.escape(f"{platform.python_implementation()} {platform.python_version()}")
    number = r"\d+\.\d+[\w.]*"
    assert re.fullmatch(
        rf"bunpy {re.escape(bunpy.__version__)} \(({kind})\), {python}, (uvloop {number}|no uvloop),"
        rf" httptools {number}\n",
        done.stdout,
    )


def test_no_pure_takes_the_variable_back(tmp_path: Path) -> None:
    with_it = run(tmp_path, "--no-pure", "--version", BUNPY_PURE="1")
    without = run(tmp_path, "--version", BUNPY_PURE="")
    assert with_it.stdout == without.stdout


def test_pure_is_served_by_the_python_twin(scripts: Scripts) -> None:
    script = scripts.command("-m", "bunpy", "app:handler", "--port=0", "--pure")
    assert request(script.url).text() == "hello"
    assert "(python)" in script.said


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_the_help(tmp_path: Path, flag: str) -> None:
    done = run(tmp_path, flag)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: bunpy module:function [options]\n")
    assert max(map(len, done.stdout.splitlines())) <= 120


def test_doctor_is_anothers(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []

    def doctor(arguments: list[str]) -> int:
        asked.append(arguments)
        return 7

    monkeypatch.setitem(sys.modules, "bunpy.doctor", types.SimpleNamespace(main=doctor))
    assert main(["doctor", "http://localhost:1/", "--json"]) == 7
    assert asked == [["http://localhost:1/", "--json"]]


# What is wrong


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (
            [],
            "which handler? Say its module and its name, as bunpy app:handler (bunpy --help tells more)",
        ),
        (
            ["app"],
            "'app' does not say which function answers: write module:function, as app:handler",
        ),
        (["app.py"], "app.py names a file, not a module: write app:handler"),
        (["app:handler", "--prot", "1"], "there is no option --prot: did you mean --port?"),
        (["app:handler", "--port=x"], "--port is 'x': it is a number from 0 to 65535"),
        (["run", "app:handler"], "bunpy serves one handler, and was given run and app:handler:"),
        (["app:handler", "--tls-cert=c", "--tls-key=k"], "--tls-cert: "),
    ],
)
def test_a_mistake_in_the_command(
    scripts: Scripts, tmp_path: Path, words: list[str], says: str
) -> None:
    assert sentence(tmp_path, *words).startswith(says)


def test_a_mistake_in_a_variable(scripts: Scripts, tmp_path: Path) -> None:
    assert sentence(tmp_path, "app:handler", BUNPY_WORKERS="all") == (
        "BUNPY_WORKERS is 'all': it is a whole number"
    )


def test_a_module_that_is_not_there(scripts: Scripts, tmp_path: Path) -> None:
    assert sentence(tmp_path, "ap:handler") == (
        f"there is no module ap in {tmp_path}, nor is one installed: did you mean app?"
    )


def test_a_name_that_is_not_there(scripts: Scripts, tmp_path: Path) -> None:
    assert sentence(tmp_path, "app:handle") == (
        f"app ({tmp_path / 'app.py'}) has no handle: did you mean handler?"
    )


def test_workers_that_cannot_import_it(scripts: Scripts, tmp_path: Path) -> None:
    assert sentence(tmp_path, "app:handle", "--workers=2", "--port=0") == (
        f"app ({tmp_path / 'app.py'}) has no handle: did you mean handler?"
    )


def test_a_module_that_raises(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("\nimport os\nos.environ['NO_SUCH_KEY']\n")
    assert sentence(tmp_path, "app:handler") == (
        "app cannot be imported: KeyError: 'NO_SUCH_KEY' (app.py, line 3); --debug shows the traceback"
    )
    assert not re.search("Traceback", sentence(tmp_path, "app:handler", BUNPY_DEBUG="0"))


@pytest.mark.parametrize("is_flag", [True, False])
def test_the_traceback_for_whoever_asks(tmp_path: Path, is_flag: bool) -> None:
    (tmp_path / "app.py").write_text("1 / 0\n")
    words, variables = (["--debug"], {}) if is_flag else ([], {"BUNPY_DEBUG": "1"})
    done = run(tmp_path, "app:handler", *words, **variables)
    assert done.returncode == 2
    assert done.stderr.startswith("Traceback (most recent call last):\n")
    assert f'File "{tmp_path / "app.py"}", line 1' in done.stderr
    assert done.stderr.endswith(
        "\nbunpy: app cannot be imported: ZeroDivisionError: division by zero (app.py, line 1)\n"
    )


def test_the_traceback_of_what_only_a_worker_has_seen(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("1 / 0\n")
    done = run(tmp_path, "app:handler", "--debug", "--port=0", "--workers=2")
    assert done.returncode == 2
    assert f'File "{tmp_path / "app.py"}", line 1' in done.stderr
    assert done.stderr.endswith(
        "\nbunpy: app cannot be imported: ZeroDivisionError: division by zero (app.py, line 1)\n"
    )


def test_a_module_with_a_syntax_error_has_no_more_to_show(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("def handler(req):\nreturn 1\n")
    says = sentence(tmp_path, "app:handler")
    assert says.startswith("app cannot be imported: IndentationError: expected an indented block")
    assert says.endswith("(app.py, line 2)")


def test_a_module_that_needs_another(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("import no_such_library\n")
    assert sentence(tmp_path, "app:handler") == (
        "app cannot be imported: it needs the module no_such_library, which is not installed"
        " (app.py, line 1); --debug shows the traceback"
    )


def test_a_port_that_is_taken(scripts: Scripts, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = str(listener.getsockname()[1])
        assert sentence(tmp_path, "app:handler", "--port", port, status=1) == (
            f"port {port} on 127.0.0.1 is taken: stop what listens there, or choose another with --port"
            " (--port 0 finds a free one)"
        )


def test_a_host_that_is_no_address_of_this_machine(scripts: Scripts, tmp_path: Path) -> None:
    says = sentence(tmp_path, "app:handler", "--host=192.0.2.1", "--port=0", status=1)
    assert says.startswith("port 0 on 192.0.2.1 cannot be had: the address is not one of")


def test_an_interrupt_before_there_is_a_server(scripts: Scripts) -> None:
    scripts.write(
        "import os, time\nos.write(1, b'importing\\n')\ntime.sleep(60)\n", "slow.py", prelude=""
    )
    script = scripts.command("-m", "bunpy", "slow:handler", "--port=0")
    script.wait_for("importing")
    script.send(signal.SIGINT)
    assert script.end() == 130
    assert script.said == ""


# The first program


def test_a_program_that_serves_when_it_is_imported(tmp_path: Path) -> None:
    """As the README's first does."""
    source = """
        from bunpy.serve import serve

        def handler(req):
            return "hello"

        serve(handler, port=0)
        """
    (tmp_path / "app.py").write_text(textwrap.dedent(source))
    assert sentence(tmp_path, "app:handler", "--port=0") == (
        "app calls serve while it is imported for its handler: put that call below"
        ' if __name__ == "__main__": (app.py, line 7)'
    )


# At a terminal


def at_terminal(folder: Path, *words: str, **variables: str) -> str:
    import pty

    ours, theirs = pty.openpty()
    kept = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "TERM")}
    try:
        with subprocess.Popen(
            [sys.executable, "-m", "bunpy", *words],
            cwd=folder,
            env={**kept, "TERM": "xterm", **variables},
            stdin=subprocess.DEVNULL,
            stderr=theirs,
        ) as process:
            try:
                assert process.wait(60) == 2
            finally:
                process.kill()
        return os.read(ours, 10_000).decode()
    finally:
        os.close(ours)
        os.close(theirs)


@pytest.mark.skipif(sys.platform == "win32", reason="there are no pseudo-terminals")
def test_a_terminal_has_colour_unless_it_is_unwanted(tmp_path: Path) -> None:
    coloured = at_terminal(tmp_path)
    assert coloured.startswith("\x1b[31mbunpy:\x1b[0m which handler? ")
    for variables in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
        assert at_terminal(tmp_path, **variables).startswith("bunpy: which handler? ")


def test_without_stderr_nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    terminal.fail("nobody hears this")
    assert main([]) == 2

"""The files in deploy/ are what they say: each is run by the program that it is for, or read as that reads it."""

from __future__ import annotations

import asyncio
import configparser
import contextlib
import dataclasses
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from certificates import Pair
from conftest import ROOT, missing
from pages import blocks
from ports import reserved
from proxies import Nginx, replaced, running_nginx
from watching import Gate, connections, until

from bunpy.cli.options import OPTIONS
from bunpy.cli.parser import parse
from bunpy.cli.settings import settings_of
from bunpy.serve import Request, Server, SSEResponse
from bunpy.server.config import Config
from bunpy.testing import (
    Answer,
    Connection,
    EventClient,
    IncompleteAnswer,
    StreamEnded,
    request,
    serving,
)

DEPLOY = ROOT / "deploy"
PAGE = "what a browser would read, at some length, " * 100
#: What a browser sends, and what tempts a proxy to compress.
BROWSER = {"Accept": "text/event-stream", "Accept-Encoding": "gzip, deflate, br"}


def text_of(name: str) -> str:
    return (DEPLOY / name).read_text(encoding="utf-8")


class Source:
    """An endless stream of numbers, each of which the test lets go; who resumes goes on where they were."""

    def __init__(self) -> None:
        self._last = 0
        self._changed: dict[asyncio.Event, asyncio.AbstractEventLoop] = {}
        self.requests: list[Request] = []
        self.ends: list[str] = []

    def let_go(self, number: int) -> None:
        """From now on ``number`` and those before it are sent."""
        self._last = number
        for changed, loop in list(self._changed.items()):
            with contextlib.suppress(RuntimeError):  # of a loop that has ended
                loop.call_soon_threadsafe(changed.set)

    def handler(self, req: Request) -> Any:
        self.requests.append(req)
        if req.path != "/events":
            return PAGE
        return SSEResponse(self._numbers(int(req.last_event_id or 0)), on_close=self.ends.append)

    async def _numbers(self, last_id: int) -> AsyncIterator[dict[str, Any]]:
        changed = asyncio.Event()
        self._changed[changed] = asyncio.get_running_loop()
        try:
            while True:
                while last_id < self._last:
                    last_id += 1
                    yield {"id": last_id, "data": str(last_id)}
                changed.clear()
                await changed.wait()
        finally:
            del self._changed[changed]


@dataclasses.dataclass
class Front:
    """A proxy, and the socket that it expects bunpy on."""

    port: int
    upstream: str
    pair: Pair
    nginx: Nginx
    scheme: str = "https"

    @property
    def url(self) -> str:
        return f"{self.scheme}://localhost:{self.port}"

    def events(self, last_event_id: str = "") -> EventClient:
        return EventClient(
            self.url,
            "/events",
            headers=BROWSER,
            last_event_id=last_event_id,
            tls=self.pair.client(),
        )

    def get(self, path: str, **headers: str) -> Answer:
        headers = {"Accept-Encoding": "gzip", **headers}
        return request(self.url, path=path, headers=headers, tls=self.pair.client())

    @contextmanager
    def bunpy(self, source: Source, **options: Any) -> Iterator[Server]:
        with serving(
            source.handler, hostname=self.upstream, trusted_proxies=["unix"], **options
        ) as server:
            yield server


def until_it_breaks(client: EventClient) -> list[str]:
    """The ids of what still comes, until the proxy has cut the stream off."""
    ids = []
    with pytest.raises((StreamEnded, IncompleteAnswer, ConnectionError)):  # noqa: PT012 -- it is the read that ends
        while True:
            ids += [event.id for event in client.read(1, timeout=20)]
    return ids


# nginx


@pytest.fixture
def front(tmp_path: Path, pair: Pair, program: Callable[[str], str]) -> Callable[..., Any]:
    """``front(**{"60s": "1s"})``: nginx with deploy/nginx.conf, and these values in place of its own."""

    @contextmanager
    def run(**changes: str) -> Iterator[Front]:
        listener = socket.create_server(("127.0.0.1", 0), backlog=100)
        port = listener.getsockname()[1]
        upstream = f"unix:{tmp_path}/bunpy.sock"
        config = replaced(
            text_of("nginx.conf"),
            {
                "user www-data;": "user root;" if os.geteuid() == 0 else "",
                "listen 80;": f"listen unix:{tmp_path}/80.sock;",
                "listen 127.0.0.1:9180;": f"listen unix:{tmp_path}/9180.sock;",
                "listen 443 ssl": f"listen 127.0.0.1:{port} ssl",
                "/etc/ssl/example.com/fullchain.pem": str(pair.cert),
                "/etc/ssl/example.com/privkey.pem": str(pair.key),
                "unix:/run/bunpy/bunpy.sock": upstream,
                # One worker, so that connections to bunpy are one pool; and no more than a test may have.
                "worker_processes auto": "worker_processes 1",
                "worker_rlimit_nofile 262144": "worker_rlimit_nofile 512",
                "worker_connections 131072": "worker_connections 256",
                **changes,
            },
        )
        with running_nginx(program("nginx"), tmp_path, config, listener) as nginx:
            yield Front(port, upstream, pair, nginx)

    return run


def test_nginx_takes_its_file_as_it_is(
    tmp_path: Path, pair: Pair, program: Callable[[str], str]
) -> None:
    """But for the certificate, which is not there, and what only root may."""
    changes = {
        "/etc/ssl/example.com/fullchain.pem": str(pair.cert),
        "/etc/ssl/example.com/privkey.pem": str(pair.key),
    }
    if os.geteuid() != 0:
        changes["user www-data;"] = ""
    path = tmp_path / "nginx.conf"
    path.write_text(replaced(text_of("nginx.conf"), changes))
    command = [program("nginx"), "-t", "-e", "stderr", "-c", str(path)]
    command += ["-p", str(tmp_path), "-g", f"pid {tmp_path}/pid;"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    assert "[warn]" not in done.stderr


def test_nginx_passes_events_on_one_by_one_and_as_they_are(front: Callable[..., Any]) -> None:
    source = Source()
    with front() as nginx, nginx.bunpy(source), nginx.events() as client:
        for number in range(1, 6):
            source.let_go(number)  # the next is not there before this one has been read
            assert [event.data for event in client.read(1)] == [str(number)]
        assert client.status == 200
        assert client.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert "content-encoding" not in client.headers
        # gzip is on, and takes what is no stream of events.
        assert nginx.get("/").headers["content-encoding"] == "gzip"


def test_nginx_would_compress_them_if_it_were_told_to(front: Callable[..., Any]) -> None:
    """What the file warns of, and what makes the test above one that can fail."""
    source = Source()
    (types,) = re.findall(r"^ *(gzip_types [^;]+;)", text_of("nginx.conf"), re.MULTILINE)
    with (
        front(**{types: "gzip_types *;"}) as nginx,
        nginx.bunpy(source),
        nginx.events() as client,
    ):
        assert client.headers["content-encoding"] == "gzip"


@pytest.mark.parametrize(
    ("change", "is_held_back"),
    [({}, False), ({"proxy_buffering off": "proxy_buffering on"}, True)],
)
def test_nginx_passes_other_bodies_on_as_they_come(
    front: Callable[..., Any], change: dict[str, str], is_held_back: bool
) -> None:
    """Not only those that say that they want it, as event streams do; which is what the file says it is for."""
    gate = Gate()

    async def body() -> AsyncIterator[str]:
        yield "first "
        await gate.passed()
        yield "second"

    source = Source()
    source.handler = lambda req: {"body": body()}  # type: ignore[method-assign]
    with (
        front(**change) as nginx,
        nginx.bunpy(source),
        Connection(nginx.url, tls=nginx.pair.client()) as connection,
    ):
        connection.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        if is_held_back:
            until(lambda: gate.waiting == 1)
            with pytest.raises(TimeoutError):
                connection.receive_until(b"first ", timeout=0.3)
            gate.open()
            connection.receive_until(b"second")
        else:
            connection.receive_until(b"first ")
            gate.open()
            connection.receive_until(b"second")


def test_nginx_tells_bunpy_who_asks(front: Callable[..., Any]) -> None:
    source = Source()
    lies = {"X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "ftp", "X-Request-Id": "mine"}
    with front() as nginx, nginx.bunpy(source):
        for _ in range(2):
            assert nginx.get("/", Host="example.com", **lies).status == 200
    first, second = source.requests
    assert first.client is not None
    assert first.client[0] == "127.0.0.1"
    assert first.scheme == "https"
    assert first.headers["host"] == "example.com"
    ids = {req.headers["x-request-id"] for req in (first, second)}
    assert len(ids) == 2
    assert all(re.fullmatch("[0-9a-f]{32}", name) for name in ids)


def test_nginx_keeps_its_connection_to_bunpy(front: Callable[..., Any]) -> None:
    source = Source()
    with front() as nginx, nginx.bunpy(source) as server:
        for _ in range(3):
            assert nginx.get("/").status == 200
        assert len(connections(server)) == 1


@pytest.mark.parametrize("path", ["/metrics", "/healthz", "/readyz"])
def test_nginx_keeps_to_itself_what_is_not_for_the_public(
    front: Callable[..., Any], path: str
) -> None:
    source = Source()
    with front() as nginx, nginx.bunpy(source, health=True, metrics="/metrics"):
        assert nginx.get(path).status == 404
        inside = nginx.upstream.replace("bunpy.sock", "9180.sock")
        assert request(inside, path=path).status == 200
        assert request(inside, path="/events").status == 404
    assert source.requests == []


def test_a_silent_stream_lives_by_its_heartbeat(front: Callable[..., Any]) -> None:
    source = Source()
    with (
        front(**{"proxy_read_timeout 60s": "proxy_read_timeout 2s"}) as nginx,
        nginx.bunpy(source, heartbeat=0.5),
        nginx.events() as client,
    ):
        client.wait_until(lambda: client.comments >= 6, timeout=20)  # of three seconds
        source.let_go(1)
        assert [event.id for event in client.read(1)] == ["1"]
    assert len(source.requests) == 1


def test_a_silent_stream_without_one_is_cut_off_and_resumes(front: Callable[..., Any]) -> None:
    source = Source()
    with (
        front(**{"proxy_read_timeout 60s": "proxy_read_timeout 1s"}) as nginx,
        nginx.bunpy(source, heartbeat=60),
    ):
        source.let_go(2)
        with nginx.events() as client:
            ids = until_it_breaks(client)
            source.let_go(4)  # while nobody listens
            with client.reconnect() as again:
                ids += [event.id for event in again.read(2)]
        assert ids == ["1", "2", "3", "4"]
        assert source.ends[0] == "client"


def test_streams_outlive_a_reload_of_nginx(front: Callable[..., Any]) -> None:
    source = Source()
    with front() as nginx, nginx.bunpy(source):
        with nginx.events() as old, nginx.events() as other:
            source.let_go(1)
            assert [event.id for event in old.read(1) + other.read(1)] == ["1", "1"]
            nginx.nginx.reload()
            assert len(nginx.nginx.leaving()) == 1
            with nginx.events() as new:
                source.let_go(2)
                for client, ids in ((old, ["2"]), (other, ["2"]), (new, ["1", "2"])):
                    assert [event.id for event in client.read(len(ids))] == ids
        # The old worker has nothing to wait for any more.
        until(lambda: not nginx.nginx.leaving(), 20)
        assert len(source.requests) == 3


def test_the_shutdown_timeout_ends_them_and_they_come_back(front: Callable[..., Any]) -> None:
    source = Source()
    with (
        front(**{"worker_shutdown_timeout 15m": "worker_shutdown_timeout 1s"}) as nginx,
        nginx.bunpy(source),
    ):
        source.let_go(3)
        with nginx.events() as client:
            ids = [event.id for event in client.read(2)]
            nginx.nginx.reload()
            ids += until_it_breaks(client)
            source.let_go(5)
            with client.reconnect() as again:
                ids += [event.id for event in again.read(2)]
        assert ids == ["1", "2", "3", "4", "5"]
        until(lambda: not nginx.nginx.leaving(), 20)


def test_bunpy_stops_and_starts_behind_nginx(front: Callable[..., Any]) -> None:
    source = Source()
    source.let_go(2)
    with front() as nginx:
        with nginx.bunpy(source) as server:
            client = nginx.events()
            ids = [event.id for event in client.read(2)]
            server.stop()
            ids += [event.id for event in client.read_all()]
            # The end is a clean one, and says when to come back.
            assert client.ended_cleanly
            assert client.retry is not None
            assert 0 <= client.retry < 2000
        source.let_go(3)
        # Nobody is there: whoever comes too early is told to come again, and keeps their place.
        with client.reconnect() as early:
            assert (early.status, early.headers["content-type"]) == (200, "text/event-stream")
            assert early.read_all() == []
            assert early.retry in range(1000, 6000, 1000)
            assert early.last_event_id == "2"
            assert nginx.get("/").status == 502
            with nginx.bunpy(source), early.reconnect() as again:
                ids += [event.id for event in again.read(1)]
    assert ids == ["1", "2", "3"]
    assert source.ends[0] == "shutdown"


def test_only_an_event_source_is_told_to_come_back(front: Callable[..., Any], pair: Pair) -> None:
    """A program that posts must see that it has failed."""
    with front() as nginx:
        answer = request(nginx.url, "POST", "/events", BROWSER, b"{}", tls=pair.client())
        assert answer.status == 502


# Caddy


@pytest.fixture
def caddy(tmp_path: Path, program: Callable[[str], str]) -> Callable[..., Any]:
    found = program("caddy")
    folders = {name: str(tmp_path / name) for name in ("XDG_DATA_HOME", "XDG_CONFIG_HOME", "HOME")}
    environment = {**os.environ, **folders}

    @contextmanager
    def run() -> Iterator[str]:
        with reserved() as port:
            config = replaced(
                text_of("Caddyfile"),
                {
                    "\tgrace_period 15m": "\tgrace_period 1s\n\tadmin off",
                    "http://localhost:9180 {\n\tbind 127.0.0.1": f"http:// {{\n\tbind unix/{tmp_path}/9180.sock",
                    "example.com {": f"http://localhost:{port} {{\n\tbind 127.0.0.1",
                    "unix//run/bunpy/bunpy.sock": f"unix/{tmp_path}/bunpy.sock",
                },
            )
            path = tmp_path / "Caddyfile"
            path.write_text(config)
            process = subprocess.Popen(
                [found, "run", "--adapter", "caddyfile", "--config", str(path)],
                env=environment,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            try:
                until(lambda: process.poll() is not None or _takes_connections(port), 20)
                assert process.poll() is None, "Caddy has refused its configuration"
                yield f"http://localhost:{port}"
            finally:
                process.terminate()
                try:
                    process.wait(timeout=20)
                finally:
                    process.kill()

    return run


def _takes_connections(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def test_caddy_takes_its_file_as_it_is(tmp_path: Path, program: Callable[[str], str]) -> None:
    command = [program("caddy"), "validate", "--adapter", "caddyfile"]
    done = subprocess.run(
        [*command, "--config", str(DEPLOY / "Caddyfile")],
        env={**os.environ, "HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert '"level":"warn"' not in done.stderr


def test_caddy_passes_events_on_and_brings_clients_back(
    caddy: Callable[..., Any], tmp_path: Path
) -> None:
    source = Source()
    upstream = f"unix:{tmp_path}/bunpy.sock"
    gzip = {"Accept-Encoding": "gzip"}
    with caddy() as url:
        with (
            serving(
                source.handler, hostname=upstream, trusted_proxies=["unix"], health=True
            ) as server,
            EventClient(url, "/events", headers=BROWSER) as client,
        ):
            for number in (1, 2):
                source.let_go(number)
                assert [event.data for event in client.read(1)] == [str(number)]
            assert "content-encoding" not in client.headers
            lie = {"X-Forwarded-For": "203.0.113.9", "X-Request-Id": "mine"}
            assert request(url, headers={**gzip, **lie}).status == 200
            assert request(url, path="/readyz").status == 404
            assert request(f"unix:{tmp_path}/9180.sock", path="/readyz").status == 200
            server.stop()
            assert client.read_all() == []
        stream, page = source.requests
        assert page.client is not None
        assert page.client[0] == "127.0.0.1"
        assert page.headers["x-request-id"] != stream.headers["x-request-id"]
        assert re.fullmatch("[0-9a-f-]{36}", page.headers["x-request-id"])
        with client.reconnect() as early:
            assert (early.status, early.headers["content-type"]) == (200, "text/event-stream")
            assert early.read_all() == []
            assert early.retry == 3000
            assert request(url).status == 502
            with (
                serving(source.handler, hostname=upstream),
                early.reconnect() as again,
            ):
                source.let_go(3)
                assert [event.id for event in again.read(1)] == ["3"]


# systemd


def directives(name: str, section: str) -> dict[str, str]:
    """A section of a unit; none of its keys may be there twice."""
    parser = configparser.ConfigParser(
        interpolation=None, delimiters=["="], comment_prefixes=["#"], strict=True
    )
    parser.optionxform = str  # type: ignore[assignment]
    parser.read_string(text_of(name).replace("\\\n", " "))
    return dict(parser[section])


def command_of(unit: dict[str, str]) -> list[str]:
    return shlex.split(unit["ExecStart"])


def test_systemd_takes_the_units(tmp_path: Path, program: Callable[[str], str]) -> None:
    """But for the command, which is not there."""
    (command, *_) = command_of(directives("bunpy.service", "Service"))
    (tmp_path / "bunpy.socket").write_text(text_of("bunpy.socket"))
    service = replaced(
        text_of("bunpy.service"), {f"ExecStart={command}": f"ExecStart={sys.executable}"}
    )
    (tmp_path / "bunpy.service").write_text(service)
    units = [str(tmp_path / name) for name in ("bunpy.socket", "bunpy.service")]
    verify = [program("systemd-analyze"), "verify", "--man=no", "--recursive-errors=no", *units]
    done = subprocess.run(verify, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    # 0.0 is what may do nothing, 10.0 what may do all.
    security = [program("systemd-analyze"), "security", "--offline=yes", "--threshold=20", units[1]]
    done = subprocess.run(security, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout


def test_the_service_gives_bunpy_the_time_that_it_takes() -> None:
    unit = directives("bunpy.service", "Service")
    assert (unit["Type"], unit["NotifyAccess"]) == ("notify", "main")
    assert (unit["KillMode"], unit["ExecReload"]) == ("mixed", "/bin/kill -HUP $MAINPID")
    # The grace, and what it takes to cut off and to end.
    assert int(unit["TimeoutStopSec"]) >= Config().grace + 5
    assert int(unit["WatchdogSec"]) >= 10
    assert int(unit["LimitNOFILE"]) >= 200_000


def test_the_command_of_the_service_is_one() -> None:
    """``bunpy`` knows all of its options, and means by them what the unit says."""
    _, *arguments = command_of(directives("bunpy.service", "Service"))
    settings = settings_of(parse(arguments), {})
    assert (settings.target, settings.hostname) == ("app:handler", "systemd")
    config = Config(**settings.options)
    assert config.backlog == int(directives("bunpy.socket", "Socket")["Backlog"])
    assert config.health
    assert config.workers == 0


def listens(path: str) -> bool:
    """Whether a Unix socket is there that takes connections; asked of the system, since a try would be one."""
    rows = [row.split() for row in Path("/proc/net/unix").read_text().splitlines()]
    return any(row[7:] == [path] and int(row[3], 16) & 0x10000 for row in rows)  # __SO_ACCEPTCON


def test_the_command_of_the_service_serves_on_the_socket(
    tmp_path: Path, program: Callable[[str], str]
) -> None:
    """As systemd starts it, by the program that systemd has for that: with its socket, and with someone to tell."""
    _, *arguments = command_of(directives("bunpy.service", "Service"))
    path = f"{tmp_path}/bunpy.sock"
    told: list[str] = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(f"{tmp_path}/notify")
        manager.setblocking(False)

        def hears(line: str) -> bool:
            with contextlib.suppress(BlockingIOError):
                while True:
                    told.extend(manager.recv(4096).decode().split("\n"))
            return line in told

        environment = {"NOTIFY_SOCKET": f"{tmp_path}/notify", "WATCHDOG_USEC": "30000000"}
        variables = [f"--setenv={name}={value}" for name, value in environment.items()]
        command = [sys.executable, "-B", "-m", "bunpy", *arguments]
        process = subprocess.Popen(
            [program("systemd-socket-activate"), f"--listen={path}", *variables, *command],
            cwd=DEPLOY,
            stderr=subprocess.DEVNULL,
        )
        try:
            until(lambda: listens(path), 20)
            # It is started by the first who comes, and who waits for it.
            with EventClient(f"unix:{path}", "/events", last_event_id="6", timeout=30) as client:
                assert [event.id for event in client.read(1)] == ["7"]
                until(lambda: hears("READY=1"), 20)
                process.send_signal(signal.SIGHUP)
                until(lambda: hears("RELOADING=1"), 20)
                del told[: told.index("RELOADING=1")]
                until(lambda: hears("READY=1"), 20)
                client.read_all()
                assert client.retry is not None
                with client.reconnect() as again:
                    assert int(again.read(1)[0].id) == int(client.last_event_id) + 1
                    process.send_signal(signal.SIGTERM)
                    until(lambda: hears("STOPPING=1"), 20)
                    again.read_all()
            assert process.wait(20) == 0
            # It was systemd's, and stays.
            assert Path(path).exists()
        finally:
            process.kill()
            process.wait(20)


# The image


def instructions() -> list[tuple[str, str]]:
    text = re.sub(r"^#.*\n", "", text_of("Containerfile"), flags=re.MULTILINE)
    lines = text.replace("\\\n", " ").splitlines()
    return [(name, rest) for name, _, rest in (line.partition(" ") for line in lines) if name]


def the_last(name: str) -> str:
    return [rest for other, rest in instructions() if other == name][-1]


def test_the_image_is_made_of_what_is_there() -> None:
    stages = [rest.partition(" AS ") for name, rest in instructions() if name == "FROM"]
    names = [name for _, _, name in stages if name]
    for name, rest in instructions():
        if name == "COPY":
            *sources, _ = rest.split()
            if sources[0].startswith("--from="):
                assert sources[0].removeprefix("--from=") in names
            else:
                assert all((ROOT / source).exists() for source in sources), rest
    # Both stages have the Python whose folder the environment points to.
    assert len({image for image, _, _ in stages}) == 1
    # All that the build reads, according to the project itself.
    copied = " ".join(rest for name, rest in instructions() if name == "COPY")
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for file in re.findall(r'"(README\.md|LICENSE)"', project):
        assert file in copied


def test_the_image_runs_bunpy_first_and_not_as_root() -> None:
    user, _, group = the_last("USER").partition(":")
    assert int(user) > 0
    assert int(group) > 0
    assert the_last("STOPSIGNAL") == "SIGTERM"
    # The exec form: a shell would be the first process, and get the signals.
    command = json.loads(the_last("ENTRYPOINT")) + json.loads(the_last("CMD"))
    assert command[0] == "bunpy"
    settings = settings_of(parse(command[1:]), {})
    assert (settings.target, settings.hostname) == ("app:handler", "0.0.0.0")
    assert str(settings.port) == the_last("EXPOSE")
    assert Config(**settings.options).health


def test_the_image_asks_for_its_health() -> None:
    _, _, command = the_last("HEALTHCHECK").partition("CMD ")
    program, *arguments = json.loads(command)
    assert program == "python"

    def ask(port: int) -> int:
        there = [argument.replace(":3000/", f":{port}/") for argument in arguments]
        done = subprocess.run([sys.executable, *there], capture_output=True, timeout=30)
        return done.returncode

    with serving(lambda req: None, health=True) as server:
        assert ask(server.port) == 0
        port = server.port
    assert ask(port) == 1


def test_the_program_in_the_folder_resumes() -> None:
    namespace: dict[str, Any] = {}
    exec(compile(text_of("app.py"), "deploy/app.py", "exec"), namespace)
    with (
        serving(namespace["handler"]) as server,
        EventClient(server, "/events", last_event_id="41") as client,
    ):
        assert [(event.id, event.data) for event in client.read(1)] == [("42", '{"number":42}')]
        assert request(server).status == 404


# The kernel


def kernel_settings() -> dict[str, list[int]]:
    lines = [line for line in text_of("sysctl.conf").splitlines() if line and line[0] != "#"]
    pairs = [line.split(" = ") for line in lines]
    return {name.removeprefix("-"): [int(word) for word in value.split()] for name, value in pairs}


def test_the_kernel_knows_its_settings() -> None:
    if not Path("/proc/sys/net/ipv4").is_dir():
        missing("Linux's /proc/sys")
    optional = re.findall(r"^-(\S+)", text_of("sysctl.conf"), re.MULTILINE)
    for name, values in kernel_settings().items():
        path = Path("/proc/sys", *name.split("."))
        if name not in optional:
            assert len(path.read_text().split()) in (len(values), 0), name


def test_the_files_agree_with_each_other() -> None:
    """On 100,000 streams, and on what each of the programs on the way lets the next do."""
    kernel = kernel_settings()
    nginx = text_of("nginx.conf")
    unit = directives("bunpy.service", "Service")
    (files,) = kernel["fs.nr_open"]

    def number(pattern: str, text: str = nginx) -> int:
        (found,) = re.findall(pattern, text, re.MULTILINE)
        return int(found)

    descriptors = number(r"^worker_rlimit_nofile (\d+)")
    assert 200_000 <= descriptors <= files
    assert 100_000 <= number(r"^ +worker_connections (\d+)") <= descriptors
    assert 100_000 <= int(unit["LimitNOFILE"]) <= files
    assert int(directives("bunpy.socket", "Socket")["Backlog"]) <= kernel["net.core.somaxconn"][0]
    first, last = kernel["net.ipv4.ip_local_port_range"]
    assert last - first + 1 == 64_512
    assert kernel["net.netfilter.nf_conntrack_max"][0] >= 300_000
    low, pressure, high = (pages * 4096 / 2**30 for pages in kernel["net.ipv4.tcp_mem"])
    assert (low, pressure, high) == (1, 1.5, 2)
    assert kernel["net.ipv4.tcp_mem"][2] * 4096 // kernel["net.ipv4.tcp_wmem"][2] == 8192
    # Whoever waits longer is the one that is waited for.
    config = Config()
    assert number(r"^ +proxy_read_timeout (\d+)s") >= 3 * config.heartbeat
    assert number(r"^ +keepalive_timeout (\d+)s") < config.keep_alive_timeout
    assert number(r"^\t+keepalive (\d+)s", text_of("Caddyfile")) < config.keep_alive_timeout
    sockets = {
        re.findall(pattern, text_of(name), re.MULTILINE)[0]
        for name, pattern in {
            "nginx.conf": r"^ +server unix:(\S+);",
            "Caddyfile": r"reverse_proxy unix/(\S+)",
            "bunpy.socket": r"^ListenStream=(\S+)",
        }.items()
    }
    assert sockets == {"/run/bunpy/bunpy.sock"}


# The page


PAGE_TEXT = (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")
#: What is tested of the page's blocks, by the heading that they stand under and their language.
TESTED = {
    ("Without a proxy", "console"),
    ("Behind Apache", "apache"),
    ("systemd", "console"),
    ("Containers", "console"),
    ("Containers", "yaml"),
}


def test_every_block_of_the_page_has_a_test() -> None:
    assert set(blocks(PAGE_TEXT)) == TESTED


def test_what_the_page_points_to_is_there() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", PAGE_TEXT):
        assert (ROOT / "docs" / target).resolve().exists(), target
    named = {Path(target).name for target in re.findall(r"\]\(\.\./deploy/(\S+?)\)", PAGE_TEXT)}
    assert named == {path.name for path in DEPLOY.iterdir() if path.is_file()} - {"app.py"}


def test_the_page_names_options_that_there_are() -> None:
    others = {"--stop-timeout", "--ulimit", "--sysctl", "--format", "--rm", "--now"}
    flags = {f"--{option.flag}" for option in OPTIONS.values()}
    assert set(re.findall(r"(?<=[\s`])--[a-z][a-z-]+", PAGE_TEXT)) <= flags | others
    fields = {field.name for field in dataclasses.fields(Config)}
    for name, said in re.findall(r"`(\w+)` \((\d+)(?: s)?\)", PAGE_TEXT):
        assert name in fields
        assert getattr(Config(), name) == int(said), name


def test_without_a_proxy() -> None:
    command = shlex.split(blocks(PAGE_TEXT)["Without a proxy", "console"])
    assert command[:2] == ["$", "bunpy"]
    settings = settings_of(parse(command[2:]), {})
    assert (settings.hostname, settings.port) == ("0.0.0.0", 443)
    assert settings.options["tls"] == {"cert": "fullchain.pem", "key": "privkey.pem"}


def test_the_commands_name_files_that_there_are() -> None:
    for words in map(str.split, blocks(PAGE_TEXT)["systemd", "console"].splitlines()):
        assert words[:2] == ["$", "systemctl"]
        units = [word if "." in word else f"{word}.service" for word in words[3:] if word[0] != "-"]
        assert units
        assert all((DEPLOY / unit).exists() for unit in units)
    build, run = map(shlex.split, blocks(PAGE_TEXT)["Containers", "console"].splitlines())
    assert (ROOT / build[build.index("-f") + 1]).exists()
    assert run[-1] == build[build.index("-t") + 1]
    assert f"nofile={directives('bunpy.service', 'Service')['LimitNOFILE']}" in run
    assert int(run[run.index("--stop-timeout") + 1]) >= Config().grace + 5
    port = the_last("EXPOSE")
    assert f"{port}:{port}" in run


def test_a_pod_has_the_time_that_it_takes() -> None:
    block = blocks(PAGE_TEXT)["Containers", "yaml"]

    def one(pattern: str) -> str:
        (found,) = re.findall(pattern, block)
        return str(found)

    arguments = json.loads(one(r"args: (\[.*\])"))
    config = Config(**settings_of(parse(arguments), {}).options)
    assert config.health
    sleep = json.loads(one(r"preStop:\n +exec: \{ command: (\[.*\]) \}"))
    assert sleep[0] == "sleep"
    assert int(one(r"^terminationGracePeriodSeconds: (\d+)")) >= int(sleep[1]) + config.grace + 5
    port = the_last("EXPOSE")
    assert one(r"containerPort: (\d+)") == port
    with serving(lambda req: None, health=True, hostname="0.0.0.0") as server:
        for path, asked in re.findall(r"httpGet: \{ path: (\S+), port: (\d+) \}", block):
            assert asked == port
            # By the pod's address, as the kubelet asks.
            url = f"http://127.0.0.1:{server.port}"
            assert request(url, path=path, headers={"Host": "10.1.2.3:3000"}).status == 200


def test_behind_apache(tmp_path: Path, program: Callable[[str], str]) -> None:
    source = Source()
    apache = program("apache2")
    modules = "/usr/lib/apache2/modules"
    names = (
        "mpm_event",
        "authz_core",
        "env",
        "proxy",
        "proxy_http",
        "headers",
        "unique_id",
        "deflate",
    )
    with (
        reserved() as port,
        # Apache sees that a client has gone when it writes to it, and waits for that before it ends.
        serving(source.handler, trusted_proxies=["127.0.0.1"], heartbeat=0.2) as server,
    ):
        block = replaced(
            blocks(PAGE_TEXT)["Behind Apache", "apache"],
            {"http://127.0.0.1:3000/": f"http://127.0.0.1:{server.port}/"},
        )
        loads = "\n".join(f"LoadModule {name}_module {modules}/mod_{name}.so" for name in names)
        config = tmp_path / "apache.conf"
        config.write_text(
            f"{loads}\nServerName localhost\nListen 127.0.0.1:{port}\nPidFile {tmp_path}/pid\n"
            f"ErrorLog {tmp_path}/error.log\nUser nobody\nGroup nogroup\n"
            f"SetOutputFilter DEFLATE\n{block}"
        )
        command = [apache, "-D", "FOREGROUND", "-f", str(config), "-d", str(tmp_path)]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            until(lambda: process.poll() is not None or _takes_connections(port), 20)
            assert process.poll() is None, "Apache has refused its configuration"
            url = f"http://127.0.0.1:{port}"
            with EventClient(url, "/events", headers=BROWSER) as client:
                for number in (1, 2, 3):
                    source.let_go(number)
                    assert [event.data for event in client.read(1)] == [str(number)]
                assert "content-encoding" not in client.headers
        finally:
            process.terminate()
            try:
                process.wait(timeout=20)
            finally:
                process.kill()
    (req,) = source.requests
    assert req.client is not None
    assert req.client[0] == "127.0.0.1"
    assert req.headers["x-forwarded-proto"] == "http"
    assert re.fullmatch("[A-Za-z0-9@_-]{24,}", req.headers["x-request-id"])

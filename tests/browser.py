"""A real Chromium for tests, driven over the DevTools protocol. What a page should do is theirs.

    with Browser(program("chromium")) as browser:
        page = browser.open(server.url)
        page.wait_for("document.title === 'ready'", timeout=10)

It blocks, has no thread, and every wait has a deadline. Chromium, its helpers and its profile are
gone at the end.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import websocket

__all__ = ["Browser", "BrowserError", "Page"]

_OPTIONS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-extensions",
    "--disable-sync",
    "--disable-breakpad",
    # A page in the background would have its timers slowed down; a second tab puts one there.
    "--disable-background-timer-throttling",
    "--disable-backgrounding-occluded-windows",
    "--disable-renderer-backgrounding",
    "--metrics-recording-only",
    "--mute-audio",
    "--no-default-browser-check",
    "--no-first-run",
    "--hide-scrollbars",
    "--remote-debugging-port=0",
)

#: Seconds between two looks at a condition.
_PAUSE = 0.02

Message = dict[str, Any]


class BrowserError(Exception):
    """Chromium, or the script that it was to run, failed; the message tells what and how."""


class Browser:
    """Start the Chromium at ``program``, headless, with an empty profile of its own.

    ``timeout`` (seconds) is for its start, and for each command but those that take one. A context
    manager. Raises ``BrowserError`` with what it printed when it does not start.
    """

    def __init__(self, program: str, timeout: float = 20.0) -> None:
        self.timeout = timeout
        self._pages: dict[str, Page] = {}
        self._replies: dict[int, Message] = {}
        self._number = 0
        self._profile = tempfile.TemporaryDirectory(
            prefix="bunpy-browser-", ignore_cleanup_errors=True
        )
        self._output = Path(self._profile.name, "output.txt")
        self._socket: websocket.WebSocket | None = None
        with self._output.open("wb") as output:
            self._process = subprocess.Popen(
                [program, *_OPTIONS, f"--user-data-dir={self._profile.name}", "about:blank"],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        try:
            self._socket = websocket.create_connection(
                self._find_endpoint(time.monotonic() + timeout),
                timeout=timeout,
                suppress_origin=True,  # Chromium refuses origins that it was not told of
                http_no_proxy=["*"],
            )
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Browser:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def open(self, url: str, timeout: float | None = None) -> Page:
        """A new tab that has loaded ``url``, up to its ``load`` event; ``BrowserError`` if it cannot."""
        target = self.call("Target.createTarget", {"url": "about:blank"})["targetId"]
        attached = self.call("Target.attachToTarget", {"targetId": target, "flatten": True})
        page = self._pages[attached["sessionId"]] = Page(self, target, attached["sessionId"])
        for domain in ("Page", "Runtime", "Log", "Network"):
            page.call(f"{domain}.enable")
        page.go(url, timeout)
        return page

    def close(self) -> None:
        """Close it and reap it and what it started. Again: nothing happens."""
        sock, self._socket = self._socket, None
        if sock is not None:
            with contextlib.suppress(websocket.WebSocketException, OSError):
                sock.settimeout(5)
                sock.send(json.dumps({"id": 0, "method": "Browser.close"}))
                while sock.recv():  # until it has gone
                    pass
            sock.shutdown()  # type: ignore[no-untyped-call]
        # Before the wait: until then the number of the group is nobody else's.
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(10)
        self._profile.cleanup()

    def call(
        self,
        method: str,
        params: Message | None = None,
        session: str | None = None,
        timeout: float | None = None,
    ) -> Message:
        """Send a DevTools command and return its result; what arrives meanwhile goes to the pages.

        Raises ``BrowserError`` when it is refused, ``TimeoutError``.
        """
        assert self._socket is not None, "the browser is closed"
        self._number += 1
        number = self._number
        message: Message = {"id": number, "method": method, "params": params or {}}
        if session is not None:
            message["sessionId"] = session
        seconds = self.timeout if timeout is None else timeout
        deadline = time.monotonic() + seconds
        self._socket.send(json.dumps(message))
        while number not in self._replies:
            if not self._receive(deadline):
                raise TimeoutError(f"{method} was not answered within {seconds:g} s")
        reply = self._replies.pop(number)
        if "error" in reply:
            raise BrowserError(f"{method}: {reply['error']['message']}")
        result: Message = reply["result"]
        return result

    def _receive(self, deadline: float) -> bool:
        """Take one message; False when none has come by ``deadline``."""
        assert self._socket is not None
        self._socket.settimeout(max(0.001, deadline - time.monotonic()))
        try:
            message = json.loads(self._socket.recv())
        except websocket.WebSocketTimeoutException:
            return False
        except (websocket.WebSocketException, OSError, ValueError) as exc:
            raise BrowserError(f"the browser has gone: {exc}\n{self._printed()}") from exc
        if "id" in message:
            self._replies[message["id"]] = message
        elif (page := self._pages.get(message.get("sessionId", ""))) is not None:
            page._take(message["method"], message["params"])
        return True

    def _find_endpoint(self, deadline: float) -> str:
        file = Path(self._profile.name, "DevToolsActivePort")
        while True:
            with contextlib.suppress(OSError):
                port, _, path = file.read_text().partition("\n")
                if path:
                    return f"ws://127.0.0.1:{port}{path.strip()}"
            if self._process.poll() is not None:
                raise BrowserError(
                    f"Chromium ended with {self._process.returncode}:\n{self._printed()}"
                )
            if time.monotonic() > deadline:
                raise BrowserError(f"Chromium did not start in time:\n{self._printed()}")
            time.sleep(_PAUSE)

    def _printed(self) -> str:
        with contextlib.suppress(OSError):
            return self._output.read_text(errors="replace")[-2000:]
        return ""


class Page:
    """A tab, made by ``Browser.open``. Its methods raise ``BrowserError`` if the browser has gone."""

    def __init__(self, browser: Browser, target: str, session: str) -> None:
        self._browser = browser
        self._target = target
        self._session = session
        self._console: list[str] = []
        self._requests: list[str] = []
        self._loads = 0

    def call(self, method: str, timeout: float | None = None, **params: Any) -> Message:
        """Any DevTools command on this tab, as ``page.call("Input.insertText", text="hello")``."""
        return self._browser.call(method, params, self._session, timeout)

    @property
    def console(self) -> list[str]:
        """What the page has put on its console, as "error: text"; uncaught errors and refusals too."""
        self._catch_up()
        return list(self._console)

    @property
    def requests(self) -> list[str]:
        """What the page has asked for so far, each as "GET http://..."."""
        self._catch_up()
        return list(self._requests)

    def go(self, url: str, timeout: float | None = None) -> None:
        """Load ``url``, or the same page again; returns after its ``load`` event."""
        loads = self._loads
        seconds = self._browser.timeout if timeout is None else timeout
        deadline = time.monotonic() + seconds
        error = self.call("Page.navigate", seconds, url=url).get("errorText")
        if error:
            raise BrowserError(f"{url} cannot be opened: {error}")
        while self._loads == loads:
            if not self._browser._receive(deadline):
                raise TimeoutError(f"{url} was not loaded within {seconds:g} s")

    def evaluate(self, js: str, timeout: float | None = None) -> Any:
        """The value of a JavaScript expression (a promise is awaited), as JSON has it.

        An object literal needs parentheses. Raises ``BrowserError`` with the script's own error,
        ``TimeoutError``.
        """
        reply = self.call(
            "Runtime.evaluate",
            timeout,
            expression=js,
            returnByValue=True,
            awaitPromise=True,
            userGesture=True,
        )
        if "exceptionDetails" in reply:
            raise BrowserError(f"{js}\n{_described(reply['exceptionDetails'])}")
        return reply["result"].get("value")

    def wait_for(self, js: str, timeout: float = 10.0) -> Any:
        """Evaluate ``js`` until it is true, and return its value; where it raises, it is not true yet.

        ``TimeoutError`` tells its last value and the console.
        """
        deadline = time.monotonic() + timeout
        while True:
            try:
                value = self.evaluate(js, max(0.1, deadline - time.monotonic()))
            except (BrowserError, TimeoutError) as exc:
                value, seen = None, str(exc)
            else:
                seen = repr(value)
            if value:
                return value
            if time.monotonic() > deadline:
                console = "\n".join(self._console[-20:]) or "nothing"
                raise TimeoutError(
                    f"not true within {timeout:g} s: {js}\nlast: {seen}\nconsole: {console}"
                )
            time.sleep(_PAUSE)

    def resize(self, width: int, height: int, *, scale: float = 1, is_mobile: bool = False) -> None:
        """Give the page a window of ``width`` by ``height`` CSS pixels."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=scale,
            mobile=is_mobile,
        )

    def prefer(self, **features: str) -> None:
        """Set media features, as ``prefer(prefers_color_scheme="dark")``; others go back to normal."""
        named = [
            {"name": name.replace("_", "-"), "value": value} for name, value in features.items()
        ]
        self.call("Emulation.setEmulatedMedia", features=named)

    def press(self, key: str) -> None:
        """Press and release a key by its name (``"Tab"``, ``"Enter"``, ``" "``, ``"Escape"``)."""
        code, text = {"Tab": (9, ""), "Enter": (13, "\r"), " ": (32, " "), "Escape": (27, "")}[key]
        event: Message = {"key": key, "code": key.strip() or "Space", "windowsVirtualKeyCode": code}
        self.call("Input.dispatchKeyEvent", type="keyDown", text=text, **event)
        self.call("Input.dispatchKeyEvent", type="keyUp", **event)

    def screenshot(self, path: str | os.PathLike[str], *, whole: bool = False) -> None:
        """Write a PNG of the window, or of the ``whole`` page, to ``path``."""
        reply = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        Path(path).write_bytes(base64.b64decode(reply["data"]))

    def close(self) -> None:
        """Close the tab."""
        self._browser._pages.pop(self._session, None)
        self._browser.call("Target.closeTarget", {"targetId": self._target})

    def _catch_up(self) -> None:
        self.call("Runtime.evaluate", expression="0")  # events come before the answer

    def _take(self, method: str, params: Message) -> None:
        if method == "Page.loadEventFired":
            self._loads += 1
        elif method == "Runtime.consoleAPICalled":
            words = [str(item.get("value", item.get("description", ""))) for item in params["args"]]
            self._console.append(f"{params['type']}: {' '.join(words)}")
        elif method == "Runtime.exceptionThrown":
            self._console.append(f"error: {_described(params['exceptionDetails'])}")
        elif method == "Log.entryAdded":
            entry = params["entry"]
            self._console.append(
                f"{entry['level']}: {entry['text']} {entry.get('url', '')}".rstrip()
            )
        elif method == "Network.requestWillBeSent":
            self._requests.append(f"{params['request']['method']} {params['request']['url']}")


def _described(details: Message) -> str:
    exception = details.get("exception", {})
    return str(exception.get("description") or exception.get("value") or details["text"])

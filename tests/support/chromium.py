"""A real headless Chromium, driven over the DevTools protocol through a pipe: no driver, no web socket."""

import base64
import itertools
import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson

CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)

_FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-dev-shm-usage",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars",
    "--disable-extensions", "--remote-debugging-pipe",
    "--allow-pre-commit-input",  # else a key that is pressed before the first paint is dropped
)  # fmt: skip


# The protocol is spoken on file descriptors 3 and 4. (Some shells can only redirect from single digits.)
_AT_3_AND_4 = """
import fcntl, os, sys
ends = [fcntl.fcntl(int(end), fcntl.F_DUPFD, 10) for end in sys.argv[1:3]]
for end, place in zip(ends, (3, 4)):
    os.dup2(end, place)
os.execv(sys.argv[3], sys.argv[3:])
"""

_PATIENCE_S = 60


class Page:
    """One tab. Every answer is waited for; what the page complains about is kept in `complaints`."""

    def __init__(self, write_fd: int, read_fd: int) -> None:
        self._write_fd = write_fd
        self._read_fd = read_fd
        self._ids = itertools.count(1)
        self._answers: queue.Queue[dict[str, Any]] = queue.Queue()
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self._loaded = threading.Event()
        self._session = ""
        threading.Thread(target=self._listen, daemon=True).start()
        target = self._send("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self._send(f"{domain}.enable")

    def _listen(self) -> None:
        rest = b""
        while piece := os.read(self._read_fd, 1 << 20):
            *whole, rest = (rest + piece).split(b"\0")
            for text in whole:
                self._take(orjson.loads(text))

    def _take(self, message: dict[str, Any]) -> None:
        if "id" in message:
            self._answers.put(message)
            return
        given = message.get("params", {})
        match message.get("method"):
            case "Runtime.exceptionThrown":
                self.complaints.append(str(given["exceptionDetails"]))
            case "Runtime.consoleAPICalled" if given["type"] in ("error", "warning", "assert"):
                self.complaints.append(str(given["args"]))
            case "Log.entryAdded" if given["entry"]["level"] in ("error", "warning"):
                self.complaints.append(f"{given['entry']['text']} {given['entry'].get('url', '')}")
            case "Page.loadEventFired":
                self._loaded.set()
            case "Network.requestWillBeSent":
                self.requests.append(given["request"]["url"])

    def _send(self, method: str, **parameters: Any) -> dict[str, Any]:
        number = next(self._ids)
        message = {"id": number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write_fd, orjson.dumps(message) + b"\0")
        while True:
            answer = self._answers.get(timeout=_PATIENCE_S)
            if answer["id"] == number:
                assert "error" not in answer, answer
                return dict(answer["result"])

    def look(self, width: int, height: int, *, dark: bool = False, phone: bool = False) -> None:
        """Choose the size of the window, and whether it is a phone's or in the dark."""
        scale = 2 if phone else 1
        self._send(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=phone
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._send("Emulation.setEmulatedMedia", features=[scheme])

    def open(self, address: str) -> None:
        """Go to an address, and wait until what was there before has gone and the new page is loaded."""
        self._loaded.clear()
        self._send("Page.navigate", url=address)
        assert self._loaded.wait(_PATIENCE_S), f"{address} is not loaded"

    def run(self, script: str) -> Any:
        """Return what a script's expression is in the page, promises awaited."""
        answer = self._send("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait_for(self, script: str) -> Any:
        """Return the expression's value once it is true; an assertion fails with what the page shows then."""
        deadline = time.monotonic() + _PATIENCE_S
        while time.monotonic() < deadline:
            # An element has no value here; that there is one is what was asked.
            if value := self.run(f"((found) => found instanceof Node || found)({script})"):
                return value
            time.sleep(0.05)
        raise AssertionError(f"{script} stayed false; the page shows:\n{self.run('document.body.innerText')[:3000]}")

    def forgive(self, complaint: str) -> None:
        """Wait for a complaint that belongs to the test, which the browser may make late, and forget it."""
        deadline = time.monotonic() + _PATIENCE_S
        while not any(complaint in each for each in self.complaints):
            assert time.monotonic() < deadline, f"{complaint!r} is not among {self.complaints}"
            time.sleep(0.05)
        self.complaints[:] = [each for each in self.complaints if complaint not in each]

    def press(self, key: str, code: str = "", text: str = "") -> None:
        """Press a key where the focus is."""
        shared = {"key": key, "code": code or key, "text": text}
        self._send("Input.dispatchKeyEvent", type="keyDown", **shared)
        self._send("Input.dispatchKeyEvent", type="keyUp", **shared)

    def type(self, text: str) -> None:
        """Type a text where the focus is."""
        self._send("Input.insertText", text=text)

    def screenshot(self, file: Path, *, whole: bool = False) -> None:
        """Save what can be seen, or the whole page."""
        answer = self._send("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        file.write_bytes(base64.b64decode(answer["data"]))


@contextmanager
def browser() -> Iterator[Page]:
    """Run a Chromium of its own, and end it and all its processes afterwards."""
    assert CHROMIUM, "Chromium is missing: apt-get install chromium"
    to_browser, our_end = os.pipe()
    our_start, from_browser = os.pipe()
    with tempfile.TemporaryDirectory(prefix="headrace-chromium-", ignore_cleanup_errors=True) as profile:
        ends = [str(to_browser), str(from_browser)]
        process = subprocess.Popen(
            [sys.executable, "-c", _AT_3_AND_4, *ends, CHROMIUM, *_FLAGS, f"--user-data-dir={profile}"],
            pass_fds=(to_browser, from_browser),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(to_browser)
        os.close(from_browser)
        try:
            yield Page(our_end, our_start)
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            os.close(our_end)

"""A headless Chromium, controlled through ChromeDriver by W3C WebDriver requests.

The client is the standard library's: the calls are few, and a client of its own weight would be
one more thing to keep.
"""

from __future__ import annotations

import base64
import http.client
import json
import re
import subprocess
import threading
from dataclasses import dataclass
from queue import Empty, Queue
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

#: Keeps the browser to itself: no first run, no updates, no background requests; as root, and
#: without a graphics card.
_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
)
_STARTED = re.compile(r"started successfully on port ([0-9]+)")
#: Seconds until a driver that does not start, or does not answer, is given up.
_PATIENCE = 60
TAB = "\ue004"
ENTER = "\ue007"


@dataclass
class Browser:
    """One window."""

    process: subprocess.Popen[str]
    reader: threading.Thread
    port: int
    session: str

    def call(self, method: str, path: str, body: dict[str, object] | None = None) -> Any:
        """Call the protocol and return its value."""
        return _call(self.port, method, f"/session/{self.session}{path}", body)

    def open(self, url: str) -> None:
        """Go to a page."""
        self.call("POST", "/url", {"url": url})

    def run(self, script: str) -> Any:
        """Run a script in the page and return its result."""
        return self.call("POST", "/execute/sync", {"script": script, "args": []})

    def protocol(self, command: str, **parameters: object) -> Any:
        """Run a command of Chrome's DevTools protocol."""
        return self.call("POST", "/goog/cdp/execute", {"cmd": command, "params": parameters})

    def show_as(self, width: int, height: int, scheme: str) -> None:
        """Set the size of the screen, in CSS pixels, and the colour scheme."""
        self.protocol(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self.protocol("Emulation.setEmulatedMedia", features=[feature])

    def press(self, key: str) -> None:
        """Press and release a key."""
        keys = [{"type": "keyDown", "value": key}, {"type": "keyUp", "value": key}]
        source = {"type": "key", "id": "keyboard", "actions": keys}
        self.call("POST", "/actions", {"actions": [source]})

    def screenshot(self, path: Path) -> None:
        """Write the whole page as PNG, down to its end."""
        height = self.run("return document.documentElement.scrollHeight")
        width = self.run("return window.innerWidth")
        clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
        taken = self.protocol("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)
        path.write_bytes(base64.b64decode(taken["data"]))

    def complaints(self) -> list[str]:
        """Return new console messages."""
        return [entry["message"] for entry in self.call("POST", "/se/log", {"type": "browser"})]

    def requests(self) -> list[str]:
        """Return newly requested addresses."""
        entries = self.call("POST", "/se/log", {"type": "performance"})
        messages = [json.loads(entry["message"])["message"] for entry in entries]
        return [
            message["params"]["request"]["url"]
            for message in messages
            if message["method"] == "Network.requestWillBeSent"
        ]

    def stop(self) -> None:
        """End the browser and its driver."""
        try:
            self.call("DELETE", "")
        finally:
            self.process.terminate()
            self.process.wait(_PATIENCE)
            self.reader.join(_PATIENCE)


def start(profile: Path) -> Browser:
    """Start a driver on a free port, and a browser with an empty profile."""
    process = subprocess.Popen(
        ["chromedriver", "--port=0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        port, reader = _port(process)
        wanted = {
            "browserName": "chrome",
            "goog:chromeOptions": {"args": [*_FLAGS, f"--user-data-dir={profile}"]},
            "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
        }
        made = _call(port, "POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
    except BaseException:
        process.kill()
        process.wait()
        raise
    return Browser(process, reader, port, made["sessionId"])


def _port(process: subprocess.Popen[str]) -> tuple[int, threading.Thread]:
    """Read what port the driver chose; its output is read to the end, so that it never blocks."""
    found: Queue[int] = Queue()

    def read() -> None:
        assert process.stdout is not None
        with process.stdout as lines:
            for line in lines:
                match = _STARTED.search(line)
                if match:
                    found.put(int(match[1]))

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        return found.get(timeout=_PATIENCE), reader
    except Empty as error:
        message = "chromedriver does not start"
        raise AssertionError(message) from error


def _call(port: int, method: str, path: str, body: dict[str, object] | None) -> Any:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_PATIENCE)
    try:
        sent = json.dumps(body or {}) if method == "POST" else None
        connection.request(method, path, sent, {"Content-Type": "application/json"})
        value = json.loads(connection.getresponse().read())["value"]
    finally:
        connection.close()
    if isinstance(value, dict) and "error" in value:
        message = f"{value['error']}: {value['message']}"
        raise AssertionError(message)
    return value

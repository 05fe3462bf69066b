"""A real browser, driven by Chromium's DevTools protocol over two pipes."""

import fcntl
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
_SECONDS = 120.0


class Browser:
    """One tab of a headless Chromium.

    Args:
        folder: Its profile, and what it downloads.
    """

    def __init__(self, folder: Path) -> None:
        assert BROWSER is not None
        self.downloads = folder / "downloads"
        self.downloads.mkdir(parents=True)
        to_browser, self._write = os.pipe()
        self._read, from_browser = os.pipe()
        # The browser reads descriptor 3 and writes 4; higher numbers here, so that none is in use.
        high = [fcntl.fcntl(one, fcntl.F_DUPFD, 20) for one in (to_browser, from_browser)]
        arguments = ["--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe"]
        arguments += [f"--user-data-dir={folder / 'profile'}", "--hide-scrollbars", "about:blank"]
        script = f'exec "$0" "$@" 3<&{high[0]} 4>&{high[1]}'
        self._process = subprocess.Popen(
            ["bash", "-c", script, BROWSER, *arguments],
            pass_fds=high,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for descriptor in (to_browser, from_browser, *high):
            os.close(descriptor)
        self._number = 0
        self._session = ""
        self._received = b""
        self.problems: list[str] = []
        """Complaints of the page."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def close(self) -> None:
        """End the browser."""
        for descriptor in (self._write, self._read):
            os.close(descriptor)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol, and return its result."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, (method, answer["error"])
                return answer["result"]

    def _next(self) -> dict[str, Any]:
        deadline = time.monotonic() + _SECONDS
        while b"\0" not in self._received:
            left = max(deadline - time.monotonic(), 0.0)
            assert select.select([self._read], [], [], left)[0], "no answer in time"
            part = os.read(self._read, 2**16)
            assert part, "the browser has ended"
            self._received += part
        message, _, self._received = self._received.partition(b"\0")
        event = json.loads(message)
        if event.get("method") in ("Runtime.exceptionThrown", "Page.javascriptDialogOpening"):
            self.problems.append(json.dumps(event["params"]))
        if event.get("method") == "Log.entryAdded":
            self.problems.append(event["params"]["entry"]["text"])
        return event

    def open(self, page: Path, width: int = 1280, height: int = 900) -> None:
        """Show a file, and wait until its scripts have run."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            **{"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False},
        )
        self.call("Page.setDownloadBehavior", behavior="allow", downloadPath=str(self.downloads))
        self.call("Page.navigate", url=f"file://{page}")
        self.wait_for("document.readyState === 'complete' && location.protocol === 'file:'")

    def value(self, expression: str) -> Any:
        """Value of a JavaScript expression in the page."""
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in result, (expression, result["exceptionDetails"])
        return result["result"].get("value")

    def wait_for(self, expression: str) -> None:
        """Wait until an expression is true."""
        deadline = time.monotonic() + _SECONDS
        while not self.value(expression):
            assert time.monotonic() < deadline, expression
            time.sleep(0.05)

    def text(self, selector: str) -> str:
        """Text of the first element."""
        return str(self.value(f"document.querySelector({json.dumps(selector)}).textContent"))

    def click(self, selector: str) -> None:
        """Press the left button in the middle of an element, wherever it is."""
        chosen = f"document.querySelector({json.dumps(selector)})"
        self.value(f"{chosen}.scrollIntoView({{block: 'center'}})")
        box = self.value(
            f"(() => {{ const b = {chosen}.getBoundingClientRect();"
            " return [b.x + b.width / 2, b.y + b.height / 2]; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.call(
                "Input.dispatchMouseEvent",
                **{"type": kind, "x": box[0], "y": box[1]},
                button="left",
                clickCount=1,
            )

    def press(self, key: str, modifiers: int = 0) -> None:
        """Press a key; 2 as modifiers is Ctrl."""
        typed = {"text": key} if len(key) == 1 and not modifiers else {}
        self.call("Input.dispatchKeyEvent", type="keyDown", key=key, modifiers=modifiers, **typed)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key, modifiers=modifiers)

    def type(self, selector: str, text: str) -> None:
        """Replace the content of a field."""
        self.value(
            f"(() => {{ const field = document.querySelector({json.dumps(selector)});"
            " field.focus(); field.select(); })()"
        )
        self.call("Input.insertText", text=text)

    def downloaded(self) -> Path:
        """The one file that was downloaded, when it is whole."""
        deadline = time.monotonic() + _SECONDS
        while time.monotonic() < deadline:
            files = list(self.downloads.iterdir())
            if files and not any(file.suffix == ".crdownload" for file in files):
                (file,) = files
                return file
            time.sleep(0.05)
        raise AssertionError("nothing was downloaded")

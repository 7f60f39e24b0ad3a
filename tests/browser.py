"""A real headless Chromium, driven over its own protocol through two pipes.

No port is opened and nothing is fetched: pages are files. `Browser.start()` needs Debian's
`chromium`; everything that a page logs or throws is kept and makes `Page.healthy` fail.
"""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

_STARTED_S = 60.0
_ANSWER_S = 60.0
_KEYS = {
    "Enter": ("Enter", 13, "\r"), "Escape": ("Escape", 27, ""), "Tab": ("Tab", 9, ""),
    "ArrowUp": ("ArrowUp", 38, ""), "ArrowDown": ("ArrowDown", 40, ""),
    "ArrowLeft": ("ArrowLeft", 37, ""), "ArrowRight": ("ArrowRight", 39, ""),
    "Home": ("Home", 36, ""), "End": ("End", 35, ""), "PageDown": ("PageDown", 34, ""),
    " ": ("Space", 32, " "),
}  # fmt: skip


class BrowserError(Exception):
    """The browser did not start, did not answer, or answered with an error."""


class Browser:
    """One process; `page` gives tabs."""

    def __init__(self, process: subprocess.Popen[bytes], to: int, back: int, home: Path) -> None:
        self._process = process
        self._to, self._back = to, back
        self._home = home
        self._number = 0
        self._held = b""
        self._events: list[dict[str, Any]] = []

    @classmethod
    def start(cls) -> Browser:
        """A browser without a window. It and all of its children end with `stop`."""
        home = Path(tempfile.mkdtemp(prefix="preflight-chromium-"))
        its_in, to = os.pipe()
        back, its_out = os.pipe()
        # The browser reads from its file descriptor 3 and writes to 4.
        shell = f'exec 3<&{its_in} 4>&{its_out}; exec "$@"'
        command = [
            "chromium", "--headless=new", "--no-sandbox", "--disable-gpu",
            "--disable-dev-shm-usage", "--remote-debugging-pipe", "--no-first-run",
            "--disable-extensions", "--disable-background-networking", "--disable-sync",
            "--disable-component-update", "--disable-crash-reporter", "--disable-breakpad",
            "--hide-scrollbars", "--force-color-profile=srgb", f"--user-data-dir={home}",
            "about:blank",
        ]  # fmt: skip
        process = subprocess.Popen(
            ["/bin/bash", "-c", shell, "chromium", *command],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            pass_fds=(its_in, its_out), start_new_session=True,
            env={**os.environ, "HOME": str(home), "XDG_CONFIG_HOME": str(home)},
        )  # fmt: skip
        os.close(its_in)
        os.close(its_out)
        browser = cls(process, to, back, home)
        try:
            browser.call("Browser.getVersion", timeout=_STARTED_S)
        except BaseException:
            browser.stop()
            raise
        return browser

    def stop(self) -> None:
        """End it, and wait until nothing of it is left."""
        for end in (self._to, self._back):
            os.close(end)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(10)
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        shutil.rmtree(self._home, ignore_errors=True)

    @contextmanager
    def page(self, width: int = 1280, height: int = 900, *, dark: bool = False) -> Iterator[Page]:
        """An empty tab."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = Page(self, session)
        for domain in ("Page", "Runtime", "Log", "Network", "DOM"):
            page.call(f"{domain}.enable")
        page.resize(width, height)
        page.media(dark=dark)
        try:
            yield page
        finally:
            self.call("Target.closeTarget", targetId=target)

    def call(
        self, method: str, session: str | None = None, timeout: float = _ANSWER_S, **params: Any
    ) -> dict[str, Any]:
        """One command's answer."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": params}
        if session:
            message["sessionId"] = session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self._to, data) :]
        until = time.monotonic() + timeout
        while True:
            answer = self._next(until, method)
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise BrowserError(f"{method}: {answer['error']}")
                return dict(answer["result"])
            if "method" in answer:
                self._events.append(answer)

    def events(self, session: str, method: str) -> list[dict[str, Any]]:
        """What has been told so far of one kind."""
        return [
            event["params"]
            for event in self._events
            if event.get("sessionId") == session and event["method"] == method
        ]

    def await_event(self, session: str, method: str, seen: int) -> None:
        """Until more than `seen` of a kind have been told."""
        until = time.monotonic() + _ANSWER_S
        while len(self.events(session, method)) <= seen:
            told = self._next(until, method)
            if "method" in told:
                self._events.append(told)

    def _next(self, until: float, what: str) -> dict[str, Any]:
        while b"\0" not in self._held:
            left = until - time.monotonic()
            if left <= 0 or not select.select([self._back], [], [], left)[0]:
                raise BrowserError(f"{what}: no answer")
            part = os.read(self._back, 1 << 20)
            if not part:
                raise BrowserError(f"{what}: the browser has ended")
            self._held += part
        first, _, self._held = self._held.partition(b"\0")
        return dict(json.loads(first))


class Page:
    """One tab."""

    def __init__(self, browser: Browser, session: str) -> None:
        self._browser = browser
        self._session = session

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """One command of this tab."""
        return self._browser.call(method, self._session, **params)

    def resize(self, width: int, height: int) -> None:
        """As if the window had this size; pixels are those of the screen."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=False,
        )  # fmt: skip

    def media(self, kind: str = "", *, dark: bool = False) -> None:
        """On what it is shown: `print`, or by default a screen; without any sliding about."""
        features = [
            {"name": "prefers-color-scheme", "value": "dark" if dark else "light"},
            {"name": "prefers-reduced-motion", "value": "reduce"},
        ]
        self.call("Emulation.setEmulatedMedia", media=kind, features=features)

    def open(self, file: Path, fragment: str = "") -> None:
        """Load a file and wait until its script has drawn it."""
        self.load(file, fragment)
        self.until("document.documentElement.dataset.ready || !document.getElementById('app')")

    def load(self, file: Path, fragment: str = "") -> None:
        """Load a file."""
        loads = len(self._browser.events(self._session, "Page.loadEventFired"))
        self.call("Page.navigate", url="about:blank")
        self._browser.await_event(self._session, "Page.loadEventFired", loads)
        self.call("Page.navigate", url=file.as_uri() + fragment)
        self._browser.await_event(self._session, "Page.loadEventFired", loads + 1)

    def do(self, code: str) -> Any:
        """What an expression, or the promise that it is, comes to."""
        told = self.call("Runtime.evaluate", expression=code, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in told:
            raise BrowserError(str(told["exceptionDetails"].get("exception", told)))
        return told["result"].get("value")

    def until(self, condition: str) -> None:
        """Wait, frame by frame and inside the page, until something holds."""
        self.do(
            f"""new Promise((done, failed) => {{
              const end = performance.now() + 30000;
              const look = () => {{
                if ({condition}) done(true);
                else if (performance.now() > end) failed(new Error('never: ' + {condition!r}));
                else setTimeout(look, 5);
              }};
              look();
            }})"""
        )

    def changing(self, act: Any) -> None:
        """Do something and wait until the page has been drawn anew for it."""
        before = self.do("document.documentElement.dataset.ready")
        act()
        self.until(f"document.documentElement.dataset.ready !== {before!r}")

    def click(self, selector: str) -> None:
        """A real click on the middle of the first element that matches."""
        self.do(
            f"document.querySelector({selector!r}).scrollIntoView({{block: 'center', "
            "behavior: 'instant'})"
        )
        box = self.do(
            f"(() => {{ const b = document.querySelector({selector!r}).getBoundingClientRect(); "
            "return [b.x + b.width / 2, b.y + b.height / 2]; })()"
        )
        self.click_at(*box)

    def click_at(self, x: float, y: float) -> None:
        """A real click at a point of the window."""
        for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
            self.call(
                "Input.dispatchMouseEvent",
                type=kind,
                x=x,
                y=y,
                button="none" if kind == "mouseMoved" else "left",
                clickCount=1,
            )

    def key(self, *names: str, modifiers: int = 0) -> None:
        """Real key strokes; modifier 2 is Ctrl, 8 is Shift."""
        for name in names:
            code, number, text = _KEYS[name]
            about = {
                "key": name,
                "code": code,
                "windowsVirtualKeyCode": number,
                "modifiers": modifiers,
            }
            self.call("Input.dispatchKeyEvent", type="keyDown", **about, text=text)
            self.call("Input.dispatchKeyEvent", type="keyUp", **about)

    def type(self, text: str) -> None:
        """Text into what has the focus."""
        self.call("Input.insertText", text=text)

    def text(self, selector: str) -> str:
        """What the first element that matches says, spaces as one."""
        said = self.do(f"document.querySelector({selector!r}).innerText")
        return " ".join(str(said).split())

    def texts(self, selector: str) -> list[str]:
        """The same for all elements that match."""
        said = self.do(f"[...document.querySelectorAll({selector!r})].map((e) => e.innerText)")
        return [" ".join(text.split()) for text in said]

    def screenshot(self, file: Path, *, whole: bool = True) -> None:
        """A picture of the page, or of what the window shows of it."""
        told = self.call("Page.captureScreenshot", captureBeyondViewport=whole)
        file.write_bytes(base64.b64decode(told["data"]))

    def pdf(self) -> bytes:
        """The page as it would be printed."""
        told = self.call("Page.printToPDF", printBackground=True, preferCSSPageSize=True)
        return base64.b64decode(told["data"])

    def accessibility(self) -> list[dict[str, Any]]:
        """What a screen reader is told: role and name of everything."""
        nodes = self.call("Accessibility.getFullAXTree")["nodes"]
        return [
            {
                "role": node.get("role", {}).get("value", ""),
                "name": node.get("name", {}).get("value", ""),
            }
            for node in nodes
            if not node.get("ignored")
        ]

    def complaints(self) -> list[str]:
        """Everything that was thrown, logged as wrong, refused by policy or asked of a network."""
        events = self._browser.events
        found = [
            str(e["exceptionDetails"].get("exception", e["exceptionDetails"]))
            for e in events(self._session, "Runtime.exceptionThrown")
        ]
        found += [
            str(e["entry"]["text"])
            for e in events(self._session, "Log.entryAdded")
            if e["entry"]["level"] in ("error", "warning")
        ]
        found += [
            str([a.get("value", a.get("description")) for a in e["args"]])
            for e in events(self._session, "Runtime.consoleAPICalled")
            if e["type"] in ("error", "warning", "assert")
        ]
        found += [
            f"asked for {e['request']['url'][:100]}"
            for e in events(self._session, "Network.requestWillBeSent")
            if not e["request"]["url"].startswith("file:")
        ]
        if self.do("(document.getElementById('broken') || {hidden: true}).hidden") is not True:
            found.append(self.text("#broken"))
        return found

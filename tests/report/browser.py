"""A headless Chromium for tests of pages, spoken to through its DevTools port; nothing but tornado is needed."""

from __future__ import annotations

import asyncio
import base64
import json
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

from tornado.websocket import WebSocketClientConnection, websocket_connect

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), ""
)
_SECONDS = 60.0


class Browser:
    """One page of a browser; every request that the page makes is kept."""

    def __init__(self, profile: Path) -> None:
        options = ("--headless=new", "--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader")
        further = ("--remote-debugging-port=0", f"--user-data-dir={profile}", "--no-first-run", "about:blank")
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self.process = subprocess.Popen([CHROMIUM, *options, *further], **quiet)  # type: ignore[call-overload]
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self._loop = asyncio.new_event_loop()
        self._number = 0
        self._socket: WebSocketClientConnection = self._loop.run_until_complete(self._connect(profile))
        for domain in ("Page", "Network", "Log", "Runtime"):
            self.call(f"{domain}.enable")

    async def _connect(self, profile: Path) -> WebSocketClientConnection:
        port_file, deadline = profile / "DevToolsActivePort", time.monotonic() + _SECONDS
        while not (port_file.is_file() and port_file.read_text().count("\n")):
            assert time.monotonic() < deadline and self.process.poll() is None, "the browser does not start"
            await asyncio.sleep(0.1)
        port, path = port_file.read_text().splitlines()[:2]
        whole = await websocket_connect(f"ws://127.0.0.1:{port}{path}", max_message_size=1 << 28)
        await whole.write_message(json.dumps({"id": 1, "method": "Target.getTargets"}))
        targets = json.loads(str(await whole.read_message()))["result"]["targetInfos"]
        whole.close()
        page = next(target["targetId"] for target in targets if target["type"] == "page")
        return await websocket_connect(f"ws://127.0.0.1:{port}/devtools/page/{page}", max_message_size=1 << 28)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        return self._loop.run_until_complete(asyncio.wait_for(self._call(method, parameters), _SECONDS))

    async def _call(self, method: str, parameters: dict[str, Any]) -> dict[str, Any]:
        self._number += 1
        await self._socket.write_message(json.dumps({"id": self._number, "method": method, "params": parameters}))
        while True:
            message = json.loads(str(await self._socket.read_message()))
            if message.get("id") == self._number:
                assert "error" not in message, message["error"]
                return dict(message["result"])
            self._note(message)

    def _note(self, message: dict[str, Any]) -> None:
        kind, what = message.get("method"), message.get("params", {})
        if kind == "Network.requestWillBeSent":
            self.requests.append(what["request"]["url"])
        elif kind == "Log.entryAdded":
            self.complaints.append(what["entry"]["text"])
        elif kind == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(what["exceptionDetails"])[:2000])

    def open(self, path: Path, *, width: int = 1200, height: int = 900, scheme: str = "light") -> None:
        self.visit(path.absolute().as_uri(), width=width, height=height, scheme=scheme)

    def visit(self, address: str, *, width: int = 1200, height: int = 900, scheme: str = "light") -> None:
        self.requests.clear()
        self.complaints.clear()
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.call("Page.navigate", url=address)
        self.wait(f"document.readyState === 'complete' && location.href === {json.dumps(address)}")

    def run(self, script: str) -> Any:
        """Return what an expression of the page's own language is, promises awaited."""
        found = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def wait(self, condition: str) -> None:
        deadline = time.monotonic() + _SECONDS
        while not self.run(condition):
            assert time.monotonic() < deadline, f"never: {condition}; {self.complaints}"
            time.sleep(0.1)

    def screenshot(self, path: Path, *, tallest: int = 8000) -> None:
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": min(size["height"], tallest), "scale": 1}
        found = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)
        path.write_bytes(base64.b64decode(found["data"]))

    def close(self) -> None:
        try:
            self._loop.run_until_complete(self._hang_up())
            self._loop.close()
        finally:
            self.process.terminate()
            self.process.wait(_SECONDS)

    async def _hang_up(self) -> None:
        """Tornado wants a running loop for that, and other tests may have closed the thread's own."""
        self._socket.close()

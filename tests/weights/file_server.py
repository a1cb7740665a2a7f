"""A web server on this machine that sends one file, and breaks off, lies or refuses as a test tells it."""

from __future__ import annotations

import contextlib
import re
import socket
import struct
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class FileServer:
    """What is served; `faults` holds one word for each of the next requests, "" for a good answer."""

    content: bytes
    etag: str | None = '"one"'
    faults: list[str] = field(default_factory=list)
    always: str = ""
    """The fault of every request for which `faults` has none left."""
    url: str = ""
    requests: list[dict[str, str]] = field(default_factory=list)
    """Path and headers of every request."""
    sent: int = 0
    """Bytes of all bodies."""
    chunk: int = 1 << 16
    pause: float = 0.0
    """Seconds between chunks."""


class _Handler(BaseHTTPRequestHandler):
    state: FileServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: object) -> None:
        """Quiet."""

    def do_GET(self) -> None:
        state = self.state
        state.requests.append({"path": self.path, **self.headers})
        fault = state.faults.pop(0) if state.faults else state.always
        self.close_connection = True
        if fault.isdecimal():
            self._answer(int(fault), b"no", {"Content-Length": "2"})
        elif fault == "redirect":
            self._answer(302, b"", {"Location": "/elsewhere", "Content-Length": "0"})
        elif fault == "html":
            page = b"<!DOCTYPE html><html>please sign in</html>"
            self._answer(200, page, {"Content-Length": str(len(page)), "Content-Type": "text/html"})
        elif fault == "silence":
            time.sleep(0.8)
        else:
            self._send(fault)

    def _send(self, fault: str) -> None:
        state, content = self.state, self.state.content
        headers = {"ETag": state.etag} if state.etag else {}
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(asked[1]) if asked and fault != "no ranges" else 0
        if self.headers.get("If-Range", state.etag) != state.etag and fault != "ignores If-Range":
            start = 0
        if start >= len(content):
            self._answer(416, b"", {"Content-Range": f"bytes */{len(content)}", "Content-Length": "0"})
            return
        body = content[start:]
        length = len(body) + (1000 if fault == "claims more" else -1000 if fault == "claims less" else 0)
        if not fault.startswith("no length"):
            headers["Content-Length"] = str(length)
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        cut = len(body) // 2 if fault in ("cut", "reset", "stall", "no length, cut") else len(body)
        self._answer(206 if start else 200, body[:cut], headers)
        if fault == "reset":
            time.sleep(0.1)  # what is on its way would be thrown away too
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        elif fault == "stall":
            time.sleep(0.8)

    def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        with contextlib.suppress(OSError):  # the client left
            for start in range(0, len(body), self.state.chunk):
                self.wfile.write(body[start : start + self.state.chunk])
                self.state.sent += len(body[start : start + self.state.chunk])
                time.sleep(self.state.pause)


@contextlib.contextmanager
def serving(content: bytes) -> Iterator[FileServer]:
    """A server of `content` at any path, for the length of the context."""
    state = FileServer(content)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"state": state}))
    server.daemon_threads = True
    state.url = f"http://127.0.0.1:{server.server_port}/net.pth"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

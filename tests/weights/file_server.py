"""A web server on this machine that sends one file, and breaks off, lies or refuses when a test asks for it."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class FileServer:
    """The served file. `fault` spoils every answer: a status code, "redirect" (once), "html", "cut", and others."""

    content: bytes
    fault: str = ""
    url: str = ""
    requests: list[str] = field(default_factory=list)
    """Path of every request."""
    pause: float = 0.0
    """Seconds between chunks."""


class _Handler(BaseHTTPRequestHandler):
    state: FileServer

    def log_message(self, *args: object) -> None:
        """Quiet."""

    def do_GET(self) -> None:
        state, fault, body = self.state, self.state.fault, self.state.content
        state.requests.append(self.path)
        status = int(fault) if fault.isdecimal() else 302 if fault == "redirect" else 200
        if fault == "html":
            body = b"<!DOCTYPE html><html>please sign in</html>"
        length = len(body) + {"claims more": 1000, "claims less": -1000}.get(fault, 0)
        self.send_response(status)
        if status == 302:
            state.fault, body, length = "", b"", 0
            self.send_header("Location", "/elsewhere")
        if not fault.startswith("no length"):
            self.send_header("Content-Length", str(length))
        self.end_headers()
        end = len(body) // 2 if fault.endswith("cut") else len(body)
        with contextlib.suppress(OSError):  # the client left
            for start in range(0, end, 1 << 16):
                self.wfile.write(body[start : min(start + (1 << 16), end)])
                time.sleep(state.pause)


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

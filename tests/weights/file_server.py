"""A local web server that sends one file; a test can make it fail or break off its responses."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class FileServer:
    """The served file. `fault` spoils every response: an HTTP status code, or "cut" after the first half.

    Below /moved/, a response redirects to the same place without it, on a host of another name.
    """

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
        """Write no log to stderr."""

    def do_GET(self) -> None:
        state, body = self.state, self.state.content
        state.requests.append(self.path)
        if self.path.startswith("/moved/"):
            self.send_response(302)
            place = f"http://localhost:{self.server.server_address[1]}{self.path.removeprefix('/moved')}"
            self.send_header("Location", place)
            self.end_headers()
            return
        self.send_response(int(state.fault) if state.fault.isdecimal() else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        end = len(body) // 2 if state.fault == "cut" else len(body)
        with contextlib.suppress(OSError):  # the client closed the connection
            for start in range(0, end, 1 << 16):
                self.wfile.write(body[start : min(start + (1 << 16), end)])
                time.sleep(state.pause)


@contextlib.contextmanager
def serving(content: bytes) -> Iterator[FileServer]:
    """Serve `content` at every path within this context."""
    state = FileServer(content)
    with ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"state": state})) as server:
        state.url = f"http://127.0.0.1:{server.server_port}/net.pth"
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        yield state
        server.shutdown()

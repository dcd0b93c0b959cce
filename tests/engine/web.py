"""A web server for tests: files in memory, with or without an ETag, and what was asked of it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.waiting import PATIENCE_S


@dataclass
class Web:
    """Files by path (content, ETag or ""), status codes by path, and the requests so far."""

    url: str = ""
    files: dict[str, tuple[bytes, str]] = field(default_factory=dict)
    refused: dict[str, int] = field(default_factory=dict)
    cut: set[str] = field(default_factory=set)  # of which half comes, and then nothing
    asked: list[str] = field(default_factory=list)
    held: threading.Event | None = None  # until then, of each file only the first half comes
    left: threading.Event = field(default_factory=threading.Event)  # somebody hung up meanwhile
    modified: str = "Mon, 01 Jan 2024 00:00:00 GMT"

    def put(self, name: str, text: str, tag: str = "") -> str:
        """Serve a text under a name; return its URL."""
        self.files[name] = (text.encode(), tag)
        return f"{self.url}/{name}"

    def downloads(self) -> list[str]:
        """Return what was fetched since the last call."""
        found = [each.partition(" ")[2] for each in self.asked if each.startswith("GET ")]
        self.asked.clear()
        return sorted(found)


@contextlib.contextmanager
def serving() -> Iterator[Web]:
    """Serve until the block ends."""
    web = Web()

    class Handler(BaseHTTPRequestHandler):
        def _answer(self, with_body: bool) -> None:
            path = self.path.lstrip("/")
            name = path if path in web.files else path.partition("?")[0]
            web.asked.append(f"{self.command} {name}")
            held, status = web.files.get(name), web.refused.get(name, 0)
            if status or held is None:
                self.send_error(status or 404)
                return
            data, tag = held
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            if tag:
                self.send_header("ETag", tag)
            if web.modified:
                self.send_header("Last-Modified", web.modified)
            self.end_headers()
            if with_body and web.held is None:
                self.wfile.write(data[: len(data) // 2] if name in web.cut else data)
            elif with_body:
                self._dribble(data)

        def _dribble(self, data: bytes) -> None:
            """Send the first half byte by byte, and the second half when that may be."""
            assert web.held is not None
            half = len(data) // 2
            try:
                for place in range(half):
                    if not web.held.wait(0.02):
                        self.wfile.write(data[place : place + 1])
                    else:
                        self.wfile.write(data[place:])
                        return
                web.held.wait(PATIENCE_S)
                self.wfile.write(data[half:])
            except OSError:
                web.left.set()

        def do_GET(self) -> None:
            self._answer(True)

        def do_HEAD(self) -> None:
            self._answer(False)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    web.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield web
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

"""A proxy in front of a server: counts what passes, and injects the faults that networks have."""

from __future__ import annotations

import contextlib
import http.client
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length"}
_HEAD_BYTES = 500


@dataclass(frozen=True)
class Request:
    """What a client asked for."""

    method: str
    path: str  # with the query
    number: int  # 0, 1, ... since the proxy was last told what to do
    head: bytes  # of its body: uploads to GCS name their object there
    who: str  # the header that says who asks


@dataclass(frozen=True)
class Refuse:
    """Answer in the server's place."""

    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Hang:
    """Never answer; the server does not see the request."""


@dataclass(frozen=True)
class LoseReply:
    """The server does what it is asked, and nobody hears of it."""


@dataclass(frozen=True)
class CutReply:
    """Half of the body, then the connection ends."""


@dataclass(frozen=True)
class FlipBit:
    """One bit of the body is another."""


@dataclass(frozen=True)
class ForgetCondition:
    """The server does not know of conditional creates: the last one who creates wins."""


Fault = Refuse | Hang | LoseReply | CutReply | FlipBit | ForgetCondition
Rule = Callable[[Request], Fault | None]


class Proxy:
    """Runs on threads of this process. Set `rule` by `when`; read `requests`."""

    def __init__(self, upstream: str) -> None:
        parts = urlsplit(upstream)
        assert parts.hostname
        assert parts.port
        self.upstream = parts.hostname, parts.port
        self.requests: list[Request] = []
        self._rule: Rule = lambda request: None
        self._lock = threading.Lock()
        self.hanging = threading.Event()  # a request hangs
        self.released = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}{parts.path}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    @contextlib.contextmanager
    def when(self, rule: Rule) -> Iterator[None]:
        """Follow a rule for a while; what was counted is forgotten first."""
        with self._lock:
            self.requests, self._rule = [], rule
        self.hanging.clear()
        self.released.clear()
        try:
            yield
        finally:
            self._rule = lambda request: None
            self.released.set()

    def fault_for(self, method: str, path: str, body: bytes, who: str) -> Fault | None:
        with self._lock:
            request = Request(method, path, len(self.requests), body[:_HEAD_BYTES], who)
            self.requests.append(request)
        return self._rule(request)

    def close(self) -> None:
        self.released.set()
        self._server.shutdown()
        self._server.server_close()


def always(fault: Fault) -> Rule:
    return lambda request: fault


def first(count: int, fault: Fault) -> Rule:
    return lambda request: fault if request.number < count else None


def _handler(proxy: Proxy) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do(self) -> None:
            body = self._body()
            who = self.headers.get("Authorization", "")
            fault = proxy.fault_for(self.command, self.path, body, who)
            match fault:
                case Refuse():
                    self._answer(fault.status, list(fault.headers.items()), fault.body)
                    return
                case Hang():
                    proxy.hanging.set()
                    proxy.released.wait()
                    self.close_connection = True
                    return
            without = {"if-none-match"} if isinstance(fault, ForgetCondition) else set()
            status, headers, data = self._forward(body, without)
            match fault:
                case LoseReply():
                    self.close_connection = True
                    return
                case CutReply():
                    self._answer(status, headers, data, send=data[: len(data) // 2])
                    self.close_connection = True
                    return
                case FlipBit() if data:
                    data = data[:-1] + bytes([data[-1] ^ 1])
            self._answer(status, headers, data)

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = do  # noqa: N815

        def _body(self) -> bytes:
            if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
                parts = []
                while size := int(self.rfile.readline().split(b";")[0], 16):
                    parts.append(self.rfile.read(size))
                    self.rfile.readline()
                self.rfile.readline()
                return b"".join(parts)
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))

        def _forward(
            self, body: bytes, without: set[str]
        ) -> tuple[int, list[tuple[str, str]], bytes]:
            connection = http.client.HTTPConnection(*proxy.upstream)
            headers = {
                name: value
                for name, value in self.headers.items()
                if name.lower() not in _HOP | {"expect"} | without
            }
            if body or self.command in ("PUT", "POST"):
                headers["Content-Length"] = str(len(body))
            with contextlib.closing(connection):
                connection.request(self.command, self.path, body=body or None, headers=headers)
                answer = connection.getresponse()
                return answer.status, answer.getheaders(), answer.read()

        def _answer(
            self,
            status: int,
            headers: list[tuple[str, str]],
            data: bytes,
            send: bytes | None = None,
        ) -> None:
            length = str(len(data))
            if self.command == "HEAD":
                length = {n.lower(): v for n, v in headers}.get("content-length", "0")
            with contextlib.suppress(ConnectionError):
                self.send_response_only(status)
                for name, value in headers:
                    if name.lower() not in _HOP:
                        self.send_header(name, value)
                if status != 204:
                    self.send_header("Content-Length", length)
                self.end_headers()
                if self.command != "HEAD":  # a body would be read as the next answer
                    self.wfile.write(data if send is None else send)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    return Handler

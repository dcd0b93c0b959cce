"""What a task shows: stdout, stderr and displays, captured in the order in which they came.

Python's own streams are exact: every write is a chunk at once. What C code and child processes
write to descriptors 1 and 2 comes through two pipes, which are drained before each write of
Python's: in order within each stream, and between them as near as two pipes allow. Nothing here
knows about attempts; the worker begins and ends a capture around each.
"""

from __future__ import annotations

import codecs
import io
import json
import os
import re
import select
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from nbcache.model.value import Stored
from nbcache.model.view import ShownChunk, writable

KEEP_CHARACTERS = 2_000_000  # half of it from the beginning, half from the end
SEND_EVERY_S = 0.05
PIECE = 1 << 16

_HARMLESS = frozenset({"text/plain", "image/png", "image/jpeg", "image/gif", "image/webp"})

Send = Callable[[list[ShownChunk]], None]


class Shown:
    """The chunks of one attempt, joined where neighbours are of one stream; bounded."""

    def __init__(self, keep: int = KEEP_CHARACTERS, secrets: Sequence[str] = ()) -> None:
        self._half = keep // 2
        self._secrets = secrets
        self._head: list[ShownChunk] = []
        self._tail: deque[ShownChunk] = deque()
        self._head_size = self._tail_size = self._dropped = 0

    def add(self, chunk: ShownChunk) -> None:
        size = _size(chunk)
        if not self._tail and self._head_size + size <= self._half:
            self._head.append(chunk)
            self._head_size += size
            return
        self._tail.append(chunk)
        self._tail_size += size
        while self._tail_size > self._half and len(self._tail) > 1:
            gone = _size(self._tail.popleft())
            self._tail_size -= gone
            self._dropped += gone

    def hide(self, secrets: Sequence[str]) -> None:
        """Leave these texts out of what `chunks` gives."""
        self._secrets = secrets

    def chunks(self) -> list[ShownChunk]:
        """Return what was shown, neighbours of one stream joined, overwritten lines left out."""
        parts = list(self._head)
        if self._dropped:
            parts.append(ShownChunk("stderr", f"\n[... {self._dropped} characters left out ...]\n"))
        parts += self._tail
        return [
            _public(
                each
                if each.stream == "display"
                else ShownChunk(each.stream, _without_overwritten(each.text)),
                self._secrets,
            )
            for each in join_chunks(parts)
        ]

    def text(self, *streams: str) -> str:
        """Return the text of the given streams (both, if none is given), in order."""
        wanted = streams or ("stdout", "stderr")
        return "".join(each.text for each in self.chunks() if each.stream in wanted)

    def __bool__(self) -> bool:
        return bool(self._head or self._tail)


def join_chunks(chunks: Sequence[ShownChunk]) -> list[ShownChunk]:
    """Return chunks with neighbours of one text stream made one."""
    joined: list[tuple[ShownChunk, list[str]]] = []
    for chunk in chunks:
        if joined and chunk.stream != "display" and joined[-1][0].stream == chunk.stream:
            joined[-1][1].append(chunk.text)
        else:
            joined.append((chunk, [chunk.text]))
    return [
        first if len(texts) == 1 else ShownChunk(first.stream, "".join(texts))
        for first, texts in joined
    ]


def hide_secrets(text: str, secrets: Sequence[str]) -> str:
    """Return text without the secrets: what a task was given in confidence is never kept."""
    for secret in secrets:
        if secret.strip():
            text = text.replace(secret, "[secret]")
    return text


def told_by_cells(text: str, cells: Mapping[str, str]) -> str:
    """Return tracebacks and warnings that name cells as people do: "cell [4], line 2, in norm".

    Their files are called after the kernel's process, so one failure would be told in two ways.
    """
    for filename, cell in cells.items():
        if filename in text:
            text = text.replace(f'File "{filename}", line', f"{cell}, line")
            text = re.sub(rf"{re.escape(filename)}:(\d+): ", rf"{cell}, line \1: ", text)
    return text


def _public(chunk: ShownChunk, secrets: Sequence[str]) -> ShownChunk:
    """Return a chunk without the secrets, in its text and in what it displays."""
    return _of_each_text(chunk, partial(hide_secrets, secrets=secrets)) if secrets else chunk


def _of_each_text(chunk: ShownChunk, change: Callable[[str], str]) -> ShownChunk:
    """Return a chunk with its text, and all texts of what it displays, changed."""
    bundle = {
        kind: change(data) if isinstance(data, str) else data for kind, data in chunk.bundle.items()
    }
    return ShownChunk(chunk.stream, change(chunk.text), bundle)


def _size(chunk: ShownChunk) -> int:
    return len(chunk.text) + sum(
        len(data) if isinstance(data, (str, bytes)) else 1000 for data in chunk.bundle.values()
    )


def _cut(chunk: ShownChunk) -> ShownChunk:
    """Return the beginning and end of a text that is longer than all that is kept."""
    half = KEEP_CHARACTERS // 2
    left_out = len(chunk.text) - 2 * half
    text = f"{chunk.text[:half]}\n[... {left_out} characters left out ...]\n{chunk.text[-half:]}"
    return ShownChunk(chunk.stream, text)


def _without_overwritten(text: str) -> str:
    """Leave out what a carriage return let a progress bar write over."""
    return re.sub(r"[^\n]*\r(?=[^\n])", "", text) if "\r" in text else text


def encode_chunks(chunks: Sequence[ShownChunk]) -> bytes:
    """Return chunks as the store keeps them: a JSON list of {stream, text} or {stream, bundle}."""
    records: list[dict[str, Any]] = [
        {"stream": each.stream, "bundle": dict(each.bundle)}
        if each.stream == "display"
        else {"stream": each.stream, "text": each.text}
        for each in chunks
    ]
    return json.dumps(records, separators=(",", ":")).encode("ascii")


def decode_chunks(data: bytes) -> list[ShownChunk]:
    """Return the chunks that `encode_chunks` made bytes of."""
    return [
        ShownChunk(each["stream"], each.get("text", ""), each.get("bundle", {}))
        for each in json.loads(data)
    ]


def chunks_of(stored: Stored, data: bytes) -> list[ShownChunk]:
    """Return the chunks that are kept as `data`; of somebody unknown only what cannot run code.

    A front end executes what is in HTML, SVG or JavaScript, with all that a notebook may do.
    """
    chunks = decode_chunks(data)
    return chunks if stored.vouched else [_harmless(each) for each in chunks]


def _harmless(chunk: ShownChunk) -> ShownChunk:
    kept = {kind: data for kind, data in chunk.bundle.items() if kind in _HARMLESS}
    return ShownChunk(chunk.stream, chunk.text, kept)


class Capture:
    """Catches what the process shows while an attempt runs; one per process, for its life.

    Also what is written to descriptors 1 and 2 past Python. `send` gets new chunks at most every
    50 ms (the first line at once).
    """

    def __init__(self, send: Send) -> None:
        self._send = send
        self._lock = threading.RLock()
        self._shown: Shown | None = None
        self._secrets: Sequence[str] = ()
        self._cells: Mapping[str, str] = {}
        self._pending: list[ShownChunk] = []
        self._sent_at = 0.0
        self._owner = os.getpid()
        self._in_child: dict[str, str] = {}  # a line that a forked child has not ended yet
        self._pipes: dict[int, tuple[str, codecs.IncrementalDecoder]] = {}
        self._poll = select.poll()
        self._redirect()

    def begin(self, secrets: Sequence[str] = (), cells: Mapping[str, str] | None = None) -> None:
        """Start to collect; what came since the last attempt is dropped. Files of `cells` are
        told as what people call them."""
        with self._lock:
            self._shown = None
            self._drain()
            self._secrets, self._cells = secrets, cells or {}
            self._shown = Shown(secrets=secrets)
            self._pending = []

    def hide(self, secrets: Sequence[str]) -> None:
        """Leave these texts out, too, of all that is shown in this attempt."""
        with self._lock:
            self._secrets = (*self._secrets, *secrets)
            if self._shown is not None:
                self._shown.hide(self._secrets)

    def end(self) -> Shown:
        """Return what was shown since `begin`."""
        with self._lock:
            _flush_c_streams()
            self._drain()
            for stream, decoder in self._pipes.values() if self._shown else ():
                if rest := decoder.decode(b"", final=True):
                    self._add(ShownChunk(stream, rest))
            self._flush()
            shown, self._shown = self._shown or Shown(), None
            return shown

    def so_far(self) -> Shown:
        """Return what was shown since `begin`, up to now."""
        with self._lock:
            _flush_c_streams()
            self._drain()
            return self._shown or Shown()

    def add(self, chunk: ShownChunk) -> None:
        """Take a chunk that was shown right now."""
        if self._cells and chunk.text:
            chunk = replace(chunk, text=told_by_cells(chunk.text, self._cells))
        chunk = _of_each_text(chunk, writable)
        if os.getpid() != self._owner:
            self._add_in_child(chunk)
            return
        with self._lock:
            self._drain()
            self._add(chunk)

    def flush(self) -> None:
        """Take what came past Python so far; in a forked child, let go of what is held back."""
        if os.getpid() != self._owner:
            for stream in list(self._in_child):
                self._write_in_child(stream, self._in_child.pop(stream))
            return
        with self._lock:
            self._drain()
            if time.monotonic() - self._sent_at >= SEND_EVERY_S:
                self._flush()

    def _add_in_child(self, chunk: ShownChunk) -> None:
        """In a child that the body forked: it has the pipes only, and shares them, so it writes
        whole lines."""
        text = self._in_child.pop(chunk.stream, "") + chunk.text
        lines, end, rest = text.rpartition("\n")
        if end:
            self._write_in_child(chunk.stream, lines + end)
        if rest:
            self._in_child[chunk.stream] = rest

    @staticmethod
    def _write_in_child(stream: str, text: str) -> None:
        os.write(2 if stream == "stderr" else 1, text.encode("utf-8", "replace"))

    def _add(self, chunk: ShownChunk) -> None:
        if self._shown is None:
            return
        if len(chunk.text) > KEEP_CHARACTERS:
            chunk = _cut(chunk)
        self._shown.add(chunk)
        self._pending.append(chunk)
        # Whole lines: who is killed next has not sent half of what its `print` wrote.
        is_whole = chunk.stream == "display" or chunk.text.endswith("\n")
        if is_whole and time.monotonic() - self._sent_at >= SEND_EVERY_S:
            self._flush()
        elif len(self._pending) == 1:
            os.write(self._wake, b"w")

    def _flush(self) -> None:
        if self._pending:
            pending, self._pending = self._pending, []
            self._sent_at = time.monotonic()
            self._send([_public(chunk, self._secrets) for chunk in join_chunks(pending)])

    def _drain(self) -> None:
        """Take what lies in the pipes; the caller holds the lock."""
        for descriptor, _ in self._poll.poll(0):
            self._take(descriptor)

    def _take(self, descriptor: int) -> None:
        stream, decoder = self._pipes[descriptor]
        while True:
            try:
                data = os.read(descriptor, PIECE)
            except BlockingIOError:
                return
            if not data:
                return
            if text := decoder.decode(data):
                self._add(ShownChunk(stream, text))
            if len(data) < PIECE:
                return

    def _redirect(self) -> None:
        """Put pipes behind descriptors 1 and 2, and a thread that keeps them from filling up."""
        for stream, target in (("stdout", 1), ("stderr", 2)):
            read_end, write_end = os.pipe()
            os.dup2(write_end, target, inheritable=True)
            os.close(write_end)
            os.set_blocking(read_end, False)
            self._pipes[read_end] = (stream, _decoder())
            self._poll.register(read_end, select.POLLIN)
        wake_read, self._wake = os.pipe()
        sys.stdout = sys.__stdout__ = TaskStream(self, "stdout", 1)  # type: ignore
        sys.stderr = sys.__stderr__ = TaskStream(self, "stderr", 2)  # type: ignore
        threading.Thread(
            target=self._watch, args=(wake_read,), name="nbcache-capture", daemon=True
        ).start()

    def _watch(self, wake: int) -> None:
        poll = select.poll()
        for descriptor in (*self._pipes, wake):
            poll.register(descriptor, select.POLLIN)
        due: float | None = None
        while True:
            left = None if due is None else max(0.0, due - time.monotonic()) * 1000
            ready = [descriptor for descriptor, _ in poll.poll(left)]
            if wake in ready:
                os.read(wake, 1024)
                due = due or time.monotonic() + SEND_EVERY_S
            with self._lock:
                self._drain()
                if due is not None and time.monotonic() >= due:
                    due = None
                    self._flush()


def _decoder() -> codecs.IncrementalDecoder:
    return codecs.getincrementaldecoder("utf-8")(errors="replace")


def _flush_c_streams() -> None:
    """Make C code's printf buffers come out (libc keeps its own)."""
    libc = _libc()
    if libc is not None:
        libc.fflush(None)


_loaded: list[Any] = []


def _libc() -> Any:
    if not _loaded:
        try:
            import ctypes

            _loaded.append(ctypes.CDLL(None))
        except (ImportError, OSError):
            _loaded.append(None)
    return _loaded[0]


class TaskStream(io.TextIOBase):
    """`sys.stdout` or `sys.stderr` of a worker: lives as long as it, so that a logging handler
    made in one task is not broken in the next."""

    def __init__(self, capture: Capture, stream: str, descriptor: int) -> None:
        self._capture, self._stream, self._descriptor = capture, stream, descriptor
        self._bytes = _decoder()

    encoding = "utf-8"
    errors = "replace"

    @property
    def name(self) -> str:
        return f"<{self._stream}>"

    @property
    def buffer(self) -> _BytesSide:
        return _BytesSide(self)

    def write(self, text: str) -> int:
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        if text:
            self._capture.add(ShownChunk(self._stream, text))
        return len(text)

    def write_bytes(self, data: bytes) -> int:
        self.write(self._bytes.decode(data))
        return len(data)

    def flush(self) -> None:
        self._capture.flush()

    def fileno(self) -> int:
        return self._descriptor

    def writable(self) -> bool:
        return True

    def close(self) -> None:
        """Stay open: the next task writes here too."""


class _BytesSide(io.RawIOBase):
    def __init__(self, stream: TaskStream) -> None:
        self._stream = stream

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        return self._stream.write_bytes(bytes(data))

    def fileno(self) -> int:
        return self._stream.fileno()

"""The kernel's end of the socket to a worker, on an event loop: frames out, messages in.

Knows nothing of what the messages mean.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterator
from typing import Any

from nbcache.engine.executors.protocol import FrameReader
from nbcache.store.files import close_in_children

READ_SIZE = 1 << 16  # beyond 128 kB the memory would be asked of the system at each call

Message = tuple[Any, ...]


class Link:
    """One socket. Nothing is sent or taken before `open`."""

    def __init__(self, end: socket.socket) -> None:
        end.setblocking(False)
        self._end = end
        close_in_children(self)
        self._reader = FrameReader()
        self._out = bytearray()
        self._loop: asyncio.AbstractEventLoop | None = None

    def open(
        self,
        loop: asyncio.AbstractEventLoop,
        take: Callable[[Message], None],
        ended: Callable[[], None],
    ) -> None:
        """Call `take` with each message that comes, and `ended` once when no more can come."""
        self._loop, self._take, self._ended = loop, take, ended
        loop.add_reader(self._end, self._readable)

    def send(self, data: bytes) -> None:
        """Send at the end of this turn of the loop, so that several frames go in one call."""
        assert self._loop is not None
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out += data

    def rest(self) -> Iterator[Message]:
        """Yield what a worker that is dead still said."""
        while True:
            try:
                data = self._end.recv(READ_SIZE)
            except OSError:  # nothing is left, or it has been closed
                return
            if not data:
                return
            yield from self._reader.feed(data)

    def close(self) -> None:
        """Close the socket: its end ends an idle worker."""
        if self._loop is not None:
            self._loop.remove_reader(self._end)
            self._loop.remove_writer(self._end)
        self._end.close()

    def close_in_child(self) -> None:
        """Let go of the socket in a forked child, and of nothing that the parent watches."""
        self._end.close()

    def _readable(self) -> None:
        try:
            data = self._end.recv(READ_SIZE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            assert self._loop is not None
            self._loop.remove_reader(self._end)
            self._ended()
            return
        for message in self._reader.feed(data):
            self._take(message)

    def _flush(self) -> None:
        assert self._loop is not None
        if self._end.fileno() >= 0 and self._out and not self._sent():
            self._loop.add_writer(self._end, self._writable)

    def _writable(self) -> None:
        assert self._loop is not None
        if self._sent():
            self._loop.remove_writer(self._end)

    def _sent(self) -> bool:
        """Send what the socket takes; says whether that was all."""
        try:
            del self._out[: self._end.send(self._out)]
        except BlockingIOError:
            pass
        except OSError:
            self._out.clear()  # the worker has died: the supervisor says so
        return not self._out

"""What every executor promises, and the frames in which the local one talks to its workers.

A frame is 4 bytes of length (little-endian) and a pickle of a tuple whose first member names it.
"""

from __future__ import annotations

import pickle
import struct
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from nbcache.engine.spec import AttemptReport, AttemptSpec, ProcessSpec
from nbcache.model.view import ShownChunk

if TYPE_CHECKING:
    import asyncio

Started = Callable[[], None]
ShownCallback = Callable[[list[ShownChunk]], None]


class Executor(Protocol):
    """Where attempts run. Used from one event loop; every call returns at once.

    Promises: an attempt that was submitted ends in exactly one report (or the future is
    cancelled by `close`); what the attempt made is in the store and its row in the log before the
    future is done; a worker's death fails one attempt; when a future is done, no process of its
    attempt is alive.
    """

    async def start(self) -> None:
        """Get ready; may be called again after `close`."""

    def prepare(self, process: ProcessSpec) -> None:
        """Take what the attempts of a process share; must come before its first attempt."""

    def forget(self, key: str) -> None:
        """Let go of a process when its run has ended: its captured data is freed."""

    def submit(
        self,
        spec: AttemptSpec,
        *,
        started: Started | None = None,
        shown: ShownCallback | None = None,
    ) -> asyncio.Future[AttemptReport]:
        """Queue an attempt; `started` and `shown` are called on the loop's thread."""
        ...

    def kill(self, attempt: str, reason: str) -> None:
        """End an attempt; its report says aborted. One that has ended already is not disturbed."""

    def rotate(self) -> None:
        """Let idle workers close their journals, so that these can be folded."""

    async def close(self) -> None:
        """End all workers: attempts that were running are cancelled."""


_LENGTH = struct.Struct("<I")


def encode_frame(message: Sequence[Any]) -> bytes:
    """Return a message as a frame."""
    data = pickle.dumps(tuple(message), protocol=5)
    return _LENGTH.pack(len(data)) + data


class FrameReader:
    """Cuts a stream of bytes into messages."""

    def __init__(self) -> None:
        self._data = bytearray()

    def feed(self, data: bytes) -> Iterator[tuple[Any, ...]]:
        """Yield the messages that are whole now."""
        self._data += data
        start = 0
        while len(self._data) - start >= 4:
            (size,) = _LENGTH.unpack_from(self._data, start)
            if len(self._data) - start - 4 < size:
                break
            with memoryview(self._data) as view:
                message = pickle.loads(view[start + 4 : start + 4 + size])
            start += 4 + size
            yield message
        if start:
            del self._data[:start]


def read_frame(file: Any) -> tuple[Any, ...] | None:
    """Return the next message of a blocking binary file; None at its end."""
    head = file.read(4)
    if len(head) < 4:
        return None
    data = file.read(_LENGTH.unpack(head)[0])
    message: tuple[Any, ...] = pickle.loads(data)
    return message

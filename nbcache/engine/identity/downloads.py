"""Downloads of one run: several at once, each file once; they tell how far they are, and can end.

One in progress ends where its file system next reports bytes, so that neither a cancelled run nor
the end of a kernel waits for the rest of a large file.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol, Self

from nbcache.errors import ChannelError
from nbcache.model.value import RemoteFile, Stored

AT_ONCE = 4  # files: more would share the same line, and open more connections than servers like
TOLD_EVERY_S = 0.3

Tell = Callable[[str, str | None], None]
"""Called with a file and how far it is, None: it is here, or never will be."""


class Callback(Protocol):
    """What a file system tells while it reads (fsspec's)."""

    def set_size(self, size: int | None) -> None: ...
    def relative_update(self, inc: int = 1) -> None: ...


class Downloads:
    """Calls `fetch` for files, on threads of its own. Thread-safe."""

    def __init__(self, fetch: Callable[[RemoteFile, Callback], Stored]) -> None:
        self._fetch = fetch
        self._begun: dict[str, Future[Stored]] = {}
        self._lock = threading.Lock()
        self._pool: ThreadPoolExecutor | None = None
        self._ended = False
        self._tell: Tell | None = None

    def told_to(self, tell: Tell) -> None:
        """Say to whom progress is told, one call at a time."""
        self._tell = tell

    def begin(self, file: RemoteFile, *, again: bool = False) -> Future[Stored]:
        """Fetch a file, unless that was begun before; `again`: also then, if that has ended.

        Raises:
            ChannelError: nothing is fetched any more.
        """
        with self._lock:
            known = self._begun.get(file.url)
            if known is None or (again and known.done()):
                self.check(file)
                if self._pool is None:
                    self._pool = ThreadPoolExecutor(AT_ONCE, "nbcache-download")
                known = self._begun[file.url] = self._pool.submit(self._one, file)
            return known

    def end(self) -> None:
        """Break off what is under way, and begin nothing more; nobody waits."""
        with self._lock:
            self._ended = True
            if self._pool is not None:
                self._pool.shutdown(wait=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:  # an interrupt: nobody asks for the rest
            self.end()

    def _one(self, file: RemoteFile) -> Stored:
        try:
            self.check(file)
            return self._fetch(file, _callback(self, file))
        finally:
            self.say(file, None)

    def check(self, file: RemoteFile) -> None:
        """Raise ChannelError if nobody wants the file any more."""
        if self._ended:
            raise ChannelError(f"{file.place} was not fetched: the run was cancelled")

    def say(self, file: RemoteFile, text: str | None) -> None:
        """Tell how far a file is."""
        with self._lock:
            if self._tell is not None and not self._ended:
                self._tell(file.place, text)


def _callback(downloads: Downloads, file: RemoteFile) -> Callback:
    from fsspec.callbacks import Callback as Base

    class Progress(Base):  # type: ignore[misc]  # a library without types
        """Tells the bytes so far now and then; raises where the download is to end."""

        def __init__(self) -> None:
            super().__init__()
            self._said = time.monotonic()

        def call(self, *args: Any, **kwargs: Any) -> None:
            downloads.check(file)
            if time.monotonic() - self._said >= TOLD_EVERY_S:
                self._said = time.monotonic()
                whole = f" of {self.size / 1e6:,.0f}" if self.size else ""
                downloads.say(file, f"{self.value / 1e6:,.0f}{whole} MB")

    return Progress()

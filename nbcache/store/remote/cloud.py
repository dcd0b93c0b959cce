"""A store in a bucket: what is the same for every cloud and client.

Deadlines, errors, prefixes, counting, parallel ranges. What differs is in a `Driver`.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import time
import weakref
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from nbcache.errors import (
    AccessDeniedError,
    ObjectMissingError,
    RemoteStoreError,
    StoreError,
    StoreForkedError,
    StoreGoneError,
    StoreUnavailableError,
)
from nbcache.store.files import new_ulid
from nbcache.store.remote.driver import PART_BYTES, PARTS_AT_ONCE, Driver, repeated
from nbcache.store.remote.loop import end_loop, start, wait_for
from nbcache.store.remote.protocol import (
    LOOKUP_S,
    SLOWEST_BYTES_PER_S,
    Entry,
    OnBytes,
    OnRequest,
    check_key,
    check_prefix,
)

T = TypeVar("T")

_CONNECT_S = 20.0  # once: credentials may come from a metadata server or another program
_CONNECT_AGAIN_S = 60.0  # after a failure nobody waits for it again for so long
_KEYS_PER_DELETE = 1000
RENEW_S = 30.0  # after a refusal; then credentials are looked for anew
_REST_S = 120.0  # for what is under way with a client that was replaced
_FIRST_BYTES = 256 << 10  # of an object of unknown size: little, so that silence is noticed soon
_CLOCKS = "clocks/"
_NEEDS_NO_OBJECT = ("write", "create", "list")  # what is missing then is the bucket

_open: weakref.WeakSet[CloudStore] = weakref.WeakSet()


class CloudStore:
    """Objects below a prefix of a bucket or container. Thread-safe."""

    atomic_create = True

    def __init__(
        self,
        url: str,
        make_driver: Callable[[], Driver],
        prefix: str = "",
        *,
        lookup_s: float = LOOKUP_S,
        on_request: OnRequest | None = None,
    ) -> None:
        self.url, self._make_driver, self._prefix = url, make_driver, prefix
        self._driver = make_driver()
        self._lookup_s = lookup_s
        self.backend = self._driver.backend
        self._count = on_request or (lambda doing, key: None)
        self._process = os.getpid()
        self._connected = False
        self._connecting: asyncio.Lock | None = None
        self._refused: tuple[float, Exception] | None = None  # when connecting failed, and why
        self._denied_at: float | None = None  # when the store first refused these credentials
        self._resting: list[Driver] = []  # that were replaced, and may have something under way
        _open.add(self)
        self._forgotten: weakref.finalize[..., object] | None = None

    # ------------------------------------------------------------------ small objects

    def put(self, key: str, data: bytes) -> None:
        name = self._name(key)
        self._count("put", key)
        self._ask("write", key, lambda: self._driver.put(name, data), self._time_for(len(data)))

    def put_if_absent(self, key: str, data: bytes) -> bool:
        name = self._name(key)
        self._count("create", key)
        try:
            self._ask(
                "create",
                key,
                lambda: self._driver.put(name, data, if_absent=True),
                self._time_for(len(data)),
            )
        except FileExistsError:
            return False
        return True

    def get(self, key: str, start: int = 0, end: int | None = None) -> bytes:
        name = self._name(key)
        if end is not None and end <= start:
            return b""
        self._count("get", key)
        limit = self._lookup_s if end is None else self._time_for(end - start)
        return self._ask("read", key, lambda: self._driver.get(name, start, end), limit)

    def head(self, key: str) -> Entry:
        name = self._name(key)
        self._count("head", key)
        return self._own(self._ask("look at", key, lambda: self._driver.head(name), self._lookup_s))

    # ------------------------------------------------------------------ large objects

    def put_file(self, key: str, path: Path) -> None:
        name = self._name(key)
        size = os.stat(path).st_size
        if size <= PART_BYTES:
            return self.put(key, path.read_bytes())
        self._count("put", key)
        return self._run(
            "write", key, lambda: self._driver.put_file(name, path, size), self._time_for(size)
        )

    def get_file(
        self, key: str, path: Path, size: int | None = None, on_bytes: OnBytes | None = None
    ) -> int:
        name, first = self._name(key), b""
        with open(path, "wb", buffering=0) as file:
            if size is None:  # most objects are small: one request, and not two
                first = self.get(key, 0, _FIRST_BYTES)
                file.write(first)
                if on_bytes is not None:
                    on_bytes(len(first))
                size = len(first) if len(first) < _FIRST_BYTES else self.head(key).size
            starts = range(len(first), size, PART_BYTES)
            for _ in starts:
                self._count("get", key)
            self._run(
                "read",
                key,
                lambda: self._fetch(name, file.fileno(), starts, size, on_bytes),
                self._time_for(size),
            )
        return size

    async def _fetch(
        self, name: str, file: int, starts: Sequence[int], size: int, on_bytes: OnBytes | None
    ) -> None:
        room = asyncio.Semaphore(PARTS_AT_ONCE)

        async def fetch(start: int) -> None:
            end = min(start + PART_BYTES, size)
            async with room:
                data = await repeated(self._driver, lambda: self._driver.get(name, start, end))
                if len(data) != end - start:
                    raise EOFError(f"it ends after {start + len(data)} bytes of {size}")
                await asyncio.to_thread(os.pwrite, file, data, start)
                if on_bytes is not None:
                    on_bytes(len(data))

        async with asyncio.TaskGroup() as group:
            for start in starts:
                group.create_task(fetch(start))

    # ------------------------------------------------------------------ many objects

    def list(self, prefix: str = "", start_after: str = "") -> Iterator[Entry]:
        check_prefix(prefix)
        after = self._prefix + start_after if start_after else ""
        pages = self._driver.pages(self._prefix + prefix, after)
        while True:
            page = self._run("list", prefix, lambda: anext(pages, None), self._lookup_s)
            if page is None:
                return
            self._count("list", prefix)
            for each in page:
                entry = self._own(each)
                if entry.key and entry.key.encode("utf-8") > start_after.encode("utf-8"):
                    yield entry

    def delete(self, keys: Iterable[str]) -> None:
        names = iter([self._name(key) for key in keys])
        while batch := list(islice(names, _KEYS_PER_DELETE)):
            key = batch[0].removeprefix(self._prefix)
            self._count("delete", key)
            self._ask("delete", key, lambda: self._driver.delete(batch), 10 * self._lookup_s)

    def unfinished(self) -> Iterator[Entry]:
        self._count("list", "")
        found = self._run(
            "list", "", lambda: self._driver.uploads(self._prefix), 10 * self._lookup_s
        )
        return map(self._own, found)

    def give_up(self, uploads: Iterable[Entry]) -> None:
        for each in uploads:
            self._count("delete", each.key)
            whole = replace(each, key=self._prefix + each.key)
            with contextlib.suppress(ObjectMissingError):
                self._ask(
                    "delete",
                    each.key,
                    lambda whole=whole: self._driver.end_upload(whole),  # type: ignore[misc]
                    self._lookup_s,
                )

    def server_time(self) -> int:
        key = f"{_CLOCKS}{new_ulid()}"
        self.put(key, b"")
        try:
            return self.head(key).modified_us
        finally:
            with contextlib.suppress(AccessDeniedError):  # a clean-up takes it
                self.delete([key])

    def close(self) -> None:
        if self._connected and self._process == os.getpid():
            self._connected = False
            if self._forgotten is not None:
                self._forgotten.detach()
            wait_for(self._driver.close, self._lookup_s)
            wait_for(self._close_resting, self._lookup_s)

    # ------------------------------------------------------------------ inside

    def _name(self, key: str) -> str:
        return self._prefix + check_key(key)

    def _time_for(self, size: int) -> float:
        """Return the seconds that a request may take which carries `size` bytes."""
        return self._lookup_s + size / SLOWEST_BYTES_PER_S

    def _own(self, entry: Entry) -> Entry:
        key = entry.key.removeprefix(self._prefix)
        return Entry(key, entry.size, entry.version, entry.modified_us)

    def _ask(
        self, doing: str, key: str, make: Callable[[], Coroutine[Any, Any, T]], limit_s: float
    ) -> T:
        """Perform one request, repeated where the fault may pass."""
        return self._run(doing, key, lambda: repeated(self._driver, make), limit_s)

    def _run(
        self, doing: str, key: str, make: Callable[[], Coroutine[Any, Any, T]], limit_s: float
    ) -> T:
        """Perform requests within a time; explain what goes wrong."""
        if self._process != os.getpid():
            raise StoreForkedError(self.url, doing, key, "it was opened before a fork")
        begin = time.monotonic()
        try:
            if not self._connected:
                self._connect_within(_CONNECT_S)
            elif self._denied_at is not None and begin - self._denied_at >= RENEW_S:
                self._connect_within(_CONNECT_S)  # those that had expired may have been renewed
            return wait_for(make, limit_s)
        except (StoreError, FileExistsError):
            raise
        except Exception as error:
            took = time.monotonic() - begin
            explained = self._explain(error, doing, key, took)
            if isinstance(explained, AccessDeniedError) and self._denied_at is None:
                self._denied_at = time.monotonic()
            raise explained from error

    def _connect_within(self, limit_s: float) -> None:
        """Find credentials and connect; what took long and failed fails again at once."""
        if self._refused is not None and time.monotonic() - self._refused[0] < _CONNECT_AGAIN_S:
            raise self._refused[1].with_traceback(None)
        begin = time.monotonic()
        try:
            wait_for(self._connect, limit_s)
        except Exception as error:
            if isinstance(error, TimeoutError):
                error = _NotConnected(
                    f"no connection in {limit_s:.0f} seconds: no credentials are found, or what "
                    "gives them does not answer"
                )
            if time.monotonic() - begin > self._lookup_s:
                self._refused = time.monotonic(), error
            raise error from None

    async def _connect(self) -> None:
        if self._connecting is None:
            self._connecting = asyncio.Lock()
        async with self._connecting:
            if self._connected:
                if self._denied_at is None:
                    return  # somebody else has just done it
                try:
                    await self._replace_driver()
                except BaseException:
                    self._denied_at = time.monotonic()  # there are none: not again at once
                    raise
                self._denied_at = None  # not before: others would go on with the old ones
            else:
                await self._driver.connect()
            # The driver outlives the store by the moment that it takes to close it.
            self._forgotten = weakref.finalize(self, _let_go, self._driver, self._process)
            self._forgotten.atexit = False
            self._connected = True

    async def _replace_driver(self) -> None:
        """Have another client, which looks for credentials anew; the old one ends what it does."""
        new = self._make_driver()
        await new.connect()
        old, self._driver = self._driver, new
        if self._forgotten is not None:
            self._forgotten.detach()
        self._resting.append(old)
        asyncio.get_running_loop().call_later(_REST_S, start, self._close_resting)

    async def _close_resting(self) -> None:
        while self._resting:
            await self._resting.pop().close()

    def _explain(self, error: BaseException, doing: str, key: str, took: float) -> Exception:
        if isinstance(error, BaseExceptionGroup):
            return self._explain(error.exceptions[0], doing, key, took)
        if isinstance(error, StoreError):
            return error
        if isinstance(error, _NotConnected):
            return StoreUnavailableError(self.url, doing, key, str(error))
        known = self._driver.kind_of(error)
        if known is None and isinstance(error, TimeoutError):
            known = StoreUnavailableError, f"no answer in {took:.1f} seconds"
        if known is None and isinstance(error, FileNotFoundError):
            known = ObjectMissingError, "there is no such object"
        if known is None and isinstance(error, ConnectionError | EOFError):
            known = StoreUnavailableError, str(error)
        if known is None:
            known = RemoteStoreError, f"{type(error).__name__}: {error}"
        kind, reason = known
        if kind is ObjectMissingError and doing in _NEEDS_NO_OBJECT:
            kind = StoreGoneError
        if kind is FileExistsError:
            if doing == "create":
                return FileExistsError(key)
            kind = StoreUnavailableError  # two who wrote at once: it may be tried again
        assert issubclass(kind, RemoteStoreError)
        return kind(self.url, doing, key, reason)


class _NotConnected(Exception):
    """Whatever connecting takes did not come to an end."""


def _let_go(driver: Driver, process: int) -> None:
    """Close what belonged to a store that nobody holds any more, on whatever thread this is."""
    if process == os.getpid():
        start(driver.close)


def close_all() -> None:
    """Close the stores of this process that are still open; called at exit."""
    for store in list(_open):
        with contextlib.suppress(Exception):  # nothing is lost: all has been answered
            store.close()
    end_loop()


atexit.register(close_all)

"""What a cloud's client has to be able to do, so that `CloudStore` can make a store of it.

A driver is used on the store loop only. It translates nothing: its errors are explained by
`kind_of`, in the words of the clients that it is built on.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

from nbcache.errors import (
    AccessDeniedError,
    ObjectMissingError,
    RemoteStoreError,
    StoreThrottledError,
    StoreUnavailableError,
)
from nbcache.store.remote.protocol import Entry

PART_BYTES = 8 << 20
"""Bytes of one request of a large transfer."""
PARTS_AT_ONCE = 8
CONNECT_S, SILENCE_S = 3, 30
"""Seconds after which a connection, or a server that says nothing, is given up."""
FRESH = {"skip_instance_cache": True, "use_listings_cache": False}
"""How a file system of fsspec is made: it is one store's, and others write there too."""
PAGE_KEYS = 1000
"""Keys of one page of a listing, where the client lets us choose."""
_DELETES_AT_ONCE = 16
_MOST_PARTS = 9000  # S3 takes 10,000

T = TypeVar("T")

ErrorKind = type[RemoteStoreError] | type[FileExistsError]

_STATUS: dict[int, ErrorKind] = {
    401: AccessDeniedError,
    403: AccessDeniedError,
    404: ObjectMissingError,
    408: StoreUnavailableError,
    409: FileExistsError,
    412: FileExistsError,
    429: StoreThrottledError,
    501: RemoteStoreError,  # a server that does not know what was asked will not learn it
    503: StoreThrottledError,
}


def kind_of_status(status: int) -> ErrorKind:
    """Say what a server means by the status of an answer, where it says nothing else."""
    return _STATUS.get(status, StoreUnavailableError if status >= 500 else RemoteStoreError)


class Driver(Protocol):
    """One bucket or container of one cloud, and a prefix in it. Keys are whole: prefix and all."""

    backend: str
    attempts: int  # how often a request is sent; 1 where the client itself repeats it

    async def connect(self) -> None:
        """Find credentials and make a client, on this loop."""

    async def put(self, key: str, data: bytes, *, if_absent: bool = False) -> None:
        """Write an object in one request; `if_absent` by the server's precondition."""

    async def get(self, key: str, start: int, end: int | None) -> bytes:
        """Read [start, end) in one request; `start` < `end`."""
        ...

    async def head(self, key: str) -> Entry: ...

    async def put_file(self, key: str, path: Path, size: int) -> None:
        """Write an object from a file of more than PART_BYTES."""

    def pages(self, prefix: str, start_after: str) -> AsyncIterator[list[Entry]]:
        """Yield page by page what begins with a prefix, in the order of the keys' bytes."""
        ...

    async def delete(self, keys: Sequence[str]) -> None:
        """Delete up to 1000 objects; missing ones are no error."""

    async def uploads(self, prefix: str) -> list[Entry]:
        """Return the uploads that nobody has finished, as `Store.unfinished` has them."""
        ...

    async def end_upload(self, upload: Entry) -> None:
        """Have the server forget an upload, and what came of it."""

    def kind_of(self, error: BaseException) -> tuple[ErrorKind, str] | None:
        """Say what an error of the client means, and its reason; None: nothing that is known."""

    async def close(self) -> None: ...


async def repeated(driver: Driver, send: Callable[[], Awaitable[T]]) -> T:
    """Send a request, and again after a fault that passes; the caller's deadline ends it."""
    for attempt in range(driver.attempts - 1):
        try:
            return await send()
        except Exception as error:
            if not passes(driver, error):
                raise
        await asyncio.sleep(random.uniform(0.5, 1) * 0.1 * 4**attempt)
    return await send()


def passes(driver: Driver, error: Exception) -> bool:
    """Whether an error is one that may be gone a moment later."""
    known = driver.kind_of(error)
    return known is not None and issubclass(known[0], StoreUnavailableError)


async def delete_each(
    driver: Driver, keys: Sequence[str], delete: Callable[[str], Awaitable[object]]
) -> None:
    """Delete objects one by one, some at once, where a server takes no list of them."""
    room = asyncio.Semaphore(_DELETES_AT_ONCE)

    async def one(key: str) -> None:
        async with room:
            try:
                await repeated(driver, lambda: delete(key))
            except Exception as error:
                known = driver.kind_of(error)
                if known is None or known[0] is not ObjectMissingError:
                    raise

    async with asyncio.TaskGroup() as group:
        for key in keys:
            group.create_task(one(key))


async def send_parts(
    driver: Driver, path: Path, size: int, send: Callable[[int, bytes], Awaitable[T]]
) -> list[T]:
    """Send a file part by part, some at once, each again where a fault passes; what each gave."""
    part_bytes = part_size(size)
    room = asyncio.Semaphore(PARTS_AT_ONCE)

    async def one(number: int) -> T:
        async with room:
            data = await asyncio.to_thread(read_part, path, number * part_bytes, part_bytes)
            return await repeated(driver, lambda: send(number, data))

    async with asyncio.TaskGroup() as group:
        sent = [group.create_task(one(number)) for number in range(-(-size // part_bytes))]
    return [each.result() for each in sent]


def part_size(size: int) -> int:
    """Return the bytes of each part of a file, so that there are never too many."""
    return max(PART_BYTES, -(-size // _MOST_PARTS))


def read_part(path: Path, start: int, size: int = PART_BYTES) -> bytes:
    """Return bytes of a file that is being sent."""
    with open(path, "rb") as file:
        file.seek(start)
        return file.read(size)

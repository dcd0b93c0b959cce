"""What every store of objects promises: a flat map from keys to immutable bytes.

The promises are examined by tests/store/conformance, which every back end passes. A store has
blocking methods that any thread may call: the driver's loop, workers and the shell use the same
one, and whoever has a loop of his own calls it in a thread. It belongs to the process that opened
it (connections do not survive a fork) and keeps its own loop, if it needs one, to itself.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from nbcache.errors import ObjectMissingError, StoreError, StoreUnavailableError

LOOKUP_S = 3.0
"""Seconds after which a small request has failed, unless the store was opened with another
`lookup_s`: a look-up that takes longer is no help."""
SLOWEST_BYTES_PER_S = 200_000
"""Bytes per second that a transfer is given time for, on top of LOOKUP_S."""
TEMPORARY = "tmp/"
"""No object has a key below it: in a folder, files that are being written lie there."""
_MOST_KEY_BYTES = 800  # S3, GCS and Azure take 1024, a bucket's prefix included
_MOST_SEGMENT_BYTES = 255  # what file systems take

OnRequest = Callable[[str, str], None]
"""Told of each request: what is done ("get", "put", "create", "list", ...), with what key."""


OnBytes = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Entry:
    """An object as the server knows it."""

    key: str
    size: int  # bytes
    version: str  # ETag or generation: differs when the bytes do; "" where there is none
    modified_us: int  # by the server's clock, microseconds since 1970; many give whole seconds


class Store(Protocol):
    """A flat map from keys to immutable objects.

    Promises: a reader sees all of an object or none; whoever has returned from a write or a
    listing is seen by all that begin later, from any machine; of any number that create one key
    at once exactly one is told that it did, where `atomic_create` is True. A call takes at most
    `LOOKUP_S`, and the time for its bytes at SLOWEST_BYTES_PER_S, plus once the time to find
    credentials. No method checks what the bytes are: callers know the digest.

    Raises, from every method: `AccessDeniedError`, `StoreThrottledError`, `StoreUnavailableError`,
    `StoreGoneError`, or else `RemoteStoreError`; `ValueError` for what is no key.
    """

    url: str  # as people write it; holds no secret
    backend: str  # what is behind it, for people: "s3 through obstore"
    atomic_create: bool  # by what the store is; `probing` measures it

    def put(self, key: str, data: bytes) -> None:
        """Keep bytes under a key, in place of what was there."""

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """Keep bytes under a key that is free; False: it seems to be taken.

        A client that repeats a request whose reply was lost meets its own object: whoever needs
        to know whose it is uses `create_owned`.
        """
        ...

    def get(self, key: str, start: int = 0, end: int | None = None) -> bytes:
        """Return the bytes [start, end) of an object, fewer where it ends before; one request.

        Without `end` it must be small: what does not come in LOOKUP_S is unavailable.

        Raises:
            ObjectMissingError.
        """
        ...

    def head(self, key: str) -> Entry:
        """Return size, version and time of an object; one request.

        Raises:
            ObjectMissingError: also where the bucket itself is gone.
        """
        ...

    def put_file(self, key: str, path: Path) -> None:
        """Keep a file's bytes, of any size, in place of what was there; streamed."""

    def get_file(
        self, key: str, path: Path, size: int | None = None, on_bytes: OnBytes | None = None
    ) -> int:
        """Write an object to `path` (replaced; may be cut after an error); return its bytes.

        Ranges are fetched in parallel. `size`, if known, saves a request. `on_bytes` is told how
        many have come, as they come; a StoreError that it raises ends the transfer.

        Raises:
            ObjectMissingError.
        """
        ...

    def list(self, prefix: str = "", start_after: str = "") -> Iterator[Entry]:
        """Yield the objects whose keys begin with `prefix` and come after `start_after`.

        In the order of the keys' bytes. `prefix` is "" or ends with "/". One request for each
        thousand or so, made as they are asked for.
        """
        ...

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects; those that are not there are no error."""

    def unfinished(self) -> Iterator[Entry]:
        """Yield what of large objects somebody has begun to send and not finished: no objects yet.

        `version` names the upload, `modified_us` is when it began; `size` may be 0, and `key` ""
        where it is not known. None where the server clears these away by itself.
        """
        ...

    def give_up(self, uploads: Iterable[Entry]) -> None:
        """End uploads for good; those that are finished or ended are no error."""

    def server_time(self) -> int:
        """Return the server's time in microseconds since 1970, by writing a small object."""
        ...

    def close(self) -> None:
        """Let go of all connections; twice is harmless."""


def check_key(key: str) -> str:
    """Return a key that every back end can hold under this very name.

    Raises:
        ValueError: it is empty, absolute, too long, no UTF-8, or has segments such as "..".
    """
    try:
        size = len(key.encode("utf-8"))
    except UnicodeEncodeError:
        raise ValueError(f"{key!r} is no key: it cannot be written as UTF-8") from None
    if not 0 < size <= _MOST_KEY_BYTES:
        raise ValueError(f"{key[:80]!r} is no key: it has {size} bytes, not 1 to {_MOST_KEY_BYTES}")
    if key.startswith(TEMPORARY):
        raise ValueError(f"{key!r} is no key: {TEMPORARY} is for files being written")
    if "\\" in key or any(ord(each) < 32 or ord(each) == 127 for each in key):
        raise ValueError(f"{key!r} is no key: it has a backslash or a control character")
    for segment in key.split("/"):
        if not segment or segment.endswith("."):
            raise ValueError(f"{key!r} is no key: a segment is empty or ends with a dot")
        if len(segment.encode("utf-8")) > _MOST_SEGMENT_BYTES:
            raise ValueError(f"{key!r} is no key: a segment has over {_MOST_SEGMENT_BYTES} bytes")
    return key


def check_prefix(prefix: str) -> str:
    """Return a prefix that can be listed: "" or a key and "/"; ValueError else."""
    if prefix:
        if not prefix.endswith("/"):
            raise ValueError(f"{prefix!r} is no prefix: it does not end with '/'")
        check_key(prefix[:-1])
    return prefix


def parsed(data: bytes) -> Any:
    """Return what an object says in JSON, whoever wrote it; ValueError: it says nothing."""
    try:
        return json.loads(data)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def create_owned(store: Store, key: str, data: bytes) -> bytes | None:
    """Create an object that nobody else would write byte for byte (it holds a nonce).

    Returns None if it is ours, also where the reply was lost and the create repeated; else the
    bytes of whoever was first. Thus "exists" is never believed unread.

    Raises:
        StoreUnavailableError: it cannot be told whether it was created.
    """
    failure: StoreError | None = None
    try:
        if store.put_if_absent(key, data) and store.atomic_create:
            return None
    except StoreUnavailableError as error:
        failure = error  # it may have been committed all the same
    try:
        found = store.get(key)
    except ObjectMissingError:
        if failure is not None:
            raise failure from None
        raise StoreUnavailableError(
            store.url, "create", key, "it was there a moment ago, and is gone"
        ) from None
    return None if found == data else found

"""From a URL to a store: which client talks to which cloud.

`obstore` is taken where it is installed (one native library, many requests in flight), else the
fsspec client of the cloud; all pass the same examination. For GCS it is the other way round, since
obstore speaks its XML interface, and that was examined only on an S3 server that takes its headers.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal
from urllib.parse import unquote, urlsplit

from nbcache.errors import (
    AccessDeniedError,
    CacheFormatError,
    CannotOpenStoreError,
    ObjectMissingError,
    command,
)
from nbcache.store.remote.azure import AzureDriver
from nbcache.store.remote.cloud import CloudStore
from nbcache.store.remote.driver import Driver
from nbcache.store.remote.folder import FolderStore
from nbcache.store.remote.gcs import GcsDriver
from nbcache.store.remote.layout import HEADER
from nbcache.store.remote.memory import MemoryStore
from nbcache.store.remote.native import ObstoreDriver, was_used_before_fork
from nbcache.store.remote.protocol import LOOKUP_S, OnRequest, Store, check_prefix
from nbcache.store.remote.s3 import S3Driver

Backend = Literal["auto", "fsspec", "obstore"]


def open_store(
    url: str | os.PathLike[str],
    *,
    backend: Backend = "auto",
    endpoint: str | None = None,
    lookup_s: float = LOOKUP_S,
    on_request: OnRequest | None = None,
) -> Store:
    """Return the store behind a URL or a folder's path; sends no request yet.

    `s3://bucket/prefix`, `gs://bucket/prefix`, `az://container/prefix`, `file:///folder`, `memory://`.
    `endpoint` is the URL of a server other than the cloud's own. Credentials come from where the
    cloud's own tools find them, so that no notebook holds one. `lookup_s` is the time that a small
    request may take.

    Raises:
        CannotOpenStoreError: the URL is none of these, holds a secret, or its client is missing.
    """
    text = os.fspath(url)
    shown = _without_secret(text)
    try:
        parts = urlsplit(text)
    except ValueError as error:
        raise CannotOpenStoreError(shown, "open it", "", str(error)) from None
    if "://" not in text or parts.scheme == "file":
        if parts.scheme == "file" and parts.netloc not in ("", "localhost"):
            raise CannotOpenStoreError(shown, "open it", "", "a file URL names no host")
        folder = unquote(parts.path) if parts.scheme == "file" else text
        return FolderStore(
            os.path.expanduser(folder),
            lookup_s=lookup_s,
            on_request=on_request,
        )
    if parts.scheme == "memory":
        return MemoryStore(text, on_request=on_request)
    cloud = _CLOUDS.get(parts.scheme)
    if cloud is None:
        reason = f"{parts.scheme}:// is no kind of store that nbcache knows"
        raise CannotOpenStoreError(shown, "open it", "", reason)
    if shown != text:
        reason = "credentials do not belong in a URL; set them in the environment"
        raise CannotOpenStoreError(shown, "open it", "", reason)
    bucket, prefix = _bucket_and_prefix(text)

    def driver() -> Driver:
        return _driver(text, cloud, backend, bucket, endpoint)

    return CloudStore(text.rstrip("/"), driver, prefix, lookup_s=lookup_s, on_request=on_request)


def check_outside(url: str) -> None:
    """See that a place lies in no other cache: a clean-up there would take this one's objects.

    Raises:
        CacheFormatError: it does. RemoteStoreError: a level above does not answer.
    """
    above = cache_around(url)
    if above is not None:
        raise CacheFormatError(
            f"{url} lies inside the cache at {above}.\n"
            f"  Use that one (`{command(f'share {above}')}`), or name a place beside it."
        )


def cache_around(url: str) -> str | None:
    """Return the nearest cache that a place lies in; None: in none that may be read.

    One request for each level above.

    Raises:
        RemoteStoreError: a level above does not answer.
    """
    for above in _above(url):
        with contextlib.closing(open_store(above)) as store:
            try:
                store.get(HEADER)
            except (ObjectMissingError, AccessDeniedError):
                continue
        return above
    return None


def _above(url: str) -> Iterator[str]:
    """Yield what lies above a place, up to the bucket or the root of the file system."""
    scheme, divider, place = url.partition("://")
    if not divider or scheme == "file":
        folder = Path(unquote(urlsplit(url).path) if divider else url)
        yield from (str(each) for each in folder.parents)
        return
    while "/" in (place := place.rstrip("/")):
        place = place.rpartition("/")[0]
        yield f"{scheme}://{place}"


def _without_secret(url: str) -> str:
    """Return a URL as it may be shown: as it is, or its scheme where credentials may be in it."""
    scheme, divider, place = url.partition("://")
    may_hold = re.search(r"^[^/]*[:@]|\?[^/]*=", place)
    return f"{scheme}://…" if divider and may_hold else url


def _bucket_and_prefix(url: str) -> tuple[str, str]:
    """Return the bucket and the prefix of a URL; the prefix is "" or ends with "/"."""
    place = url.partition("://")[2]
    bucket, _, path = place.partition("/")
    prefix = path.strip("/") + "/" if path.strip("/") else ""
    try:
        check_prefix(prefix)
    except ValueError as error:
        raise CannotOpenStoreError(url, "open it", "", str(error)) from None
    if not bucket:
        raise CannotOpenStoreError(url, "open it", "", "it names no bucket")
    return bucket, prefix


def _driver(url: str, cloud: str, backend: Backend, bucket: str, endpoint: str | None) -> Driver:
    library, fsspec_driver = _FSSPEC[cloud]
    if backend == "auto" and cloud == "gcs" and _is_installed(library):
        return fsspec_driver(bucket, endpoint)
    if backend != "fsspec" and _has_obstore() and not was_used_before_fork():
        return ObstoreDriver(cloud, bucket, endpoint)
    if backend != "obstore" and _is_installed(library):
        return fsspec_driver(bucket, endpoint)
    missing = "obstore" if backend == "obstore" else library
    raise CannotOpenStoreError(
        url, "open it", "", f"{missing} is not installed: pip install 'nbcache[{cloud}]'"
    )


def _is_installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def _has_obstore() -> bool:
    """Whether there is an obstore that keeps keys as they are."""
    if not _is_installed("obstore"):
        return False
    numbers = importlib.metadata.version("obstore").split(".")[:2]
    return tuple(map(int, numbers)) >= (0, 8)


_CLOUDS = {
    "s3": "s3",
    "gs": "gcs",
    "gcs": "gcs",
    "az": "azure",
    "abfs": "azure",
    "abfss": "azure",
}
_FSSPEC: dict[str, tuple[str, Callable[[str, str | None], Driver]]] = {
    "s3": ("s3fs", S3Driver),
    "gcs": ("gcsfs", GcsDriver),
    "azure": ("adlfs", AzureDriver),
}

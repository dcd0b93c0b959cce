"""Azure Blob Storage through adlfs: its credentials, and the client behind it."""

from __future__ import annotations

import base64
import inspect
import logging
import os
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from nbcache.errors import (
    AccessDeniedError,
    StoreGoneError,
    StoreThrottledError,
    StoreUnavailableError,
)
from nbcache.store.remote import driver
from nbcache.store.remote.driver import ErrorKind, delete_each, kind_of_status, repeated, send_parts
from nbcache.store.remote.protocol import Entry

CODES: dict[str, ErrorKind] = {
    "ContainerNotFound": StoreGoneError,
    "ContainerBeingDeleted": StoreGoneError,
    "ContainerDisabled": StoreGoneError,
    # Another has just sent this very object, and with that our parts were dropped.
    "InvalidBlockList": StoreThrottledError,
}
NO_ACCOUNT = "no account is named (AZURE_STORAGE_ACCOUNT_NAME, AZURE_STORAGE_CONNECTION_STRING)"
_ONCE = {"retry_total": 0}  # who repeats is the store, within its deadline


class AzureDriver:
    """One container, through azure-storage-blob."""

    backend = "azure through adlfs"
    attempts = 3

    def __init__(self, container: str, endpoint: str | None) -> None:
        self._name, self._endpoint = container, endpoint
        self._held: list[Any] = []  # what is to be closed
        self._container: Any = None

    async def connect(self) -> None:
        from adlfs import AzureBlobFileSystem

        say_nothing()
        system = AzureBlobFileSystem(
            **driver.FRESH, connection_string=connection_string(self._endpoint)
        )
        self._held = [system.service_client, system.credential]
        self._container = system.service_client.get_container_client(self._name)
        # It would close them when the interpreter ends, on a loop that they do not belong to.
        system.service_client, system.credential = _Closed(), None

    async def put(self, key: str, data: bytes, *, if_absent: bool = False) -> None:
        await self._container.upload_blob(
            key, data, length=len(data), overwrite=not if_absent, **_ONCE
        )

    async def get(self, key: str, start: int, end: int | None) -> bytes:
        from azure.core.exceptions import HttpResponseError

        wanted: dict[str, Any] = {}
        if start or end is not None:
            wanted["offset"] = start
        if end is not None:
            wanted["length"] = end - start
        try:
            found = await self._container.download_blob(key, **wanted, **_ONCE)
            data: bytes = await found.readall()
        except HttpResponseError as error:
            if error.status_code == 416:
                return b""  # there is an object, and it ends before
            raise
        return data

    async def head(self, key: str) -> Entry:
        return _entry(await self._container.get_blob_client(key).get_blob_properties(**_ONCE))

    async def put_file(self, key: str, path: Path, size: int) -> None:
        from azure.storage.blob import BlobBlock

        blob = self._container.get_blob_client(key)

        async def send(number: int, data: bytes) -> Any:
            name = base64.b64encode(b"%08d" % number).decode()
            await blob.stage_block(name, data, length=len(data), **_ONCE)
            return BlobBlock(block_id=name)

        blocks = await send_parts(self, path, size, send)
        await repeated(self, lambda: blob.commit_block_list(blocks, **_ONCE))

    async def pages(self, prefix: str, start_after: str) -> AsyncIterator[list[Entry]]:
        found = self._container.list_blobs(
            name_starts_with=prefix, results_per_page=driver.PAGE_KEYS, **_ONCE
        ).by_page()
        while (page := await repeated(self, lambda: anext(found, None))) is not None:
            yield [_entry(each) async for each in page]

    async def delete(self, keys: Sequence[str]) -> None:
        await delete_each(self, keys, lambda key: self._container.delete_blob(key, **_ONCE))

    async def uploads(self, prefix: str) -> list[Entry]:
        return []  # Azure drops blocks that were not committed after a week.

    async def end_upload(self, upload: Entry) -> None:
        """There are none."""

    def kind_of(self, error: BaseException) -> tuple[ErrorKind, str] | None:
        from azure.core.exceptions import AzureError, ClientAuthenticationError, HttpResponseError

        if isinstance(error, HttpResponseError) and error.status_code is not None:
            code = getattr(error, "error_code", None) or ""
            kind = CODES.get(code) or kind_of_status(error.status_code)
            reason = (error.message or error.reason or "").partition("\n")[0]
            return kind, f"{reason} ({code or error.status_code})"
        if isinstance(error, ClientAuthenticationError):
            return AccessDeniedError, str(error).partition("\n")[0]
        if isinstance(error, AzureError):
            return StoreUnavailableError, f"{type(error).__name__}: {error}"
        if isinstance(error, ValueError) and "or account_name" in str(error):  # of adlfs
            return AccessDeniedError, NO_ACCOUNT
        return None

    async def close(self) -> None:
        held, self._held = self._held, []
        for each in held:
            if hasattr(each, "close"):  # a key has nothing to close
                closing = each.close()
                if inspect.isawaitable(closing):
                    await closing


class _Closed:
    """In place of a client that somebody else closes."""

    async def close(self) -> None:
        """Do nothing."""


def connection_string(endpoint: str | None) -> str | None:
    """Return how to reach a server other than Azure's, with the key from the environment."""
    given = os.environ.get("AZURE_STORAGE_CONNECTION_STRING")
    if endpoint is None or given:
        return given
    parts = {
        "DefaultEndpointsProtocol": endpoint.partition("://")[0],
        "AccountName": os.environ.get("AZURE_STORAGE_ACCOUNT_NAME", ""),
        "AccountKey": os.environ.get("AZURE_STORAGE_ACCOUNT_KEY", ""),
        "BlobEndpoint": endpoint,
    }
    return ";".join(f"{name}={value}" for name, value in parts.items() if value)


def say_nothing() -> None:
    """Keep Python from printing what Azure's clients log: they raise it, too."""
    logging.getLogger("azure").addHandler(logging.NullHandler())


def account_of(endpoint: str) -> str:
    """Return the account in the address of its blobs, which is all that the string for a shared
    access signature names."""
    place = urlsplit(endpoint)
    return place.path.strip("/") or (place.hostname or "").partition(".")[0]


def _entry(found: Any) -> Entry:
    modified = int(found.last_modified.timestamp() * 1_000_000)
    return Entry(found.name, found.size, found.etag.strip('"'), modified)

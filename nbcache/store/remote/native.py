"""S3, GCS and Azure through obstore: one native client, many requests in flight.

Its own interface, not its fsspec adapter, which forgets that a create must not overwrite. The
client lives on native threads that a fork does not copy: a forked child would wait for ever, so
`was_used_before_fork` tells it to take another client.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import re
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from nbcache.errors import AccessDeniedError, StoreGoneError, StoreUnavailableError
from nbcache.store.remote import azure, s3
from nbcache.store.remote.azure import connection_string
from nbcache.store.remote.driver import PARTS_AT_ONCE, ErrorKind, kind_of_status, part_size
from nbcache.store.remote.protocol import Entry
from nbcache.store.remote.s3 import S3Driver

_CODES = {**s3.CODES, **azure.CODES}
# In the server's words: a bucket may be called "nosuchbucket", and stands in the text, too.
_GONE = re.compile(r"<Code>(NoSuchBucket|ContainerNotFound|ContainerBeingDeleted)</Code>")
_CODE = re.compile(r"<Code>(?P<code>\w+)</Code>")
# Of one of several keys that were to be deleted: S3 answers "200 OK" to who has no right to.
_OF_A_KEY = re.compile(
    r"request failed for key .*?: (?P<message>.*) \(code: (?P<code>[A-Za-z]\w*)\)"
)
_MESSAGE = re.compile(r"<Message>([^<\n]+)")
_STATUS = re.compile(
    r"(?:status code: |\(code: |\b(?=\d{3} (?:Service Unavailable|Too Many Requests)))(\d{3})"
)
_ANSWER = re.compile(r"non-2xx status code: (\d{3}[\w -]*?)\s*:?\s*(?:\n|Debug source|$)")
# The whole phrases: times, ports and names of objects, too, have a 416 in them.
_BEYOND = re.compile(
    r"status code: 416\b|<Code>InvalidRange</Code>|Wanted range starting at \d+, but"
)
_NO_CONNECTION = re.compile(r"kind: Connect,.*?(?:error|message): \"([^\"]+)", re.DOTALL)
_SERVER = re.compile(r"https?://([^/\s]+)")
_used_by: int | None = None  # the process whose native threads there are


class ObstoreDriver:
    """One bucket or container, through obstore."""

    attempts = 1  # it repeats what may pass by itself

    def __init__(self, cloud: str, bucket: str, endpoint: str | None) -> None:
        self.backend = f"{cloud} through obstore"
        self._make: Callable[[], Any] = lambda: _STORES[cloud](bucket, endpoint)
        self._other = S3Driver(bucket, endpoint) if cloud == "s3" else None
        self._other_connected = False
        self._store: Any = None

    async def connect(self) -> None:
        global _used_by
        _used_by = os.getpid()
        self._store = await asyncio.to_thread(self._make)

    async def put(self, key: str, data: bytes, *, if_absent: bool = False) -> None:
        import obstore

        mode = "create" if if_absent else "overwrite"
        await obstore.put_async(self._store, key, data, mode=mode, use_multipart=False)

    async def get(self, key: str, start: int, end: int | None) -> bytes:
        import obstore

        if end is None and not start:
            found = await obstore.get_async(self._store, key)
        else:
            wanted = {"offset": start} if end is None else (start, end)
            try:
                found = await obstore.get_async(self._store, key, options={"range": wanted})
            except obstore.exceptions.BaseError as error:
                if _BEYOND.search(str(error)):  # the object ends before that range
                    return b""
                raise
        return bytes(await found.bytes_async())

    async def head(self, key: str) -> Entry:
        import obstore

        return _entry(await obstore.head_async(self._store, key))

    async def put_file(self, key: str, path: Path, size: int) -> None:
        import obstore

        await obstore.put_async(
            self._store, key, path, chunk_size=part_size(size), max_concurrency=PARTS_AT_ONCE
        )

    async def pages(self, prefix: str, start_after: str) -> AsyncIterator[list[Entry]]:
        import obstore

        found = obstore.list(
            self._store, prefix or None, offset=start_after or None, chunk_size=1000
        )
        async for page in found:
            yield [_entry(each) for each in page]

    async def delete(self, keys: Sequence[str]) -> None:
        import obstore

        try:
            await obstore.delete_async(self._store, list(keys))
        except FileNotFoundError as error:
            if _GONE.search(str(error)):
                raise
            # The list ended at one that was not there.
            for key in keys if len(keys) > 1 else ():
                with contextlib.suppress(FileNotFoundError):
                    await obstore.delete_async(self._store, key)

    async def uploads(self, prefix: str) -> list[Entry]:
        other = await self._other_client()
        return [] if other is None else await other.uploads(prefix)

    async def end_upload(self, upload: Entry) -> None:
        other = await self._other_client()
        if other is not None:
            await other.end_upload(upload)

    async def _other_client(self) -> S3Driver | None:
        """Return a client that lists uploads, which obstore does not; None where there is none."""
        if self._other is None or importlib.util.find_spec("s3fs") is None:
            return None
        if not self._other_connected:
            await self._other.connect()
            self._other_connected = True
        return self._other

    def kind_of(self, error: BaseException) -> tuple[ErrorKind, str] | None:
        from obstore import exceptions

        text = str(error)
        reason = _first_words(text)
        if self._other_connected and self._other is not None:
            known = self._other.kind_of(error)
            if known is not None:
                return known
        if isinstance(error, _NoCredentials):
            return AccessDeniedError, reason
        if "Account must be specified" in text:
            return AccessDeniedError, azure.NO_ACCOUNT
        if isinstance(error, FileNotFoundError) and _GONE.search(text):
            return StoreGoneError, reason
        if isinstance(error, exceptions.AlreadyExistsError | exceptions.PreconditionError):
            return FileExistsError, reason
        if isinstance(error, exceptions.PermissionDeniedError | exceptions.UnauthenticatedError):
            return AccessDeniedError, reason
        if isinstance(error, exceptions.BaseError):
            status, code = _STATUS.search(text), _CODE.search(text) or _OF_A_KEY.search(text)
            if _GONE.search(text):
                return StoreGoneError, reason
            # An expired token comes with status 400.
            if code is not None and code["code"] in _CODES:
                return _CODES[code["code"]], reason
            if status is None:  # it never came to an answer
                return StoreUnavailableError, reason
            return kind_of_status(int(status[1])), reason
        return None

    async def close(self) -> None:
        self._store = None
        if self._other is not None:
            self._other_connected = False
            await self._other.close()


class _NoCredentials(Exception):
    """Nothing says who asks."""


def was_used_before_fork() -> bool:
    """Whether a parent of this process used obstore, so that it would hang here."""
    return _used_by is not None and _used_by != os.getpid()


def _client() -> dict[str, Any]:
    """Return what all clients have in common: quick to give up."""
    return {
        "client_options": {
            "allow_http": True,
            "connect_timeout": timedelta(seconds=3),
            "timeout": timedelta(seconds=60),
        },
        "retry_config": {
            "max_retries": 2,
            "backoff": {
                "init_backoff": timedelta(milliseconds=100),
                "max_backoff": timedelta(seconds=1),
                "base": 4,
            },
            "retry_timeout": timedelta(seconds=60),
        },
    }


def _s3(bucket: str, endpoint: str | None) -> Any:
    from obstore.store import S3Store

    config: dict[str, Any] = {"endpoint": endpoint}
    provider = None
    if not os.environ.get("AWS_ACCESS_KEY_ID"):
        provider, config["region"] = _botocore_credentials()
    known = {name: value for name, value in config.items() if value is not None}
    return S3Store(bucket, config=known, credential_provider=provider, **_client())


def _botocore_credentials() -> tuple[Callable[[], Any] | None, str | None]:
    """Return credentials as AWS's own tools find them (profiles, sign-on), and the region."""
    try:
        from botocore.session import Session
    except ImportError:
        return None, None  # obstore knows the environment and instance metadata
    session = Session()
    credentials = session.get_credentials()
    region = session.get_config_variable("region")
    if credentials is None:  # obstore would ask for them where none are
        raise _NoCredentials("no credentials are found (environment, profiles, instance role)")

    def current() -> dict[str, Any]:
        from datetime import UTC, datetime

        frozen = credentials.get_frozen_credentials()  # renews them when it is time
        return {
            "access_key_id": frozen.access_key,
            "secret_access_key": frozen.secret_key,
            "token": frozen.token,
            "expires_at": datetime.now(UTC) + timedelta(minutes=5),
        }

    return current, region


def _gcs(bucket: str, endpoint: str | None) -> Any:
    from obstore.store import GCSStore

    config: dict[str, Any] = {}
    provider: Callable[[], Any] | None = None
    if endpoint is not None:
        config["base_url"] = endpoint
    if (endpoint or "").startswith("http://"):  # an emulator, which asks for no token
        provider = lambda: {"token": "none", "expires_at": None}  # noqa: E731
    else:
        provider = _credentials("google")
    return GCSStore(bucket, config=config, credential_provider=provider, **_client())


def _credentials(cloud: str) -> Callable[[], Any] | None:
    """Return credentials as the tools of Google or Azure find them; None: by obstore itself."""
    azure.say_nothing()
    try:
        module = importlib.import_module(f"obstore.auth.{cloud}")
    except ImportError:
        return None
    provider: Callable[[], Any] = getattr(module, f"{cloud.title()}CredentialProvider")()
    return provider


def _azure(container: str, endpoint: str | None) -> Any:
    from obstore.store import AzureStore

    given = connection_string(endpoint) or ""
    parts = dict(part.partition("=")[::2] for part in given.split(";") if part)
    environment = os.environ
    config: dict[str, Any] = {
        "account_name": parts.get("AccountName") or azure.account_of(parts.get("BlobEndpoint", "")),
        "account_key": parts.get("AccountKey"),
        "endpoint": parts.get("BlobEndpoint"),
        "sas_key": parts.get("SharedAccessSignature") or environment.get("AZURE_STORAGE_SAS_TOKEN"),
    }
    known = {name: value for name, value in config.items() if value}
    provider = None
    if not any(
        known.get(name) or environment.get(f"AZURE_STORAGE_{name.upper()}")
        for name in ("account_key", "sas_key")
    ):
        provider = _credentials("azure")
    return AzureStore(container, config=known, credential_provider=provider, **_client())


_STORES: dict[str, Callable[[str, str | None], Any]] = {"s3": _s3, "gcs": _gcs, "azure": _azure}


def _first_words(text: str) -> str:
    """Return an error's own words: the server's, else the client's, without what is behind them."""
    code, message = _CODE.search(text), _MESSAGE.search(text)
    if code is not None and message is not None:
        return f"{message[1]} ({code['code']})"
    if (refused := _OF_A_KEY.search(text)) is not None:
        return f"{refused['message']} ({refused['code']})"
    cause, server = _NO_CONNECTION.search(text), _SERVER.search(text)
    if cause is not None and server is not None:
        return f"no connection to {server[1]}: {cause[1]}"
    if (status := _ANSWER.search(text)) is not None:  # to a HEAD, which has no body
        return f"the server says {status[1]}"
    return re.split(r"\n|Debug source", text)[0][:300]


def _entry(found: Any) -> Entry:
    version = (found.get("e_tag") or found.get("version") or "").strip('"')
    modified = int(found["last_modified"].timestamp() * 1_000_000)
    return Entry(found["path"], found["size"], version, modified)

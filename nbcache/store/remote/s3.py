"""S3 through s3fs: its session and credentials, and the client behind it.

s3fs's own methods send requests that nobody asked for (a HEAD before a read, a LIST after a miss)
and go on for half a minute when a server is busy; the client does what it is told.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

from nbcache.errors import (
    AccessDeniedError,
    ObjectMissingError,
    RemoteStoreError,
    StoreGoneError,
    StoreThrottledError,
    StoreUnavailableError,
)
from nbcache.store.remote import driver
from nbcache.store.remote.driver import ErrorKind, kind_of_status, repeated, send_parts
from nbcache.store.remote.protocol import Entry

CODES: dict[str, ErrorKind] = {
    "NoSuchKey": ObjectMissingError,
    "NoSuchUpload": ObjectMissingError,
    "NoSuchBucket": StoreGoneError,
    "PreconditionFailed": FileExistsError,
    "ConditionalRequestConflict": FileExistsError,  # two creates at once: the other was first
    "SlowDown": StoreThrottledError,
    "RequestLimitExceeded": StoreThrottledError,
    "AccessDenied": AccessDeniedError,
    "ExpiredToken": AccessDeniedError,
    "ExpiredTokenException": AccessDeniedError,
    "InvalidAccessKeyId": AccessDeniedError,
    "InvalidToken": AccessDeniedError,
    "RequestTimeTooSkewed": AccessDeniedError,
    "SignatureDoesNotMatch": AccessDeniedError,
    "TokenRefreshRequired": AccessDeniedError,
}
_CONNECTIONS = 64


class S3Driver:
    """One bucket, through aiobotocore."""

    backend = "s3 through s3fs"
    attempts = 3

    def __init__(self, bucket: str, endpoint: str | None) -> None:
        self._bucket, self._endpoint = bucket, endpoint
        self._system: Any = None
        self._client: Any = None

    async def connect(self) -> None:
        from s3fs import S3FileSystem

        self._system = S3FileSystem(
            asynchronous=True,
            **driver.FRESH,
            endpoint_url=self._endpoint,
            config_kwargs={
                "max_pool_connections": _CONNECTIONS,
                "connect_timeout": driver.CONNECT_S,
                "read_timeout": driver.SILENCE_S,
                "retries": {"mode": "standard", "total_max_attempts": 1},
                **_plain_bodies(),
            },
        )
        self._client = await self._system.set_session()

    async def put(self, key: str, data: bytes, *, if_absent: bool = False) -> None:
        condition = {"IfNoneMatch": "*"} if if_absent else {}
        await self._client.put_object(Bucket=self._bucket, Key=key, Body=data, **condition)

    async def get(self, key: str, start: int, end: int | None) -> bytes:
        wanted = {}
        if start or end is not None:
            wanted["Range"] = f"bytes={start}-{'' if end is None else end - 1}"
        try:
            answer = await self._client.get_object(Bucket=self._bucket, Key=key, **wanted)
        except Exception as error:
            if _code_and_status(error)[1] == 416:
                return b""  # there is an object, and it ends before
            raise
        async with answer["Body"] as body:
            data: bytes = await body.read()
            return data

    async def head(self, key: str) -> Entry:
        found = await self._client.head_object(Bucket=self._bucket, Key=key)
        return _entry(key, found["ContentLength"], found)

    async def put_file(self, key: str, path: Path, size: int) -> None:
        place = {"Bucket": self._bucket, "Key": key}
        upload = {**place, "UploadId": (await self._begin(place))["UploadId"]}

        async def send(number: int, data: bytes) -> dict[str, Any]:
            answer = await self._client.upload_part(**upload, PartNumber=number + 1, Body=data)
            return {"PartNumber": number + 1, "ETag": answer["ETag"]}

        try:
            parts = {"Parts": await send_parts(self, path, size, send)}
            await self._client.complete_multipart_upload(**upload, MultipartUpload=parts)
        except BaseException:
            with contextlib.suppress(Exception):  # a bucket's rules end what is left
                await asyncio.shield(self._client.abort_multipart_upload(**upload))
            raise

    async def _begin(self, place: dict[str, str]) -> Any:
        return await repeated(self, lambda: self._client.create_multipart_upload(**place))

    async def pages(self, prefix: str, start_after: str) -> AsyncIterator[list[Entry]]:
        wanted = {"Bucket": self._bucket, "Prefix": prefix, "MaxKeys": driver.PAGE_KEYS}
        if start_after:
            wanted["StartAfter"] = start_after
        while True:
            page = await repeated(self, lambda: self._client.list_objects_v2(**wanted))
            yield [_entry(each["Key"], each["Size"], each) for each in page.get("Contents", ())]
            if not page.get("IsTruncated"):
                return
            wanted["ContinuationToken"] = page["NextContinuationToken"]

    async def delete(self, keys: Sequence[str]) -> None:
        if len(keys) == 1:
            await self._client.delete_object(Bucket=self._bucket, Key=keys[0])
            return
        answer = await self._client.delete_objects(
            Bucket=self._bucket, Delete={"Objects": [{"Key": key} for key in keys], "Quiet": True}
        )
        for fault in answer.get("Errors", ()):
            raise _NotDeleted(fault.get("Code", ""), f"{fault['Key']}: {fault.get('Message')}")

    async def uploads(self, prefix: str) -> list[Entry]:
        found: list[Entry] = []
        wanted = {"Bucket": self._bucket, "Prefix": prefix}
        while True:
            page = await repeated(self, lambda: self._client.list_multipart_uploads(**wanted))
            for each in page.get("Uploads", ()):
                began = int(each["Initiated"].timestamp() * 1_000_000)
                found.append(Entry(each["Key"], 0, each["UploadId"], began))
            if not page.get("IsTruncated"):
                return found
            wanted["KeyMarker"] = page["NextKeyMarker"]
            wanted["UploadIdMarker"] = page["NextUploadIdMarker"]

    async def end_upload(self, upload: Entry) -> None:
        await self._client.abort_multipart_upload(
            Bucket=self._bucket, Key=upload.key, UploadId=upload.version
        )

    def kind_of(self, error: BaseException) -> tuple[ErrorKind, str] | None:
        import aiohttp
        from botocore.exceptions import (
            BotoCoreError,
            ClientError,
            HTTPClientError,
            NoCredentialsError,
            PartialCredentialsError,
            TokenRetrievalError,
        )

        if isinstance(error, _NotDeleted):
            return CODES.get(error.code, RemoteStoreError), str(error)
        if isinstance(error, ClientError):
            code, status = _code_and_status(error)
            kind = CODES.get(code) or kind_of_status(status)
            return kind, f"{error.response.get('Error', {}).get('Message', error)} ({code})"
        if isinstance(error, NoCredentialsError | PartialCredentialsError | TokenRetrievalError):
            return AccessDeniedError, str(error)
        if isinstance(error, HTTPClientError | BotoCoreError | aiohttp.ClientError):
            return StoreUnavailableError, str(error)
        return None

    async def close(self) -> None:
        if self._client is not None:
            held, self._client = self._client, None
            await held.close()


def _plain_bodies() -> dict[str, str]:
    """Say that bodies go and come without checksums of S3's own, which other servers do not know.

    Who reads an object knows its digest.
    """
    from botocore.config import Config

    names = ("request_checksum_calculation", "response_checksum_validation")
    return {name: "when_required" for name in names if name in Config.OPTION_DEFAULTS}


class _NotDeleted(Exception):
    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def _code_and_status(error: BaseException) -> tuple[str, int]:
    response = getattr(error, "response", None) or {}
    code = str(response.get("Error", {}).get("Code", ""))
    return code, int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _entry(key: str, size: int, found: dict[str, Any]) -> Entry:
    modified = int(found["LastModified"].timestamp() * 1_000_000)
    return Entry(key, size, found["ETag"].strip('"'), modified)

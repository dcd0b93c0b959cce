"""Google Cloud Storage through gcsfs: its credentials and addresses, and the JSON API.

gcsfs repeats a request for a minute, and asks three times where one answer would do; here each
request is sent as it is meant.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from nbcache.errors import AccessDeniedError, StoreGoneError, StoreUnavailableError
from nbcache.store.remote import driver
from nbcache.store.remote.driver import ErrorKind, delete_each, kind_of_status, read_part, repeated
from nbcache.store.remote.protocol import Entry

_EMULATOR = "STORAGE_EMULATOR_HOST"  # a server of this name asks for no credentials
_FIELDS = "name,size,generation,updated"
_BOUNDARY = "nbcache-part-of-an-upload"


class GcsDriver:
    """One bucket, through the JSON API."""

    backend = "gcs through gcsfs"
    attempts = 3

    def __init__(self, bucket: str, endpoint: str | None) -> None:
        self._bucket, self._endpoint = bucket, endpoint
        self._system: Any = None
        self._session: Any = None

    async def connect(self) -> None:
        import aiohttp
        from gcsfs.core import GCSFileSystem

        emulated = (self._endpoint or os.environ.get(_EMULATOR, "https://")).startswith("http://")
        self._system = await asyncio.to_thread(
            lambda: GCSFileSystem(
                asynchronous=True,
                **driver.FRESH,
                token="anon" if emulated else None,
                endpoint_url=self._endpoint,
            )
        )
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=64),
            timeout=aiohttp.ClientTimeout(
                total=None, sock_connect=driver.CONNECT_S, sock_read=driver.SILENCE_S
            ),
            auto_decompress=False,
        )

    async def put(self, key: str, data: bytes, *, if_absent: bool = False) -> None:
        metadata = json.dumps({"name": key}).encode()
        body = b"".join(
            [
                f"--{_BOUNDARY}\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n".encode(),
                metadata,
                f"\r\n--{_BOUNDARY}\r\nContent-Type: application/octet-stream\r\n\r\n".encode(),
                data,
                f"\r\n--{_BOUNDARY}--\r\n".encode(),
            ]
        )
        condition = {"ifGenerationMatch": "0"} if if_absent else {}
        await self._send(
            "POST",
            self._upload_url(uploadType="multipart", **condition),
            headers={"Content-Type": f"multipart/related; boundary={_BOUNDARY}"},
            data=body,
        )

    async def get(self, key: str, start: int, end: int | None) -> bytes:
        headers = {}
        if start or end is not None:
            headers["Range"] = f"bytes={start}-{'' if end is None else end - 1}"
        url = self._url(key, alt="media")
        _, data, _ = await self._send("GET", url, headers=headers, also=(416,))
        return data

    async def head(self, key: str) -> Entry:
        _, data, _ = await self._send("GET", self._url(key, fields=_FIELDS))
        return _entry(json.loads(data))

    async def put_file(self, key: str, path: Path, size: int) -> None:
        url = self._upload_url(uploadType="resumable", name=key)
        headers = {"X-Upload-Content-Type": "application/octet-stream"}
        _, _, answer = await repeated(
            self, lambda: self._send("POST", url, headers=headers, data=b"")
        )
        place = answer["Location"]
        try:
            start, status = 0, 308
            while status == 308:  # it goes on; of a part a server may keep less than was sent
                data = await asyncio.to_thread(read_part, path, start)
                part = {"Content-Range": f"bytes {start}-{start + len(data) - 1}/{size}"}
                status, _, answer = await repeated(
                    self,
                    lambda part=part, data=data: self._send(  # type: ignore[misc]
                        "PUT", place, headers=part, data=data, also=(308,)
                    ),
                )
                kept = int(answer["Range"].rpartition("-")[2]) + 1 if "Range" in answer else 0
                if status == 308 and not start < kept < size:
                    raise ConnectionError(f"the upload does not go on behind byte {start}")
                start = kept
        except BaseException:
            with contextlib.suppress(Exception):  # a bucket's rules end what is left
                await asyncio.shield(self._send("DELETE", place, also=(404, 405, 499)))
            raise

    async def pages(self, prefix: str, start_after: str) -> AsyncIterator[list[Entry]]:
        wanted = {"prefix": prefix, "maxResults": str(driver.PAGE_KEYS)}
        wanted |= {"fields": f"nextPageToken,items({_FIELDS})"}
        if start_after:
            wanted["startOffset"] = start_after
        while True:
            url = self._url("", **wanted)
            _, data, _ = await repeated(self, lambda url=url: self._send("GET", url))  # type: ignore[misc]
            page = json.loads(data)
            yield [_entry(each) for each in page.get("items", ())]
            if "nextPageToken" not in page:
                return
            wanted["pageToken"] = page["nextPageToken"]

    async def delete(self, keys: Sequence[str]) -> None:
        await delete_each(self, keys, lambda key: self._send("DELETE", self._url(key)))

    async def uploads(self, prefix: str) -> list[Entry]:
        return []  # Google ends them after a week by itself, and asks nothing for them.

    async def end_upload(self, upload: Entry) -> None:
        """There are none."""

    def kind_of(self, error: BaseException) -> tuple[ErrorKind, str] | None:
        import aiohttp
        from google.auth.exceptions import GoogleAuthError, TransportError

        if isinstance(error, _Refused):
            # "No such object: bucket/key" has names of the user's in it, which may say anything.
            is_gone = error.status == 404 and "specified bucket" in error.message.split(":")[0]
            kind = StoreGoneError if is_gone else kind_of_status(error.status)
            return kind, f"{error.message} ({error.status})"
        if isinstance(error, aiohttp.ClientError | TransportError):
            return StoreUnavailableError, f"{type(error).__name__}: {error}"
        if isinstance(error, GoogleAuthError):
            return AccessDeniedError, str(error)
        return None

    async def close(self) -> None:
        if self._session is not None:
            held, self._session = self._session, None
            await held.close()

    # ------------------------------------------------------------------ inside

    def _url(self, key: str, **query: str) -> str:
        place = f"{self._system.base}b/{quote(self._bucket, safe='')}/o"
        if key:
            place = f"{place}/{quote(key, safe='')}"
        return f"{place}?{urlencode(query)}" if query else place

    def _upload_url(self, **query: str) -> str:
        place = f"{self._system._location}/upload/storage/v1/b/{quote(self._bucket, safe='')}/o"
        return f"{place}?{urlencode(query)}"

    async def _send(
        self,
        method: str,
        url: str,
        *,
        headers: dict[str, str] | None = None,
        data: bytes | None = None,
        also: Sequence[int] = (),
    ) -> tuple[int, bytes, Any]:
        """Send one request; return status, body ("" for one of `also`) and headers."""
        from yarl import URL

        signed = await asyncio.to_thread(self._system._get_headers, headers)
        async with self._session.request(
            method, URL(url, encoded=True), headers=signed, data=data, allow_redirects=False
        ) as answer:
            body = await answer.read()
            if answer.status in also:
                return answer.status, b"", answer.headers
            if answer.status >= 300:
                raise _Refused(answer.status, _message(body) or answer.reason or "")
            return answer.status, body, answer.headers


class _Refused(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(status, message)
        self.status, self.message = status, message


def _message(body: bytes) -> str:
    """Return what the server said, out of JSON where it is some."""
    text = body.decode("utf-8", "replace").strip()
    try:
        return str(json.loads(text)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return text[:200]


def _entry(found: dict[str, Any]) -> Entry:
    modified = datetime.fromisoformat(found["updated"]).timestamp()
    return Entry(
        found["name"], int(found.get("size", 0)), str(found["generation"]), int(modified * 1e6)
    )

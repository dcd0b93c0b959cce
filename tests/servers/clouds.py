"""The clouds of a team: servers on this machine, each behind a proxy that counts."""

from __future__ import annotations

import contextlib
import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import unquote

import pytest

from tests.servers import azure as azure_servers
from tests.servers import gcs as gcs_servers
from tests.servers import s3 as s3_servers
from tests.servers.proxy import Proxy, Refuse, Request


def _xml(status: int, code: str, message: str) -> Refuse:
    """Refuse as S3 and Azure do, which say it in a header, too."""
    text = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{message}</Message></Error>"
    head = {"Content-Type": "application/xml", "x-ms-error-code": code, **_LATER}
    return Refuse(status, text.encode(), head)


def _json(status: int, reason: str, message: str) -> Refuse:
    """Refuse as GCS does."""
    each = {"message": message, "domain": "global", "reason": reason}
    text = json.dumps({"error": {"code": status, "message": message, "errors": [each]}})
    return Refuse(status, text.encode(), {"Content-Type": "application/json", **_LATER})


_LATER = {"Retry-After": "3600"}  # nobody waits for that
_NO_RIGHT = "User: arn:aws:iam::1:user/ben is not authorized to perform: s3:DeleteObject"
REFUSALS = {
    "s3": {
        "denied": _xml(403, "AccessDenied", _NO_RIGHT),
        "expired": _xml(400, "ExpiredToken", "The provided token has expired."),
        "busy": _xml(503, "SlowDown", "Please reduce your request rate."),
        "gone": _xml(404, "NoSuchBucket", "The specified bucket does not exist"),
    },
    "gcs": {
        "denied": _json(
            403,
            "forbidden",
            "ben@example.org does not have storage.objects.create access to the Google Cloud "
            "Storage object. Permission 'storage.objects.create' denied on resource (or it may "
            "not exist).",
        ),
        "expired": _json(401, "authError", "Invalid Credentials"),
        "busy": _json(429, "rateLimitExceeded", "The rate limit for mutation was exceeded."),
        "gone": _json(404, "notFound", "The specified bucket does not exist."),
    },
    "azure": {
        "denied": _xml(403, "AuthorizationPermissionMismatch", "This request is not authorized."),
        "expired": _xml(401, "InvalidAuthenticationInfo", "Server failed to authenticate."),
        "busy": _xml(503, "ServerBusy", "The server is busy."),
        "gone": _xml(404, "ContainerNotFound", "The specified container does not exist."),
    },
}
"""How each cloud says it."""


def not_deleted(request: Request) -> Refuse:
    """Return what S3 answers whoever deletes one key or some, and has no right to."""
    if request.method == "DELETE":
        return REFUSALS["s3"]["denied"]
    word = b"<Error>%s<Code>AccessDenied</Code><Message>%s</Message></Error>"
    said = _NO_RIGHT.encode()
    errors = b"".join(word % (key, said) for key in re.findall(rb"<Key>.*?</Key>", request.head))
    text = b"<?xml version='1.0'?><DeleteResult>%s</DeleteResult>" % errors
    return Refuse(200, text, {"Content-Type": "application/xml"})


@dataclass(frozen=True)
class Cloud:
    """A bucket: what URLs in it begin with, and the environment in which they lead there."""

    name: str
    bucket: str
    proxy: Proxy
    environment: dict[str, str]

    def refuses(self, why: str) -> Refuse:
        """Return what this cloud answers where it refuses."""
        return REFUSALS[self.name][why]

    def enter(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Let this process find the server, and credentials for it."""
        for name, value in self.environment.items():
            monkeypatch.setenv(name, value)


@contextlib.contextmanager
def s3_cloud() -> Iterator[Cloud]:
    with s3_servers.s3_server() as url, proxied(url) as proxy:
        s3_servers.make_bucket(url, "team")
        yield Cloud(
            "s3", "s3://team", proxy, {**s3_servers.CREDENTIALS, "AWS_ENDPOINT_URL": proxy.url}
        )


@contextlib.contextmanager
def gcs_cloud() -> Iterator[Cloud]:
    with gcs_servers.gcs_server() as url, proxied(url) as proxy:
        gcs_servers.make_bucket(url, "team")
        yield Cloud("gcs", "gs://team", proxy, {"STORAGE_EMULATOR_HOST": proxy.url})


@contextlib.contextmanager
def azure_cloud() -> Iterator[Cloud]:
    if azure_servers.azurite() is None:
        pytest.skip("azurite is not installed: .ci/npm-packages .venv/node")
    with azure_servers.azure_server() as url, proxied(url) as proxy:
        azure_servers.make_container(url, "team")
        parts = {
            "DefaultEndpointsProtocol": "http",
            "AccountName": azure_servers.ACCOUNT,
            "AccountKey": azure_servers.KEY,
            "BlobEndpoint": proxy.url,
        }
        words = ";".join(f"{name}={value}" for name, value in parts.items())
        yield Cloud("azure", "az://team", proxy, {"AZURE_STORAGE_CONNECTION_STRING": words})


CLOUDS = {"s3": s3_cloud, "gcs": gcs_cloud, "azure": azure_cloud}


@contextlib.contextmanager
def proxied(url: str) -> Iterator[Proxy]:
    proxy = Proxy(url)
    try:
        yield proxy
    finally:
        proxy.close()


def kinds(requests: list[Request]) -> Counter[str]:
    """Count requests by what they are about: "PUT blobs", "GET log", "LIST"; without heartbeats,
    of which there are the more the slower this machine is."""
    found: Counter[str] = Counter()
    for each in requests:
        path = unquote(each.path)
        writes = each.method in ("PUT", "POST")
        if writes and "uploadType=multipart" in path:
            path += each.head.decode("utf-8", "replace")
        if writes and "/runs/" in path:
            continue
        if any(word in path for word in ("list-type", "comp=list&", "/o?prefix")):
            found["LIST"] += 1
            continue
        about = "blobs" if "/blobs/" in path else "log" if "/log/" in path else "rest"
        found[f"{'PUT' if writes else each.method} {about}"] += 1
    return found

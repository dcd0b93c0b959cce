"""The clouds of a team: servers on this machine, each behind a proxy that counts."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import unquote

import pytest

from tests.servers import azure as azure_servers
from tests.servers import gcs as gcs_servers
from tests.servers import s3 as s3_servers
from tests.servers.proxy import Proxy, Request


@dataclass(frozen=True)
class Cloud:
    """A bucket: what URLs in it begin with, and the environment in which they lead there."""

    bucket: str
    proxy: Proxy
    environment: dict[str, str]

    def enter(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Let this process find the server, and credentials for it."""
        for name, value in self.environment.items():
            monkeypatch.setenv(name, value)


@contextlib.contextmanager
def s3_cloud() -> Iterator[Cloud]:
    with s3_servers.s3_server() as url, proxied(url) as proxy:
        s3_servers.make_bucket(url, "team")
        yield Cloud("s3://team", proxy, {**s3_servers.CREDENTIALS, "AWS_ENDPOINT_URL": proxy.url})


@contextlib.contextmanager
def gcs_cloud() -> Iterator[Cloud]:
    with gcs_servers.gcs_server() as url, proxied(url) as proxy:
        gcs_servers.make_bucket(url, "team")
        yield Cloud("gs://team", proxy, {"STORAGE_EMULATOR_HOST": proxy.url})


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
        yield Cloud("az://team", proxy, {"AZURE_STORAGE_CONNECTION_STRING": words})


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

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers.s3 import CREDENTIALS, make_bucket, s3_server
from tests.store.conformance.places import AnyPlace, MemoryPlace, Place

KINDS = ("memory", "folder", "s3-fsspec")


@pytest.fixture(scope="session")
def environment() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.fixture(scope="session")
def s3(environment: pytest.MonkeyPatch) -> Iterator[str]:
    for name, value in CREDENTIALS.items():
        environment.setenv(name, value)
    with s3_server() as url:
        make_bucket(url, "bucket")
        yield url


@pytest.fixture(scope="session", params=KINDS)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AnyPlace:
    kind = request.param
    if kind == "memory":
        return MemoryPlace()
    if kind == "folder":
        return Place(str(tmp_path_factory.mktemp("folder")))
    cloud, _, backend = kind.partition("-")
    url = request.getfixturevalue(cloud)
    return Place("s3://bucket/some/prefix", {"endpoint": url, "backend": backend})


@pytest.fixture
def place(server: AnyPlace) -> AnyPlace:
    new = server.fresh()
    if isinstance(new, Place) and "://" not in new.url:
        Path(new.url).mkdir()
    return new

"""The servers, each started once, and the places on them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers import azure as azure_servers
from tests.servers import gcs as gcs_servers
from tests.servers import s3 as s3_servers
from tests.store.conformance.places import AnyPlace, MemoryPlace, Place

# gcsxml: obstore speaks the XML interface of GCS, and gcsfs the one in JSON.
CLOUD_KINDS = (
    "s3-fsspec",
    "s3-obstore",
    "gcs-fsspec",
    "gcsxml-obstore",
    "azure-fsspec",
    "azure-obstore",
)
CLOUDS = ("s3", "azure")  # those of two clients
KINDS_OF_MANY_PROCESSES = ("folder", *CLOUD_KINDS)
KINDS = ("memory", *KINDS_OF_MANY_PROCESSES)


@pytest.fixture(scope="session")
def environment() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.fixture(scope="session")
def s3(environment: pytest.MonkeyPatch) -> Iterator[Place]:
    for name, value in s3_servers.CREDENTIALS.items():
        environment.setenv(name, value)
    with s3_servers.s3_server() as url:
        s3_servers.make_bucket(url, "bucket")
        yield Place("s3://bucket/some/prefix", {"endpoint": url})


@pytest.fixture(scope="session")
def gcs() -> Iterator[Place]:
    with gcs_servers.gcs_server() as url:
        gcs_servers.make_bucket(url, "bucket")
        yield Place("gs://bucket/some/prefix", {"endpoint": url})


@pytest.fixture(scope="session")
def gcsxml(s3: Place) -> Place:
    return Place("gs://bucket/some/gcs-prefix", s3.options)


@pytest.fixture(scope="session")
def azure(environment: pytest.MonkeyPatch) -> Iterator[Place]:
    if azure_servers.azurite() is None:
        pytest.skip("azurite is not installed: .ci/npm-packages .venv/node")
    environment.setenv("AZURE_STORAGE_ACCOUNT_NAME", azure_servers.ACCOUNT)
    environment.setenv("AZURE_STORAGE_ACCOUNT_KEY", azure_servers.KEY)
    with azure_servers.azure_server() as url:
        azure_servers.make_container(url, "container")
        yield Place("az://container/some/prefix", {"endpoint": url})


@pytest.fixture(scope="session", autouse=True)
def short_pages(environment: pytest.MonkeyPatch) -> None:
    """Let listings have several pages without thousands of objects."""
    environment.setattr("nbcache.store.remote.driver.PAGE_KEYS", 17)


@pytest.fixture(scope="session", params=KINDS)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AnyPlace:
    kind = request.param
    if kind == "memory":
        return MemoryPlace()
    if kind == "folder":
        return Place(str(tmp_path_factory.mktemp("folder")))
    cloud, _, backend = kind.partition("-")
    place: Place = request.getfixturevalue(cloud)
    return Place(place.url, {**place.options, "backend": backend})


@pytest.fixture
def place(server: AnyPlace) -> AnyPlace:
    new = server.fresh()
    if isinstance(new, Place) and "://" not in new.url:
        Path(new.url).mkdir()
    return new

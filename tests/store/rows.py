"""Rows for the tests of the store."""

from __future__ import annotations

import itertools
from typing import Any

from nbcache.model.digest import Digest, identity_digest
from nbcache.model.fingerprint import Component
from nbcache.model.ids import make_ulid
from nbcache.model.row import AttemptRow, InputSummary, Port, UseRow
from nbcache.model.value import Stored

_counter = itertools.count()


def new_id(ms: int = 1_763_770_000_000) -> str:
    return make_ulid(ms, next(_counter).to_bytes(10, "big"))


def hash_of(text: str) -> Digest:
    return identity_digest(text.encode())


def attempt(task: str = "0", **changes: Any) -> AttemptRow:
    """A completed attempt whose hash is made of `task` and whose one output is inline."""
    values: dict[str, Any] = {
        "id": new_id(),
        "at": 1_763_770_000_000_000,
        "run": "R1",
        "process": "fit",
        "position": task,
        "tag": f"tag {task}",
        "hash": hash_of(task),
        "status": "completed",
        "submit": 1_763_770_000_000_000,
        "start": 1_763_770_000_100_000,
        "complete": 1_763_770_000_600_000,
        "duration": 0.6,
        "realtime": 0.5,
        "exit": 0,
        "host": "h",
        "user": "u",
        "executor": "local",
        "cpus": 1,
        "components": (Component("input", "x", 1, hash_of("x"), "x = 3"),),
        "inputs": (InputSummary("x", hash_of("x"), "3", "3"),),
        "outputs": (Port("y", Stored(hash_of("y"), "value", "python", 2, inline=b"\x80x")),),
    }
    return AttemptRow(**(values | changes))


def use(of: AttemptRow, **changes: Any) -> UseRow:
    values: dict[str, Any] = {
        "id": new_id(),
        "at": of.at + 1,
        "run": "R2",
        "process": of.process,
        "position": of.position,
        "tag": of.tag,
        "hash": of.hash,
        "cached_from": of.id,
    }
    return UseRow(**(values | changes))

"""Which blobs a stored row names: what clean-up keeps and what a check looks for.

Whatever looks like the digest of a blob counts, in rows and columns of later versions too: keeping
too much costs space, keeping too little a result. Only `digest`, `hash` and `sealed` never do:
they say what something is, and never where its bytes lie.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

SAYS_WHAT = frozenset({"digest", "hash", "sealed"})
BLOB_PATTERN = r"\A(?s:b3:.{64})\z"  # as RE2 has it, for whoever looks at whole columns


def references(value: Any) -> Iterator[tuple[str, str, int | None]]:
    """Yield (blob digest, kind, size or None) of everything that a stored row, or a part, names."""
    members: Iterable[Any] = value if isinstance(value, list) else ()
    if isinstance(value, dict):
        blob = value.get("blob")
        if isinstance(blob, str):
            yield blob, value.get("kind") or "", value.get("size")
        members = [each for key, each in value.items() if key != "blob" and key not in SAYS_WHAT]
    for each in members:  # a row has many that are neither
        if isinstance(each, str):
            if len(each) == 67 and each.startswith("b3:"):
                yield each, "", None
        elif isinstance(each, (dict, list)):
            yield from references(each)
